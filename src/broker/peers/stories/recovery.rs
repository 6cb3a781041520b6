//! What a broker has to tell another grows, because the other one does not take it.

use super::wills::with_will;
use super::*;
use crate::cluster::lane::LaneOptions;

/// Brokers with ways to each other on which so many bytes may wait to be told.
pub(super) fn cluster_with_lanes_of(count: usize, control_bytes_max: usize) -> Cluster {
    Cluster::with_lanes(count, LaneOptions { control_bytes_max, ..LaneOptions::default() })
}

/// A client subscribes to many filters, one by one, and hears nothing of it yet.
fn subscribed_to_many(cluster: &mut Cluster, reader: LineId, count: usize) {
    for number in 0..count {
        let filter = format!("many/{number}/+");
        cluster.send(reader, &subscribe(&filter, at(QoS::AtLeastOnce)));
        cluster.pump();
    }
    assert!(cluster.received(reader).is_empty(), "a broker does not know of it");
}

fn subacks(packets: &[Packet]) -> usize {
    count(packets, |packet| matches!(packet, Packet::Suback(_)))
}

fn check_delivery(cluster: &mut Cluster, reader: LineId, writer: LineId, topic: &str) {
    cluster.send(writer, &publish(topic, "there", QoS::AtLeastOnce, 99));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["there"]);
    assert_eq!(count(&cluster.received(writer), |one| matches!(one, Packet::Puback(_))), 1);
}

/// Each change of what clients want was told, until the stream was cut, and with it whatever else was
/// on its way.
#[test]
fn changes_of_interest_are_withheld_from_who_does_not_take_them_and_told_later() {
    let mut cluster = cluster_with_lanes_of(2, 2_000);
    let reader = open(&mut cluster, 0, "reader", 0);
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.hold(0, 1);
    subscribed_to_many(&mut cluster, reader, 300);
    let lane = cluster.lane(0, 1);
    assert!(lane.withheld > 0 && lane.cuts == 0, "{lane:?}");
    assert!(lane.control_bytes < 2_100, "{lane:?}");
    cluster.release(0, 1);
    cluster.pump();
    assert!(subacks(&cluster.received(reader)) < 300, "it has not been told of the rest");
    cluster.ping(0);
    cluster.pump();
    assert_eq!(cluster.lane(0, 1).control_bytes, 0);
    assert_eq!(cluster.waiting_for_interest(0), 0);
    cluster.received(reader);
    check_delivery(&mut cluster, reader, writer, "many/299/x");
}

/// The other way round: the filters are in effect, and that they are is not told.
#[test]
fn a_confirmation_that_was_withheld_is_told_later() {
    let mut cluster = cluster_with_lanes_of(2, 500);
    let reader = open(&mut cluster, 0, "reader", 0);
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.hold(1, 0);
    subscribed_to_many(&mut cluster, reader, 200);
    let lane = cluster.lane(1, 0);
    assert!(lane.withheld > 0 && lane.cuts == 0, "{lane:?}");
    cluster.release(1, 0);
    cluster.pump();
    cluster.ping(1);
    cluster.pump();
    assert_eq!(cluster.waiting_for_interest(0), 0, "all SUBACKs are sent");
    cluster.received(reader);
    check_delivery(&mut cluster, reader, writer, "many/199/x");
}

/// Answers to messages cannot be told later. Beyond the last bound they are given up: publishers
/// waited for them for ever, and so did subscribers for what the cut had taken with it.
#[test]
fn what_waits_for_answers_that_were_given_up_is_let_go_and_all_goes_on() {
    let mut cluster = cluster_with_lanes_of(3, 200);
    let reader = open(&mut cluster, 1, "reader", 0);
    let writer = open(&mut cluster, 0, "writer", 0);
    let other = open(&mut cluster, 0, "other", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    cluster.hold(1, 0);
    for number in 1..=100 {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    cluster.send(other, &subscribe("o", at(QoS::AtLeastOnce)));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)).len(), 100);
    assert!(cluster.received(writer).is_empty() && cluster.received(other).is_empty());
    assert_eq!(cluster.lane(1, 0).cuts, 1);
    cluster.release(1, 0);
    cluster.pump();
    assert!(cluster.is_closed(writer), "nobody knows what came of its messages");
    assert_eq!(cluster.unanswered(0), 0);
    for node in [0, 1, 2] {
        cluster.ping(node);
    }
    cluster.pump();
    assert_eq!(subacks(&cluster.received(other)), 1);
    let again = open(&mut cluster, 0, "writer", 0);
    check_delivery(&mut cluster, reader, again, "t");
    let back = open(&mut cluster, 1, "back", 0);
    check_delivery(&mut cluster, other, back, "o");
    assert_eq!(cluster.broker(0).counters().totals().peer_controls_lost, 1);
}

/// `from` gives up what it has to say to `to`, which `writer` there is the reason of: answers to as many
/// messages as that takes.
pub(super) fn give_up_words(cluster: &mut Cluster, (from, to): (usize, usize), writer: LineId) {
    for number in 1..=100 {
        cluster.send(writer, &publish("noise", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    assert_eq!(cluster.lane(from, to).cuts, 1);
}

/// Somebody at `to` who can make `from` say much.
pub(super) fn noisy(cluster: &mut Cluster, (from, to): (usize, usize)) -> LineId {
    let reader = open(cluster, from, "noisy reader", 0);
    let writer = open(cluster, to, "noisy writer", 0);
    subscribed(cluster, reader, "noise", QoS::AtLeastOnce);
    writer
}

/// A claim and what the coordinator says to it are lost with the stream.
#[test]
fn a_client_comes_in_although_the_answer_to_its_claim_was_given_up() {
    let mut cluster = cluster_with_lanes_of(2, 200);
    let reader = open(&mut cluster, 1, "reader", 0);
    let writer = open(&mut cluster, 0, "writer", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    let id = cluster.client_id_at(1);
    cluster.hold(1, 0);
    let waiting = cluster.connect(0, &connect(&id, 0));
    cluster.pump();
    for number in 1..=100 {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    assert_eq!(cluster.lane(1, 0).cuts, 1);
    assert!(!cluster.is_open(waiting));
    cluster.release(1, 0);
    cluster.pump();
    assert!(cluster.is_open(waiting), "{:?}", cluster.received(waiting));
}

/// The order to give a Session up is lost with the stream: its claimant waited, and everybody behind it.
#[test]
fn a_session_moves_although_the_order_to_send_it_was_given_up() {
    let mut cluster = cluster_with_lanes_of(3, 200);
    let writer = noisy(&mut cluster, (1, 2));
    let id = cluster.client_id_at(1);
    let former = open(&mut cluster, 2, &id, 600);
    subscribed(&mut cluster, former, "t", QoS::AtLeastOnce);
    cluster.hold(1, 2);
    let waiting = cluster.connect(0, &connect(&id, 600));
    cluster.pump();
    give_up_words(&mut cluster, (1, 2), writer);
    assert!(!cluster.is_open(waiting) && cluster.is_open(former));
    cluster.release(1, 2);
    cluster.pump();
    assert!(cluster.is_closed(former));
    let answers = cluster.received(waiting);
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert!(connack.session_present);
    let other = open(&mut cluster, 1, "other", 0);
    check_delivery(&mut cluster, waiting, other, "t");
    for node in 0..3 {
        let counts = cluster.ownership(node);
        assert_eq!((counts.pending, counts.imports, counts.exports), (0, 0, 0), "{node}");
    }
}

/// Words about wills are lost with the stream: one that its keeper never got, and one that it was never
/// told is gone.
#[test]
fn wills_are_kept_and_forgotten_although_their_words_were_given_up() {
    let mut cluster = cluster_with_lanes_of(2, 200);
    let writer = noisy(&mut cluster, (0, 1));
    let ids = cluster.client_ids_at(1, 2);
    let polite = cluster.connect(0, &with_will(&ids[0], 0, 0));
    cluster.pump();
    let other = cluster.connect(0, &with_will(&ids[1], 0, 0));
    cluster.pump();
    assert_eq!(cluster.will_counts(1).kept, 2);
    cluster.hold(0, 1);
    cluster.send(polite, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
    let late = cluster.client_id_at(0);
    let late = cluster.connect(0, &with_will(&late, 0, 0));
    cluster.pump();
    assert!(cluster.is_open(late) && cluster.is_open(other));
    give_up_words(&mut cluster, (0, 1), writer);
    cluster.release(0, 1);
    cluster.pump();
    assert_eq!((cluster.will_counts(0).own, cluster.will_counts(0).secured), (2, 2));
    assert_eq!(cluster.will_counts(1).kept, 2, "the first one is gone");
}
