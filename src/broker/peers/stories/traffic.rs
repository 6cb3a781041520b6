//! A Session that moves again and again while messages come for it from everywhere, in orders of
//! events that a seed decides. Nothing is lost, nothing comes twice, nothing overtakes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else comes is a fault of the test or the broker"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::broker::peers::testing::Chance;
use crate::mqtt::{Pubcomp, Publish, Pubrec};

/// Who publishes without moving.
struct Writer {
    line: LineId,
    topic: String,
    sent: u16,
    unanswered: usize,
}

/// Who moves: the client's side of the Session.
struct Roamer {
    id: String,
    line: LineId,
    node: usize,
    is_online: bool,
    /// QoS 2 received and not released.
    unreleased: BTreeSet<PacketId>,
    /// What came, by topic, in order of first arrival.
    arrived: BTreeMap<String, Vec<u16>>,
    /// Its own QoS 2 messages that are not complete; whether PUBREC has come.
    outgoing: BTreeMap<u16, bool>,
    published: u16,
}

/// Who gets what the roamer publishes.
struct Reader {
    line: LineId,
    arrived: Vec<u16>,
}

struct Story {
    seed: u64,
    cluster: Cluster,
    chance: Chance,
    writers: Vec<Writer>,
    roamer: Roamer,
    reader: Reader,
    /// In every other story: who wants the same as the roamer, at each broker, so that messages come to
    /// all of them.
    residents: Vec<LineId>,
    cut: Option<(usize, usize)>,
}

/// Brokers with clients; one more only coordinates, and may die. Another one may come.
const NODES: usize = 3;
const MESSAGES_MAX: u16 = 60;

impl Story {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(!seed);
        let mut cluster = Cluster::seeded(NODES + 1, seed);
        let writers = (0..NODES)
            .map(|node| {
                let line = open(&mut cluster, node, &format!("writer-{node}"), 0);
                Writer { line, topic: format!("t/{node}"), sent: 0, unanswered: 0 }
            })
            .collect();
        let line = open(&mut cluster, NODES - 1, "reader", 0);
        subscribed(&mut cluster, line, "up", QoS::ExactlyOnce);
        let id = cluster.client_id_at(chance.below(NODES + 1));
        let first = open(&mut cluster, 0, &id, 600);
        subscribed(&mut cluster, first, "t/#", QoS::ExactlyOnce);
        let roamer = Roamer {
            id,
            line: first,
            node: 0,
            is_online: true,
            unreleased: BTreeSet::new(),
            arrived: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            published: 0,
        };
        let reader = Reader { line, arrived: Vec::new() };
        let residents = if chance.one_in(2) { 0..NODES } else { 0..0 };
        let residents = residents
            .map(|node| {
                let line = open(&mut cluster, node, &format!("resident-{node}"), 0);
                subscribed(&mut cluster, line, "t/#", QoS::ExactlyOnce);
                line
            })
            .collect();
        Self { seed, cluster, chance, writers, roamer, reader, residents, cut: None }
    }

    fn play(&mut self) {
        // Each in every other story: who coordinates dies, a broker comes that coordinates as well.
        let (dies_at, joins_at) = (self.chance.below(800), self.chance.below(800));
        for action in 0..400 {
            if action == dies_at {
                self.cluster.kill(NODES);
            }
            if action == joins_at {
                self.cluster.join();
                self.cluster.assign_slots();
            }
            self.act();
        }
        self.mend();
        self.finish();
        self.check();
    }

    fn act(&mut self) {
        match self.chance.below(20) {
            0..=5 => self.write(),
            6 => self.publish(),
            7 => self.roam(),
            8 if self.chance.one_in(4) && self.roamer.is_online => self.drop_connection(),
            9 if self.chance.one_in(4) => self.toggle_cut(),
            // A map that says the same is another one as well.
            14 if self.chance.one_in(16) => self.cluster.assign_slots(),
            10..=13 => {
                let _packet = self.read();
            }
            _ => {
                for _ in 0..self.chance.below(8) {
                    self.cluster.step();
                }
            }
        }
        self.answer_all();
    }

    fn answer_all(&mut self) {
        self.answer_writers();
        self.answer_reader();
        self.residents.iter().for_each(|line| drop(self.cluster.received(*line)));
    }

    fn write(&mut self) {
        let place = self.chance.below(self.writers.len());
        let qos = if self.chance.one_in(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let writer = &mut self.writers[place];
        if writer.sent == MESSAGES_MAX {
            return;
        }
        writer.sent += 1;
        writer.unanswered += 1;
        let (line, number) = (writer.line, writer.sent);
        let packet = publish(&writer.topic, &number.to_string(), qos, number);
        self.cluster.send(line, &packet);
    }

    fn answer_writers(&mut self) {
        for place in 0..self.writers.len() {
            for packet in self.cluster.received(self.writers[place].line) {
                match packet {
                    Packet::Puback(_) | Packet::Pubcomp(_) => self.writers[place].unanswered -= 1,
                    Packet::Pubrec(pubrec) => {
                        let line = self.writers[place].line;
                        self.cluster.send(line, &pubrel(pubrec.packet_id.get()));
                    }
                    other => panic!("seed {}: a writer got {other:?}", self.seed),
                }
            }
        }
    }

    fn answer_reader(&mut self) {
        let line = self.reader.line;
        for packet in self.cluster.received(line) {
            match packet {
                Packet::Publish(publish) => {
                    self.reader.arrived.push(number_of(&publish));
                    let id = publish.packet_id.unwrap();
                    self.cluster.send(line, &Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
                }
                Packet::Pubrel(pubrel) => {
                    let pubcomp = Pubcomp::new(pubrel.packet_id, ReasonCode::Success);
                    self.cluster.send(line, &Packet::Pubcomp(pubcomp));
                }
                other => panic!("seed {}: the reader got {other:?}", self.seed),
            }
        }
    }

    fn publish(&mut self) {
        if !self.roamer.is_online || self.roamer.published == MESSAGES_MAX {
            return;
        }
        self.roamer.published += 1;
        let number = self.roamer.published;
        self.roamer.outgoing.insert(number, false);
        let packet = publish("up", &number.to_string(), QoS::ExactlyOnce, number);
        self.cluster.send(self.roamer.line, &packet);
    }

    fn roam(&mut self) {
        if self.chance.one_in(2) && !self.cluster.is_closed(self.roamer.line) {
            self.cluster.lose(self.roamer.line);
        }
        self.roamer.node = self.chance.below(NODES);
        self.connect();
    }

    fn connect(&mut self) {
        let connect = connect(&self.roamer.id, 600);
        self.roamer.line = self.cluster.connect(self.roamer.node, &connect);
        self.roamer.is_online = false;
    }

    fn drop_connection(&mut self) {
        self.cluster.lose(self.roamer.line);
        self.connect();
    }

    fn toggle_cut(&mut self) {
        if self.cut.is_some() {
            return self.mend();
        }
        let one = self.chance.below(NODES);
        let other = (one + 1) % NODES;
        self.cluster.cut(one, other);
        self.cut = Some((one, other));
    }

    fn mend(&mut self) {
        if let Some((one, other)) = self.cut.take() {
            self.cluster.heal(one, other);
        }
    }

    /// The roamer handles one packet. `false` when there is none.
    fn read(&mut self) -> bool {
        let line = self.roamer.line;
        let Some(packet) = self.cluster.next_received(line) else { return false };
        // What it has to say is lost when the broker has closed the connection.
        let is_heard = self.cluster.is_open(line);
        let mut answers = VecDeque::new();
        match packet {
            Packet::Connack(connack) if connack.reason_code == ReasonCode::Success => {
                assert!(connack.session_present, "seed {}: the session is lost", self.seed);
                self.roamer.is_online = true;
                for (number, has_pubrec) in &self.roamer.outgoing {
                    answers.push_back(if *has_pubrec {
                        pubrel(*number)
                    } else {
                        again(&publish("up", &number.to_string(), QoS::ExactlyOnce, *number))
                    });
                }
            }
            Packet::Connack(_) | Packet::Disconnect(_) => {
                self.connect();
                return true;
            }
            Packet::Publish(publish) => answers.extend(self.take(&publish)),
            Packet::Pubrel(pubrel) => {
                self.roamer.unreleased.remove(&pubrel.packet_id);
                let pubcomp = Pubcomp::new(pubrel.packet_id, ReasonCode::Success);
                answers.push_back(Packet::Pubcomp(pubcomp));
            }
            Packet::Pubrec(pubrec) => {
                assert!(!pubrec.reason_code.is_error(), "seed {}: {pubrec:?}", self.seed);
                if let Some(has_pubrec) = self.roamer.outgoing.get_mut(&pubrec.packet_id.get()) {
                    *has_pubrec = true;
                }
                answers.push_back(pubrel(pubrec.packet_id.get()));
            }
            Packet::Pubcomp(pubcomp) => {
                self.roamer.outgoing.remove(&pubcomp.packet_id.get());
            }
            other => panic!("seed {}: the roamer got {other:?}", self.seed),
        }
        for answer in answers.into_iter().filter(|_| is_heard) {
            self.cluster.send(line, &answer);
        }
        true
    }

    fn take(&mut self, publish: &Publish) -> Option<Packet> {
        let (seed, id) = (self.seed, publish.packet_id?);
        let number = number_of(publish);
        let arrived = self.roamer.arrived.entry(publish.topic.to_string()).or_default();
        let is_new = match publish.qos {
            QoS::ExactlyOnce => self.roamer.unreleased.insert(id),
            // By the way to the broker where it was, and by that to where it is.
            QoS::AtLeastOnce if !self.residents.is_empty() => !arrived.contains(&number),
            QoS::AtLeastOnce => !(publish.dup && arrived.contains(&number)),
            QoS::AtMostOnce => true,
        };
        if is_new {
            let last = arrived.last().copied().unwrap_or(0);
            assert_eq!(number, last + 1, "seed {seed}: {publish:?} after {last}");
            arrived.push(number);
        }
        Some(if publish.qos == QoS::ExactlyOnce {
            Packet::Pubrec(Pubrec::new(id, ReasonCode::Success))
        } else {
            puback(id.get())
        })
    }

    /// Everybody says what is left to say.
    fn finish(&mut self) {
        loop {
            self.cluster.pump();
            self.answer_all();
            if self.roamer.is_online && self.cluster.is_closed(self.roamer.line) {
                self.connect();
            }
            if !self.read() && !self.cluster.step() {
                return;
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        for writer in &self.writers {
            assert_eq!(writer.unanswered, 0, "seed {seed}: a writer waits");
            let arrived = self.roamer.arrived.get(&writer.topic).map_or(0, Vec::len);
            assert_eq!(arrived, usize::from(writer.sent), "seed {seed}: {}", writer.topic);
        }
        assert!(self.roamer.outgoing.is_empty(), "seed {seed}: {:?}", self.roamer.outgoing);
        let sent: Vec<_> = (1..=self.roamer.published).collect();
        assert_eq!(self.reader.arrived, sent, "seed {seed}");
        let mut held = 0;
        for node in 0..NODES {
            let counts = self.cluster.ownership(node);
            held += counts.held;
            let left = (counts.pending, counts.imports, counts.exports);
            assert_eq!(left, (0, 0, 0), "seed {seed}: broker {node}");
        }
        assert_eq!(held, NODES + 2 + self.residents.len(), "seed {seed}");
    }
}

fn number_of(publish: &Publish) -> u16 {
    std::str::from_utf8(&publish.payload).unwrap().parse().unwrap()
}

fn again(packet: &Packet) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish { dup: true, ..publish.clone() }),
        other => other.clone(),
    }
}

#[test]
fn a_session_that_moves_under_traffic_gets_each_message_once_and_in_order() {
    let seeds = match std::env::var("MQTTZOO_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 0..=std::env::var("MQTTZOO_SEEDS").map_or(399, |last| last.parse().unwrap()),
    };
    for seed in seeds {
        Story::new(seed).play();
    }
}
