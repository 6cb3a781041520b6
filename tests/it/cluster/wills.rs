//! The will of a client reaches the subscribers of all brokers.

use super::ClusterUnderTest;
use crate::conformance::{Version, Will, prop};

/// The connection breaks, and subscribers on every broker are told, once.
#[test]
fn a_will_reaches_subscribers_on_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut watchers = [1, 2, 3].map(|broker| {
        let mut watcher = cluster.client(broker, "watcher");
        watcher.subscribe("will/+", 1).unwrap();
        watcher
    });
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
