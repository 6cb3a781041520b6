//! What a broker says of its cluster to whoever operates it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ClusterUnderTest, Plan, cluster_arguments};
use crate::harness::{Broker, Ensemble, Ttl};

fn report(cluster: &ClusterUnderTest, broker: usize) -> Value {
    serde_json::from_str(&cluster.broker(broker).admin("GET", "/cluster")).unwrap()
}

/// Members and their lives, links, slots, the leader, the clock, the bank.
#[test]
fn the_cluster_is_shown_with_all_that_an_operator_asks_for() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    cluster.wait_until(1, "its link is measured", |cluster| {
        let report = report(cluster, 1);
        report["members"][0]["link"]["round_trip_micros"].is_u64()
            && report["members"][0]["slots"].as_u64() > Some(0)
            && report["members"][0]["link"]["accepted_from"].is_string()
            && report["bank"]["free"].is_object()
    });
    let reports = [1, 2].map(|broker| report(&cluster, broker));
    let [first, second] = &reports;
    let other = &first["members"][0];
    assert_eq!(other["name"], "broker-2");
    assert_eq!(other["boot_id"], second["boot_id"]);
    assert_eq!(other["state"], "up");
    let link = &other["link"];
    assert!(link["up_millis"].is_u64() && link["accepted_from"].is_string(), "{link}");
    assert!(link["connects"].as_u64() > Some(0), "{link}");
    assert_eq!(first["leader"], second["leader"]);
    let leader = reports.iter().find(|report| report["leading"] == true).unwrap();
    assert_eq!(first["leader"]["name"], leader["name"]);
    assert_eq!(first["leader"]["boot_id"], leader["boot_id"]);
    let slots = |report: &Value| report["slots"].as_u64().unwrap();
    assert_eq!(slots(first) + slots(second), 1_024);
    assert_eq!(first["session_timeout_millis"], 12_000);
    assert_eq!(first["declared_dead"], Value::Array(Vec::new()));
    assert!(first["bank"]["free"]["topics"].is_u64(), "{}", first["bank"]);
    assert!(first["clock"]["own_ahead_millis"].is_i64(), "{}", first["clock"]);
    assert_eq!(first["clock"]["wrong"], Value::Null);
}

/// Links, how far behind they are, interest, ZooKeeper, the bank and the clock.
#[test]
fn the_cluster_is_measured() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let broker = cluster.broker(1);
    broker.wait_for_metric("peer_round_trip_microseconds{peer=\"broker-2\"}", |micros| micros > 0);
    // Ours stands by then; that of the other one comes when it does.
    broker.wait_for_metric("links_accepted", |links| links == 1);
    let metrics = broker.metrics();
    assert_eq!(metrics.value("peer_link_up{peer=\"broker-2\"}"), 1);
    assert!(metrics.value("zookeeper_answers_within_total{le=\"+Inf\"}") > 0);
    for name in [
        "peer_link_connects_total",
        "peer_unreceived_bytes",
        "peer_unanswered_messages",
        "peer_interest_filters",
        "link_received_bytes_total",
        "interest_filters",
        "zookeeper_session_timeout_milliseconds",
        "bank_lease_bytes",
        "bank_lease_relay_bytes",
        "bank_used_bytes",
        "cluster_clock_error_milliseconds",
        "cluster_clock_own_difference_milliseconds",
        "cluster_clock_alarm",
    ] {
        let _there = metrics.sum(name);
    }
}

/// Whoever subscribes to `$SYS` sees the bank: what is used grows by what is used, within what is leased.
#[test]
fn the_bank_is_published_to_who_subscribes() {
    let arguments = ["--sys-interval-secs", "1"].map(str::to_owned).to_vec();
    let plan = Plan { brokers: 2, arguments, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut reader = cluster.client(2, "reader");
    reader.subscribe("$SYS/broker/bank/#", 0).unwrap();
    let mut publisher = cluster.client(2, "publisher");
    for number in 0..5 {
        publisher.publish(&format!("t/{number}"), "x", 1).unwrap();
    }
    let mut shown: BTreeMap<String, u64> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    // What has changed comes once a second, a topic at a time: until all of it says the same.
    while shown.get("used/topics") != Some(&5)
        || shown.get("used/znode_bytes") <= Some(&100)
        || shown.get("topped_up") < Some(&1)
    {
        assert!(Instant::now() < deadline, "{shown:?}");
        let message = reader.message().unwrap();
        let topic = String::from_utf8(message.topic.clone()).unwrap();
        let name = topic.strip_prefix("$SYS/broker/bank/").expect("nothing else was asked for");
        shown.insert(name.to_owned(), message.text().parse().unwrap());
    }
    for currency in ["topics", "znode_bytes"] {
        let [free, lease, used] =
            ["free", "lease", "used"].map(|name| shown[&format!("{name}/{currency}")]);
        assert!(free > 0 && lease >= used && used > 0, "{currency}: {shown:?}");
    }
    for name in ["evicted", "over_budget/topics", "over_budget/znode_bytes"] {
        assert_eq!(shown[name], 0, "{name}: {shown:?}");
    }
    // The same as on the administration port.
    cluster.broker(2).wait_for_metric("bank_used_topics", |used| used == 5);
}

/// It showed nothing as free, which read as a bank that is exhausted, until it spent something
/// itself.
#[test]
fn a_broker_that_has_just_joined_shows_what_the_bank_has() {
    let Some(mut cluster) = ClusterUnderTest::start(1) else { return };
    cluster.add(1);
    cluster.wait_until(2, "it has read the bank", |cluster| {
        report(cluster, 2)["bank"]["free"]["topics"].as_u64() > Some(0)
    });
    let metrics = cluster.broker(2).metrics();
    for name in ["bank_free_topics", "bank_free_bytes", "bank_free_relay_bytes"] {
        assert!(metrics.value(name) > 0, "{name}");
    }
}

/// The ensemble grants no more than a minute. The lease ran for as long as had been asked for, beyond
/// the end of the session.
#[test]
fn the_lease_follows_the_session_timeout_that_zookeeper_grants() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let mut arguments = cluster_arguments(&ensemble.with_fresh_chroot(), "patient");
    let further = ["--link-port", "0", "--zookeeper-timeout-secs", "90"];
    arguments.extend(further.map(str::to_owned));
    let broker = Broker::start_with(|_directory| arguments);
    let log = broker.wait_for_log("accepts connections");
    let line = log.lines().find(|line| line.contains("grants another session timeout"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("90000") && line.contains("60000"), "{line}");
    let metrics = broker.metrics();
    assert_eq!(metrics.value("zookeeper_session_timeout_milliseconds"), 60_000);
    let lease = metrics.value("cluster_lease_milliseconds");
    assert!((1..=40_000).contains(&lease), "{lease} ms");
}
