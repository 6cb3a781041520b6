//! Bugs that were found, as the shortest story of each.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use mqttzoo::broker::card::Origin;
use mqttzoo::broker::connection::{Connection, Progress};
use mqttzoo::broker::options::{BrokerOptions, ConnectionOptions};
use mqttzoo::broker::shard::Shard;
use mqttzoo::broker::turn::Turn;
use mqttzoo::broker::{Broker, Guards, Seeds};
use mqttzoo::mqtt::{
    Connect, ConnectProperties, Frame, MessageProperties, PACKET_SIZE_MAX, Packet, PacketId,
    ProtocolVersion, Puback, Publish, QoS, ReasonCode, Sender, Subscribe, SubscribeFilter,
    SubscriptionOptions,
};
use mqttzoo::ports::clock::Tick;
use mqttzoo::session::mailbox::{MailboxOptions, Overflow};
use mqttzoo::session::outbox::Outbox;

/// Messages that had expired used up the window of one turn and nothing of the window itself: the
/// owner went to sleep as if it were full, with the queue not empty, and nobody woke it.
#[test]
fn a_queue_goes_on_behind_messages_that_have_expired() {
    let mut stage = Stage::new(100);
    let mut reader = stage.connect_as(connect("reader", V5, |p| p.receive_maximum = window(2)));
    stage.subscribe(&mut reader, "t", QoS::AtLeastOnce);
    stage.lose(&mut reader);
    let mut writer = stage.connect("writer", V5);
    for id in 1..=2 {
        stage.send(&mut writer, &expiring("t", id, 1));
    }
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 3, b"still good"));
    stage.now = stage.now.plus_secs(2);
    let mut reader = stage.connect_as(connect("reader", V5, |p| p.receive_maximum = window(2)));
    assert_eq!(payloads(&reader.greeting), ["still good"]);
    assert_eq!(stage.send(&mut reader, &puback(1)), []);
}

/// The same when nothing was left behind them: the owner slept as if its window were used up, and
/// the next message did not wake it.
#[test]
fn a_message_wakes_who_has_dropped_an_expired_one() {
    let mut stage = Stage::new(100);
    let mut reader = stage.connect_as(connect("reader", V5, |p| p.receive_maximum = window(1)));
    stage.subscribe(&mut reader, "t", QoS::AtLeastOnce);
    stage.lose(&mut reader);
    let mut writer = stage.connect("writer", V5);
    stage.send(&mut writer, &expiring("t", 1, 1));
    stage.now = stage.now.plus_secs(2);
    let mut reader = stage.connect_as(connect("reader", V5, |p| p.receive_maximum = window(1)));
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 2, b"new"));
    assert!(reader.was_woken());
    assert_eq!(payloads(&stage.advance(&mut reader)), ["new"]);
}

/// A delivery of a Shared Subscription that went over to a member with QoS 0 dropped that member's
/// waker: its mailbox took it for woken and never woke it again.
#[test]
fn who_takes_over_a_shared_delivery_with_qos_0_is_woken() {
    let mut stage = Stage::new(100);
    let mut first = stage.connect_as(connect("first", V5, |p| p.receive_maximum = window(1)));
    stage.subscribe(&mut first, "$share/g/t", QoS::AtLeastOnce);
    let mut writer = stage.connect("writer", V5);
    for id in 1..=2 {
        stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, id, b"shared"));
    }
    stage.advance(&mut first);
    let mut second = stage.connect("second", V5);
    stage.subscribe(&mut second, "$share/g/t", QoS::AtMostOnce);
    stage.lose(&mut first);
    assert!(second.was_woken());
    assert_eq!(payloads(&stage.advance(&mut second)), ["shared"]);
}

/// A refused publish gave back room in the queue of a group's member that was to get it with QoS 0,
/// for which no room had been set aside: from then on that queue counted too little.
#[test]
fn a_refused_publish_gives_back_no_more_than_was_set_aside() {
    let mut stage = Stage::new(1);
    let mut member = stage.connect("member", V5);
    stage.subscribe(&mut member, "own", QoS::AtLeastOnce);
    stage.subscribe(&mut member, "$share/a/t", QoS::AtMostOnce);
    let mut full = stage.connect("full", V5);
    stage.subscribe(&mut full, "$share/b/t", QoS::AtLeastOnce);
    let mut writer = stage.connect("writer", V5);
    stage.send(&mut writer, &publish("own", QoS::AtLeastOnce, 1, b"not acknowledged"));
    stage.advance(&mut member);
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 2, b"fills the queue"));
    assert_eq!(stage.queued("member"), 1);
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 3, b"is refused"));
    assert_eq!(stage.queued("member"), 1);
}

/// A client on a slow link pinged in time, but nothing of it is read while it has not taken what
/// waits for it: it was let go for its silence, came back, was sent the same again, for ever. A
/// publisher that is not read because memory is short fared the same.
#[test]
fn who_is_not_read_is_not_silent() {
    let mut stage = Stage::new(100);
    let mut writer = stage.connect_as(Connect { keep_alive_secs: 2, ..connect("w", V5, |_| {}) });
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 1, b"publishes"));
    let due = writer.connection.deadline().unwrap();
    stage.now = stage.now.plus_secs(2);
    writer.connection.note_progress(stage.now);
    assert_eq!(writer.connection.deadline(), Some(due.plus_secs(2)));
    stage.now = stage.now.plus_secs(2);
    stage.broker.set_short_of_memory(true);
    assert!(stage.turn(|turn| writer.connection.may_read(turn)).is_err());
    assert_eq!(writer.connection.deadline(), Some(due.plus_secs(4)));
}

/// A client came back with a smaller Maximum Packet Size than it had before, and what was in flight
/// was sent again although it was larger [MQTT-3.1.2-24].
#[test]
fn what_is_too_large_for_the_new_connection_is_not_sent_again() {
    let mut stage = Stage::new(100);
    let mut reader = stage.connect("reader", V5);
    stage.subscribe(&mut reader, "t", QoS::AtLeastOnce);
    let mut writer = stage.connect("writer", V5);
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 1, &[b'L'; 200]));
    stage.send(&mut writer, &publish("t", QoS::AtLeastOnce, 2, b"small"));
    assert_eq!(stage.advance(&mut reader).len(), 2);
    stage.lose(&mut reader);
    let small = connect("reader", V5, |p| p.maximum_packet_size = NonZeroU32::new(100));
    let mut reader = stage.connect_as(small);
    assert_eq!(payloads(&reader.greeting), ["small"]);
    stage.send(&mut reader, &puback(2));
    assert_eq!(stage.queued("reader"), 0);
}

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A broker, and the turn that its connections take one after the other.
pub(crate) struct Stage {
    broker: Broker,
    shard: Shard,
    pub(crate) outbox: Outbox,
    pub(crate) now: Tick,
}

/// A connection, and what it was first sent.
struct Peer {
    connection: Connection,
    version: ProtocolVersion,
    greeting: Vec<Packet>,
    flag: Arc<Flag>,
}

#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Peer {
    /// Whether somebody has woken it since this was last asked, or since it came.
    fn was_woken(&self) -> bool {
        self.flag.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

impl Stage {
    /// A broker whose persistent queues take `messages_max` messages.
    pub(crate) fn new(messages_max: usize) -> Self {
        let options = BrokerOptions::default();
        let queue = MailboxOptions {
            messages_max,
            overflow: Overflow::Reject,
            ..(*options.persistent_queue).clone()
        };
        let options = BrokerOptions { persistent_queue: Arc::new(queue), ..options };
        let broker = Broker::new(options, Guards::default(), Seeds { hash: 1, instance: 1 });
        let shard = Shard::new(&broker);
        Self { broker, shard, outbox: Outbox::new(), now: Tick::from_millis(1) }
    }

    pub(crate) fn turn<R>(&mut self, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let Self { broker, shard, outbox, now } = self;
        let result = work(&mut Turn { broker, shard, now: *now, outbox });
        self.shard.wake_all();
        result
    }

    fn connect(&mut self, client_id: &str, version: ProtocolVersion) -> Peer {
        self.connect_as(connect(client_id, version, |_| {}))
    }

    fn connect_as(&mut self, connect: Connect) -> Peer {
        let origin =
            Origin { address: "here".into(), listener: "test".into(), tls_common_name: None };
        let options = Arc::new(ConnectionOptions::default());
        let mut peer = Peer {
            connection: Connection::new(origin, options, self.now),
            version: connect.protocol_version,
            greeting: Vec::new(),
            flag: Arc::default(),
        };
        peer.greeting = self.send(&mut peer, &Packet::Connect(Box::new(connect)));
        peer.was_woken();
        peer
    }

    fn subscribe(&mut self, peer: &mut Peer, filter: &str, qos: QoS) {
        self.send(peer, &subscribe(filter, qos));
    }

    /// The peer sends a packet; returns what it is sent until it has nothing more to do.
    fn send(&mut self, peer: &mut Peer, packet: &Packet) -> Vec<Packet> {
        let mut bytes = BytesMut::new();
        packet.encode(peer.version, &mut bytes);
        let mut bytes = bytes.freeze();
        let waker = Waker::from(Arc::clone(&peer.flag));
        self.turn(|turn| peer.connection.receive(turn, &mut bytes, 10, &waker));
        self.advance(peer)
    }

    fn advance(&mut self, peer: &mut Peer) -> Vec<Packet> {
        let waker = Waker::from(Arc::clone(&peer.flag));
        while self.turn(|turn| peer.connection.advance(turn, 100, usize::MAX, &waker))
            == Progress::More
        {}
        peer.was_woken();
        let bytes = Bytes::copy_from_slice(self.outbox.contiguous().unwrap());
        self.outbox.clear();
        packets(peer.version, bytes)
    }

    fn lose(&mut self, peer: &mut Peer) {
        self.turn(|turn| peer.connection.handle_lost(turn, "gone"));
    }

    /// Messages in the queue of a client, those in flight included.
    fn queued(&self, client_id: &str) -> usize {
        self.broker.registry().find(client_id).unwrap().mailbox.unwrap().counts().messages
    }
}

fn packets(version: ProtocolVersion, mut bytes: Bytes) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Some(frame) = Frame::peek(&bytes, PACKET_SIZE_MAX).unwrap() {
        let packet = bytes.split_to(frame.total_len);
        packets.push(Packet::decode(version, Sender::Server, &packet).unwrap());
    }
    packets
}

fn payloads(packets: &[Packet]) -> Vec<String> {
    let payload = |packet: &Packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some(String::from_utf8_lossy(&publish.payload).into_owned())
    };
    packets.iter().filter_map(payload).collect()
}

/// CONNECT for a Session that lasts.
pub(crate) fn connect(
    client_id: &str,
    version: ProtocolVersion,
    change: impl FnOnce(&mut ConnectProperties),
) -> Connect {
    let mut properties = ConnectProperties::default();
    if version == V5 {
        properties.session_expiry_interval_secs = Some(100);
        change(&mut properties);
    }
    Connect {
        protocol_version: version,
        clean_start: false,
        keep_alive_secs: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties,
    }
}

pub(crate) fn publish(topic: &str, qos: QoS, id: u16, payload: &'static [u8]) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: smallvec::SmallVec::new(),
        properties: None,
        payload: Bytes::from_static(payload),
    })
}

pub(crate) fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MAX,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    })
}

fn expiring(topic: &str, id: u16, secs: u32) -> Packet {
    let Packet::Publish(publish) = publish(topic, QoS::AtLeastOnce, id, b"expired") else {
        unreachable!("it is one")
    };
    let properties = MessageProperties {
        message_expiry_interval_secs: Some(secs),
        ..MessageProperties::default()
    };
    Packet::Publish(Publish { properties: Some(Arc::new(properties)), ..publish })
}

pub(crate) fn puback(id: u16) -> Packet {
    Packet::Puback(Puback::new(PacketId::new(id).unwrap(), ReasonCode::Success))
}

fn window(messages: u16) -> Option<NonZeroU16> {
    NonZeroU16::new(messages)
}
