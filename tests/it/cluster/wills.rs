//! The will of a client reaches the subscribers of all brokers.

use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Version, Will, prop};

/// Who wants every will.
fn watcher(cluster: &ClusterUnderTest, broker: usize) -> Client {
    let mut watcher = cluster.client(broker, "watcher");
    watcher.subscribe("will/+", 1).unwrap();
    watcher
}

/// The topics of the next wills, in order.
fn told(watcher: &mut Client, count: usize) -> Vec<String> {
    let topic = |_| {
        let message = watcher.message().unwrap();
        watcher.settle(&message).unwrap();
        String::from_utf8(message.topic.clone()).unwrap()
    };
    let mut told: Vec<_> = (0..count).map(topic).collect();
    told.sort();
    told
}

/// The connection breaks, and subscribers on every broker are told, once.
#[test]
fn a_will_reaches_subscribers_on_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut watchers = [1, 2, 3].map(|broker| watcher(&cluster, broker));
    for (version, qos) in [(Version::V4, 0), (Version::V5, 1), (Version::V5, 2)] {
        let s = cluster.stage(2, version);
        let will = Will::new("will/x", "gone").qos(qos);
        drop(s.enter(&s.connect("dying").will(will)).unwrap());
        for watcher in &mut watchers {
            watcher.receive("will/x", "gone", qos.min(1)).unwrap();
            watcher.quiet().unwrap();
        }
    }
}

/// Whoever could have published them is gone without a word: another broker has them.
#[test]
fn the_wills_of_a_killed_broker_reach_subscribers_on_the_others() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(3)) else { return };
    let mut watchers = [1, 3].map(|broker| watcher(&cluster, broker));
    let s = cluster.stage(2, Version::V5);
    // Enough that some of them belong to slots of each broker.
    let dying = (0..12).map(|number| {
        let will = Will::new(&format!("will/{number:02}"), "gone").qos(1);
        s.enter(&s.connect(&format!("dying-{number}")).will(will)).unwrap()
    });
    let dying: Vec<_> = dying.collect();
    let polite = s.enter(&s.connect("polite").will(Will::new("will/polite", "gone"))).unwrap();
    polite.leave().unwrap();
    cluster.broker(2).wait_for_metric("wills_secured", |secured| secured == 12);
    // A broker that is killed before they know of it cannot tell who left politely.
    cluster.wait_until(2, "the others keep twelve", |cluster| {
        let kept = |broker| cluster.broker(broker).metrics().value("wills_of_others");
        kept(1) + kept(3) == 12
    });
    cluster.kill(2);
    for watcher in &mut watchers {
        assert_eq!(
            told(watcher, 12),
            (0..12).map(|number| format!("will/{number:02}")).collect::<Vec<_>>()
        );
        watcher.quiet().unwrap();
    }
    drop(dying);
}

/// A broker that is stopped publishes them itself, and nobody else does.
#[test]
fn the_wills_of_a_broker_that_is_stopped_are_published_once() {
    let Some(mut cluster) = ClusterUnderTest::start(3) else { return };
    let mut watcher = watcher(&cluster, 1);
    let s = cluster.stage(2, Version::V5);
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let will = Will::new(&format!("will/{number}"), "stopped").qos(1);
            s.enter(&s.connect(&format!("client-{number}")).will(will)).unwrap()
        })
        .collect();
    cluster.broker(2).wait_for_metric("wills_secured", |secured| secured == 6);
    cluster.terminate(2);
    assert_eq!(
        told(&mut watcher, 6),
        (0..6).map(|number| format!("will/{number}")).collect::<Vec<_>>()
    );
    // Long enough for its death to be known, and for whoever kept them to have acted on it.
    let wills = |broker: usize| cluster.broker(broker).metrics().value("wills_of_others");
    cluster.wait_until(1, "it keeps no wills", |_| wills(1) == 0 && wills(3) == 0);
    watcher.quiet().unwrap();
    drop(clients);
}

/// One who takes leave has no will, and a retained one stays for those who ask later elsewhere.
#[test]
fn a_will_is_withdrawn_by_disconnect_and_kept_when_it_is_retained() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut watcher = cluster.client(2, "watcher");
    watcher.subscribe("will", 1).unwrap();
    let s = cluster.stage(1, Version::V5);
    let will = || Will::new("will", "gone").qos(1).retained().with(&prop::user("who", "x"));
    s.enter(&s.connect("polite").will(will())).unwrap().leave().unwrap();
    drop(s.enter(&s.connect("dying").will(will())).unwrap());
    let told = watcher.receive("will", "gone", 1).unwrap();
    assert_eq!(told.properties.all(prop::USER_PROPERTY), [prop::user("who", "x")]);
    watcher.quiet().unwrap();
    let mut late = cluster.client(2, "late");
    late.subscribe("will", 1).unwrap();
    assert!(late.receive("will", "gone", 1).unwrap().retain);
}
