//! Retained messages on their way to a Session that is kept, over the death of its broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::Mortal;
use super::killed_under_load::publish_through;
use crate::conformance::{Client, Publish, ack, kind, prop};

const RETAINED: usize = 5_000;
const PUBLISHED_AT_A_TIME: usize = 250;

/// A client that goes by the letter: a message whose Packet Identifier it holds is the one it has.
#[derive(Default)]
struct Receiver {
    /// Received, and not released.
    held: BTreeSet<u16>,
    got: Vec<Publish>,
}

impl Receiver {
    fn step(&mut self, client: &mut Client) {
        let packet = client.packet().unwrap();
        if packet.kind() == kind::PUBREL {
            let id = packet.acknowledgement().unwrap().id;
            self.held.remove(&id);
            return client.send(&ack(kind::PUBCOMP, id));
        }
        let message = packet.publish().unwrap();
        assert_eq!(message.qos, 2, "{}", message.shown());
        client.send(&ack(kind::PUBREC, message.id));
        if self.held.insert(message.id) {
            self.got.push(message);
        }
    }

    fn replayed(&self) -> usize {
        self.got.iter().filter(|message| message.retain).count()
    }

    fn live(&self) -> Vec<String> {
        self.got.iter().filter(|message| !message.retain).map(Publish::text).collect()
    }

    fn topics(&self) -> BTreeSet<&[u8]> {
        self.got.iter().filter(|message| message.retain).map(|it| it.topic.as_slice()).collect()
    }
}

/// Publishes retained messages, many at a time.
fn retain(mortal: &Mortal, topics: &[String]) {
    let mut publisher = mortal.stage.client("writer").unwrap();
    for topics in topics.chunks(PUBLISHED_AT_A_TIME) {
        for (id, topic) in (1..).zip(topics) {
            let message = mortal.stage.message(topic, "old").qos(2, id).retained();
            publisher.send(&message.bytes());
        }
        for (id, _) in (1..).zip(topics) {
            assert!(publisher.expect_ack(kind::PUBREC, id).unwrap().code < 0x80);
        }
        for (id, _) in (1..).zip(topics) {
            publisher.send(&ack(kind::PUBREL, id));
            publisher.expect_ack(kind::PUBCOMP, id).unwrap();
        }
    }
}

/// A client that was replayed a message held its Packet Identifier as received. After a start the broker
/// gave that to another message, which the client took for the one it had: it was lost.
#[test]
pub(super) fn what_is_replayed_and_what_comes_after_a_death_are_told_apart() {
    let mut mortal = Mortal::start(&[]);
    retain(&mortal, &["t".to_owned()]);
    let mut client = mortal.keeper("client");
    let tag = [prop::SUBSCRIPTION_ID, 9];
    client.subscribe_with(&tag, "t", 2).unwrap();
    let replayed = client.message().unwrap();
    assert_eq!((&*replayed.text(), replayed.qos, replayed.retain), ("old", 2, true));
    client.send(&ack(kind::PUBREC, replayed.id));
    mortal.die_and_rise();
    mortal.stage.client("publisher").unwrap().publish("t", "new", 2).unwrap();
    let mut client = mortal.keeper("client");
    assert!(client.connack.session_present);
    let mut receiver = Receiver { held: BTreeSet::from([replayed.id]), got: Vec::new() };
    while receiver.got.is_empty() {
        receiver.step(&mut client);
    }
    assert_eq!(receiver.live(), ["new"]);
}

/// What was replayed and not acknowledged is sent again as it was.
#[test]
pub(super) fn what_was_replayed_is_sent_again_as_it_was() {
    let mut mortal = Mortal::start(&[]);
    retain(&mortal, &["t".to_owned()]);
    let mut client = mortal.keeper("client");
    client.subscribe_with(&[prop::SUBSCRIPTION_ID, 9], "t", 2).unwrap();
    let replayed = client.message().unwrap();
    mortal.die_and_rise();
    let again = mortal.keeper("client").message().unwrap();
    assert_eq!((&*again.text(), again.qos, again.id), ("old", 2, replayed.id));
    assert!(again.retain && again.dup);
    assert!(again.properties.0.contains(&vec![prop::SUBSCRIPTION_ID, 9]));
}

/// The broker is killed while thousands of retained messages, and what is published meanwhile, are on
/// their way. What was published comes once and in its order, and nothing that was replayed comes twice.
/// The replay itself ends with its broker: a client that subscribes anew has one from the beginning.
#[test]
pub(super) fn a_replay_that_is_cut_short_loses_and_doubles_nothing() {
    let mut mortal = Mortal::start(&[]);
    let topics: Vec<_> = (0..RETAINED).map(|number| format!("old/{number}")).collect();
    retain(&mortal, &topics);
    let connect = mortal.stage.connect("client").kept();
    let connect = connect.with(&prop::two(prop::RECEIVE_MAXIMUM, 50));
    let mut client = mortal.stage.enter(&connect).unwrap();
    client.subscribe("t/#", 2).unwrap();
    client.subscribe("old/#", 2).unwrap();
    let (is_over, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publisher = thread::spawn({
        let (target, unique) = (mortal.stage.target.clone(), mortal.stage.unique.clone());
        let (is_over, acked) = (Arc::clone(&is_over), Arc::clone(&acked));
        move || publish_through(&target, &unique, &is_over, &acked)
    });
    let mut receiver = Receiver::default();
    while receiver.replayed() < RETAINED / 3 || receiver.live().len() < 20 {
        receiver.step(&mut client);
    }
    mortal.die_and_rise();
    let mut client = mortal.stage.enter(&connect).unwrap();
    assert!(client.connack.session_present);
    let enough = receiver.live().len() + 20;
    while receiver.live().len() < enough || !receiver.held.is_empty() {
        receiver.step(&mut client);
    }
    is_over.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    let before = receiver.replayed();
    assert!(before < RETAINED, "it was to be cut short");
    assert_eq!(before, receiver.topics().len(), "one came twice");

    client.subscribe("old/#", 2).unwrap();
    let acked = usize::try_from(acked.load(Ordering::Relaxed)).unwrap();
    while receiver.replayed() < before + RETAINED
        || receiver.live().len() < acked
        || !receiver.held.is_empty()
    {
        receiver.step(&mut client);
    }
    assert_eq!(receiver.topics().len(), RETAINED);
    for (number, text) in receiver.live().into_iter().enumerate() {
        assert_eq!(text, number.to_string());
    }
}
