//! Latest values of topics, where somebody comes late to another broker.

use super::*;

/// What somebody who comes now to a broker is sent.
fn seen(cluster: &mut Cluster, node: usize) -> Vec<String> {
    let late = open(cluster, node, &format!("late-at-{node}"), 0);
    cluster.send(late, &subscribe("s/#", at(QoS::ExactlyOnce)));
    cluster.pump();
    let answers = cluster.received(late);
    let retained = |packet: &Packet| matches!(packet, Packet::Publish(one) if one.retain);
    assert_eq!(count(&answers, retained), payloads(&answers).len(), "{answers:?}");
    cluster.send(late, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
    cluster.pump();
    payloads(&answers)
}

/// Four kibibytes are what a znode takes.
fn large() -> String {
    "x".repeat(5_000)
}

#[test]
fn a_large_value_is_kept_by_every_broker_and_delivered_once() {
    let mut cluster = Cluster::keeping_latest(3, "s/#");
    let writer = open(&mut cluster, 0, "writer", 0);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "s/#", QoS::AtMostOnce);
    cluster.send(writer, &publish("s/a", &large(), QoS::AtLeastOnce, 1));
    cluster.pump();
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
    assert_eq!(payloads(&cluster.received(reader)), [large()]);
    for node in 0..3 {
        assert_eq!(seen(&mut cluster, node), [large()], "broker {node}");
    }
    cluster.elapse(60_000);
    for node in 0..3 {
        assert!(seen(&mut cluster, node).is_empty(), "broker {node}");
    }
    assert!(cluster.received(reader).is_empty());
}

/// What a broker is sent for its subscribers it keeps as well; the others have it from the tree of
/// znodes, which is not here.
#[test]
fn a_small_value_goes_to_who_wants_it_and_is_kept_there() {
    let mut cluster = Cluster::keeping_latest(3, "s/#");
    let writer = open(&mut cluster, 0, "writer", 0);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "s/#", QoS::AtLeastOnce);
    for payload in ["one", "two"] {
        cluster.send(writer, &publish("s/a", payload, QoS::AtLeastOnce, 1));
    }
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["one", "two"]);
    assert_eq!(seen(&mut cluster, 0), ["two"]);
    assert_eq!(seen(&mut cluster, 1), ["two"]);
    assert!(seen(&mut cluster, 2).is_empty());
    cluster.share_latest(0, "s/a");
    cluster.pump();
    assert_eq!(seen(&mut cluster, 2), ["two"], "what found no place in the tree goes by link");
    assert!(cluster.received(reader).is_empty(), "it is not delivered a second time");
}

#[test]
fn a_broker_that_joins_is_told_the_latest_values() {
    let mut cluster = Cluster::keeping_latest(2, "s/#");
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.send(writer, &retained("s/a", "lasting", QoS::AtLeastOnce, 1));
    for (topic, payload) in [("s/a", "covering"), ("s/b", "alone")] {
        cluster.send(writer, &publish(topic, payload, QoS::AtLeastOnce, 1));
    }
    cluster.pump();
    let newcomer = cluster.join();
    cluster.pump();
    cluster.assign_slots();
    cluster.pump();
    assert_eq!(seen(&mut cluster, newcomer), ["covering", "alone"]);
    cluster.elapse(60_000);
    assert_eq!(seen(&mut cluster, newcomer), ["lasting"]);
}

/// A retained message is the later one wherever it was published, and so is its deletion.
#[test]
fn the_later_of_value_and_retained_message_counts_everywhere() {
    let mut cluster = Cluster::keeping_latest(2, "s/#");
    let writers = [0, 1].map(|node| open(&mut cluster, node, &format!("writer-{node}"), 0));
    cluster.send(writers[0], &publish("s/a", &large(), QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.send(writers[1], &retained("s/a", "newer", QoS::AtLeastOnce, 1));
    cluster.pump();
    for node in 0..2 {
        assert_eq!(seen(&mut cluster, node), ["newer"], "broker {node}");
    }
    cluster.send(writers[0], &publish("s/a", "covering", QoS::AtLeastOnce, 2));
    cluster.pump();
    for node in 0..2 {
        assert_eq!(seen(&mut cluster, node), ["covering"], "broker {node}");
    }
    cluster.send(writers[1], &retained("s/a", "", QoS::AtLeastOnce, 2));
    cluster.pump();
    for node in 0..2 {
        assert!(seen(&mut cluster, node).is_empty(), "broker {node}");
    }
}
