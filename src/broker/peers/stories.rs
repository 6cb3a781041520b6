//! Brokers that are one: what a client may count on wherever it, or whoever it talks to, connects.

use crate::broker::peers::testing::{
    Cluster, LineId, at, connect, payloads, publish, retained, subscribe,
};
use crate::mqtt::{
    Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Puback, Pubrel, QoS,
    ReasonCode, SubscriptionOptions,
};

mod again;
mod barrier;
mod bereaved_groups;
mod coming_back;
mod crowds;
mod disagreeing;
mod doubtful;
mod foreign;
mod full;
mod gone;
mod groups;
mod latest;
mod left_behind;
mod legacies;
mod lending;
mod letting_go;
mod levels;
mod lives;
mod moves;
mod parting;
mod recent;
mod recovery;
mod retained;
mod slots;
mod stored;
mod taking;
mod traffic;
mod wills;

fn open(cluster: &mut Cluster, node: usize, id: &str, expiry_secs: u32) -> LineId {
    let line = cluster.connect(node, &connect(id, expiry_secs));
    cluster.pump();
    let answers = cluster.received(line);
    let is_accepted = |packet: &Packet| matches!(packet, Packet::Connack(connack) if connack.reason_code == ReasonCode::Success);
    assert!(answers.first().is_some_and(is_accepted), "{answers:?}");
    line
}

/// The same of a client of 3.1.1 whose Session lasts.
fn open_old(cluster: &mut Cluster, node: usize, id: &str) -> LineId {
    let properties = ConnectProperties::default();
    let protocol_version = ProtocolVersion::V311;
    let line = cluster.connect(node, &Connect { protocol_version, properties, ..connect(id, 600) });
    cluster.pump();
    assert!(matches!(cluster.received(line).first(), Some(Packet::Connack(_))));
    line
}

fn subscribed(cluster: &mut Cluster, line: LineId, filter: &str, qos: QoS) {
    cluster.send(line, &subscribe(filter, at(qos)));
    cluster.pump();
    let answers = cluster.received(line);
    assert!(matches!(&answers[..], [Packet::Suback(_)]), "{answers:?}");
}

fn count(packets: &[Packet], is_one: impl Fn(&Packet) -> bool) -> usize {
    packets.iter().filter(|packet| is_one(packet)).count()
}

#[test]
fn a_message_published_at_one_broker_reaches_a_subscriber_at_another() {
    let mut cluster = Cluster::new(3);
    let reader = open(&mut cluster, 0, "reader", 0);
    let writer = open(&mut cluster, 1, "writer", 0);
    subscribed(&mut cluster, reader, "t/#", QoS::ExactlyOnce);
    cluster.send(writer, &publish("t/0", "zero", QoS::AtMostOnce, 0));
    cluster.send(writer, &publish("t/1", "one", QoS::AtLeastOnce, 1));
    cluster.send(writer, &publish("t/2", "two", QoS::ExactlyOnce, 2));
    cluster.pump();
    let answers = cluster.received(writer);
    assert!(matches!(&answers[..], [Packet::Puback(_), Packet::Pubrec(_)]), "{answers:?}");
    let got = cluster.received(reader);
    assert_eq!(payloads(&got), ["zero", "one", "two"]);
    let Packet::Publish(last) = &got[2] else { panic!("{got:?}") };
    assert_eq!(last.qos, QoS::ExactlyOnce);
}

/// A publish at another broker right after SUBACK has to arrive.
#[test]
fn suback_waits_until_every_broker_has_applied_the_filter() {
    let mut cluster = Cluster::new(3);
    let reader = open(&mut cluster, 0, "reader", 0);
    cluster.hold(0, 2);
    cluster.send(reader, &subscribe("t", at(QoS::AtLeastOnce)));
    cluster.pump();
    assert!(cluster.received(reader).is_empty(), "broker 2 knows nothing yet");
    cluster.release(0, 2);
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
}

#[test]
fn a_broker_that_is_dead_is_not_waited_for() {
    let mut cluster = Cluster::new(3);
    let reader = open(&mut cluster, 0, "reader", 0);
    let other = open(&mut cluster, 2, "other", 0);
    subscribed(&mut cluster, other, "t", QoS::AtLeastOnce);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.hold(0, 2);
    cluster.send(reader, &subscribe("t", at(QoS::AtLeastOnce)));
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["one"]);
    assert!(cluster.received(writer).is_empty());
    cluster.kill(2);
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes_and_wait_for_every_broker() {
    let mut cluster = Cluster::new(3);
    let writer = open(&mut cluster, 0, "writer", 0);
    let near = open(&mut cluster, 1, "near", 0);
    let far = open(&mut cluster, 2, "far", 0);
    subscribed(&mut cluster, near, "t/+", QoS::ExactlyOnce);
    subscribed(&mut cluster, far, "t/slow", QoS::ExactlyOnce);
    cluster.hold(0, 2);
    cluster.send(writer, &publish("t/slow", "one", QoS::AtLeastOnce, 1));
    cluster.send(writer, &publish("t/fast", "two", QoS::ExactlyOnce, 2));
    cluster.send(writer, &publish("nobody", "three", QoS::AtLeastOnce, 3));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(near)), ["one", "two"]);
    assert!(cluster.received(writer).is_empty(), "broker 2 has not got the first one");
    cluster.release(0, 2);
    cluster.pump();
    let answers = cluster.received(writer);
    let [Packet::Puback(one), Packet::Pubrec(two), Packet::Puback(three)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!([one.packet_id.get(), two.packet_id.get(), three.packet_id.get()], [1, 2, 3]);
    assert_eq!(three.reason_code, ReasonCode::NoMatchingSubscribers);
}

#[test]
fn a_cut_link_delays_and_neither_loses_nor_doubles() {
    let mut cluster = Cluster::new(2);
    let reader = open(&mut cluster, 0, "reader", 0);
    let writer = open(&mut cluster, 1, "writer", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    for number in 1..=20 {
        if number % 4 == 0 {
            cluster.cut(0, 1);
        }
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        for _ in 0..number % 3 {
            cluster.step();
        }
        if number % 4 == 2 {
            cluster.cut(0, 1);
            cluster.heal(0, 1);
        }
    }
    cluster.heal(0, 1);
    cluster.pump();
    let expected: Vec<_> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&cluster.received(reader)), expected);
    let answers = cluster.received(writer);
    assert_eq!(count(&answers, |packet| matches!(packet, Packet::Puback(_))), 20);
}

#[test]
fn one_member_of_a_shared_subscription_gets_each_message_wherever_members_are() {
    let mut cluster = Cluster::new(3);
    let writer = open(&mut cluster, 0, "writer", 0);
    let members: Vec<_> = (0..3)
        .map(|node| {
            let member = open(&mut cluster, node, &format!("member-{node}"), 0);
            subscribed(&mut cluster, member, "$share/g/t", QoS::AtLeastOnce);
            member
        })
        .collect();
    for number in 1..=60 {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    let mut all = Vec::new();
    for member in &members {
        let got = payloads(&cluster.received(*member));
        assert_eq!(got.len(), 20, "they take turns");
        all.extend(got);
    }
    all.sort_by_key(|payload| payload.parse::<u16>().unwrap());
    let expected: Vec<_> = (1..=60).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

/// A heir that was granted QoS 0 only answers for nothing: the publisher waited for it for ever.
#[test]
fn what_a_member_at_a_dead_broker_was_to_get_goes_to_others() {
    for heir_qos in [QoS::AtLeastOnce, QoS::AtMostOnce] {
        check_heir(heir_qos);
    }
}

fn check_heir(heir_qos: QoS) {
    let mut cluster = Cluster::new(3);
    let writer = open(&mut cluster, 0, "writer", 0);
    let doomed = open(&mut cluster, 2, "doomed", 0);
    subscribed(&mut cluster, doomed, "$share/g/t", QoS::AtLeastOnce);
    cluster.hold(0, 2);
    for number in 1..=5 {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
    }
    cluster.pump();
    let heir = open(&mut cluster, 1, "heir", 0);
    cluster.send(heir, &subscribe("$share/g/t", at(heir_qos)));
    cluster.pump();
    cluster.kill(2);
    cluster.pump();
    assert_eq!(payloads(&cluster.received(heir)), ["1", "2", "3", "4", "5"]);
    let answers = cluster.received(writer);
    assert_eq!(count(&answers, |packet| matches!(packet, Packet::Puback(_))), 5);
}

#[test]
fn a_retained_message_is_everywhere_also_where_a_broker_has_just_joined() {
    let mut cluster = Cluster::new(2);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.send(writer, &retained("t/a", "old", QoS::AtLeastOnce, 1));
    cluster.send(writer, &retained("t/a", "new", QoS::AtLeastOnce, 2));
    cluster.send(writer, &retained("t/b", "gone", QoS::AtLeastOnce, 3));
    cluster.send(writer, &retained("t/b", "", QoS::AtLeastOnce, 4));
    cluster.pump();
    let joined = cluster.join();
    cluster.assign_slots();
    cluster.pump();
    for node in [1, joined] {
        let reader = open(&mut cluster, node, &format!("reader-{node}"), 0);
        cluster.send(reader, &subscribe("t/#", at(QoS::AtLeastOnce)));
        cluster.pump();
        assert_eq!(payloads(&cluster.received(reader)), ["new"], "at broker {node}");
    }
}

/// No Local compared keys of Sessions, which mean nothing at another broker.
#[test]
fn a_client_does_not_get_its_own_messages_back_by_another_broker() {
    let mut cluster = Cluster::new(2);
    let id = cluster.client_id_at(1);
    let first = open(&mut cluster, 0, &id, 600);
    let no_local = SubscriptionOptions { no_local: true, ..at(QoS::AtLeastOnce) };
    cluster.send(first, &subscribe("t", no_local));
    cluster.pump();
    let other = open(&mut cluster, 1, "other", 0);
    // Broker 1 gets it when the Session is there.
    cluster.send(other, &subscribe("t", at(QoS::AtLeastOnce)));
    cluster.pump();
    cluster.hold(0, 1);
    cluster.send(first, &publish("t", "own", QoS::AtLeastOnce, 1));
    cluster.send(other, &publish("t", "other", QoS::AtLeastOnce, 1));
    cluster.release(0, 1);
    let second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    cluster.send(second, &publish("t", "own again", QoS::AtLeastOnce, 2));
    cluster.pump();
    let mut got = payloads(&cluster.received(first));
    got.extend(payloads(&cluster.received(second)));
    got.dedup();
    assert_eq!(got, ["other"]);
}

#[test]
fn a_client_that_ends_its_session_gives_its_identifier_back() {
    let mut cluster = Cluster::new(2);
    for node in [0, 1] {
        let id = cluster.client_id_at(node);
        let line = open(&mut cluster, 0, &id, 0);
        assert_eq!(cluster.ownership(node).coordinated, 1);
        cluster.send(line, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
        cluster.pump();
        assert_eq!(cluster.ownership(0).held, 0);
        assert_eq!(cluster.ownership(node).coordinated, 0);
        let line = open(&mut cluster, 1, &id, 600);
        cluster.lose(line);
        cluster.pump();
        assert_eq!(cluster.ownership(1).held, 1, "its session lasts");
        cluster.elapse(600_000);
        cluster.pump();
        assert_eq!((cluster.ownership(1).held, cluster.ownership(node).coordinated), (0, 0));
    }
}

#[test]
fn nobody_comes_in_before_there_is_a_coordinator_or_past_the_lease() {
    let mut cluster = Cluster::new(2);
    let now = crate::ports::clock::Tick::from_millis(1_000);
    cluster.broker(0).peers().unwrap().set_lease(now);
    let line = cluster.connect(0, &connect("a", 0));
    cluster.pump();
    let answers = cluster.received(line);
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::ServerUnavailable);
    assert!(connack.properties.reason_string.is_some());
    let early = cluster.join();
    let line = cluster.connect(early, &connect("a", 0));
    let answers = cluster.received(line);
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::ServerUnavailable);
}

fn puback(id: u16) -> Packet {
    Packet::Puback(Puback::new(PacketId::new(id).unwrap(), ReasonCode::Success))
}

fn pubrel(id: u16) -> Packet {
    Packet::Pubrel(Pubrel::new(PacketId::new(id).unwrap(), ReasonCode::Success))
}
