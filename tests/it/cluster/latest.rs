//! The latest value of a topic is there for who comes late, on whichever broker.

use std::time::Instant;

use super::late::{self, first_messages, texts};
use super::{ClusterUnderTest, Plan};
use crate::conformance::Client;

fn keeping(brokers: usize, ttl_secs: u32) -> Option<ClusterUnderTest> {
    keeping_as(&Plan { brokers, ..Plan::default() }, ttl_secs)
}

fn keeping_as(plan: &Plan, ttl_secs: u32) -> Option<ClusterUnderTest> {
    let ttl_secs = ttl_secs.to_string();
    let arguments = ["--last-value", "s/#", "--last-value-ttl-secs", &ttl_secs].map(str::to_owned);
    ClusterUnderTest::start_as(Plan { arguments: arguments.into(), ..*plan })
}

/// What a new subscription is sent, with RETAIN set.
fn seen(client: &mut Client, filter: &str) -> Vec<(String, String)> {
    let mut messages = first_messages(client, filter);
    messages.retain(|message| message.retain);
    texts(&messages)
}

/// Values come by watch: no answer promises when.
#[track_caller]
fn wait_for(client: &mut Client, filter: &str, expected: &[(&str, &str)]) {
    late::wait_for(|| seen(client, filter), expected);
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
    let broker = cluster.broker(1);
    broker.wait_for_metric("topic_values_written_total", |written| written == 1);
    let metrics = broker.metrics();
    assert_eq!(metrics.value("topic_values_early_total"), 0, "its turn came at once");
    assert_eq!(metrics.sum("peer_frames_total"), 0, "it came by watch: nothing went by link");
    // By link, and before PUBACK.
    let large = "x".repeat(100_000);
    publisher.publish("s/large", &large, 1).unwrap();
    for reader in &mut readers {
        assert_eq!(seen(reader, "s/large"), [("s/large".to_owned(), large.clone())]);
    }
    let metrics = cluster.broker(1).metrics();
    assert!(metrics.sum("peer_frames_total") >= 2, "one to each of the others");
    assert_eq!(metrics.value("topic_values_written_total"), 1, "none of it in the tree");
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
    // Values go by link where the turn of the tree is not soon: the first write may come behind them.
    let written =
        cluster.broker(1).wait_for_metric("topic_values_written_total", |written| written > 0);
    // 100 a second for the cluster, shared by two; and a tenth of a second's worth at once.
    let budget = began.elapsed().as_secs() * 50 + 55;
    assert!((1..=budget).contains(&written), "{written} writes, {budget} allowed");
}

const COUNT: u64 = 2_000;

/// Twice as many topics as the tree may be written to while their values hold.
#[test]
fn values_of_many_topics_are_there_before_their_time_is_over() {
    const TOPICS: usize = 1_000;
    let Some(cluster) = keeping(2, 10) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let topics: Vec<_> = (0..TOPICS).map(|number| format!("s/{number:04}")).collect();
    for topic in &topics {
        publisher.publish(topic, "here", 1).unwrap();
    }
    let expected: Vec<_> = topics.iter().map(|topic| (topic.as_str(), "here")).collect();
    wait_for(&mut cluster.client(2, "late"), "s/#", &expected);
    let early = cluster.broker(1).metrics().value("topic_values_early_total");
    assert!(early > 0, "some of them came by link");
}

/// The broker that took a value is gone: the others have it, and so has one that comes later.
#[test]
fn a_value_outlives_its_broker() {
    let Some(mut cluster) = keeping_as(&Plan::mortal(3), 60) else { return };
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
