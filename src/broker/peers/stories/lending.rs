//! Members of a Shared Subscription that are held up, and members at other brokers that are not.

use std::num::NonZeroU16;

use super::*;
use crate::mqtt::{Pubcomp, Publish, Pubrec};

const GROUP: &str = "$share/g/t";

/// A member that has one message at a time in flight, and acknowledges nothing of its own accord.
fn worker(cluster: &mut Cluster, node: usize, expiry_secs: u32) -> LineId {
    worker_at(QoS::AtLeastOnce, cluster, node, expiry_secs)
}

pub(super) fn worker_at(qos: QoS, cluster: &mut Cluster, node: usize, expiry_secs: u32) -> LineId {
    let mut connect = connect(&format!("worker-{node}"), expiry_secs);
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let line = cluster.connect(node, &connect);
    cluster.pump();
    let _connack = cluster.received(line);
    subscribed(cluster, line, GROUP, qos);
    line
}

fn published(cluster: &mut Cluster, numbers: std::ops::RangeInclusive<u16>) {
    published_at(QoS::AtLeastOnce, cluster, numbers);
}

pub(super) fn published_at(
    qos: QoS,
    cluster: &mut Cluster,
    numbers: std::ops::RangeInclusive<u16>,
) {
    let writer = open(cluster, 0, "writer", 0);
    for number in numbers.clone() {
        cluster.send(writer, &publish("t", &number.to_string(), qos, number));
        cluster.pump();
    }
    let is_taken = |one: &Packet| matches!(one, Packet::Puback(_) | Packet::Pubrec(_));
    assert_eq!(count(&cluster.received(writer), is_taken), numbers.len());
}

/// Acknowledges a message, and takes nothing of what comes then.
pub(super) fn finished(cluster: &mut Cluster, worker: LineId, publish: &Publish) {
    let id = publish.packet_id.unwrap();
    if publish.qos == QoS::ExactlyOnce {
        cluster.send(worker, &Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
        cluster.pump();
        assert!(matches!(cluster.next_received(worker), Some(Packet::Pubrel(_))));
        cluster.send(worker, &Packet::Pubcomp(Pubcomp::new(id, ReasonCode::Success)));
    } else {
        cluster.send(worker, &puback(id.get()));
    }
    cluster.pump();
}

/// Acknowledges what it gets until it gets nothing more.
pub(super) fn worked_off(cluster: &mut Cluster, worker: LineId) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let packets = cluster.received(worker);
        let [Packet::Publish(publish)] = &packets[..] else {
            assert!(packets.is_empty(), "{packets:?}");
            return all;
        };
        all.extend(payloads(&packets));
        finished(cluster, worker, publish);
    }
}

/// Everybody looks at its members, and says how they do.
pub(super) fn looked(cluster: &mut Cluster, count: usize) {
    for node in 0..count {
        cluster.ping(node);
    }
    cluster.pump();
}

pub(super) fn numbers(range: std::ops::RangeInclusive<u16>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Each of three members had its share behind its window, while the others had nothing to do.
#[test]
fn what_waits_for_a_member_that_is_held_up_goes_to_one_at_another_broker() {
    let mut cluster = Cluster::new(3);
    let stuck = worker(&mut cluster, 1, 0);
    published(&mut cluster, 1..=20);
    assert_eq!(payloads(&cluster.received(stuck)), ["1"]);
    let quick = worker(&mut cluster, 2, 0);
    looked(&mut cluster, 3);
    assert!(cluster.received(quick).is_empty(), "it may be held up for a moment only");
    looked(&mut cluster, 3);
    assert_eq!(worked_off(&mut cluster, quick), numbers(2..=20));
    // What came of it is heard at the next look.
    looked(&mut cluster, 3);
    let totals = cluster.broker(1).counters().totals();
    assert_eq!((totals.shared_deliveries_moved, totals.deliveries_dropped), (19, 0));
    assert_eq!(cluster.unanswered(1), 0);
    // From now on the one that is held up has no turn.
    published(&mut cluster, 21..=30);
    assert_eq!(worked_off(&mut cluster, quick), numbers(21..=30));
}

/// A member whose window is full here has no turn as long as another broker has one that takes more.
#[test]
fn a_member_here_that_is_full_is_passed_over_for_one_at_another_broker() {
    let mut cluster = Cluster::new(2);
    let stuck = worker(&mut cluster, 0, 0);
    let quick = worker(&mut cluster, 1, 0);
    published(&mut cluster, 1..=2);
    assert_eq!(payloads(&cluster.received(stuck)).len(), 1);
    assert_eq!(worked_off(&mut cluster, quick).len(), 1);
    for number in 3..=10 {
        published(&mut cluster, number..=number);
        assert_eq!(worked_off(&mut cluster, quick), numbers(number..=number));
    }
    assert!(cluster.received(stuck).is_empty());
}

/// What one member had handed on, and another one handed back to it, the store took for what it had already, and
/// left out: it was acknowledged, and gone when the Session went elsewhere (seeds 31 and 2106 of the simulation).
#[test]
fn what_was_lent_may_be_lent_back() {
    let (mut cluster, _ways) = Cluster::over_database(3);
    let first = worker(&mut cluster, 1, 600);
    published(&mut cluster, 1..=4);
    let second = worker(&mut cluster, 2, 0);
    for _ in 0..3 {
        looked(&mut cluster, 3);
    }
    assert_eq!(payloads(&cluster.received(second)), ["2"], "3 and 4 wait behind it");
    assert_eq!(worked_off(&mut cluster, first), ["1"]);
    for _ in 0..3 {
        looked(&mut cluster, 3);
    }
    cluster.lose(first);
    let mut connect = connect("worker-1", 600);
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let first = cluster.connect(0, &connect);
    cluster.pump();
    assert!(matches!(cluster.next_received(first), Some(Packet::Connack(_))));
    assert_eq!(worked_off(&mut cluster, first), numbers(3..=4));
}
