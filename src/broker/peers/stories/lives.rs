//! Brokers that were declared dead and come back.

use super::moves::session_present;
use super::*;

/// *Broker 0 gathers what others have routed to a Session that leaves, and hears that it is dead.* The
/// Session stayed where it was under its number, which the next life gave to a Session of another
/// client: that client got this one's Subscriptions and messages.
#[test]
fn a_broker_declared_dead_while_it_gathers_begins_anew_with_nothing() {
    let mut cluster = Cluster::new(3);
    let first = open(&mut cluster, 0, "first", 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(2, 0);
    let _second = cluster.connect(1, &connect("first", 600));
    cluster.pump();
    assert!(cluster.is_closed(first));
    assert_eq!(cluster.ownership(0).exports, 1, "broker 2 has not said how far it has come");

    let reborn = cluster.begin_life(0);
    cluster.pump();
    assert_eq!(cluster.broker(reborn).registry().len(), 0);
    assert_eq!(cluster.broker(reborn).subscription_count(), 0);

    let other = open(&mut cluster, reborn, "other", 600);
    subscribed(&mut cluster, other, "o", QoS::AtLeastOnce);
    let moved = cluster.connect(1, &connect("other", 600));
    cluster.pump();
    assert!(session_present(&cluster.received(moved)));
    let writer = open(&mut cluster, 2, "writer", 0);
    cluster.send(writer, &publish("t", "of the first", QoS::AtLeastOnce, 1));
    cluster.send(writer, &publish("o", "of the other", QoS::AtLeastOnce, 2));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(moved)), ["of the other"]);
    assert_eq!(cluster.broker(reborn).registry().len(), 0);
}

/// A Session that was on its way to a broker that is declared dead was subscribed there for ever.
#[test]
fn a_broker_declared_dead_while_a_session_comes_keeps_nothing_of_it() {
    let mut cluster = Cluster::new(3);
    let first = open(&mut cluster, 0, "first", 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(2, 0);
    let _second = cluster.connect(1, &connect("first", 600));
    cluster.pump();
    assert_eq!(cluster.ownership(1).imports, 1, "broker 2 has not said how far it has come");
    assert!(cluster.broker(1).subscription_count() > 0);

    let reborn = cluster.begin_life(1);
    cluster.release(2, 0);
    cluster.pump();
    assert_eq!(cluster.broker(reborn).registry().len(), 0);
    let (_, _, filters) = cluster.broker(reborn).peers().unwrap().interest().summary();
    assert_eq!(filters, 0, "nobody there wants anything");
    let back = cluster.connect(0, &connect("first", 600));
    cluster.pump();
    assert!(session_present(&cluster.received(back)));
}
