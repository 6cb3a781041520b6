//! Load on each of three brokers, whose every message is to reach all three.

use mqttzoo::mqtt::QoS;

use super::ClusterUnderTest;
use super::load::{Publisher, PublisherPlan, Subscriber, SubscriberPlan, all_go_on, finish_all};

/// The subscribers, one on each broker.
pub(crate) const NAMES: [&str; 3] = ["on broker 1", "on broker 2", "on broker 3"];

/// A publisher and a subscriber on each of three brokers.
pub(crate) struct Load {
    pub(crate) publishers: Vec<Publisher>,
    subscribers: [Subscriber; 3],
}

impl Load {
    /// Publishers of QoS 1 and 2, and subscribers of QoS 2; returns when all have published.
    #[track_caller]
    pub(crate) fn start(cluster: &ClusterUnderTest) -> Self {
        Self::start_with(cluster, &[])
    }

    /// The same with more publishers: their number, their broker, and how they publish.
    #[track_caller]
    pub(crate) fn start_with(cluster: &ClusterUnderTest, more: &[(u32, usize, QoS)]) -> Self {
        let subscribers = subscribe_on_all(cluster, QoS::ExactlyOnce);
        let one_each =
            [(1, 1, QoS::AtLeastOnce), (2, 2, QoS::ExactlyOnce), (3, 3, QoS::AtLeastOnce)];
        let publishers = one_each.iter().chain(more).map(|&(id, broker, qos)| {
            cluster.publish(PublisherPlan { qos, ..PublisherPlan::endless(id, &[broker]) })
        });
        let load = Self { publishers: publishers.collect(), subscribers };
        load.wait_for_more(50);
        load
    }

    /// Every publisher goes on.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: u64) {
        all_go_on(&self.publishers, count);
    }

    /// All promises were kept, and nobody has lost a connection.
    #[track_caller]
    pub(crate) fn finish(self, cluster: &ClusterUnderTest) {
        let acknowledged: u64 = finish_all(self.publishers).iter().sum();
        cluster.settle();
        for subscriber in &self.subscribers {
            assert_eq!((subscriber.lost(), subscriber.received()), (0, acknowledged));
        }
    }
}

/// Two publishers on two brokers with 2,000 messages each, a subscriber on each of three.
#[track_caller]
pub(crate) fn check_thousands(cluster: &ClusterUnderTest, qos: QoS) {
    let subscribers = subscribe_on_all(cluster, qos);
    let publishers =
        [1, 2].map(|id| cluster.publish(PublisherPlan::counted(id, id as usize, qos, 2_000)));
    assert_eq!(finish_all(publishers), [2_000, 2_000]);
    cluster.settle();
    for subscriber in subscribers {
        assert_eq!(subscriber.received(), 4_000);
    }
}

#[track_caller]
pub(crate) fn check_nobody_died(cluster: &ClusterUnderTest) {
    for broker in 1..=3 {
        let log = cluster.broker(broker).log();
        assert!(!log.contains("was declared dead"), "{log}");
    }
}

/// Subscribers to everything, one on each broker.
pub(crate) fn subscribe_on_all(cluster: &ClusterUnderTest, qos: QoS) -> [Subscriber; 3] {
    [1, 2, 3]
        .map(|broker| cluster.subscribe(SubscriberPlan::to_all(NAMES[broker - 1], broker, qos)))
}
