//! The disks of the ensemble are new, and the brokers run: they have one owner for each Client
//! Identifier, and the Sessions there were.

use mqttzoo::mqtt::QoS;
use serde_json::Value;

use super::load::{PublisherPlan, SubscriberPlan, all_go_on, finish_all};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Connect, Version};

fn slot_epoch(cluster: &ClusterUnderTest, broker: usize) -> i64 {
    let text = cluster.broker(broker).admin("GET", "/cluster");
    let report: Value = serde_json::from_str(&text).unwrap();
    report["slot_epoch"].as_i64().unwrap_or_default()
}

fn has_zookeeper(cluster: &ClusterUnderTest, broker: usize) -> bool {
    let readiness = cluster.readiness(broker);
    readiness.is_some_and(|(status, body)| status == 200 && !body.contains("degraded"))
}

/// The disks of all servers are emptied. It is over when every broker goes by a map of the new tree.
fn wipe(cluster: &mut ClusterUnderTest) {
    let before = slot_epoch(cluster, 1);
    cluster.ensemble().kill_all();
    for broker in 1..=3 {
        cluster.wait_until(broker, "it has noticed", |cluster| {
            let readiness = cluster.readiness(broker);
            readiness.is_some_and(|(_, body)| body.contains("degraded"))
        });
    }
    cluster.ensemble().wipe();
    cluster.ensemble().start_all_again();
    for broker in 1..=3 {
        cluster.wait_until(broker, "it has ZooKeeper again, and a later map", |cluster| {
            has_zookeeper(cluster, broker) && slot_epoch(cluster, broker) > before
        });
    }
}

/// Messages that were acknowledged before, meanwhile and after all come, over one connection each.
#[test]
fn the_ensemble_comes_back_empty_under_load() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(3)) else { return };
    let subscriber = cluster.subscribe(SubscriberPlan::to_all("reader", 2, QoS::ExactlyOnce));
    let publishers = [1, 3].map(|id| {
        let plan =
            PublisherPlan { qos: QoS::AtLeastOnce, ..PublisherPlan::endless(id, &[id as usize]) };
        cluster.publish(plan)
    });
    all_go_on(&publishers, 50);
    wipe(&mut cluster);
    all_go_on(&publishers, 100);
    let acknowledged: u64 = finish_all(publishers).iter().sum();
    cluster.settle();
    assert_eq!((subscriber.lost(), subscriber.received()), (0, acknowledged));
}

/// Clients come back on other brokers, also once a broker has died: somebody owns their slots.
#[test]
fn sessions_move_after_the_ensemble_came_back_empty() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(3)) else { return };
    let version = Version::V5;
    let kept = |name: &str| Connect::new(version, name).kept();
    let names: Vec<String> = (0..20).map(|number| format!("roaming {number}")).collect();
    for name in &names {
        let mut client = cluster.stage(1, version).enter(&kept(name)).unwrap();
        client.subscribe(name, 1).unwrap();
        client.send(&[0xE0, 0]);
    }
    let mut publisher = cluster.client(2, "publisher");
    for name in &names {
        publisher.publish(name, "before", 1).unwrap();
    }
    wipe(&mut cluster);
    cluster.kill(3);
    cluster.wait_until_declared_dead(3, 1);
    cluster.wait_until_declared_dead(3, 2);
    for name in &names {
        publisher.publish(name, "after", 1).unwrap();
        let mut client = cluster.stage(2, version).enter(&kept(name)).unwrap();
        assert!(client.connack.session_present, "{name}");
        client.receive(name, "before", 1).unwrap();
        client.receive(name, "after", 1).unwrap();
    }
}
