//! A publisher of QoS 2 loses its connection again and again, finds its Session wherever it goes, and
//! sends once more what it has no answer to: every subscriber gets each message once.

use std::time::Duration;

use mqttzoo::mqtt::QoS;

use super::ClusterUnderTest;
use super::load::PublisherPlan;
use super::on_all::subscribe_on_all;
use crate::conformance::{Connect, Version};

/// Somebody with its Client Identifier throws it out in the midst of its publishes, at one broker after
/// the other, and goes. Its Session is the one of before, at another broker.
#[test]
fn what_is_sent_again_at_another_broker_in_its_session_comes_once() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let subscribers = subscribe_on_all(&cluster, QoS::ExactlyOnce);
    // As fast as it may, so that many are on their way at any moment.
    let (qos, pace) = (QoS::ExactlyOnce, Duration::ZERO);
    let plan = PublisherPlan { qos, pace, ..PublisherPlan::endless(1, &[1, 2, 3]) };
    let publisher = cluster.publish(plan);
    for round in 0..12 {
        publisher.wait_for_more(50);
        let stage = cluster.stage(1 + round % 3, Version::V5);
        // The publisher may be back before it is let in.
        let _thrown_out_itself = stage.enter(&Connect::new(Version::V5, "publisher1").kept());
    }
    publisher.wait_for_more(50);
    let (repeated, lost) = (publisher.repeated(), publisher.sessions_lost());
    let acknowledged = publisher.finish();
    cluster.settle();
    assert!(repeated > 0, "it always had all answers");
    assert_eq!(lost, 0, "nobody has died");
    for subscriber in subscribers {
        assert_eq!(subscriber.received(), acknowledged, "copies are counted");
    }
}
