//! A client that does not read, at another broker than those who publish to it: it costs itself, and
//! bounded memory at both.

use std::time::{Duration, Instant};

use mqttzoo::mqtt::QoS;

use super::checker::Receiver;
use super::load::{PublisherPlan, SubscriberPlan};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Publish, Version, kind, prop};

/// Two brokers whose queues have these bounds.
fn start(bounds: &[&str]) -> Option<ClusterUnderTest> {
    let arguments = bounds.iter().map(|&bound| bound.to_owned()).collect();
    ClusterUnderTest::start_as(Plan { brokers: 2, arguments, ..Plan::default() })
}

/// What waits on the way from a broker to others, and in the queues of its clients.
fn held(cluster: &ClusterUnderTest, broker: usize) -> u64 {
    let metrics = cluster.broker(broker).metrics();
    metrics.sum("peer_unreceived_bytes") + metrics.value("queued_bytes")
}

/// QoS 0 is dropped where the client is, and counted there; whoever reads gets all of it.
#[test]
fn qos_0_for_a_reader_that_is_stuck_is_dropped_and_counted_at_its_broker() {
    let Some(cluster) = start(&["--queue-qos0-bytes-max", "512 KiB"]) else { return };
    let mut stuck = cluster.client(2, "stuck");
    let mut other = cluster.client(2, "other");
    for client in [&mut stuck, &mut other] {
        client.subscribe("t", 0).unwrap();
    }
    let mut publisher = cluster.client(1, "publisher");
    let payload = "x".repeat(64 * 1_024);
    let dropped = || cluster.broker(2).metrics().value("deliveries_dropped_total");
    let (mut sent, mut most) = (0, [0, 0]);
    while dropped() < 20 {
        for _ in 0..8 {
            publisher.publish("t", &payload, 0).unwrap();
            other.receive("t", &payload, 0).unwrap();
            sent += 1;
        }
        most = [1, 2].map(|broker| held(&cluster, broker).max(most[broker - 1]));
        assert!(sent < 2_000, "nothing is dropped for a client that does not read");
    }
    // Beside the one that is stuck, whatever eight messages take on their way.
    assert!(most.iter().all(|bytes| *bytes < 2 * 1_024 * 1_024), "{most:?}");
    let metrics = cluster.broker(1).metrics();
    assert_eq!(metrics.value("deliveries_dropped_total"), 0);
    assert_eq!(metrics.value("peer_publishes_dropped_total"), 0, "the way is free");
    publisher.quiet().unwrap();
    for _ in 0..sent - dropped() {
        stuck.receive("t", &payload, 0).unwrap();
    }
    stuck.quiet().unwrap();
}

/// Publishes a message of QoS 1 of this size; the Reason Code of its PUBACK.
#[track_caller]
fn publish(client: &mut Client, payload: &str) -> u8 {
    let id = client.fresh_id();
    client.send(&Publish::new(Version::V5, "t", payload).qos(1, id).bytes());
    client.expect_ack(kind::PUBACK, id).unwrap().code
}

fn numbered(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(16 * 1_024))
}

/// QoS 1 is held in its Session, up to its bound; then its publishers hear of it, and nobody else.
#[test]
fn qos_1_for_a_reader_that_is_stuck_is_held_and_bounded() {
    let Some(cluster) = start(&["--queue-messages-max", "100"]) else { return };
    let s = cluster.stage(2, Version::V5);
    let connect = s.connect("stuck").kept();
    let mut stuck = s.enter(&connect).unwrap();
    stuck.subscribe("t", 1).unwrap();
    let mut other = cluster.client(2, "other");
    other.subscribe("elsewhere", 1).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    for number in 0..100 {
        assert_eq!(publish(&mut publisher, &numbered(number)), 0, "{number}");
    }
    // One more is refused at the other broker, and its publisher goes on.
    assert_eq!(publish(&mut publisher, "too much"), 0x97);
    assert!(held(&cluster, 1) < 1_024 * 1_024 && held(&cluster, 2) < 8 * 1_024 * 1_024);
    publisher.publish("elsewhere", "as ever", 1).unwrap();
    other.receive("elsewhere", "as ever", 1).unwrap();
    for number in 0..100 {
        stuck.receive("t", &numbered(number), 1).unwrap();
    }
    // Its broker has handled what it has acknowledged.
    stuck.quiet().unwrap();
    assert_eq!(publish(&mut publisher, "there is room again"), 0);
    stuck.receive("t", "there is room again", 1).unwrap();
    stuck.quiet().unwrap();
}

/// Somebody at one broker is away with a full queue, and somebody else wants all. Who publishes at the other
/// one was disconnected, came back, sent all again and was disconnected, hundreds of times: nothing of it
/// was acknowledged, and who had room got all of it each time.
#[test]
fn a_queue_that_is_full_at_another_broker_stops_nothing_else() {
    let bounds = ["--queue-messages-max", "100", "--publish-hold-secs", "1"];
    let Some(cluster) = start(&bounds) else { return };
    let s = cluster.stage(2, Version::V5);
    let mut away = s.enter(&s.connect("away").kept()).unwrap();
    away.subscribe("t", 2).unwrap();
    away.leave().unwrap();
    let mut reader = cluster.client(1, "reader");
    reader.subscribe("#", 2).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    for _ in 0..100 {
        assert_eq!(publish(&mut publisher, "fills it"), 0);
        reader.receive("t", "fills it", 1).unwrap();
    }
    for (qos, kind) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let [before, refused, behind] = [(); 3].map(|()| publisher.fresh_id());
        for (topic, id) in [("before", before), ("t", refused), ("behind", behind)] {
            publisher.send(&Publish::new(Version::V5, topic, "x").qos(qos, id).bytes());
        }
        assert_eq!(publisher.expect_ack(kind, before).unwrap().code, 0);
        let told = publisher.expect_ack(kind, refused).unwrap();
        assert_eq!(told.code, 0x97);
        let reason = told.properties.string(prop::REASON_STRING).unwrap();
        assert!(reason.contains("not every subscriber has it"), "{reason}");
        assert_eq!(publisher.expect_ack(kind, behind).unwrap().code, 0);
        for topic in ["before", "t", "behind"] {
            reader.receive(topic, "x", qos).unwrap();
        }
    }
    publisher.quiet().unwrap();
    reader.quiet().unwrap();
    let metrics = cluster.broker(1).metrics();
    assert_eq!(metrics.value("publishes_refused_elsewhere_total"), 2);
    // Who speaks 3.1.1 cannot be told, and is held before it is let go.
    let mut old = cluster.stage(1, Version::V4).client("old").unwrap();
    let id = old.fresh_id();
    let since = Instant::now();
    old.send(&Publish::new(Version::V4, "t", "old").qos(1, id).bytes());
    old.closed().unwrap();
    assert!(since.elapsed() >= Duration::from_secs(1));
}

/// A member of a group at one broker takes nothing: what is published goes to the member at another,
/// and the broker of the first one is not even asked any more.
#[test]
fn a_member_of_a_group_that_is_stuck_is_passed_over() {
    let plan = Plan {
        arguments: ["--queue-messages-max", "20"].map(str::to_owned).to_vec(),
        ..Plan::default()
    };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut stuck = cluster.client(2, "stuck");
    stuck.subscribe(FILTER, 1).unwrap();
    let quick = cluster.subscribe(SubscriberPlan {
        receiver: Receiver::Group("group"),
        client_id: "quick".to_owned(),
        brokers: vec![3],
        filter: FILTER.to_owned(),
        qos: QoS::AtLeastOnce,
    });
    let publisher = cluster.publish(PublisherPlan::endless(1, &[1]));
    let asked = || cluster.broker(2).metrics().value("peer_publishes_received_total");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let before = asked();
        publisher.wait_for_more(50);
        if asked() == before {
            break;
        }
        assert!(Instant::now() < deadline, "its broker is asked on and on");
    }
    let acknowledged = publisher.finish();
    let sent = cluster.broker(2).metrics().value("publishes_sent_total");
    assert!((10..=20).contains(&sent), "{sent} of its queue of 20");
    cluster.wait_until(3, "the others have come", |_| quick.received() + sent == acknowledged);
    for _ in 0..sent {
        let message = stuck.message().unwrap();
        stuck.settle(&message).unwrap();
    }
    stuck.quiet().unwrap();
}

const FILTER: &str = "$share/group/load/#";
