//! Two brokers that have come to disagree about what the clients of one of them want.

use super::*;
use crate::cluster::frame::InterestEntry;
use crate::mqtt::TopicFilter;

/// Broker 1 believes something else of the interest of broker 0, by a fault of its own: it is as far as
/// broker 0 says, and its routes are what it believes.
fn believe(cluster: &Cluster, removed: &[&str], added: &[(&str, QoS)]) {
    let peer = cluster.known(1, 0);
    let filter = |text: &&str| TopicFilter::parse(text).unwrap();
    let removed = removed.iter().map(filter).collect();
    let entry =
        |(text, qos): &(&str, QoS)| InterestEntry { filter: filter(text), qos: *qos, weight: 1 };
    let added = added.iter().map(entry).collect();
    let (removed, added) = {
        let mut interest = peer.interest().lock();
        let version = interest.version();
        (interest.remove(version, removed).removed, interest.add(version, added).added)
    };
    cluster.broker(1).remove_routes(&peer, &removed);
    cluster.broker(1).add_routes(&peer, &added);
}

/// How often each of three brokers has found that it disagrees with another.
fn disagreements(cluster: &Cluster) -> [u64; 3] {
    [0, 1, 2].map(|node| cluster.broker(node).counters().totals().interest_disagreements)
}

/// A cluster in which broker 1 is wrong about broker 0, whose reader wants `t` with QoS 1 and whose
/// crowd wants ten filters more; and a client that publishes at broker 1.
fn wrong(removed: &[&str], added: &[(&str, QoS)]) -> (Cluster, LineId, LineId) {
    let mut cluster = Cluster::new(3);
    let reader = open(&mut cluster, 0, "reader", 0);
    let writer = open(&mut cluster, 1, "writer", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    for number in 0..10 {
        subscribed(&mut cluster, reader, &format!("crowd/{number}"), QoS::AtMostOnce);
    }
    cluster.ping(0);
    cluster.pump();
    assert_eq!(disagreements(&cluster), [0, 0, 0], "they agree");
    believe(&cluster, removed, added);
    (cluster, reader, writer)
}

/// Broker 0 says that it is there, and what its interest comes to: broker 1 sees that it is wrong, asks,
/// and is told all of it.
fn heal(cluster: &mut Cluster) {
    cluster.hold(1, 0);
    cluster.ping(0);
    cluster.pump();
    assert_eq!(disagreements(cluster), [0, 1, 0], "it has seen it, and its question is under way");
    let told = cluster.lane(0, 1).offered.control;
    cluster.release(1, 0);
    cluster.pump();
    assert!(cluster.lane(0, 1).offered.control > told, "it is told anew");
    let (_, checksum, _) = cluster.broker(0).peers().unwrap().interest().summary();
    assert_eq!(cluster.known(1, 0).interest().lock().checksum(), checksum);
    assert_eq!(cluster.known(1, 0).interest_len(), 11);
    cluster.ping(0);
    cluster.pump();
    assert_eq!(disagreements(cluster), [0, 1, 0], "they agree again");
}

/// What is published at broker 1 and comes to the reader at broker 0, with its QoS.
fn heard(
    cluster: &mut Cluster,
    (reader, writer): (LineId, LineId),
    topic: &str,
) -> Vec<(String, QoS)> {
    cluster.send(writer, &publish(topic, topic, QoS::AtLeastOnce, 1));
    cluster.pump();
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
    let heard = |packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some((publish.topic.to_string(), publish.qos))
    };
    cluster.received(reader).into_iter().filter_map(heard).collect()
}

#[test]
fn a_filter_that_a_broker_has_lost_is_told_it_again() {
    let (mut cluster, reader, writer) = wrong(&["t", "crowd/3"], &[]);
    assert_eq!(heard(&mut cluster, (reader, writer), "t"), [], "nobody sees it before the ping");
    heal(&mut cluster);
    for (topic, qos) in [("t", QoS::AtLeastOnce), ("crowd/3", QoS::AtMostOnce)] {
        assert_eq!(heard(&mut cluster, (reader, writer), topic), [(topic.to_owned(), qos)]);
    }
}

#[test]
fn a_filter_that_nobody_has_is_forgotten() {
    let (mut cluster, reader, writer) = wrong(&[], &[("u/#", QoS::AtMostOnce)]);
    let sent = |cluster: &Cluster| cluster.lane(1, 0).offered.data;
    let before = sent(&cluster);
    assert_eq!(heard(&mut cluster, (reader, writer), "u/1"), []);
    assert_eq!(sent(&cluster), before + 1, "it is sent for nobody");
    heal(&mut cluster);
    assert_eq!(heard(&mut cluster, (reader, writer), "u/1"), []);
    assert_eq!(sent(&cluster), before + 1);
}

#[test]
fn a_filter_that_is_known_with_another_qos_is_corrected() {
    let (mut cluster, reader, writer) = wrong(&[], &[("t", QoS::AtMostOnce)]);
    let lesser = ("t".to_owned(), QoS::AtMostOnce);
    assert_eq!(heard(&mut cluster, (reader, writer), "t"), [lesser]);
    heal(&mut cluster);
    let asked = ("t".to_owned(), QoS::AtLeastOnce);
    assert_eq!(heard(&mut cluster, (reader, writer), "t"), [asked]);
}

/// One lost for one too many, at the same version: the count of filters is the same, and the sum is not.
#[test]
fn as_many_filters_of_which_one_is_another_are_not_the_same() {
    let (mut cluster, reader, writer) = wrong(&["t"], &[("u", QoS::AtLeastOnce)]);
    assert_eq!(heard(&mut cluster, (reader, writer), "t"), []);
    heal(&mut cluster);
    assert_eq!(heard(&mut cluster, (reader, writer), "t").len(), 1);
}
