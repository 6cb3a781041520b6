//! Retained messages of which brokers hear by several ways, and which of them stay.

use bytes::Bytes;

use super::*;
use crate::broker::options::BrokerOptions;
use crate::cluster::frame::{RetainedMessage, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::lane::LaneOptions;
use crate::cluster::version::Version;
use crate::mqtt::TopicName;

/// A value, or a deletion, of that many milliseconds since 1970.
pub(super) fn value(topic: &str, payload: Option<&str>, millis: u64) -> RetainedValue {
    let message = payload.map(|payload| RetainedMessage {
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        properties: None,
        qos: QoS::AtMostOnce,
        expires_at_millis: None,
    });
    let version = Version { time: millis << 16, boot_id: BootId(99) };
    RetainedValue { topic: TopicName::try_from(topic).unwrap(), version, message }
}

/// What somebody who comes now to a broker is sent.
pub(super) fn seen(cluster: &mut Cluster, node: usize) -> Vec<String> {
    let late = open(cluster, node, &format!("late-at-{node}"), 0);
    cluster.send(late, &subscribe("#", at(QoS::AtMostOnce)));
    cluster.pump();
    let got = payloads(&cluster.received(late));
    cluster.send(late, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
    cluster.pump();
    got
}

/// One value with the end of time for its version stood above all that was published afterwards, and
/// the clock of versions came to its end.
#[test]
fn a_value_from_far_ahead_is_not_kept() {
    let mut cluster = Cluster::new(2);
    let mut last = value("t", Some("last"), 0);
    last.version.time = u64::MAX;
    cluster.merge_value(0, last);
    cluster.merge_value(0, value("u", Some("soon"), 1_000 + 60 * 60 * 1_000));
    assert_eq!(seen(&mut cluster, 0), ["soon"]);
    assert_eq!(cluster.broker(0).counters().totals().versions_disbelieved, 1);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.send(writer, &retained("t", "own", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(seen(&mut cluster, 0), ["own", "soon"]);
    assert_eq!(seen(&mut cluster, 1), ["own"]);
}

/// The version of a value that found no room stayed, and what was out of date stayed with it: the
/// value was never taken again, though there was room.
#[test]
fn a_value_without_room_leaves_neither_its_version_nor_the_one_before() {
    let mut options = BrokerOptions { retained_messages_max: 1, ..BrokerOptions::default() };
    options.retained_bytes_max = 4_096;
    let mut cluster = Cluster::with_options(2, &options);
    cluster.merge_value(0, value("a", Some("one"), 1));
    cluster.merge_value(0, value("b", Some("two"), 2));
    assert_eq!(seen(&mut cluster, 0), ["one"]);
    cluster.merge_value(0, value("a", None, 3));
    cluster.merge_value(0, value("b", Some("two"), 2));
    assert_eq!(seen(&mut cluster, 0), ["two"], "there is room now");
    cluster.merge_value(0, value("b", Some(&"x".repeat(5_000)), 4));
    assert!(seen(&mut cluster, 0).is_empty(), "what there was is out of date");
    assert_eq!(cluster.broker(0).counters().totals().retained_exceeded, 2);
}

/// All deletions of ten minutes were told a broker at once when it joined: what it was to be told was
/// cut.
#[test]
fn a_broker_that_joins_is_told_of_deletions_a_page_at_a_time() {
    let lanes = LaneOptions { control_bytes_max: 16 * 1_024, ..LaneOptions::default() };
    let mut cluster = Cluster::with_lanes(2, lanes);
    cluster.merge_value(0, value("t/1000", Some("kept"), 1));
    for number in 0..6_000 {
        cluster.merge_value(0, value(&format!("t/{number}/gone"), None, 2));
    }
    let joined = cluster.join();
    cluster.assign_slots();
    cluster.pump();
    assert_eq!(cluster.lane(0, joined).cuts, 0);
    assert_eq!(seen(&mut cluster, joined), ["kept"]);
    for number in [0, 2_999, 5_999] {
        cluster.merge_value(joined, value(&format!("t/{number}/gone"), Some("old"), 1));
    }
    assert_eq!(seen(&mut cluster, joined), ["kept"], "a deletion wins over what is older");
}

/// A value that was published before its deletion may come after it, also where there was none.
#[test]
fn a_deletion_wins_over_an_older_value_that_comes_late() {
    let mut cluster = Cluster::new(2);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.send(writer, &retained("t", "", QoS::AtLeastOnce, 1));
    cluster.pump();
    for node in 0..2 {
        cluster.merge_value(node, value("t", Some("old"), 1));
        assert!(seen(&mut cluster, node).is_empty(), "broker {node}");
    }
    // Nobody remembers it any more.
    cluster.elapse(10 * 60 * 1_000);
    cluster.merge_value(0, value("t", Some("new"), 700_000));
    assert_eq!(seen(&mut cluster, 0), ["new"]);
}

/// A client deleted what it made up, and with that everything that was known of deletions went.
#[test]
fn deletions_of_what_never_was_give_way_first() {
    let mut cluster = Cluster::new(1);
    cluster.merge_value(0, value("real", Some("one"), 1));
    cluster.merge_value(0, value("real", None, 3));
    for number in 0..300 {
        cluster.merge_value(0, value(&format!("{number:060000}"), None, 3));
    }
    assert!(cluster.broker(0).counters().totals().deletions_forgotten > 20);
    cluster.merge_value(0, value("real", Some("old"), 2));
    assert!(seen(&mut cluster, 0).is_empty());
}
