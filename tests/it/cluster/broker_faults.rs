//! Brokers die, stand still and come back, under load: the living lose nothing that was
//! acknowledged, and clients find another broker.

use mqttzoo::mqtt::QoS;

use super::checker::Receiver;
use super::load::{PublisherPlan, SubscriberPlan, all_go_on, finish_all};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Event, kind};

/// A broker that is silent for two seconds is declared dead.
fn start() -> Option<ClusterUnderTest> {
    ClusterUnderTest::start_as(Plan::mortal(3))
}

/// A subscriber that turns to another broker when it has lost its own.
fn wanderer(name: &'static str, brokers: &[usize]) -> SubscriberPlan {
    let plan = SubscriberPlan::to_all(name, 1, QoS::AtLeastOnce);
    SubscriberPlan { brokers: brokers.to_vec(), ..plan }
}

#[test]
fn a_broker_is_killed_and_comes_back_under_load() {
    let Some(mut cluster) = start() else { return };
    let steady = [("one", 1), ("two", 2)].map(|(name, broker)| {
        cluster.subscribe(SubscriberPlan::to_all(name, broker, QoS::AtLeastOnce))
    });
    let lost = cluster.subscribe(wanderer("three", &[3, 2]));
    let publishers = [(1, vec![1]), (2, vec![2]), (3, vec![3, 1])]
        .map(|(id, brokers)| cluster.publish(PublisherPlan::endless(id, &brokers)));
    all_go_on(&publishers, 50);
    cluster.kill(3);
    lost.wait_for_return(1);
    // A publish that waits for the dead is a pause, not a loss.
    all_go_on(&publishers, 200);
    cluster.restart(3);
    let again = cluster.subscribe(SubscriberPlan::to_all("three again", 3, QoS::AtLeastOnce));
    all_go_on(&publishers, 100);
    assert!(finish_all(publishers).iter().all(|count| *count > 300));
    cluster.settle();
    assert!(steady.iter().all(|subscriber| subscriber.lost() == 0));
    assert!(again.received() > 100);
}

/// It comes back before anybody has missed it: its own znode of before is still there, under its
/// name and with another boot id.
#[test]
fn a_broker_that_comes_back_at_once_waits_for_its_own_former_znode() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(2)) else { return };
    cluster.kill(2);
    cluster.restart(2);
    let mut subscriber = cluster.client(1, "subscriber");
    subscriber.subscribe("t", 1).unwrap();
    cluster.client(2, "publisher").publish("t", "from the second life", 1).unwrap();
    subscriber.receive("t", "from the second life", 1).unwrap();
    let log = cluster.broker(2).log();
    assert!(log.contains("waiting for its znode to end"), "{log}");
}

/// SIGSTOP for longer than a session lasts: the others go on without it. When it wakes up it finds
/// itself declared dead, lets its clients go, and joins as a new broker.
#[test]
fn a_broker_that_stood_still_too_long_lets_its_clients_go_and_joins_anew() {
    let Some(cluster) = start() else { return };
    let steady = [("one", 1), ("two", 2)].map(|(name, broker)| {
        cluster.subscribe(SubscriberPlan::to_all(name, broker, QoS::AtLeastOnce))
    });
    let mut client = cluster.client(3, "with the paused one");
    client.subscribe("other", 0).unwrap();
    let publishers = [(1, vec![1]), (3, vec![3, 2])]
        .map(|(id, brokers)| cluster.publish(PublisherPlan::endless(id, &brokers)));
    all_go_on(&publishers, 50);
    cluster.pause(3);
    for survivor in [1, 2] {
        cluster.wait_until_declared_dead(3, survivor);
    }
    all_go_on(&publishers, 100);
    cluster.resume(3);
    loop {
        match client.event().unwrap() {
            Event::Packet(packet) if packet.kind() == kind::DISCONNECT => {
                let code = packet.reason().unwrap().code;
                assert!(code >= 0x80, "{code:#04x}");
            }
            Event::Packet(packet) => panic!("{}", packet.shown()),
            Event::Closed => break,
        }
    }
    cluster.broker(3).wait_for_log("was declared dead");
    cluster.wait_until_joined(3, 2);
    let again = cluster.subscribe(SubscriberPlan::to_all("three again", 3, QoS::AtLeastOnce));
    all_go_on(&publishers, 100);
    assert!(finish_all(publishers).iter().all(|count| *count > 200));
    cluster.settle();
    assert!(steady.iter().all(|subscriber| subscriber.lost() == 0));
    assert!(again.received() > 100);
}

/// A pause that is shorter than a session: nobody is declared dead, no client is let go.
#[test]
fn a_broker_that_stood_still_for_a_moment_goes_on() {
    let Some(cluster) = ClusterUnderTest::start_as(Plan::mortal(3)) else { return };
    let subscriber = cluster.subscribe(SubscriberPlan::to_all("one", 1, QoS::AtLeastOnce));
    let publishers = [1, 2].map(|id| cluster.publish(PublisherPlan::endless(id, &[id as usize])));
    let mut client = cluster.client(3, "with the paused one");
    client.subscribe("load/#", 0).unwrap();
    all_go_on(&publishers, 50);
    for _ in 0..3 {
        cluster.pause(3);
        // As long as it takes to publish these: a few hundred milliseconds.
        subscriber.wait_for_received(subscriber.received() + 50);
        cluster.resume(3);
        all_go_on(&publishers, 50);
    }
    finish_all(publishers);
    cluster.settle();
    assert_eq!(subscriber.lost(), 0);
    let log = cluster.broker(1).log();
    assert!(!log.contains("was declared dead"), "{log}");
    client.leave().unwrap();
}

/// The links of a broker that ended were waited for as if they were clients, for two seconds.
#[test]
fn a_broker_without_clients_leaves_at_once_and_nobody_has_to_declare_it_dead() {
    let Some(mut cluster) = ClusterUnderTest::start(3) else { return };
    let mut publisher = cluster.client(1, "publisher");
    cluster.terminate(3);
    let log = cluster.broker(3).log();
    assert!(!log.contains("connections that are left are cut"), "{log}");
    assert!(!log.contains("was not left in time"), "{log}");
    // Nobody waits for it.
    publisher.retain("t", "to all that are left").unwrap();
}

/// Each broker in turn is asked to end and started again, as an update does it.
#[test]
fn a_rolling_restart_of_all_three_loses_nothing() {
    let Some(mut cluster) = start() else { return };
    let names = ["one", "two", "three"];
    let subscribers = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
        .map(|brokers| cluster.subscribe(wanderer(names[brokers[0] - 1], &brokers)));
    let publishers = [(1, [1, 2, 3]), (2, [2, 3, 1]), (3, [3, 1, 2])]
        .map(|(id, brokers)| cluster.publish(PublisherPlan::endless(id, &brokers)));
    for broker in 1..=3 {
        all_go_on(&publishers, 50);
        cluster.terminate(broker);
        all_go_on(&publishers, 50);
        cluster.restart(broker);
    }
    for subscriber in &subscribers {
        subscriber.wait_for_return(1);
    }
    all_go_on(&publishers, 100);
    assert!(finish_all(publishers).iter().all(|count| *count > 400));
    cluster.settle();
    for name in names {
        let got = cluster.checker().with(|books| books.received(Receiver::Client(name)));
        assert!(got > 300, "{name} has got no more than {got}");
    }
}

/// Two of three are killed at once: the last one serves its own clients on.
#[test]
fn the_last_of_three_brokers_serves_on() {
    let Some(mut cluster) = start() else { return };
    let subscriber = cluster.subscribe(SubscriberPlan::to_all("one", 1, QoS::AtLeastOnce));
    let publisher = cluster.publish(PublisherPlan::endless(1, &[1]));
    publisher.wait_for_more(50);
    cluster.kill(2);
    cluster.kill(3);
    publisher.wait_for_more(300);
    for dead in [2, 3] {
        cluster.wait_until_declared_dead(dead, 1);
    }
    assert!(cluster.is_ready(1), "{:?}", cluster.readiness(1));
    let mut late = cluster.client(1, "late");
    late.subscribe("load/#", 0).unwrap();
    publisher.finish();
    cluster.settle();
    assert_eq!(subscriber.lost(), 0);
}

/// The leader is killed: who leads next declares it dead. How soon stands in the stories of
/// `cluster::membership`, where time does not depend on the machine.
#[test]
fn a_leader_that_is_killed_is_declared_dead_by_who_leads_next() {
    let plan = Plan { timeout_secs: 6, ..Plan::default() };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    let report: serde_json::Value =
        serde_json::from_str(&cluster.broker(1).admin("GET", "/cluster")).unwrap();
    let name = report["leader"]["name"].as_str().unwrap().to_owned();
    let leader: usize = name.strip_prefix("broker-").unwrap().parse().unwrap();
    let survivor = leader % 3 + 1;
    let subscriber = cluster.subscribe(SubscriberPlan::to_all("one", survivor, QoS::AtLeastOnce));
    let publisher = cluster.publish(PublisherPlan::endless(1, &[survivor]));
    publisher.wait_for_more(50);
    cluster.kill(leader);
    let in_doubt = format!("member={name}");
    cluster.wait_until(survivor, "the leader is in doubt", |cluster| {
        let log = cluster.broker(survivor).log();
        log.lines().any(|line| line.contains("a broker is in doubt") && line.contains(&in_doubt))
    });
    cluster.wait_until_declared_dead(leader, survivor);
    publisher.wait_for_more(50);
    publisher.finish();
    cluster.settle();
    assert_eq!(subscriber.lost(), 0);
}
