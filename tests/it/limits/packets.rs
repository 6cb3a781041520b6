//! Sizes and shapes of packets, and how many may be under way.

use super::{BOTH, answer, limited, publish, refusal};
use crate::conformance::bytes::Will;
use crate::conformance::{Version, ack, kind, prop};

/// One client too large, one waiting for 3.1.1's plain close, one with too large a CONNECT.
#[test]
fn a_packet_that_is_too_large_is_answered_with_0x95() {
    let broker = limited(&["--packet-bytes-max", "1 KiB"]);
    for version in BOTH {
        let s = broker.stage(version);
        let (mut large, mut other) = (s.client("large").unwrap(), s.client("other").unwrap());
        if version == Version::V5 {
            let told = large.connack.properties.number(prop::MAXIMUM_PACKET_SIZE);
            assert_eq!(told, Some(1024));
        }
        large.send(&s.message("t", "x".repeat(1024)).bytes());
        let reason = large.refused(&[0x95]).unwrap();
        assert_eq!(reason.is_some(), version == Version::V5, "{version:?}");
        other.quiet().unwrap();
    }
    let s = broker.stage(Version::V5);
    let connect = s.connect("large").with(&prop::user("a", "x".repeat(2_000)));
    assert_eq!(refusal(&s, &connect), 0x95);
    assert_eq!(broker.metrics().value("packets_too_large_total"), 3);
}

#[test]
fn topics_of_too_many_levels_are_refused() {
    let broker = limited(&["--topic-levels-max", "3"]);
    let s = broker.stage(Version::V5);
    let mut client = s.client("a").unwrap();
    assert_eq!(publish(&mut client, &s, "1/2/3", "x"), 0x10);
    assert_eq!(publish(&mut client, &s, "1/2/3/4", "x"), 0x90);
    let pairs = [("1/2/3", 0), ("1/2/3/4", 0), ("$share/g/1/2/3", 0), ("1/2/+/#", 0)];
    let codes = client.subscribe_all(&[], &pairs).unwrap().codes;
    assert_eq!(codes, [0, 0x8F, 0, 0x8F]);
    let will = Will::new("1/2/3/4", "x");
    assert_eq!(refusal(&s, &s.connect("b").will(will)), 0x90);
    assert_eq!(broker.metrics().value("topic_levels_exceeded_total"), 4);
    // Of QoS 0 nobody can be told.
    client.publish("1/2/3/4", "x", 0).unwrap();
    client.quiet().unwrap();
}

/// To a client of 3.1.1 a close is the only answer to a PUBLISH.
#[test]
fn topics_of_too_many_levels_are_refused_in_the_words_of_3_1_1() {
    let broker = limited(&["--topic-levels-max", "3"]);
    let s = broker.stage(Version::V4);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    let codes = client.subscribe_all(&[], &[("1/2/3/4", 0), ("t", 1)]).unwrap().codes;
    assert_eq!(codes, [0x80, 1]);
    client.send(&s.message("1/2/3/4", "x").qos(1, 7).bytes());
    client.closed().unwrap();
    other.quiet().unwrap();
}

/// Two QoS 2 publishes that are not released, and a third.
#[test]
fn more_in_flight_than_agreed_ends_the_connection_with_0x93() {
    let broker = limited(&["--in-flight-max", "2"]);
    let s = broker.stage(Version::V5);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    assert_eq!(client.connack.properties.number(prop::RECEIVE_MAXIMUM), Some(2));
    for id in 1..=2 {
        assert!(answer(&mut client, &s.message("t", "x").qos(2, id)) < 0x80);
    }
    client.send(&s.message("t", "x").qos(2, 3).bytes());
    assert_eq!(client.refused(&[0x93]).unwrap().expect("a client of 5.0 is told").code, 0x93);
    assert_eq!(broker.metrics().value("receive_maximum_exceeded_total"), 1);
    other.quiet().unwrap();
}

#[test]
fn no_more_is_in_flight_to_a_client_than_the_bound() {
    let broker = limited(&["--in-flight-max", "2"]);
    for version in BOTH {
        let s = broker.stage(version);
        let (mut client, mut publisher) = (s.client("a").unwrap(), s.client("b").unwrap());
        client.subscribe(&s.topic("t"), 1).unwrap();
        for payload in ["1", "2", "3"] {
            publisher.publish(&s.topic("t"), payload, 1).unwrap();
        }
        let first = client.message().unwrap();
        assert_eq!(client.message().unwrap().text(), "2");
        client.ping().unwrap();
        client.send(&ack(kind::PUBACK, first.id));
        assert_eq!(client.message().unwrap().text(), "3");
    }
}

#[test]
fn a_topic_alias_above_the_bound_ends_the_connection_with_0x94() {
    let broker = limited(&["--topic-alias-max", "2"]);
    let s = broker.stage(Version::V5);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    assert_eq!(client.connack.properties.number(prop::TOPIC_ALIAS_MAXIMUM), Some(2));
    client.send(&s.message("t", "x").with(&prop::two(prop::TOPIC_ALIAS, 2)).bytes());
    client.ping().unwrap();
    client.send(&s.message("t", "x").with(&prop::two(prop::TOPIC_ALIAS, 3)).bytes());
    assert_eq!(client.refused(&[0x94]).unwrap().expect("a client of 5.0 is told").code, 0x94);
    assert_eq!(broker.metrics().value("violations_total"), 1);
    other.quiet().unwrap();
}

/// Half a packet once cost as much memory as had come of it, for as many connections as there were,
/// before anybody had shown who he is.
#[test]
fn packets_that_have_come_in_part_have_their_bytes_together() {
    let bounds = "--partial-packets-bytes-max=256KiB --packet-timeout-secs=3 \
                  --handshake-timeout-secs=3";
    let broker = limited(&bounds.split_whitespace().collect::<Vec<_>>());
    let s = broker.stage(Version::V5);
    let mut other = s.client("other").unwrap();
    let connect = s.connect("large").with(&prop::user("a", "x".repeat(60_000)).repeat(5)).bytes();
    let strangers: Vec<_> = (0..8)
        .map(|_| {
            let mut stranger = s.open().unwrap();
            stranger.send(&connect[..120_000]);
            stranger
        })
        .collect();
    let deferred = "reads_deferred_by_partial_packets_total";
    broker.wait_for_metric(deferred, |count| count >= 6);
    // What each has sent first is read before it is known to be part of a packet.
    assert!(broker.metrics().value("partial_packets_bytes") <= 256 * 1024);
    let half: Vec<_> = (0..8)
        .map(|n| {
            let mut client = s.client(&format!("half {n}")).unwrap();
            client.send(&s.message("t", "x".repeat(1_000_000)).bytes()[..120_000]);
            client
        })
        .collect();
    let before = broker.metrics().value(deferred);
    broker.wait_for_metric(deferred, |count| count >= before + 6);
    // One of them may go beyond.
    assert!(broker.metrics().value("partial_packets_bytes") <= (256 + 128 + 1_024) * 1_024);
    other.quiet().unwrap();
    broker.wait_for_metric("connect_timeouts_total", |count| count == 8);
    broker.wait_for_metric("packet_timeouts_total", |count| count == 8);
    broker.wait_for_metric("partial_packets_bytes", |bytes| bytes == 0);
    other.subscribe("t", 0).unwrap();
    let payload = "x".repeat(1_000_000);
    other.publish("t", &payload, 0).unwrap();
    other.receive("t", &payload, 0).unwrap();
    drop((strangers, half));
}

#[test]
fn a_connect_has_room_for_its_will_and_256_kib() {
    let broker = limited(&["--will-bytes-max", "10 KiB"]);
    let s = broker.stage(Version::V5);
    let connect = |count| s.connect("a").with(&prop::user("a", "x".repeat(65_000)).repeat(count));
    s.enter(&connect(4)).unwrap().quiet().unwrap();
    assert_eq!(refusal(&s, &connect(5)), 0x95);
    assert_eq!(broker.metrics().value("packets_too_large_total"), 1);
    broker.wait_for_log("packet");
}

/// A client once made the broker keep 2 MiB of topics for its aliases.
#[test]
fn topics_with_aliases_have_their_bytes() {
    let broker = limited(&["--topic-alias-max", "9"]);
    let s = broker.stage(Version::V5);
    let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
    let long = "x".repeat(60_000);
    for alias in [1, 1] {
        client.send(&s.message(&*long, "x").with(&prop::two(prop::TOPIC_ALIAS, alias)).bytes());
        client.ping().unwrap();
    }
    client.send(&s.message(&*long, "x").with(&prop::two(prop::TOPIC_ALIAS, 2)).bytes());
    assert_eq!(client.refused(&[0x97]).unwrap().expect("a client of 5.0 is told").code, 0x97);
    assert_eq!(broker.metrics().value("topic_alias_sizes_exceeded_total"), 1);
    other.quiet().unwrap();
}

#[test]
fn all_clients_have_their_number_of_subscriptions() {
    let broker = limited(&["--subscriptions-max", "3"]);
    for (version, quota) in [(Version::V4, 0x80), (Version::V5, 0x97)] {
        let s = broker.stage(version);
        let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
        let before = broker.metrics().value("subscriptions_of_all_exceeded_total");
        client.subscribe_all(&[], &[("1", 1), ("2", 1)]).unwrap();
        let pairs = [("1", 1), ("3", 1), ("2", 1)];
        assert_eq!(other.subscribe_all(&[], &pairs).unwrap().codes, [1, quota, quota]);
        // What is there may be replaced, and what is given up is for somebody else.
        assert_eq!(client.subscribe_all(&[], &[("1", 0), ("3", 0)]).unwrap().codes, [0, quota]);
        assert_eq!(broker.metrics().value("subscriptions_of_all_exceeded_total"), before + 3);
        client.unsubscribe(&["2"]).unwrap();
        other.subscribe("3", 1).unwrap();
        client.leave().unwrap();
        other.leave().unwrap();
        broker.wait_for_metric("subscriptions", |count| count == 0);
    }
}

#[test]
fn a_client_has_its_bytes_of_subscriptions() {
    let broker = limited(&["--subscription-bytes-per-client-max", "1KiB"]);
    for (version, quota) in [(Version::V4, 0x80), (Version::V5, 0x97)] {
        let s = broker.stage(version);
        let mut client = s.client("a").unwrap();
        let before = broker.metrics().value("subscription_sizes_exceeded_total");
        let [one, two, three] = ["1", "2", "3"].map(|digit| digit.repeat(500));
        let pairs = [(&*one, 1), (&*two, 1), (&*three, 1), (&*one, 0)];
        let suback = client.subscribe_all(&[], &pairs).unwrap();
        assert_eq!(suback.codes, [1, 1, quota, 0], "{version:?}");
        if version == Version::V5 {
            let reason = suback.properties.string(prop::REASON_STRING);
            assert!(reason.is_some_and(|reason| reason.contains("bytes")));
        }
        assert_eq!(broker.metrics().value("subscription_sizes_exceeded_total"), before + 1);
        client.unsubscribe(&[&one]).unwrap();
        assert_eq!(client.subscribe_all(&[], &[(&*three, 1)]).unwrap().codes, [1]);
    }
}

#[test]
fn a_client_has_its_number_of_subscriptions() {
    let broker = limited(&["--subscriptions-per-client-max", "2"]);
    for (version, quota) in [(Version::V4, 0x80), (Version::V5, 0x97)] {
        let s = broker.stage(version);
        let (mut client, mut other) = (s.client("a").unwrap(), s.client("b").unwrap());
        let before = broker.metrics().value("subscriptions_exceeded_total");
        let pairs = [("1", 1), ("2", 1), ("3", 1), ("1", 0)];
        let suback = client.subscribe_all(&[], &pairs).unwrap();
        assert_eq!(suback.codes, [1, 1, quota, 0], "{version:?}");
        assert_eq!(broker.metrics().value("subscriptions_exceeded_total"), before + 1);
        // What was refused is not subscribed to.
        other.publish("3", "x", 1).unwrap();
        client.ping().unwrap();
        client.unsubscribe(&["1"]).unwrap();
        client.subscribe("3", 1).unwrap();
        other.quiet().unwrap();
    }
}
