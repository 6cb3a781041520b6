//! How much is retained.

use super::{answer, limited, refusal};
use crate::conformance::bytes::Will;
use crate::conformance::{Client, Connect, Stage, Version, kind};
use crate::harness::Broker;

/// Publishes a retained message with QoS 1; what that is answered with.
#[track_caller]
fn retain(client: &mut Client, s: &Stage, topic: &str, payload: &str) -> u8 {
    let id = client.fresh_id();
    answer(client, &s.message(topic, payload).qos(1, id).retained())
}

/// What is there may be replaced and deleted, and what is refused reaches nobody.
#[test]
fn one_retained_message_too_many_is_refused() {
    let broker = limited(&["--retained-messages-max", "2"]);
    let s = broker.stage(Version::V5);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    other.subscribe("#", 1).unwrap();
    for (topic, payload, code) in
        [("1", "a", 0), ("2", "b", 0), ("3", "c", 0x97), ("1", "d", 0), ("2", "", 0), ("3", "e", 0)]
    {
        assert_eq!(retain(&mut client, &s, topic, payload), code, "{topic} {payload}");
        if code == 0 {
            other.receive(topic, payload, 1).unwrap();
        }
    }
    other.quiet().unwrap();
    let metrics = broker.metrics();
    assert_eq!(metrics.value("retained_exceeded_total"), 1);
    assert_eq!(metrics.value("retained_messages"), 2);
}

/// With bounds this low the broker's own messages took all the room, or found none themselves.
#[test]
fn the_brokers_own_messages_are_outside_the_bounds() {
    let bounds = ["--retained-messages-max", "1", "--topic-levels-max", "2", "--admin-port", "0"];
    let broker = Broker::start(&[&bounds[..], &["--sys-interval-secs", "1"]].concat());
    let s = broker.stage(Version::V5);
    let (mut client, mut reader) = (s.client("a").unwrap(), s.client("b").unwrap());
    reader.subscribe("$SYS/#", 0).unwrap();
    reader.expect(kind::PUBLISH).unwrap();
    assert_eq!(retain(&mut client, &s, "1", "a"), 0x10, "nobody subscribes to it");
    assert_eq!(retain(&mut client, &s, "2", "b"), 0x97);
    let metrics = broker.metrics();
    assert_eq!(metrics.value("retained_exceeded_total"), 1);
    assert_eq!(metrics.value("topic_levels_exceeded_total"), 0);
}

/// What is outside the bounds is not for clients: a will got there.
#[test]
fn a_will_is_not_for_the_brokers_own_topics() {
    let broker = limited(&[]);
    let s = broker.stage(Version::V5);
    let will = Will::new("$SYS/x", "gone");
    assert_eq!(refusal(&s, &Connect { will: Some(will), ..s.connect("a") }), 0x87);
}

#[test]
fn a_publisher_of_3_1_1_is_closed_when_its_message_cannot_be_retained() {
    let broker = limited(&["--retained-messages-max", "1"]);
    let s = broker.stage(Version::V4);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    assert_eq!(retain(&mut client, &s, "1", "a"), 0);
    client.send(&s.message("2", "b").qos(1, 7).retained().bytes());
    client.closed().unwrap();
    other.quiet().unwrap();
    assert_eq!(broker.metrics().value("retained_exceeded_total"), 1);
}

#[test]
fn retained_bytes_have_their_bound() {
    let broker = limited(&["--retained-bytes-max", "4 KiB"]);
    let s = broker.stage(Version::V5);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    other.subscribe("#", 0).unwrap();
    let large = "x".repeat(1_500);
    for (topic, payload, code) in
        [("1", &*large, 0), ("2", &large, 0), ("3", &large, 0x97), ("1", "", 0), ("3", &large, 0)]
    {
        assert_eq!(retain(&mut client, &s, topic, payload), code, "{topic}");
        if code == 0 {
            other.receive(topic, payload, 0).unwrap();
        }
    }
    let metrics = broker.metrics();
    assert_eq!(metrics.value("retained_exceeded_total"), 1);
    assert!(metrics.value("retained_bytes") <= 4096, "{}", metrics.value("retained_bytes"));
    other.quiet().unwrap();
}
