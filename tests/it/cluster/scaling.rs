//! More brokers and fewer, as an orchestrator scales: they come all at once, and go one by one, the last
//! of them first.

use mqttzoo::mqtt::QoS;

use super::load::{PublisherPlan, SubscriberPlan, all_go_on, finish_all};
use super::watcher::Watcher;
use super::{ClusterUnderTest, Plan};

/// Gets the whole load, from the first of these brokers that is there.
fn wanderer(name: &'static str, brokers: &[usize]) -> SubscriberPlan {
    let plan = SubscriberPlan::to_all(name, brokers[0], QoS::AtLeastOnce);
    SubscriberPlan { brokers: brokers.to_vec(), ..plan }
}

/// Nothing that was acknowledged is lost to those who are there, and the two that stay are ready all the
/// time, also when then all of ZooKeeper goes: they know that the others have left.
#[test]
fn from_three_brokers_to_five_and_to_two_under_load() {
    let plan = Plan { timeout_secs: 6, ..Plan::default() };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    let watchers = [1, 2].map(|broker| Watcher::of(cluster.broker(broker)));
    let steady =
        [("one", 1), ("two", 2)].map(|(name, at)| cluster.subscribe(wanderer(name, &[at])));
    let third = cluster.subscribe(wanderer("three", &[3, 1]));
    let publish = |cluster: &ClusterUnderTest, id, brokers: &[usize]| {
        cluster.publish(PublisherPlan::endless(id, brokers))
    };
    let mut publishers =
        vec![publish(&cluster, 1, &[1]), publish(&cluster, 2, &[2]), publish(&cluster, 3, &[3, 2])];
    all_go_on(&publishers, 50);

    cluster.add(2);
    let last = cluster.subscribe(wanderer("five", &[5, 4, 2]));
    publishers.extend([publish(&cluster, 4, &[4, 1]), publish(&cluster, 5, &[5, 2])]);
    all_go_on(&publishers, 50);

    for (leaving, client, times) in [(5, &last, 1), (4, &last, 2), (3, &third, 1)] {
        cluster.terminate(leaving);
        client.wait_for_return(times);
        all_go_on(&publishers, 50);
    }
    for broker in [1, 2] {
        let metric = "cluster_members";
        cluster.broker(broker).wait_for_metric(metric, |members| members == 2);
    }

    cluster.ensemble().kill_all();
    for broker in [1, 2] {
        cluster.wait_until(broker, "it has noticed", |cluster| {
            cluster.readiness(broker).is_some_and(|(_, body)| body.contains("degraded"))
        });
    }
    // Twice as long as a session lasts.
    for _ in 0..30 {
        all_go_on(&publishers, 100);
    }
    finish_all(publishers);
    cluster.settle();
    assert!(steady.iter().all(|subscriber| subscriber.lost() == 0));
    for watcher in watchers {
        assert_eq!(watcher.finish().relapses, 0);
    }
}
