//! What was lent to members at another broker and is not taken there.

use super::groups::cluster_with_queues_of;
use super::lending::{finished, looked, numbers, published_at, worked_off, worker_at};
use super::recovery::{cluster_with_lanes_of, give_up_words, noisy};
use super::*;

/// Messages that wait at broker 0 for a member that is held up, and a member at broker 1 that is not.
struct Lent {
    stuck: LineId,
    quick: LineId,
    first: Packet,
}

/// `1` is in flight to the one, and `2` to `last` are about to be lent to the other at the next look.
fn about_to_lend(cluster: &mut Cluster, qos: QoS, last: u16) -> Lent {
    let stuck = worker_at(qos, cluster, 0, 0);
    published_at(qos, cluster, 1..=last);
    let first = cluster.next_received(stuck).unwrap();
    assert_eq!(payloads(std::slice::from_ref(&first)), ["1"]);
    assert!(cluster.received(stuck).is_empty());
    let quick = worker_at(qos, cluster, 1, 0);
    looked(cluster, 2);
    Lent { stuck, quick, first }
}

/// The member that was held up is so no more. What it gets then.
fn got_by(cluster: &mut Cluster, Lent { stuck, first, .. }: &Lent) -> Vec<String> {
    let Packet::Publish(first) = first else { panic!("{first:?}") };
    finished(cluster, *stuck, first);
    worked_off(cluster, *stuck)
}

/// What of QoS 1 and 2 that is not where it was, and what of it is nowhere.
fn lost(cluster: &Cluster) -> (usize, u64) {
    (cluster.unanswered(0), cluster.broker(0).counters().totals().deliveries_dropped)
}

/// It was queued for its member like what had just been published, behind all that had come since.
#[test]
fn what_nobody_takes_comes_back_before_what_came_since() {
    let mut cluster = Cluster::new(2);
    let lent = about_to_lend(&mut cluster, QoS::AtLeastOnce, 4);
    cluster.hold(0, 1);
    looked(&mut cluster, 2);
    assert_eq!(cluster.unanswered(0), 3, "they are lent");
    cluster.lose(lent.quick);
    cluster.pump();
    published_at(QoS::AtLeastOnce, &mut cluster, 5..=6);
    cluster.release(0, 1);
    cluster.pump();
    assert_eq!(cluster.unanswered(0), 0, "nobody there took them");
    looked(&mut cluster, 2);
    assert_eq!(got_by(&mut cluster, &lent), numbers(2..=6));
    assert_eq!(lost(&cluster), (0, 0));
    assert_eq!(cluster.broker(0).counters().totals().shared_deliveries_moved, 0);
}

/// The member there was full when they came.
#[test]
fn what_a_member_at_another_broker_has_no_room_for_comes_back() {
    let mut cluster = cluster_with_queues_of(2, 4);
    let lent = about_to_lend(&mut cluster, QoS::AtLeastOnce, 4);
    subscribed(&mut cluster, lent.quick, "u", QoS::AtLeastOnce);
    cluster.hold(0, 1);
    looked(&mut cluster, 2);
    let writer = open(&mut cluster, 1, "other writer", 0);
    for number in 1..=4 {
        cluster.send(writer, &publish("u", "own", QoS::AtLeastOnce, number));
    }
    cluster.release(0, 1);
    cluster.pump();
    looked(&mut cluster, 2);
    assert_eq!(got_by(&mut cluster, &lent), numbers(2..=4));
    assert_eq!(worked_off(&mut cluster, lent.quick), ["own"; 4]);
    assert_eq!(lost(&cluster), (0, 0));
}

/// What had been lent first came back first, and what had been lent later then stood before it.
#[test]
fn what_was_lent_at_two_looks_comes_back_in_its_order() {
    let mut cluster = Cluster::new(3);
    let lent = about_to_lend(&mut cluster, QoS::AtLeastOnce, 300);
    cluster.hold(0, 1);
    looked(&mut cluster, 3);
    assert_eq!(cluster.known(0, 1).unanswered_count(), 256);
    cluster.lose(lent.quick);
    cluster.pump();
    let other = worker_at(QoS::AtLeastOnce, &mut cluster, 2, 0);
    cluster.hold(0, 2);
    looked(&mut cluster, 3);
    assert_eq!(cluster.known(0, 2).unanswered_count(), 43);
    cluster.release(0, 1);
    cluster.pump();
    looked(&mut cluster, 3);
    cluster.lose(other);
    cluster.release(0, 2);
    cluster.pump();
    looked(&mut cluster, 3);
    assert_eq!(got_by(&mut cluster, &lent), numbers(2..=300));
    assert_eq!(lost(&cluster), (0, 0));
}

/// What becomes of messages that were lent to a broker that then dies.
fn check_dead(qos: QoS, do_they_come: bool, expected: &[String]) {
    let mut cluster = Cluster::new(2);
    let lent = about_to_lend(&mut cluster, qos, 4);
    // Either they do not come there, or their answer does not come here.
    let (from, to) = if do_they_come { (1, 0) } else { (0, 1) };
    cluster.hold(from, to);
    looked(&mut cluster, 2);
    assert_eq!(cluster.unanswered(0), 3, "they are lent");
    assert_eq!(cluster.received(lent.quick).len(), usize::from(do_they_come));
    cluster.kill(1);
    cluster.pump();
    looked(&mut cluster, 1);
    assert_eq!(got_by(&mut cluster, &lent), expected);
    assert_eq!(lost(&cluster), (0, 3 - expected.len() as u64));
}

#[test]
fn what_was_lent_to_a_broker_that_dies_comes_back() {
    check_dead(QoS::AtLeastOnce, true, &numbers(2..=4));
    check_dead(QoS::AtLeastOnce, false, &numbers(2..=4));
}

/// A client there may have had it, and its member here got it as well.
#[test]
fn of_qos_2_only_what_never_left_comes_back_from_a_broker_that_dies() {
    check_dead(QoS::ExactlyOnce, true, &[]);
    check_dead(QoS::ExactlyOnce, false, &numbers(2..=4));
}

/// The other broker has them, and says so in an answer that it then gave up.
fn check_answer_lost(qos: QoS, expected: &[String]) {
    let mut cluster = cluster_with_lanes_of(2, 200);
    let writer = noisy(&mut cluster, (1, 0));
    let lent = about_to_lend(&mut cluster, qos, 4);
    cluster.hold(1, 0);
    looked(&mut cluster, 2);
    give_up_words(&mut cluster, (1, 0), writer);
    cluster.release(1, 0);
    cluster.pump();
    assert_eq!(worked_off(&mut cluster, lent.quick), numbers(2..=4));
    looked(&mut cluster, 1);
    assert_eq!(got_by(&mut cluster, &lent), expected);
}

#[test]
fn what_another_broker_may_have_comes_back_unless_its_qos_is_2() {
    check_answer_lost(QoS::AtLeastOnce, &numbers(2..=4));
    check_answer_lost(QoS::ExactlyOnce, &[]);
}
