//! A broker is cut off: from the ensemble, or from everybody. It acknowledges nothing that the others do
//! not stand by, lets its clients go in time, and comes back as a new one.

use mqttzoo::mqtt::QoS;

use super::load::{Publisher, PublisherPlan, Subscriber, SubscriberPlan, all_go_on, finish_all};
use super::proxy::{Cut, ENSEMBLE};
use super::{ClusterUnderTest, Plan};

/// A load on three brokers, of which the clients of the third turn to others when they have lost it.
struct Load {
    publishers: [Publisher; 3],
    steady: [Subscriber; 2],
    wanderer: Subscriber,
}

impl Load {
    fn start(cluster: &ClusterUnderTest) -> Self {
        let steady = [("one", 1), ("two", 2)].map(|(name, broker)| {
            cluster.subscribe(SubscriberPlan::to_all(name, broker, QoS::AtLeastOnce))
        });
        let plan = SubscriberPlan::to_all("three", 3, QoS::AtLeastOnce);
        let wanderer = cluster.subscribe(SubscriberPlan { brokers: vec![3, 1], ..plan });
        let publishers = [(1, vec![1]), (2, vec![2]), (3, vec![3, 2])]
            .map(|(id, brokers)| cluster.publish(PublisherPlan::endless(id, &brokers)));
        let load = Self { publishers, steady, wanderer };
        load.wait_for_more(50);
        load
    }

    #[track_caller]
    fn wait_for_more(&self, count: u64) {
        all_go_on(&self.publishers, count);
    }

    #[track_caller]
    fn finish(self, cluster: &ClusterUnderTest) {
        finish_all(self.publishers);
        cluster.settle();
        assert!(self.steady.iter().all(|subscriber| subscriber.lost() == 0));
    }
}

fn start() -> Option<ClusterUnderTest> {
    ClusterUnderTest::start_as(Plan { has_network: true, ..Plan::mortal(3) })
}

/// Broker 3 is cut off from all of these for as long as it takes to be declared dead.
#[track_caller]
fn check_cut_off(from: &[usize], cut: Cut) {
    let Some(cluster) = start() else { return };
    let load = Load::start(&cluster);
    for &other in from {
        cluster.cut(other, 3, cut);
    }
    load.wanderer.wait_for_return(1);
    let readiness = cluster.readiness(3).expect("its administration port is not cut off");
    assert_eq!(readiness.0, 503, "{}", readiness.1);
    for survivor in [1, 2] {
        cluster.wait_until_declared_dead(3, survivor);
    }
    // Whoever waited for it waits no longer.
    load.wait_for_more(100);
    for &other in from {
        cluster.heal(other, 3);
    }
    cluster.wait_until_joined(3, 2);
    let again = cluster.subscribe(SubscriberPlan::to_all("three again", 3, QoS::AtLeastOnce));
    load.wait_for_more(50);
    load.finish(&cluster);
    assert!(again.received() > 50);
}

#[test]
fn a_broker_that_has_lost_the_ensemble_lets_its_clients_go() {
    check_cut_off(&[ENSEMBLE], Cut::Closed);
}

#[test]
fn a_broker_to_which_the_ensemble_is_silent_lets_its_clients_go() {
    check_cut_off(&[ENSEMBLE], Cut::Silent);
}

#[test]
fn a_broker_that_is_cut_off_from_everybody_lets_its_clients_go() {
    check_cut_off(&[ENSEMBLE, 1, 2], Cut::Silent);
}

/// Shorter than a lease: nobody notices, and nobody is let go.
#[test]
fn a_broker_that_is_cut_off_for_a_moment_goes_on() {
    let plan = Plan { timeout_secs: 4, has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let load = Load::start(&cluster);
    for cut in [Cut::Closed, Cut::Silent, Cut::Closed] {
        cluster.cut(ENSEMBLE, 3, cut);
        // A fifth of a second of its own publisher's pace.
        load.publishers[2].wait_for_more(50);
        cluster.heal(ENSEMBLE, 3);
        load.wait_for_more(100);
    }
    assert_eq!(load.wanderer.lost(), 0);
    load.finish(&cluster);
    for broker in 1..=3 {
        let log = cluster.broker(broker).log();
        assert!(!log.contains("was declared dead"), "{log}");
    }
}

/// *One cut takes from two of three brokers both the ensemble and the third.* They were a majority that
/// agreed that nobody has the ensemble, and went on beside the third, which had it and buried them.
#[test]
fn a_majority_that_is_cut_off_from_the_ensemble_and_who_has_it_lets_its_clients_go() {
    let Some(cluster) = start() else { return };
    let plan = |name, broker| SubscriberPlan::to_all(name, broker, QoS::AtLeastOnce);
    let steady = cluster.subscribe(plan("one", 1));
    let wanderers = [("two", 2), ("three", 3)].map(|(name, broker)| {
        cluster.subscribe(SubscriberPlan { brokers: vec![broker, 1], ..plan(name, broker) })
    });
    let publishers = [(1, vec![1]), (2, vec![2, 1]), (3, vec![3, 1])]
        .map(|(id, brokers)| cluster.publish(PublisherPlan::endless(id, &brokers)));
    all_go_on(&publishers, 50);
    let cuts = [(ENSEMBLE, 2), (ENSEMBLE, 3), (1, 2), (1, 3)];
    for (one, other) in cuts {
        cluster.cut(one, other, Cut::Silent);
    }
    for wanderer in &wanderers {
        wanderer.wait_for_return(1);
    }
    for cut_off in [2, 3] {
        let readiness = cluster.readiness(cut_off).expect("its administration port is not cut off");
        assert_eq!(readiness.0, 503, "{}", readiness.1);
        cluster.wait_until_declared_dead(cut_off, 1);
    }
    all_go_on(&publishers, 100);
    for (one, other) in cuts {
        cluster.heal(one, other);
    }
    for cut_off in [2, 3] {
        cluster.wait_until_joined(cut_off, 2);
    }
    all_go_on(&publishers, 50);
    finish_all(publishers);
    cluster.settle();
    assert_eq!(steady.lost(), 0);
}
