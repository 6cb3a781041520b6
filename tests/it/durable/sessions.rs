//! Each part of a Session, over the death of its broker.

use super::{Mortal, take};
use crate::conformance::{ack, kind, prop};

/// Subscribes as `name` to `t/#` and leaves.
fn leave_asleep(mortal: &Mortal, name: &str, qos: u8) {
    let mut client = mortal.keeper(name);
    client.subscribe("t/#", qos).unwrap();
    client.leave().unwrap();
}

#[test]
pub(super) fn a_queue_comes_back_whole_and_in_order() {
    let mut mortal = Mortal::start(&[]);
    leave_asleep(&mortal, "sleeper", 2);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..200 {
        publisher.publish("t/n", &number.to_string(), 1 + u8::from(number % 3 == 0)).unwrap();
    }
    mortal.die_and_rise();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    for (number, message) in (0..).zip(take(&mut sleeper, 200)) {
        assert_eq!(message.payload, i32::to_string(&number).as_bytes());
        assert!(!message.dup, "nobody was there to be sent it");
    }
    sleeper.quiet().unwrap();
}

#[test]
pub(super) fn what_was_acknowledged_does_not_come_again() {
    let mut mortal = Mortal::start(&[]);
    let mut client = mortal.keeper("client");
    client.subscribe("t/#", 2).unwrap();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..20 {
        publisher.publish("t/n", &number.to_string(), 1 + number % 2).unwrap();
    }
    take(&mut client, 20);
    // Whatever the broker has heard before is in the store when it answers this.
    client.subscribe("other", 1).unwrap();
    for number in 20..30 {
        publisher.publish("t/n", &number.to_string(), 1).unwrap();
    }
    mortal.die_and_rise();
    let mut client = mortal.keeper("client");
    assert!(client.connack.session_present);
    for (number, message) in (20..).zip(take(&mut client, 10)) {
        assert_eq!(message.payload, i32::to_string(&number).as_bytes());
    }
    client.quiet().unwrap();
}

/// PUBREC was answered with PUBREL: the message does not come again, PUBREL does.
#[test]
pub(super) fn a_message_half_released_is_released_and_not_sent() {
    let mut mortal = Mortal::start(&[]);
    let mut client = mortal.keeper("client");
    client.subscribe("t", 2).unwrap();
    mortal.stage.client("publisher").unwrap().publish("t", "once", 2).unwrap();
    let message = client.message().unwrap();
    client.send(&ack(kind::PUBREC, message.id));
    client.expect_ack(kind::PUBREL, message.id).unwrap();
    mortal.die_and_rise();
    let mut client = mortal.keeper("client");
    client.expect_ack(kind::PUBREL, message.id).unwrap();
    client.send(&ack(kind::PUBCOMP, message.id));
    client.quiet().unwrap();
}

/// The publisher heard PUBREC and sends PUBLISH again all the same: nobody gets it twice.
#[test]
pub(super) fn a_message_received_once_is_received_once_over_a_death() {
    let mut mortal = Mortal::start(&[]);
    leave_asleep(&mortal, "sleeper", 2);
    let mut publisher = mortal.keeper("publisher");
    let publish = mortal.stage.message("t/x", "once").qos(2, 7);
    publisher.send(&publish.bytes());
    publisher.expect_ack(kind::PUBREC, 7).unwrap();
    mortal.die_and_rise();
    let mut publisher = mortal.keeper("publisher");
    assert!(publisher.connack.session_present);
    publisher.complete(&publish.dup()).unwrap();
    mortal.die_and_rise();
    // Once it was released the identifier names another message.
    let mut publisher = mortal.keeper("publisher");
    let other = mortal.stage.message("t/x", "other").qos(2, 7);
    publisher.complete(&other).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.receive("t/x", "once", 2).unwrap();
    sleeper.receive("t/x", "other", 2).unwrap();
    sleeper.quiet().unwrap();
}

#[test]
pub(super) fn subscriptions_come_back_as_they_were_left() {
    let mut mortal = Mortal::start(&[]);
    let mut client = mortal.keeper("client");
    client.subscribe_with(&[prop::SUBSCRIPTION_ID, 9], "stays/+", 1).unwrap();
    client.subscribe("changes", 2).unwrap();
    client.subscribe("changes", 1).unwrap();
    client.subscribe("goes", 1).unwrap();
    client.unsubscribe(&["goes"]).unwrap();
    mortal.die_and_rise();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for topic in ["goes", "stays/a", "changes"] {
        publisher.publish(topic, topic, 2).unwrap();
    }
    let mut client = mortal.keeper("client");
    let first = client.receive("stays/a", "stays/a", 1).unwrap();
    assert!(first.properties.0.contains(&vec![prop::SUBSCRIPTION_ID, 9]));
    client.receive("changes", "changes", 1).unwrap();
    client.quiet().unwrap();
}

#[test]
pub(super) fn a_session_that_ended_does_not_come_back() {
    let mut mortal = Mortal::start(&[]);
    leave_asleep(&mortal, "client", 1);
    let clean = mortal.stage.client("client").unwrap();
    assert!(!clean.connack.session_present);
    // CONNACK said so.
    mortal.die_and_rise();
    assert!(!mortal.keeper("client").connack.session_present);
}

#[test]
pub(super) fn retained_messages_come_back_and_deleted_ones_do_not() {
    let mut mortal = Mortal::start(&[]);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.retain("t/kept", "one").unwrap();
    publisher.retain("t/kept", "two").unwrap();
    publisher.retain("t/gone", "x").unwrap();
    publisher.retain("t/gone", "").unwrap();
    mortal.die_and_rise();
    let mut reader = mortal.stage.client("reader").unwrap();
    reader.subscribe("t/#", 1).unwrap();
    let message = reader.receive("t/kept", "two", 1).unwrap();
    assert!(message.retain);
    reader.quiet().unwrap();
}

/// More than a mailbox keeps in memory for a client that is away or behind.
#[test]
pub(super) fn a_queue_longer_than_memory_comes_in_order_with_what_is_published_meanwhile() {
    let mut mortal = Mortal::start(&["--admin-port", "0"]);
    leave_asleep(&mortal, "sleeper", 1);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..3_000 {
        publisher.publish("t/n", &number.to_string(), 1).unwrap();
    }
    mortal.restart();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    for number in 0..4_000 {
        if number % 3 == 0 {
            publisher.publish("t/n", &(3_000 + number / 3).to_string(), 1).unwrap();
        }
        let message = sleeper.message().unwrap();
        assert_eq!(message.payload, number.to_string().as_bytes());
        sleeper.settle(&message).unwrap();
    }
    assert!(mortal.broker.metrics().value("queue_pages_read_total") > 4);
}

/// Between the first message that is not acknowledged and the last one all were. The places in between
/// were counted, and the queue was full with two messages in it.
#[test]
fn a_queue_is_as_full_as_it_was() {
    let mut mortal = Mortal::start(&["--queue-messages-max", "10"]);
    let mut client = mortal.keeper("client");
    client.subscribe("t/#", 1).unwrap();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..10 {
        publisher.publish("t/n", &number.to_string(), 1).unwrap();
        let message = client.message().unwrap();
        if (1..9).contains(&number) {
            client.settle(&message).unwrap();
        }
    }
    // Whatever the broker has heard before is in the store when it answers this.
    client.subscribe("other", 1).unwrap();
    mortal.die_and_rise();
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 10..18 {
        publisher.publish("t/n", &number.to_string(), 1).unwrap();
    }
    let message = mortal.stage.message("t/n", "too many").qos(1, 99);
    publisher.send(&message.bytes());
    assert_eq!(publisher.expect_ack(kind::PUBACK, 99).unwrap().code, 0x97);
    let mut client = mortal.keeper("client");
    let expected = [0].into_iter().chain(9..18);
    for (number, message) in expected.zip(take(&mut client, 10)) {
        assert_eq!(message.payload, i32::to_string(&number).as_bytes());
    }
}

#[test]
fn without_a_database_nothing_comes_back_and_the_start_says_so() {
    let mut mortal = Mortal::start(&["--no-database"]);
    leave_asleep(&mortal, "client", 1);
    mortal.broker.wait_for_log("end with this process");
    mortal.die_and_rise();
    assert!(!mortal.keeper("client").connack.session_present);
}
