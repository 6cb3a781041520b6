//! What members of Shared Subscriptions leave behind, and who else is there for it.

use std::num::NonZeroU16;

use super::*;
use crate::broker::left_behind::HandingOn;

const GROUP: &str = "$share/g/t";

/// A member that takes one message and acknowledges nothing.
fn stuck(cluster: &mut Cluster, node: usize, expiry_secs: u32) -> LineId {
    let mut connect = connect("stuck", expiry_secs);
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let line = cluster.connect(node, &connect);
    cluster.pump();
    let _connack = cluster.received(line);
    subscribed(cluster, line, GROUP, QoS::AtLeastOnce);
    line
}

fn quick(cluster: &mut Cluster, node: usize) -> LineId {
    let line = open(cluster, node, &format!("quick-{node}"), 0);
    subscribed(cluster, line, GROUP, QoS::AtLeastOnce);
    line
}

/// Publishes `1` to `count` at broker 0.
fn published(cluster: &mut Cluster, count: u16) {
    let writer = open(cluster, 0, "writer", 0);
    for number in 1..=count {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    let answers = cluster.received(writer);
    assert_eq!(count_of_pubacks(&answers), usize::from(count), "{answers:?}");
}

fn count_of_pubacks(packets: &[Packet]) -> usize {
    let is_taken = |packet: &Packet| matches!(packet, Packet::Puback(puback) if puback.reason_code == ReasonCode::Success);
    count(packets, is_taken)
}

/// The broker is asked to end, and its one client leaves. What came of what that had.
fn drained(cluster: &mut Cluster, node: usize, client: LineId) -> (u64, u64) {
    cluster.broker(node).start_draining();
    cluster.lose(client);
    let mut handing = HandingOn::default();
    loop {
        cluster.at(node, |turn, _| turn.hand_on(&mut handing));
        if handing.is_done() {
            break;
        }
        cluster.pump();
    }
    cluster.at(node, |turn, _| turn.end_handing_on(&mut handing));
    (handing.taken, handing.lost)
}

fn sorted(mut payloads: Vec<String>) -> Vec<String> {
    payloads.sort();
    payloads
}

/// It was offered to members at the same broker alone.
#[test]
fn what_the_last_member_of_a_broker_leaves_goes_to_members_at_others() {
    let mut cluster = Cluster::new(3);
    let stuck = stuck(&mut cluster, 1, 0);
    published(&mut cluster, 4);
    assert_eq!(payloads(&cluster.received(stuck)), ["1"]);
    let quick = quick(&mut cluster, 2);
    cluster.lose(stuck);
    cluster.pump();
    assert_eq!(payloads(&cluster.received(quick)), ["1", "2", "3", "4"]);
    assert_eq!(cluster.broker(1).counters().totals().deliveries_dropped, 0);
}

#[test]
fn what_members_have_when_their_broker_drains_goes_to_members_at_others() {
    let mut cluster = Cluster::new(3);
    let stuck = stuck(&mut cluster, 1, 0);
    published(&mut cluster, 4);
    let others = [0, 2].map(|node| quick(&mut cluster, node));
    assert_eq!(drained(&mut cluster, 1, stuck), (4, 0));
    let got = others.into_iter().flat_map(|other| payloads(&cluster.received(other))).collect();
    assert_eq!(sorted(got), ["1", "2", "3", "4"]);
}

/// Its Session would wait for it, but ends with the process: what it was not sent goes to others.
#[test]
fn a_session_that_is_kept_in_memory_leaves_what_it_was_not_sent() {
    let mut cluster = Cluster::new(2);
    let stuck = stuck(&mut cluster, 1, 600);
    published(&mut cluster, 4);
    assert_eq!(payloads(&cluster.received(stuck)), ["1"]);
    let quick = quick(&mut cluster, 0);
    assert_eq!(drained(&mut cluster, 1, stuck), (3, 0));
    assert_eq!(payloads(&cluster.received(quick)), ["2", "3", "4"]);
}

#[test]
fn what_nobody_takes_is_counted() {
    let mut cluster = Cluster::new(2);
    let stuck = stuck(&mut cluster, 1, 0);
    published(&mut cluster, 4);
    assert_eq!(drained(&mut cluster, 1, stuck), (0, 4));
    assert_eq!(cluster.broker(1).counters().totals().deliveries_dropped, 4);
}
