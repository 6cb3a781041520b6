//! Time is one for all brokers, whatever the clock of a node shows.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ClusterUnderTest;
use crate::conformance::{Client, Publish, Version, prop};

const HOUR_MILLIS: u64 = 3_600_000;

/// Two brokers, and a third on a node whose clock is an hour ahead. Nothing where that cannot be had.
fn one_hour_ahead() -> Option<ClusterUnderTest> {
    let library = faketime()?;
    let mut cluster = ClusterUnderTest::start(2)?;
    let environment = [
        ("LD_PRELOAD", library.to_str().expect("Debian's paths are text")),
        ("FAKETIME", "+3600s"),
        // As if somebody had set the clock: what passes still passes.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    cluster.add_in(&environment, 1);
    Some(cluster)
}

/// The library that shows a process another time. A person's machine gets a line and CI an error.
fn faketime() -> Option<PathBuf> {
    let triples = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let libraries = triples.map(|triple| triple.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.into_iter().find(|library| library.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "CI needs faketime");
    if found.is_none() {
        eprintln!("skipped: faketime is not installed");
    }
    found
}

/// A message that a client of this broker gives so many seconds.
#[track_caller]
fn publish(publisher: &mut Client, topic: &str, payload: &str, secs: u32) {
    let id = publisher.fresh_id();
    let message = Publish::new(Version::V5, topic, payload).qos(1, id);
    publisher.complete(&message.with(&prop::four(prop::MESSAGE_EXPIRY, secs))).unwrap();
}

#[test]
fn a_message_expires_alike_on_all_although_one_clock_is_an_hour_ahead() {
    let Some(cluster) = one_hour_ahead() else { return };
    let parked = [1, 2, 3].map(|broker| {
        let there = cluster.stage(broker, Version::V5);
        let connect = there.connect(&format!("parked {broker}")).kept();
        let mut subscriber = there.enter(&connect).unwrap();
        subscriber.subscribe("t/#", 1).unwrap();
        subscriber.leave().unwrap();
        (there, connect)
    });
    for broker in [1, 3] {
        let mut publisher = cluster.client(broker, "publisher");
        publish(&mut publisher, &format!("t/{broker}"), "short", 1);
        publish(&mut publisher, &format!("t/{broker}"), "long", 60);
    }
    // Nothing but time ends a message.
    parked[0].0.pass(Duration::from_millis(2_100)).unwrap();
    for (there, connect) in parked {
        let mut subscriber = there.enter(&connect).unwrap();
        for broker in [1, 3] {
            let got = subscriber.receive(&format!("t/{broker}"), "long", 1).unwrap();
            let left = got.properties.number(prop::MESSAGE_EXPIRY);
            assert!(left.is_some_and(|left| (30..=58).contains(&left)), "{left:?}");
        }
        subscriber.quiet().unwrap();
    }
}

#[test]
fn a_retained_message_ends_alike_on_all_although_one_clock_is_an_hour_ahead() {
    let Some(cluster) = one_hour_ahead() else { return };
    for broker in [1, 3] {
        let mut publisher = cluster.client(broker, "publisher");
        for (payload, secs) in [("short", 2), ("long", 60)] {
            let id = publisher.fresh_id();
            let topic = format!("r/{broker}/{payload}");
            let message = Publish::new(Version::V5, &topic, payload).qos(1, id).retained();
            publisher.complete(&message.with(&prop::four(prop::MESSAGE_EXPIRY, secs))).unwrap();
        }
    }
    cluster.stage(1, Version::V5).pass(Duration::from_millis(3_100)).unwrap();
    for broker in [1, 2, 3] {
        let mut reader = cluster.client(broker, "reader");
        for publisher in [1, 3] {
            reader.subscribe(&format!("r/{publisher}/+"), 1).unwrap();
            let topic = format!("r/{publisher}/long");
            let got = reader.receive(&topic, "long", 1).unwrap();
            let left = got.properties.number(prop::MESSAGE_EXPIRY);
            assert!(left.is_some_and(|left| (30..=57).contains(&left)), "{broker}: {left:?}");
        }
        reader.quiet().unwrap();
    }
}

/// The operator of that node hears of it, and nobody else has to do anything.
#[test]
fn a_clock_that_is_an_hour_ahead_raises_the_alarm_where_it_is() {
    let Some(cluster) = one_hour_ahead() else { return };
    let wrong = cluster.broker(3);
    wrong.wait_for_metric("cluster_clock_alarm", |alarm| alarm == 1);
    let off = wrong.metrics().value("cluster_clock_own_difference_milliseconds");
    assert!(off.abs_diff(HOUR_MILLIS) < 5_000, "{off} ms");
    wrong.wait_for_log("a clock is wrong by more than half a second");
    for broker in [1, 2, 3] {
        let metrics = cluster.broker(broker).metrics();
        let true_millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let shown = metrics.value("cluster_clock_milliseconds");
        let off = u128::from(shown).abs_diff(true_millis);
        assert!(off < 5_000, "broker-{broker} is {off} ms off");
        assert_eq!(metrics.value("cluster_clock_alarm"), u64::from(broker == 3));
    }
}
