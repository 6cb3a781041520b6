//! A broker that was declared dead and only slept has messages for members of Shared Subscriptions; so
//! has, perhaps, whoever sent them, for want of an answer.

use super::lending::{numbers, published_at, worked_off, worker_at};
use super::*;

const QOS: QoS = QoS::ExactlyOnce;

/// Messages 1 to 4 are published at broker 0. The member at broker 1 is sent the first one and has the
/// others waiting; from then on there is a member at broker 2 as well.
fn waiting_at_one(cluster: &mut Cluster) -> LineId {
    let stuck = worker_at(QOS, cluster, 1, 0);
    published_at(QOS, cluster, 1..=1);
    assert_eq!(payloads(&cluster.received(stuck)), ["1"]);
    stuck
}

/// Who sleeps wakes, learns that it was declared dead, and comes back in a new life: as broker 3.
fn returned(cluster: &mut Cluster) {
    cluster.begin_life(1);
    cluster.pump();
    for _ in 0..3 {
        for node in [2, 3] {
            cluster.ping(node);
        }
        cluster.pump();
    }
}

/// A member has messages 2 to 4, which nobody has answered. Who published them.
fn published_unanswered(cluster: &mut Cluster) -> LineId {
    let _stuck = waiting_at_one(cluster);
    cluster.hold(1, 0);
    let writer = open(cluster, 0, "unanswered", 0);
    for number in 2..=4 {
        cluster.send(writer, &publish("t", &number.to_string(), QOS, number));
    }
    cluster.pump();
    writer
}

/// Its answers did not come, and what it had was given to another member. It passed all of it on
/// as well: of QoS 2, each message came twice.
#[test]
fn what_was_given_to_another_member_is_not_passed_on_besides() {
    let mut cluster = Cluster::new(3);
    let writer = published_unanswered(&mut cluster);
    assert_eq!(count(&cluster.received(writer), |one| matches!(one, Packet::Pubrec(_))), 0);
    let other = worker_at(QOS, &mut cluster, 2, 0);
    returned(&mut cluster);
    assert_eq!(count(&cluster.received(writer), |one| matches!(one, Packet::Pubrec(_))), 3);
    assert_eq!(worked_off(&mut cluster, other), numbers(2..=4));
    for node in [0, 2, 3] {
        assert_eq!(cluster.broker(node).counters().totals().deliveries_dropped, 0, "{node}");
    }
}

/// It asked about them, and was declared dead once more before it had the answer: what it had asked was over with
/// its life, and it passed all of it on.
#[test]
fn what_was_asked_about_in_vain_is_asked_about_in_the_next_life() {
    let mut cluster = Cluster::new(3);
    published_unanswered(&mut cluster);
    let other = worker_at(QOS, &mut cluster, 2, 0);
    cluster.begin_life(1);
    cluster.pump();
    cluster.hold(0, 3);
    for _ in 0..3 {
        cluster.ping(3);
        cluster.pump();
    }
    cluster.begin_life(3);
    cluster.pump();
    for _ in 0..3 {
        for node in [2, 4] {
            cluster.ping(node);
        }
        cluster.pump();
    }
    assert_eq!(worked_off(&mut cluster, other), numbers(2..=4));
    for node in [0, 2, 4] {
        assert_eq!(cluster.broker(node).counters().totals().deliveries_dropped, 0, "{node}");
    }
}

/// Its answers came, which it does not know. Whoever kept back what it is not sure of lost it.
#[test]
fn what_was_answered_and_perhaps_not_heard_is_passed_on() {
    let mut cluster = Cluster::new(3);
    let _stuck = waiting_at_one(&mut cluster);
    cluster.hush(1, 0);
    published_at(QOS, &mut cluster, 2..=4);
    let other = worker_at(QOS, &mut cluster, 2, 0);
    returned(&mut cluster);
    assert_eq!(worked_off(&mut cluster, other), numbers(2..=4));
}

/// Nobody but the broker that slept has what was sent to it by one that is gone.
#[test]
fn what_a_broker_sent_that_is_gone_is_passed_on() {
    let mut cluster = Cluster::new(3);
    let _stuck = waiting_at_one(&mut cluster);
    cluster.hush(1, 0);
    published_at(QOS, &mut cluster, 2..=4);
    let other = worker_at(QOS, &mut cluster, 2, 0);
    cluster.kill(0);
    // Broker 1 does not hear of it before it is in its new life.
    returned(&mut cluster);
    assert_eq!(worked_off(&mut cluster, other), numbers(2..=4));
}

/// Who sent it has a member itself by now.
#[test]
fn what_was_given_to_nobody_is_taken_by_a_member_where_it_came_from() {
    let mut cluster = Cluster::new(3);
    let _stuck = waiting_at_one(&mut cluster);
    cluster.hush(1, 0);
    published_at(QOS, &mut cluster, 2..=4);
    let other = worker_at(QOS, &mut cluster, 0, 0);
    returned(&mut cluster);
    assert_eq!(worked_off(&mut cluster, other), numbers(2..=4));
}

/// Its connection ended when its broker knew nobody: what it had was dropped, although its publishers had
/// been told that it was there.
#[test]
fn what_a_member_leaves_between_two_lives_of_its_broker_waits_for_others() {
    for qos in [QoS::AtLeastOnce, QOS] {
        let mut cluster = Cluster::new(3);
        let stuck = worker_at(qos, &mut cluster, 1, 0);
        published_at(qos, &mut cluster, 1..=1);
        assert_eq!(payloads(&cluster.received(stuck)), ["1"]);
        published_at(qos, &mut cluster, 2..=4);
        let other = worker_at(qos, &mut cluster, 2, 0);
        returned(&mut cluster);
        let got = worked_off(&mut cluster, other);
        assert!(got.ends_with(&numbers(2..=4)), "{got:?}");
    }
}
