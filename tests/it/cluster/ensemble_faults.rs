//! The ensemble fails, under load: nothing that was acknowledged is lost, and no client is let go.

use super::handover::check_taken_over;
use super::on_all::Load;
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Connect, Version};

/// Three brokers with a session timeout that leaves room for a machine that stands still for a second.
fn three_brokers() -> Option<ClusterUnderTest> {
    ClusterUnderTest::start_as(Plan { timeout_secs: 6, ..Plan::default() })
}

#[track_caller]
fn check_all_ready(cluster: &ClusterUnderTest) {
    for broker in 1..=3 {
        let readiness = cluster.readiness(broker);
        assert!(cluster.is_ready(broker), "broker-{broker} is not ready: {readiness:?}");
    }
}

#[test]
fn the_leader_of_the_ensemble_is_killed_under_load() {
    let Some(mut cluster) = three_brokers() else { return };
    let load = Load::start(&cluster);
    let leader = cluster.ensemble().leader();
    cluster.ensemble().kill(leader);
    load.wait_for_more(100);
    assert_ne!(cluster.ensemble().leader(), leader);
    load.wait_for_more(300);
    check_all_ready(&cluster);
    // What needs ZooKeeper works again.
    cluster.add(1);
    load.wait_for_more(50);
    load.finish(&cluster);
}

#[test]
fn one_server_of_the_ensemble_is_killed_and_comes_back_under_load() {
    let Some(mut cluster) = three_brokers() else { return };
    let load = Load::start(&cluster);
    let leader = cluster.ensemble().leader();
    let follower = (leader + 1) % 3;
    cluster.ensemble().kill(follower);
    load.wait_for_more(300);
    check_all_ready(&cluster);
    cluster.ensemble().start_again(follower);
    load.wait_for_more(100);
    check_all_ready(&cluster);
    load.finish(&cluster);
}

/// Membership is frozen and everything else goes on, for longer than a session lasts.
#[test]
fn all_servers_of_the_ensemble_stop_and_three_brokers_stay_ready() {
    let Some(mut cluster) = three_brokers() else { return };
    let load = Load::start(&cluster);
    cluster.ensemble().kill_all();
    cluster.wait_until(1, "it has noticed", |cluster| {
        cluster
            .readiness(1)
            .is_some_and(|(status, body)| status != 200 || body.contains("degraded"))
    });
    // At 250 messages a second and publisher this takes more than twice the session timeout.
    for _ in 0..40 {
        load.wait_for_more(75);
        check_all_ready(&cluster);
    }
    for broker in 1..=3 {
        let (_, body) = cluster.readiness(broker).unwrap();
        assert!(body.contains("\"degraded\":\"zookeeper\""), "{body}");
    }
    // Publish, subscribe and unsubscribe go on.
    let mut subscriber = cluster.client(1, "late");
    subscriber.subscribe("late", 1).unwrap();
    cluster.client(3, "late publisher").publish("late", "without ZooKeeper", 1).unwrap();
    subscriber.receive("late", "without ZooKeeper", 1).unwrap();

    cluster.ensemble().start_all_again();
    for broker in 1..=3 {
        cluster.wait_until(broker, "it has ZooKeeper again", |cluster| {
            let readiness = cluster.readiness(broker);
            readiness.is_some_and(|(status, body)| status == 200 && !body.contains("degraded"))
        });
    }
    load.wait_for_more(100);
    check_all_ready(&cluster);
    subscriber.quiet().unwrap();
    load.finish(&cluster);
}

/// A client whose Session goes with it from broker to broker.
struct Roamer {
    client: Client,
    broker: usize,
    connect: Connect,
    topic: String,
}

impl Roamer {
    #[track_caller]
    fn enter(cluster: &ClusterUnderTest, number: usize) -> Self {
        let connect = Connect::new(Version::V5, format!("roamer{number}")).kept();
        let topic = format!("roamers/{number}");
        let mut client = cluster.stage(1, Version::V5).enter(&connect).unwrap();
        client.subscribe(&topic, 1).unwrap();
        Self { client, broker: 1, connect, topic }
    }

    /// The next broker lets it in, and it is sent there what it had not acknowledged before.
    #[track_caller]
    fn move_on(&mut self, cluster: &ClusterUnderTest, publisher: &mut Client, text: &str) {
        publisher.publish(&self.topic, text, 1).unwrap();
        assert_eq!(self.client.message().unwrap().text(), text);
        self.broker = self.broker % 3 + 1;
        let mut new = cluster.stage(self.broker, Version::V5).enter(&self.connect).unwrap();
        assert!(new.connack.session_present, "at broker {}", self.broker);
        assert!(new.receive(&self.topic, text, 1).unwrap().dup);
        let old = std::mem::replace(&mut self.client, new);
        check_taken_over(old, &mut self.client, Version::V5);
    }
}

/// Who coordinates a Client Identifier stays who it was: a takeover asks nothing of ZooKeeper.
#[test]
fn sessions_go_from_broker_to_broker_while_all_servers_of_the_ensemble_are_stopped() {
    let Some(mut cluster) = three_brokers() else { return };
    let load = Load::start(&cluster);
    // As many as it takes to have coordinators on all three brokers.
    let mut roamers: Vec<_> = (0..8).map(|number| Roamer::enter(&cluster, number)).collect();
    let mut publisher = cluster.client(3, "publisher");
    cluster.ensemble().kill_all();
    for broker in 1..=3 {
        cluster.wait_until(broker, "it has noticed", |cluster| {
            cluster.readiness(broker).is_some_and(|(_, body)| body.contains("degraded"))
        });
    }
    // For longer than a session lasts, at 250 messages a second and publisher.
    for round in 0..4 {
        for (number, roamer) in roamers.iter_mut().enumerate() {
            roamer.move_on(&cluster, &mut publisher, &format!("{round} of {number}"));
            load.wait_for_more(75);
        }
    }
    check_all_ready(&cluster);
    for broker in 1..=3 {
        let (_, body) = cluster.readiness(broker).unwrap();
        assert!(body.contains("\"degraded\":\"zookeeper\""), "{body}");
    }
    // Nor is anybody kept out whom no broker knows.
    for broker in 1..=3 {
        cluster.client(broker, "new").ping().unwrap();
    }
    cluster.ensemble().start_all_again();
    for broker in 1..=3 {
        cluster.wait_until(broker, "it has ZooKeeper again", |cluster| {
            let readiness = cluster.readiness(broker);
            readiness.is_some_and(|(status, body)| status == 200 && !body.contains("degraded"))
        });
    }
    for roamer in &mut roamers {
        roamer.move_on(&cluster, &mut publisher, "with ZooKeeper");
        roamer.client.quiet().unwrap();
    }
    load.finish(&cluster);
}

/// A server that hung had two fifths of a session timeout to answer, and as much again when the
/// client tried it once more: leases ended, and brokers were out of the Service for a moment,
/// without a line about it.
#[test]
fn servers_of_the_ensemble_hang_one_after_the_other_and_no_lease_ends() {
    let Some(mut cluster) = three_brokers() else { return };
    let load = Load::start(&cluster);
    let leader = cluster.ensemble().leader();
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.ensemble().pause(follower);
        // Longer than a lease, at 250 messages a second and publisher.
        for _ in 0..20 {
            load.wait_for_more(75);
            check_all_ready(&cluster);
        }
        cluster.ensemble().resume(follower);
        load.wait_for_more(75);
    }
    load.finish(&cluster);
    for broker in 1..=3 {
        let broker = cluster.broker(broker);
        assert_eq!(broker.count_in_log("nothing is acknowledged for the moment"), 0);
    }
}
