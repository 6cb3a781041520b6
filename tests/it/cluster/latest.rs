//! The latest value of a topic is there for who comes late, on whichever broker.

use std::time::{Duration, Instant};

use super::{ClusterUnderTest, Plan};
use crate::conformance::Client;

fn keeping(brokers: usize, ttl_secs: u32) -> Option<ClusterUnderTest> {
    let ttl_secs = ttl_secs.to_string();
    let arguments = ["--last-value", "s/#", "--last-value-ttl-secs", &ttl_secs].map(str::to_owned);
    ClusterUnderTest::start_as(Plan { brokers, arguments: arguments.into(), ..Plan::default() })
}

/// What a new subscription is sent, with RETAIN set.
fn seen(client: &mut Client, filter: &str) -> Vec<(String, String)> {
    client.subscribe(filter, 1).unwrap();
    let marker = format!("marker/{}", client.fresh_id());
    client.subscribe(&marker, 0).unwrap();
    client.publish(&marker, "end", 0).unwrap();
    let mut found = Vec::new();
    loop {
        let message = client.message().unwrap();
        if message.topic == marker.as_bytes() {
            break;
        }
        client.settle(&message).unwrap();
        if message.retain {
            found.push((String::from_utf8(message.topic.clone()).unwrap(), message.text()));
        }
    }
    client.unsubscribe(&[filter, &marker]).unwrap();
    found.sort();
    found
}

/// Values come by watch: no answer promises when.
#[track_caller]
fn wait_for(client: &mut Client, filter: &str, expected: &[(&str, &str)]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = seen(client, filter);
        let shown: Vec<_> = found.iter().map(|(topic, text)| (&**topic, &**text)).collect();
        if shown == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {expected:?}");
    }
}

/// Nobody subscribes when it is published, and no link carries it: the tree of znodes does.
#[test]
fn a_value_reaches_who_comes_late_to_another_broker_while_it_holds_and_not_after() {
    let Some(cluster) = keeping(3, 8) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let mut readers = [1, 2, 3].map(|broker| cluster.client(broker, "reader"));
    publisher.publish("s/small", "21.5", 0).unwrap();
    publisher.publish("elsewhere", "x", 1).unwrap();
    for reader in &mut readers {
        wait_for(reader, "#", &[("s/small", "21.5")]);
    }
    // By link, and before PUBACK.
    let large = "x".repeat(100_000);
    publisher.publish("s/large", &large, 1).unwrap();
    for reader in &mut readers {
        assert_eq!(seen(reader, "s/large"), [("s/large".to_owned(), large.clone())]);
    }
    for reader in &mut readers {
        wait_for(reader, "#", &[]);
    }
}

/// However fast a topic is published to, the tree is written to at its own pace; who subscribes has
/// each message once.
#[test]
fn writes_to_the_tree_do_not_grow_with_the_publish_rate() {
    let Some(cluster) = keeping(2, 60) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let mut here = cluster.client(1, "here");
    let mut there = cluster.client(2, "there");
    for subscriber in [&mut here, &mut there] {
        subscriber.subscribe("s/fast", 1).unwrap();
    }
    let began = Instant::now();
    for number in 0..COUNT {
        publisher.publish("s/fast", &number.to_string(), 1).unwrap();
    }
    let last = (COUNT - 1).to_string();
    for subscriber in [&mut here, &mut there] {
        for number in 0..COUNT {
            subscriber.receive("s/fast", &number.to_string(), 1).unwrap();
        }
        subscriber.quiet().unwrap();
    }
    wait_for(&mut cluster.client(2, "late"), "s/#", &[("s/fast", &last)]);
    let written = cluster.broker(1).metrics().value("topic_values_written_total");
    // 100 a second for the cluster, shared by two; and a tenth of a second's worth at once.
    let budget = began.elapsed().as_secs() * 50 + 55;
    assert!((1..=budget).contains(&written), "{written} writes, {budget} allowed");
}

const COUNT: u64 = 2_000;

/// The broker that took a value is gone: the others have it, and so has one that comes later.
#[test]
fn a_value_outlives_its_broker() {
    let Some(mut cluster) = keeping(3, 60) else { return };
    let mut publisher = cluster.client(1, "publisher");
    publisher.publish("s/a", "kept", 1).unwrap();
    wait_for(&mut cluster.client(2, "reader"), "s/#", &[("s/a", "kept")]);
    drop(publisher);
    cluster.kill(1);
    cluster.wait_until_declared_dead(1, 2);
    wait_for(&mut cluster.client(3, "reader"), "s/#", &[("s/a", "kept")]);
    cluster.add(1);
    wait_for(&mut cluster.client(4, "reader"), "s/#", &[("s/a", "kept")]);
}
