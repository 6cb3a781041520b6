//! A connection to the ensemble is lost and made again: what changed meanwhile is found without
//! listing everything.

use super::proxy::{Cut, ENSEMBLE};
use super::{ClusterUnderTest, Plan};

/// Long enough for each broker to answer for the others: twice the time of a session.
const STOOD_SECS: u64 = 12;

#[test]
fn a_broker_that_was_cut_off_for_a_moment_asks_another_what_has_changed() {
    let plan = Plan { timeout_secs: 4, has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut publisher = cluster.client(1, "publisher");
    for number in 0..60 {
        publisher.retain(&format!("t/{number}"), "before").unwrap();
    }
    let value = |broker: usize, name: &str| cluster.broker(broker).metrics().value(name);
    cluster.wait_until(3, "it knows all topics and has stood long enough", |_| {
        value(3, "topics_known") == 60 && value(3, "uptime_seconds") > STOOD_SECS
    });
    assert_eq!(value(3, "topics_compared_total"), 0);
    cluster.cut(ENSEMBLE, 3, Cut::Closed);
    for number in 58..62 {
        publisher.retain(&format!("t/{number}"), "meanwhile").unwrap();
    }
    cluster.wait_until(1, "it has written them", |_| value(1, "topic_values_written_total") >= 64);
    cluster.heal(ENSEMBLE, 3);
    cluster.wait_until(3, "it has compared", |_| value(3, "topics_compared_total") > 0);
    cluster.wait_until(3, "it knows what is new", |_| value(3, "topics_known") == 62);
    let differing = value(3, "topics_parts_differing_total");
    assert!((1..=8).contains(&differing), "{differing} parts of 256");
}
