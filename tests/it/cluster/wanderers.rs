//! Clients whose Session is kept and goes with them from broker to broker: each is owed every message
//! to a topic of its own, wherever its Session is at the moment.

use std::collections::BTreeSet;

use super::ClusterUnderTest;
use super::checker::{Arrival, Receiver};
use crate::conformance::{Client, Connect, Event, Packet, Version, ack, bytes, kind};

/// Their names.
pub(crate) const WANDERERS: [&str; 3] = ["wanderer0", "wanderer1", "wanderer2"];

/// One of them. It takes what has come whenever it is told to, and acknowledges it.
pub(crate) struct Wanderer {
    name: &'static str,
    client: Option<Client>,
    /// Where it was let in last.
    broker: Option<usize>,
    is_subscribed: bool,
    /// Of QoS 2, taken and not released: its own part of the Session.
    unreleased: BTreeSet<u16>,
    /// How often its Session has followed it to another broker.
    pub(crate) moves: u64,
    /// How often it was not let in.
    pub(crate) refusals: u64,
    /// How often no Session was left.
    pub(crate) losses: u64,
}

impl Wanderer {
    /// One that has not been anywhere.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            client: None,
            broker: None,
            is_subscribed: false,
            unreleased: BTreeSet::new(),
            moves: 0,
            refusals: 0,
            losses: 0,
        }
    }

    /// The topic that it alone subscribes to.
    pub(crate) fn topic(name: &str) -> String {
        format!("wanderers/{name}")
    }

    /// Whether it has a connection, as far as it knows.
    pub(crate) fn is_inside(&self) -> bool {
        self.client.is_some()
    }

    /// Its newest connection takes the Session over, wherever the former one is; whether it was let in.
    #[track_caller]
    pub(crate) fn wander(&mut self, cluster: &ClusterUnderTest, broker: usize) -> bool {
        self.take(cluster);
        // It may not be let in while its Session is on the way, or its coordinator is in doubt.
        let Some(client) = self.knock(cluster, broker) else {
            self.refusals += 1;
            return false;
        };
        match (client.connack.session_present, self.broker.replace(broker)) {
            (true, former) => self.moves += u64::from(former != Some(broker)),
            (false, former) => self.start_anew(cluster, former.is_some()),
        }
        self.client = Some(client);
        self.is_subscribed || self.subscribe(cluster)
    }

    /// Sends CONNECT; nothing when it is refused, or closed without a word.
    #[track_caller]
    fn knock(&self, cluster: &ClusterUnderTest, broker: usize) -> Option<Client> {
        let mut client = cluster.stage(broker, Version::V5).open().unwrap();
        client.send(&Connect::new(Version::V5, self.name).kept().bytes());
        let Event::Packet(packet) = client.event().unwrap() else { return None };
        assert_eq!(packet.kind(), kind::CONNACK, "{}", packet.shown());
        client.connack = packet.reason().unwrap();
        let code = client.connack.code;
        assert!(code == 0 || UNAVAILABLE.contains(&code), "{}", packet.shown());
        (code == 0).then_some(client)
    }

    fn start_anew(&mut self, cluster: &ClusterUnderTest, had_one: bool) {
        self.losses += u64::from(had_one);
        self.is_subscribed = false;
        self.unreleased.clear();
        cluster.checker().with(|books| books.note_gone(self.receiver()));
    }

    #[track_caller]
    fn subscribe(&mut self, cluster: &ClusterUnderTest) -> bool {
        let topic = Self::topic(self.name);
        let filters = [(topic.as_bytes(), 2)];
        self.ask(&bytes::subscribe(Version::V5, 1, &[], &filters));
        let Some(suback) = self.serve(cluster, kind::SUBACK) else { return false };
        assert_eq!(suback.codes().unwrap().codes, [2]);
        cluster.checker().with(|books| books.note_subscribed(self.receiver(), &topic));
        self.is_subscribed = true;
        true
    }

    /// Takes and acknowledges what has come so far.
    #[track_caller]
    pub(crate) fn take(&mut self, cluster: &ClusterUnderTest) {
        self.ask(&bytes::PINGREQ);
        let _answer = self.serve(cluster, kind::PINGRESP);
    }

    fn ask(&mut self, packet: &[u8]) {
        if let Some(client) = &mut self.client {
            client.send(packet);
        }
    }

    /// Takes what comes until this answer does; nothing when the connection ends before.
    #[track_caller]
    fn serve(&mut self, cluster: &ClusterUnderTest, answer: u8) -> Option<Packet> {
        loop {
            let Event::Packet(packet) = self.client.as_mut()?.event().unwrap() else {
                self.client = None;
                return None;
            };
            match packet.kind() {
                kind if kind == answer => return Some(packet),
                kind::PUBLISH => self.take_message(cluster, &packet),
                kind::PUBREL => self.release(&packet),
                // The close follows.
                kind::DISCONNECT => {}
                _ => panic!("unexpected {}", packet.shown()),
            }
        }
    }

    #[track_caller]
    fn take_message(&mut self, cluster: &ClusterUnderTest, packet: &Packet) {
        let message = packet.publish().unwrap();
        let is_new = message.qos < 2 || self.unreleased.insert(message.id);
        if is_new {
            let arrival = Arrival {
                receiver: self.receiver(),
                topic: std::str::from_utf8(&message.topic).unwrap(),
                payload: &message.payload,
                qos: message.qos,
                dup: message.dup,
            };
            cluster.checker().with(|books| books.note_arrival(arrival));
        }
        let answer = if message.qos == 2 { kind::PUBREC } else { kind::PUBACK };
        self.ask(&ack(answer, message.id));
    }

    #[track_caller]
    fn release(&mut self, packet: &Packet) {
        let id = packet.acknowledgement().unwrap().id;
        self.unreleased.remove(&id);
        self.ask(&ack(kind::PUBCOMP, id));
    }

    /// Its name in the books.
    pub(crate) fn receiver(&self) -> Receiver {
        Receiver::Client(self.name)
    }
}

/// Server unavailable, server busy.
const UNAVAILABLE: [u8; 2] = [0x88, 0x89];
