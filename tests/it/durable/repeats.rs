//! DUP over the end of a broker: it is set on what may have been sent before, and on nothing else
//! [MQTT-3.3.1-1], [MQTT-3.3.1-3].
//!
//! After any start it was set on all that waited, also on what came while nobody was there to be sent it.

use super::{Mortal, take};
use crate::conformance::{Client, prop};

/// A client that is kept, wants `t`, and takes one message at a time.
fn slow(mortal: &Mortal) -> Client {
    let connect = mortal.stage.connect("slow").kept().with(&prop::two(prop::RECEIVE_MAXIMUM, 1));
    let mut client = mortal.stage.enter(&connect).unwrap();
    client.subscribe("t", 2).unwrap();
    client
}

/// Publishes these, of QoS 1 and 2 in turn.
fn publish(mortal: &Mortal, numbers: std::ops::Range<u8>) {
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in numbers {
        publisher.publish("t", &number.to_string(), 1 + number % 2).unwrap();
    }
}

/// All that waits for the client comes once and in order, and the first so many are marked.
fn expect_marked(mortal: &Mortal, marked: u8, count: u8) {
    let mut client = mortal.keeper("slow");
    for (number, message) in (0..count).zip(take(&mut client, count.into())) {
        assert_eq!(message.payload, number.to_string().as_bytes());
        assert_eq!(message.dup, number < marked, "{number} of {count}");
    }
    client.quiet().unwrap();
}

#[test]
pub(super) fn what_was_not_sent_before_a_stop_is_not_marked() {
    let mut mortal = Mortal::start(&[]);
    let mut client = slow(&mortal);
    publish(&mortal, 0..2);
    assert!(!client.message().unwrap().dup);
    client.leave().unwrap();
    publish(&mortal, 2..4);
    mortal.restart();
    // It comes and goes, and is sent what it was sent before.
    let mut client = slow(&mortal);
    assert!(client.message().unwrap().dup);
    mortal.restart();
    publish(&mortal, 4..6);
    mortal.restart();
    expect_marked(&mortal, 1, 6);
}

#[test]
pub(super) fn what_came_for_a_client_that_was_away_is_not_marked_after_a_death() {
    let mut mortal = Mortal::start(&[]);
    let mut client = slow(&mortal);
    publish(&mortal, 0..2);
    client.message().unwrap();
    client.leave().unwrap();
    publish(&mortal, 2..4);
    for _ in 0..2 {
        mortal.die_and_rise();
    }
    expect_marked(&mortal, 1, 4);
}

#[test]
pub(super) fn what_may_have_been_sent_before_a_death_is_marked() {
    let mut mortal = Mortal::start(&[]);
    let mut client = slow(&mortal);
    publish(&mortal, 0..2);
    client.message().unwrap();
    mortal.die_and_rise();
    // Nobody is there any more.
    publish(&mortal, 2..4);
    mortal.die_and_rise();
    publish(&mortal, 4..6);
    mortal.restart();
    expect_marked(&mortal, 2, 6);
}

/// A broker of the version before knows nothing of it: it takes the Session, sends, and writes the rest.
#[test]
fn what_an_older_broker_may_have_sent_in_between_is_marked() {
    let mut mortal = Mortal::start(&[]);
    let client = slow(&mortal);
    client.leave().unwrap();
    publish(&mortal, 0..2);
    mortal.broker.terminate();
    let file = mortal.broker.directory().join("store.sqlite");
    let store = rusqlite::Connection::open(file).unwrap();
    let taken = "UPDATE session SET epoch = substr(epoch, 1, length(epoch) - 1) || x'01'";
    assert_eq!(store.execute(taken, []).unwrap(), 1);
    drop(store);
    mortal.broker.start_again();
    expect_marked(&mortal, 2, 2);
}
