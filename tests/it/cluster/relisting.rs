//! A connection to the ensemble is lost and made again: what changed meanwhile is found without
//! listing everything.

use super::late::{self, first_messages, texts};
use super::proxy::{Cut, ENSEMBLE};
use super::{ClusterUnderTest, Plan};
use crate::conformance::Client;

/// Long enough for each broker to answer for the others: twice the time of a session.
const STOOD_SECS: u64 = 12;

/// Publishes a latest value that goes to the tree of znodes at once, and to nobody by link.
#[track_caller]
fn publish(cluster: &ClusterUnderTest, publisher: &mut Client, number: usize, value: &str) {
    let written = |cluster: &ClusterUnderTest| {
        cluster.broker(1).metrics().value("topic_values_written_total")
    };
    let before = written(cluster);
    publisher.publish(&format!("s/{number:02}"), value, 1).unwrap();
    cluster.wait_until(1, "it has written it", |cluster| written(cluster) > before);
}

fn values(reader: &mut Client, filter: &str) -> Vec<(String, String)> {
    texts(&first_messages(reader, filter))
}

/// Latest values that are small are in the znodes and nowhere else: who was cut off does not hear of them
/// until it has found them there, those that are new and those that were written over.
#[test]
fn a_broker_that_was_cut_off_for_a_moment_asks_another_what_has_changed() {
    let arguments = ["--last-value", "s/#", "--last-value-ttl-secs", "600"].map(str::to_owned);
    let arguments = arguments.into();
    let plan = Plan { timeout_secs: 5, has_network: true, arguments, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let mut reader = cluster.client(3, "reader");
    for number in 0..60 {
        publish(&cluster, &mut publisher, number, "before");
    }
    let value = |broker: usize, name: &str| cluster.broker(broker).metrics().value(name);
    cluster.wait_until(3, "it knows all topics and has stood long enough", |_| {
        value(3, "topics_known") >= 60 && value(3, "uptime_seconds") > STOOD_SECS
    });
    assert_eq!(value(3, "topics_compared_total"), 0);
    let early = value(1, "topic_values_early_total");

    cluster.cut(ENSEMBLE, 3, Cut::Closed);
    for number in 58..62 {
        publish(&cluster, &mut publisher, number, "meanwhile");
    }
    assert_eq!(value(1, "topic_values_early_total"), early, "none of it goes by link");
    let missed = [58, 59, 60, 61].map(|number| values(&mut reader, &format!("s/{number}")));
    let before = |number: u32| vec![(format!("s/{number}"), "before".to_owned())];
    assert_eq!(missed, [before(58), before(59), vec![], vec![]], "nor by any other way");
    cluster.heal(ENSEMBLE, 3);

    cluster.wait_until(3, "it has compared", |_| value(3, "topics_compared_total") > 0);
    let expected: Vec<_> = (0..62)
        .map(|number| (format!("s/{number:02}"), if number < 58 { "before" } else { "meanwhile" }))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(topic, value)| (topic.as_str(), *value)).collect();
    late::wait_for(|| values(&mut reader, "s/#"), &expected);
    let differing = value(3, "topics_parts_differing_total");
    assert!((1..=12).contains(&differing), "{differing} parts of 256");
}
