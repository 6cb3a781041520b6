//! The link between two brokers is gone and both see ZooKeeper: messages keep flowing through it, in
//! order and once, and go back when the link stands. With `propagation = "znodes"` all do, always.

use mqttzoo::mqtt::QoS;

use super::checker::Receiver;
use super::load::{PublisherPlan, SubscriberPlan};
use super::on_all::{Load, check_nobody_died, check_thousands};
use super::proxy::Cut;
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Connect, Version, prop};
use crate::harness::{Broker, Metrics};

fn start(brokers: usize) -> Option<ClusterUnderTest> {
    let plan = Plan { brokers, has_network: true, ..Plan::default() };
    ClusterUnderTest::start_as(plan)
}

/// Brokers of which none dials another.
fn start_without_links(brokers: usize, more: &[&str]) -> Option<ClusterUnderTest> {
    let arguments = ["--propagation", "znodes"].iter().chain(more);
    let arguments = arguments.map(|argument| (*argument).to_owned()).collect();
    ClusterUnderTest::start_as(Plan { brokers, arguments, ..Plan::default() })
}

/// By which lane a broker sends to another, as `/cluster` says.
fn lane(cluster: &ClusterUnderTest, from: usize, to: usize) -> Option<String> {
    let (_, text) = cluster.broker(from).ask_admin("GET", "/cluster").ok()?;
    let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
    let name = format!("broker-{to}");
    let members = answer["members"].as_array()?;
    let member = members.iter().find(|member| member["name"] == name.as_str())?;
    member["lane"].as_str().map(ToOwned::to_owned)
}

#[track_caller]
fn wait_for_lane(cluster: &ClusterUnderTest, one: usize, other: usize, wanted: &str) {
    for (from, to) in [(one, other), (other, one)] {
        cluster.wait_until(from, &format!("its lane to {to} is the {wanted}"), |cluster| {
            lane(cluster, from, to).as_deref() == Some(wanted)
        });
    }
}

#[track_caller]
fn check_cut(cut: Cut) {
    let Some(cluster) = start(3) else { return };
    let load = Load::start_with(&cluster, &[(4, 1, QoS::AtMostOnce), (5, 2, QoS::AtMostOnce)]);
    for _ in 0..2 {
        wait_for_lane(&cluster, 1, 2, "link");
        cluster.cut(1, 2, cut);
        // Each of them is acknowledged only when the broker behind the cut has it.
        load.wait_for_more(200);
        wait_for_lane(&cluster, 1, 2, "relay");
        wait_for_lane(&cluster, 1, 3, "link");
        load.wait_for_more(100);
        cluster.heal(1, 2);
        wait_for_lane(&cluster, 1, 2, "link");
        load.wait_for_more(50);
    }
    load.finish(&cluster);
    check_nobody_died(&cluster);
}

#[test]
fn messages_flow_around_a_link_that_is_cut_and_go_back() {
    check_cut(Cut::Closed);
}

#[test]
fn messages_flow_around_a_link_that_falls_silent_and_go_back() {
    check_cut(Cut::Silent);
}

/// What whoever operates the brokers sees of it: that it is used and for whom, how much goes that way, what
/// did not, and that it is over.
#[test]
fn what_is_relayed_is_measured() {
    let arguments = ["--relay-message-max", "64KiB"].map(str::to_owned).to_vec();
    let plan = Plan { brokers: 2, has_network: true, arguments, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let [sender, receiver] = [1, 2].map(|number| cluster.broker(number));
    let mut subscriber = cluster.client(2, "subscriber");
    let mut publisher = cluster.client(1, "publisher");
    subscriber.subscribe("t", 1).unwrap();
    wait_for_lane(&cluster, 1, 2, "link");
    // Until the first link stands, the relay may have been used.
    let (sent_before, read_before) = (sender.metrics(), receiver.metrics());
    assert_eq!(sent_before.value(RELAYED), 0);
    let more = |broker: &Broker, before: &Metrics, name: &str| {
        broker.metrics().value(name) - before.value(name)
    };
    let sent = |name: &str| more(sender, &sent_before, name);
    let taken = |name: &str| more(receiver, &read_before, name);

    cluster.cut(1, 2, Cut::Closed);
    wait_for_lane(&cluster, 1, 2, "relay");
    sender.wait_for_metric(RELAYED, |relayed| relayed == 1);
    for number in 0..COUNT {
        publisher.publish("t", &number.to_string(), 1).unwrap();
        subscriber.receive("t", &number.to_string(), 1).unwrap();
    }
    // Behind all of them, so that it is cut when they have been.
    publisher.publish("t", &"x".repeat(200_000), 0).unwrap();
    cluster.wait_until(1, "it has dropped it", |_| sent("relay_dropped_total") == 1);
    cluster.wait_until(1, "it has sent them", |_| sent("relay_sent_frames_total") >= COUNT);
    cluster.wait_until(2, "it has taken them", |_| taken("relay_received_frames_total") >= COUNT);
    assert!(sent("relay_begun_total") >= 1);
    assert!(sender.metrics().value("bank_used_relay_bytes") > 0, "windows are paid for");
    for count in [sent("relay_writes_total"), taken("relay_writes_total")] {
        assert!(count >= COUNT, "each of them waited for the answer to the one before: {count}");
    }
    for bytes in [sent("relay_sent_bytes_total"), taken("relay_received_bytes_total")] {
        assert!(bytes > COUNT * 10, "{bytes} bytes of {COUNT} frames");
    }

    cluster.heal(1, 2);
    wait_for_lane(&cluster, 1, 2, "link");
    sender.wait_for_metric(RELAYED, |relayed| relayed == 0);
    sender.wait_for_metric("relay_ended_total", |ended| ended >= 1);
    sender.wait_for_metric("relay_unread_bytes", |unread| unread == 0);
    let carried = sender.metrics().value("relay_sent_frames_total");
    for number in 0..COUNT {
        publisher.publish("t", &number.to_string(), 1).unwrap();
        subscriber.receive("t", &number.to_string(), 1).unwrap();
    }
    let after = sender.metrics();
    assert_eq!(after.value("relay_sent_frames_total"), carried, "the link carries them again");
    for name in ["relay_stuck_total", "relay_unreadable_total"] {
        assert_eq!(after.value(name), 0, "{name}");
    }
}

const RELAYED: &str = "peer_relayed{peer=\"broker-2\"}";
const COUNT: u64 = 50;

/// The promise of SUBACK holds across a link that is cut, and does not wait until it is healed.
#[test]
fn a_suback_is_confirmed_by_relay() {
    let Some(cluster) = start(2) else { return };
    let mut subscriber = cluster.client(1, "subscriber");
    let mut publisher = cluster.client(2, "publisher");
    cluster.cut(1, 2, Cut::Closed);
    wait_for_lane(&cluster, 1, 2, "relay");
    for round in 0..20 {
        let topic = format!("fresh/{round}");
        subscriber.subscribe(&topic, 1).unwrap();
        publisher.publish(&topic, "at once", 1).unwrap();
        subscriber.receive(&topic, "at once", 1).unwrap();
    }
    let large = "x".repeat(900_000);
    subscriber.subscribe("large", 1).unwrap();
    publisher.publish("large", &large, 1).unwrap();
    subscriber.receive("large", &large, 1).unwrap();
}

/// A broker joins while no link leads to one of the others.
#[test]
fn a_broker_joins_by_relay() {
    let Some(mut cluster) = start(1) else { return };
    let mut publisher = cluster.client(1, "publisher");
    publisher.retain("r", "kept").unwrap();
    cluster.cut(1, 2, Cut::Closed);
    cluster.add(1);
    assert_eq!(lane(&cluster, 2, 1).as_deref(), Some("relay"));
    let mut subscriber = cluster.client(2, "subscriber");
    subscriber.subscribe("#", 1).unwrap();
    subscriber.receive("r", "kept", 1).unwrap();
    publisher.publish("t", "across", 1).unwrap();
    subscriber.receive("t", "across", 1).unwrap();
}

#[track_caller]
fn check_thousands_without_links(qos: QoS) {
    let Some(cluster) = start_without_links(3, &[]) else { return };
    check_thousands(&cluster, qos);
    wait_for_lane(&cluster, 1, 2, "relay");
}

#[test]
fn without_links_none_of_2000_is_lost_at_qos_0() {
    check_thousands_without_links(QoS::AtMostOnce);
}

#[test]
fn without_links_none_of_2000_is_lost_or_doubled_at_qos_2() {
    check_thousands_without_links(QoS::ExactlyOnce);
}

/// Retained messages, groups and Sessions that move, with no link between any two brokers.
#[test]
fn without_links_everything_else_works_too() {
    let Some(cluster) = start_without_links(3, &["--relay-message-max", "64KiB"]) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let largest = publisher.connack.properties.number(prop::MAXIMUM_PACKET_SIZE);
    assert_eq!(largest, Some(64 * 1024));

    publisher.retain("r", "kept").unwrap();
    let mut reader = cluster.client(3, "reader");
    reader.subscribe("r", 1).unwrap();
    assert!(reader.receive("r", "kept", 1).unwrap().retain);

    let kept = Connect::new(Version::V5, "kept").kept();
    let mut old = cluster.stage(1, Version::V5).enter(&kept).unwrap();
    old.subscribe("t/#", 1).unwrap();
    publisher.publish("t/1", "first", 1).unwrap();
    assert_eq!(old.message().unwrap().text(), "first");
    let mut new = cluster.stage(2, Version::V5).enter(&kept).unwrap();
    assert!(new.connack.session_present);
    assert!(new.receive("t/1", "first", 1).unwrap().dup);
    publisher.publish("t/2", "second", 1).unwrap();
    new.receive("t/2", "second", 1).unwrap();

    let members = [1, 2, 3].map(|broker| {
        cluster.subscribe(SubscriberPlan {
            receiver: Receiver::Group("group"),
            client_id: format!("member{broker}"),
            brokers: vec![broker],
            filter: "$share/group/load/#".to_owned(),
            qos: QoS::AtLeastOnce,
        })
    });
    let load = cluster.publish(PublisherPlan::counted(1, 1, QoS::AtLeastOnce, 300));
    assert_eq!(load.finish(), 300);
    cluster.settle();
    assert_eq!(members.map(|member| member.received()).iter().sum::<u64>(), 300);
}
