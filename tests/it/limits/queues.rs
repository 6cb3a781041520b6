//! Queues: each bound with each policy.

use super::{answer, limited, publish};
use crate::conformance::{Client, Stage, Version, ack, kind};
use crate::harness::Broker;

/// Leaves a Session behind that subscribes to `topic` with QoS 2.
#[track_caller]
fn leave_session(s: &Stage, name: &str, topic: &str) {
    let mut client = s.enter(&s.connect(name).kept()).unwrap();
    client.subscribe(topic, 2).unwrap();
    client.leave().unwrap();
}

/// Comes back to it: these payloads, and no other message, wait there.
#[track_caller]
fn check_waiting(s: &Stage, name: &str, topic: &str, payloads: &[&str]) -> Client {
    let mut client = s.enter(&s.connect(name).kept()).unwrap();
    assert!(client.connack.session_present);
    for payload in payloads {
        client.receive(topic, payload, 1).unwrap();
    }
    client.quiet().unwrap();
    client
}

/// Publishes `1` to `4` to a Session that is away and whose queue takes three.
#[track_caller]
fn check_policy(policy: &str, last_code: u8, waiting: &[&str], counter: &str) -> Broker {
    let broker = limited(&["--queue-messages-max", "3", "--overflow-persistent", policy]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "t");
    let mut publisher = s.client("publisher").unwrap();
    for (payload, code) in [("1", 0), ("2", 0), ("3", 0), ("4", last_code)] {
        assert_eq!(publish(&mut publisher, &s, "t", payload), code, "{policy}: {payload}");
    }
    assert_eq!(broker.metrics().value(counter), 1, "{policy}: {counter}");
    // Other topics and other clients know nothing of it.
    publisher.quiet().unwrap();
    check_waiting(&s, "away", "t", waiting);
    // It is empty again.
    assert_eq!(publish(&mut publisher, &s, "t", "5"), 0);
    broker
}

#[test]
fn reject_tells_the_publisher() {
    check_policy("reject", 0x97, &["1", "2", "3"], "publishes_refused_total");
}

#[test]
fn drop_oldest_makes_room() {
    check_policy("drop_oldest", 0, &["2", "3", "4"], "deliveries_dropped_total");
}

#[test]
fn drop_newest_keeps_what_is_there() {
    check_policy("drop_newest", 0, &["1", "2", "3"], "deliveries_dropped_total");
}

#[test]
fn disconnect_of_a_client_that_is_away_keeps_what_is_there() {
    check_policy("disconnect", 0, &["1", "2", "3"], "deliveries_dropped_total");
}

#[test]
fn dead_letter_keeps_the_oldest_elsewhere() {
    let broker = limited(&["--queue-messages-max", "3", "--overflow-persistent", "dead_letter"]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "a/t");
    let mut undertaker = s.client("undertaker").unwrap();
    undertaker.subscribe("$dead-letter/#", 1).unwrap();
    let mut publisher = s.client("publisher").unwrap();
    for payload in ["1", "2", "3", "4", "5"] {
        assert_eq!(publish(&mut publisher, &s, "a/t", payload), 0);
    }
    for payload in ["1", "2"] {
        undertaker.receive("$dead-letter/a/t", payload, 1).unwrap();
    }
    assert_eq!(broker.metrics().value("dead_letters_total"), 2);
    check_waiting(&s, "away", "a/t", &["3", "4", "5"]);
    // What is there is of the broker: nobody else may say that something has died.
    assert_eq!(publish(&mut publisher, &s, "$dead-letter/a/t", "alive"), 0x87);
    undertaker.quiet().unwrap();
}

/// All or nothing: what one queue refuses no other gets, at either QoS, and 3.1.1 hears a close.
#[test]
fn a_refused_publish_reaches_nobody() {
    let broker = limited(&["--queue-messages-max", "1", "--overflow-persistent", "reject"]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "t");
    let (mut present, mut publisher) = (s.client("b").unwrap(), s.client("c").unwrap());
    present.subscribe("t", 2).unwrap();
    assert_eq!(publish(&mut publisher, &s, "t", "1"), 0);
    present.receive("t", "1", 1).unwrap();
    assert_eq!(publish(&mut publisher, &s, "t", "2"), 0x97);
    assert_eq!(answer(&mut publisher, &s.message("t", "3").qos(2, 9)), 0x97);
    // PUBREC with 0x80 or above ends the exchange: its identifier is free for another one.
    assert_eq!(answer(&mut publisher, &s.message("elsewhere", "4").qos(2, 9)), 0x10);
    let old = broker.stage(Version::V4);
    let mut other = old.client("d").unwrap();
    other.send(&old.message("t", "5").qos(1, 1).bytes());
    other.closed().unwrap();
    present.quiet().unwrap();
    assert_eq!(broker.metrics().value("publishes_refused_total"), 3);
}

/// A client that acknowledges nothing is full too, and `disconnect` tells it so.
#[test]
fn disconnect_ends_the_slow_client() {
    let broker = limited(&["--queue-messages-max", "3", "--overflow-persistent", "disconnect"]);
    let s = broker.stage(Version::V5);
    let mut slow = s.enter(&s.connect("slow").kept()).unwrap();
    slow.subscribe("t", 1).unwrap();
    let mut publisher = s.client("publisher").unwrap();
    for payload in ["1", "2", "3", "4"] {
        assert_eq!(publish(&mut publisher, &s, "t", payload), 0);
    }
    for payload in ["1", "2", "3"] {
        assert_eq!(slow.message().unwrap().text(), payload);
    }
    assert_eq!(slow.refused(&[0x97]).unwrap().expect("a client of 5.0 is told").code, 0x97);
    publisher.quiet().unwrap();
    check_waiting(&s, "slow", "t", &["1", "2", "3"]);
}

/// The default of a Session that ends with its connection: what is in flight stays, the oldest that
/// waits gives way.
#[test]
fn a_clean_session_loses_its_oldest() {
    let broker = limited(&["--queue-messages-max", "3", "--in-flight-max", "1"]);
    for version in super::BOTH {
        let s = broker.stage(version);
        let (mut slow, mut publisher) = (s.client("slow").unwrap(), s.client("b").unwrap());
        slow.subscribe(&s.topic("t"), 1).unwrap();
        publisher.publish(&s.topic("t"), "1", 1).unwrap();
        let first = slow.message().unwrap();
        for payload in ["2", "3", "4"] {
            publisher.publish(&s.topic("t"), payload, 1).unwrap();
        }
        slow.ping().unwrap();
        slow.send(&ack(kind::PUBACK, first.id));
        for payload in ["3", "4"] {
            slow.receive(&s.topic("t"), payload, 1).unwrap();
        }
        slow.quiet().unwrap();
    }
    assert_eq!(broker.metrics().value("deliveries_dropped_total"), 2);
}

/// `overflow_clean` is for those Sessions and no others.
#[test]
fn the_policy_of_clean_sessions_is_their_own() {
    let broker = limited(&["--queue-messages-max", "1", "--overflow-clean", "reject"]);
    let s = broker.stage(Version::V5);
    let (mut slow, mut publisher) = (s.client("slow").unwrap(), s.client("b").unwrap());
    slow.subscribe("t", 1).unwrap();
    assert_eq!(publish(&mut publisher, &s, "t", "1"), 0);
    assert_eq!(publish(&mut publisher, &s, "t", "2"), 0x97);
    slow.receive("t", "1", 1).unwrap();
    slow.ping().unwrap();
    assert_eq!(publish(&mut publisher, &s, "t", "3"), 0);
}

#[test]
fn queued_bytes_have_their_bound() {
    let broker = limited(&["--queue-bytes-max", "4 KiB", "--packet-bytes-max", "2 KiB"]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "t");
    let mut publisher = s.client("publisher").unwrap();
    let payload = "x".repeat(1_200);
    for code in [0, 0, 0, 0x97] {
        assert_eq!(publish(&mut publisher, &s, "t", &payload), code);
    }
    assert_eq!(publish(&mut publisher, &s, "t", "small"), 0);
    assert_eq!(broker.metrics().value("publishes_refused_total"), 1);
    check_waiting(&s, "away", "t", &[&payload, &payload, &payload, "small"]);
    publisher.quiet().unwrap();
}

/// One absent client cannot stop a topic for ever.
#[test]
fn a_queue_that_stays_full_drops_its_oldest_after_all() {
    let broker = limited(&["--queue-messages-max", "2", "--queue-full-max-secs", "1"]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "t");
    let mut publisher = s.client("publisher").unwrap();
    for (payload, code) in [("1", 0), ("2", 0), ("3", 0x97)] {
        assert_eq!(publish(&mut publisher, &s, "t", payload), code);
    }
    let refused = std::time::Instant::now();
    while publish(&mut publisher, &s, "t", "late") == 0x97 {
        assert!(refused.elapsed().as_secs() < 10, "the topic is still stopped");
    }
    assert!(refused.elapsed().as_millis() >= 900, "after {:?}", refused.elapsed());
    assert_eq!(broker.metrics().value("deliveries_dropped_total"), 1);
    check_waiting(&s, "away", "t", &["2", "late"]);
}

/// The bytes of all queues are leased in chunks: two queues with one message each use up two.
#[test]
fn all_queues_together_have_their_bound() {
    let broker = limited(&["--queues-bytes-max", "32 KiB", "--no-database"]);
    let s = broker.stage(Version::V5);
    let mut publisher = s.client("publisher").unwrap();
    for (name, code) in [("a", 0), ("b", 0), ("c", 0x97)] {
        leave_session(&s, name, name);
        assert_eq!(publish(&mut publisher, &s, name, "x"), code, "{name}");
    }
    let metrics = broker.metrics();
    assert!(metrics.value("queues_exceeded_total") > 0);
    assert_eq!(metrics.value("queued_bytes"), 32 * 1024);
    check_waiting(&s, "a", "a", &["x"]).leave().unwrap();
    assert_eq!(publish(&mut publisher, &s, "c", "x"), 0);
}

/// A few clients that read nothing once used up the bytes of all queues: nobody else was sent anything
/// for as long as they were connected, and publishes to Sessions that were away were refused, though
/// their queues were empty. QoS 0 takes half of them now, and an empty queue of somebody who is there
/// always gets room.
#[test]
fn clients_that_read_nothing_of_qos_0_take_nothing_from_others() {
    let broker = limited(&["--queues-bytes-max", "1 MiB", "--no-database"]);
    let s = broker.stage(Version::V5);
    leave_session(&s, "away", "jobs/1");
    let mut stuck = s.client("stuck").unwrap();
    stuck.subscribe("flood", 0).unwrap();
    let mut publisher = s.client("publisher").unwrap();
    let mut healthy = s.client("healthy").unwrap();
    healthy.subscribe_all(&[], &[("jobs/0", 0), ("jobs/1", 1)]).unwrap();
    // Small ones take what large ones leave.
    for len in [64 * 1024, 1_024] {
        let payload = "x".repeat(len);
        let before = broker.metrics().value("queues_exceeded_total");
        let mut sent = 0;
        while broker.metrics().value("queues_exceeded_total") < before + 100 {
            for _ in 0..64 {
                publisher.publish("flood", &payload, 0).unwrap();
            }
            publisher.ping().unwrap();
            sent += 64;
            assert!(sent < 20_000, "nothing is refused for a client that does not read");
        }
    }
    for n in 0..20 {
        let payload = n.to_string();
        assert_eq!(publish(&mut publisher, &s, "jobs/1", &payload), 0);
        healthy.receive("jobs/1", &payload, 1).unwrap();
        publisher.publish("jobs/0", &payload, 0).unwrap();
        healthy.receive("jobs/0", &payload, 0).unwrap();
    }
    broker.wait_for_log("all queues together have reached queues_bytes_max");
    let payloads: Vec<_> = (0..20).map(|n: u32| n.to_string()).collect();
    check_waiting(&s, "away", "jobs/1", &payloads.iter().map(|p| &**p).collect::<Vec<_>>());
    // It is there to the end.
    stuck.send(&[0xC0, 0]);
}

/// Floods a client that does not read, until its bound on QoS 0 is reached. Another subscriber of
/// the same topic gets every message.
#[track_caller]
fn check_qos0_bound(bound: &[&str]) {
    let broker = limited(bound);
    let s = broker.stage(Version::V5);
    let mut stuck = s.client("stuck").unwrap();
    stuck.subscribe("t", 0).unwrap();
    let (mut other, mut publisher) = (s.client("b").unwrap(), s.client("c").unwrap());
    other.subscribe("t", 0).unwrap();
    let payload = "x".repeat(64 * 1024);
    let mut sent = 0;
    while broker.metrics().value("deliveries_dropped_total") == 0 {
        for _ in 0..8 {
            publisher.publish("t", &payload, 0).unwrap();
            other.receive("t", &payload, 0).unwrap();
            sent += 1;
        }
        assert!(sent < 2_000, "nothing is dropped for a client that does not read");
    }
    publisher.quiet().unwrap();
    // What was dropped is missing, and nothing else: the connection goes on.
    let dropped = broker.metrics().value("deliveries_dropped_total");
    for _ in 0..sent - dropped {
        stuck.receive("t", &payload, 0).unwrap();
    }
    stuck.quiet().unwrap();
}

#[test]
fn messages_of_qos_0_that_wait_are_bounded() {
    check_qos0_bound(&["--queue-qos0-messages-max", "10"]);
}

#[test]
fn bytes_of_qos_0_that_wait_are_bounded() {
    check_qos0_bound(&["--queue-qos0-bytes-max", "512 KiB"]);
}
