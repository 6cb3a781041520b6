//! What an acknowledgement waits for, between brokers.

use super::*;
use crate::broker::acknowledge::{Level, TopicLevel};
use crate::broker::options::BrokerOptions;
use crate::mqtt::TopicFilter;

#[test]
fn accepted_does_not_wait_for_other_brokers_and_enqueued_does() {
    let level = |filter, level| TopicLevel { filter: TopicFilter::parse(filter).unwrap(), level };
    let acknowledge_topics = vec![level("now", Level::Accepted), level("all", Level::Enqueued)];
    let options = BrokerOptions { acknowledge_topics, ..BrokerOptions::default() };
    let mut cluster = Cluster::with_options(2, &options);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "#", QoS::ExactlyOnce);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.hold(0, 1);
    cluster.send(writer, &publish("now", "one", QoS::AtLeastOnce, 1));
    cluster.send(writer, &publish("now", "two", QoS::ExactlyOnce, 2));
    cluster.send(writer, &publish("all", "three", QoS::AtLeastOnce, 3));
    cluster.send(writer, &publish("now", "four", QoS::AtLeastOnce, 4));
    cluster.pump();
    let answers = cluster.received(writer);
    assert!(matches!(&answers[..], [Packet::Puback(_), Packet::Pubrec(_)]), "{answers:?}");
    cluster.release(0, 1);
    cluster.pump();
    let answers = cluster.received(writer);
    assert!(matches!(&answers[..], [Packet::Puback(_), Packet::Puback(_)]), "in their order");
    assert_eq!(payloads(&cluster.received(reader)), ["one", "two", "three", "four"]);
}
