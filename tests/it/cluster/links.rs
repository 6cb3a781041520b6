//! The network between two brokers fails, while both see ZooKeeper: what is sent in between is held,
//! and comes in order and once when the link stands again.

use mqttzoo::mqtt::QoS;

use super::load::{PublisherPlan, SubscriberPlan, finish_all};
use super::on_all::{Load, check_nobody_died};
use super::proxy::Cut;
use super::{ClusterUnderTest, Plan};

#[track_caller]
fn check_cut(cut: Cut) {
    let plan = Plan { has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let load = Load::start(&cluster);
    for _ in 0..3 {
        cluster.cut(1, 2, cut);
        // The third one reaches both all the time.
        load.publishers[2].wait_for_more(300);
        cluster.heal(1, 2);
        load.wait_for_more(50);
    }
    load.finish(&cluster);
    check_nobody_died(&cluster);
}

#[test]
fn a_link_that_breaks_loses_and_doubles_nothing() {
    check_cut(Cut::Closed);
}

#[test]
fn a_link_that_falls_silent_loses_and_doubles_nothing() {
    check_cut(Cut::Silent);
}

/// A SUBACK waits for a broker that cannot be told, and is right when it comes.
#[test]
fn a_suback_waits_for_a_link_that_is_cut() {
    let plan = Plan { brokers: 2, has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut subscriber = cluster.client(1, "subscriber");
    let mut publisher = cluster.client(2, "publisher");
    cluster.cut(1, 2, Cut::Silent);
    let bytes =
        crate::conformance::bytes::subscribe(crate::conformance::Version::V5, 1, &[], &[(b"t", 1)]);
    subscriber.send(&bytes);
    // Nothing is lost by asking: the connection lives, and the SUBACK does not come before this.
    subscriber.ping().unwrap();
    cluster.heal(1, 2);
    let codes = subscriber.expect(crate::conformance::kind::SUBACK).unwrap().codes().unwrap().codes;
    assert_eq!(codes, [1]);
    publisher.publish("t", "promised", 1).unwrap();
    subscriber.receive("t", "promised", 1).unwrap();
}

/// Links are torn again and again while thousands of messages cross them.
#[test]
fn links_that_break_all_the_time_lose_and_double_nothing() {
    let plan = Plan { brokers: 2, has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let subscriber = cluster.subscribe(SubscriberPlan::to_all("two", 2, QoS::ExactlyOnce));
    let publishers = [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)]
        .map(|(id, qos)| cluster.publish(PublisherPlan::counted(id, 1, qos, 3_000)));
    for round in 1..=20 {
        subscriber.wait_for_received(round * 200);
        cluster.cut(1, 2, Cut::Closed);
        cluster.heal(1, 2);
    }
    assert!(finish_all(publishers).iter().all(|count| *count == 3_000));
    cluster.settle();
    assert_eq!(subscriber.received(), 6_000);
}
