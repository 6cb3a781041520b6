//! Retained messages that were written and deleted on both sides of a cut: when it has healed, all
//! brokers have the same, and what was written last has won.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::late::{first_messages, texts};
use super::proxy::{Cut, ENSEMBLE};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Publish, Version, kind};

/// What a topic is given: topic and text; a deletion has none.
type Write = (String, String);

/// A client that writes at a broker, and one that sees there what it wrote.
struct Side {
    broker: usize,
    writer: Client,
    witness: Client,
    unanswered: Vec<u16>,
}

impl Side {
    #[track_caller]
    fn new(cluster: &ClusterUnderTest, broker: usize) -> Self {
        let writer = cluster.client(broker, "writer");
        let mut witness = cluster.client(broker, "witness");
        witness.subscribe("r/+", 0).unwrap();
        Self { broker, writer, witness, unanswered: Vec::new() }
    }

    /// Its broker has taken these; nobody waits for the other side, which cannot answer.
    #[track_caller]
    fn write(&mut self, writes: &[Write]) {
        for (topic, text) in writes {
            let id = self.writer.fresh_id();
            let message = Publish::new(Version::V5, topic, text).qos(1, id).retained();
            self.writer.send(&message.bytes());
            self.unanswered.push(id);
        }
        let mut unseen: BTreeSet<Write> = writes.iter().cloned().collect();
        while !unseen.is_empty() {
            let [(topic, text)] = &texts(&[self.witness.message().unwrap()])[..] else { return };
            unseen.remove(&(topic.clone(), text.clone()));
        }
    }

    /// Every PUBACK comes: all brokers have what was written.
    #[track_caller]
    fn wait_for_answers(&mut self) {
        for id in self.unanswered.drain(..) {
            assert!(self.writer.expect_ack(kind::PUBACK, id).unwrap().code < 0x80);
        }
    }

    /// What it gives to its topics: those that it writes first, or last.
    fn writes(&self, turn: Turn) -> Vec<Write> {
        let is_first = |number: &usize| number.is_multiple_of(2) == (self.broker == 1);
        let numbers = (0..TOPICS).filter(|number| is_first(number) == (turn == Turn::First));
        numbers.map(|number| (topic(number), text(number, turn, self.broker))).collect()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    First,
    Last,
}

fn topic(number: usize) -> String {
    format!("r/{number:02}")
}

/// A value on a value, a deletion on a value, or a value on a deletion.
fn text(number: usize, turn: Turn, broker: usize) -> String {
    match (number / 2 % 3, turn) {
        (1, Turn::Last) | (2, Turn::First) => String::new(),
        _ => format!("{turn:?} of {broker}"),
    }
}

/// Every topic has a value before the cut. Then one side writes first, and when its broker has taken
/// that, the other side writes on top of it: half of the topics this way, half of them that way.
#[track_caller]
fn write_apart(cluster: &ClusterUnderTest, other: usize, cut: impl FnOnce()) -> [Side; 2] {
    let mut sides = [1, other].map(|broker| Side::new(cluster, broker));
    for number in 0..TOPICS {
        sides[0].writer.retain(&topic(number), "before").unwrap();
    }
    cut();
    for turn in [Turn::First, Turn::Last] {
        for side in &mut sides {
            let writes = side.writes(turn);
            side.write(&writes);
        }
        wait_until_later(cluster, [1, other]);
    }
    sides
}

/// Waits until these brokers agree that it is later: their clocks differ by as much as they say.
#[track_caller]
fn wait_until_later(cluster: &ClusterUnderTest, brokers: [usize; 2]) {
    let clocks = brokers.map(|broker| {
        let metrics = cluster.broker(broker).metrics();
        let error = metrics.value("cluster_clock_error_milliseconds");
        (metrics.value("cluster_clock_milliseconds"), error)
    });
    let now = clocks.map(|(millis, error)| millis + error).into_iter().max().unwrap();
    for (broker, (_, error)) in brokers.into_iter().zip(clocks) {
        let is_later = |millis| millis > now + error;
        cluster.broker(broker).wait_for_metric("cluster_clock_milliseconds", is_later);
    }
}

/// What was written last by one side or the other.
fn last_writes(sides: &[Side]) -> Vec<Write> {
    let all = sides.iter().flat_map(|side| side.writes(Turn::Last));
    let mut kept: Vec<_> = all.filter(|(_, text)| !text.is_empty()).collect();
    kept.sort();
    kept
}

fn found(cluster: &ClusterUnderTest, broker: usize) -> Vec<Write> {
    texts(&first_messages(&mut cluster.client(broker, "reader"), "r/+"))
}

fn start(timeout_secs: u32) -> Option<ClusterUnderTest> {
    ClusterUnderTest::start_as(Plan { timeout_secs, has_network: true, ..Plan::default() })
}

/// Broker 1 and another one are cut off from each other, or that one from everybody, for a moment.
#[track_caller]
fn check_healed(other: usize, pairs: &[(usize, usize)], cut: Cut) {
    let Some(cluster) = start(10) else { return };
    let mut sides = write_apart(&cluster, other, || {
        for &(one, other) in pairs {
            cluster.cut(one, other, cut);
        }
    });
    for &(one, other) in pairs {
        cluster.heal(one, other);
    }
    sides.iter_mut().for_each(Side::wait_for_answers);
    let expected = last_writes(&sides);
    for broker in 1..=3 {
        assert_eq!(found(&cluster, broker), expected, "at broker {broker}");
        let log = cluster.broker(broker).log();
        assert!(!log.contains("was declared dead"), "{log}");
    }
}

#[test]
fn what_two_brokers_wrote_while_their_link_was_closed_is_one_afterwards() {
    check_healed(2, &[(1, 2)], Cut::Closed);
}

#[test]
fn what_two_brokers_wrote_while_their_link_was_silent_is_one_afterwards() {
    check_healed(2, &[(1, 2)], Cut::Silent);
}

#[test]
fn what_a_broker_wrote_that_was_cut_off_from_everybody_is_one_afterwards() {
    check_healed(3, &[(1, 3), (2, 3), (ENSEMBLE, 3)], Cut::Silent);
}

/// It is declared dead with what it wrote, which nobody was told is safe, and comes back as a new one.
/// What the others acknowledged on top of it stands; of the rest all have the same.
#[test]
fn all_have_the_same_when_a_broker_was_cut_off_until_it_was_declared_dead() {
    let Some(cluster) = start(2) else { return };
    let pairs = [(1, 3), (2, 3), (ENSEMBLE, 3)];
    let [mut survivor, lost] = write_apart(&cluster, 3, || {
        for (one, other) in pairs {
            cluster.cut(one, other, Cut::Silent);
        }
    });
    for by in [1, 2] {
        cluster.wait_until_declared_dead(3, by);
    }
    survivor.wait_for_answers();
    for (one, other) in pairs {
        cluster.heal(one, other);
    }
    cluster.wait_until_joined(3, 2);
    let deadline = Instant::now() + Duration::from_secs(20);
    let agreed = loop {
        let [first, second, third] = [1, 2, 3].map(|broker| found(&cluster, broker));
        if first == second && second == third {
            break first;
        }
        assert!(Instant::now() < deadline, "{first:?}\n{second:?}\n{third:?}");
    };
    let of_agreed = |topic: &str| {
        let found = agreed.iter().find(|(name, _)| name == topic);
        found.map_or_else(String::new, |(_, text)| text.clone())
    };
    for (topic, text) in survivor.writes(Turn::Last) {
        assert_eq!(of_agreed(&topic), text, "{topic}");
    }
    // What the lost one wrote last may have come through, or what the survivor wrote first is left.
    for ((topic, last), (_, first)) in
        lost.writes(Turn::Last).iter().zip(survivor.writes(Turn::First))
    {
        let text = of_agreed(topic);
        assert!([last, &first].contains(&&text), "{topic}: `{text}`");
    }
}

const TOPICS: usize = 36;
