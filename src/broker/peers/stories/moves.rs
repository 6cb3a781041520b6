//! Sessions that move from broker to broker.

use super::*;
use crate::broker::options::BrokerOptions;

#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else refuses")]
fn refusal(packets: &[Packet]) -> Option<ReasonCode> {
    packets.iter().find_map(|packet| match packet {
        Packet::Connack(connack) if connack.reason_code != ReasonCode::Success => {
            Some(connack.reason_code)
        }
        Packet::Disconnect(disconnect) => Some(disconnect.reason_code),
        _ => None,
    })
}

pub(super) fn session_present(packets: &[Packet]) -> bool {
    matches!(packets.first(), Some(Packet::Connack(connack)) if connack.session_present)
}

#[test]
fn a_session_moves_with_subscriptions_queue_and_what_is_in_flight() {
    for coordinator in 0..3 {
        let mut cluster = Cluster::new(3);
        let id = cluster.client_id_at(coordinator);
        let first = open(&mut cluster, 0, &id, 600);
        subscribed(&mut cluster, first, "t", QoS::ExactlyOnce);
        let writer = open(&mut cluster, 2, "writer", 0);
        cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
        cluster.send(writer, &publish("t", "two", QoS::ExactlyOnce, 2));
        cluster.pump();
        assert_eq!(payloads(&cluster.received(first)), ["one", "two"]);
        cluster.send(first, &puback(1));
        // Received, and not released.
        cluster.send(first, &publish("other", "x", QoS::ExactlyOnce, 9));
        cluster.lose(first);
        cluster.send(writer, &publish("t", "three", QoS::AtLeastOnce, 3));
        cluster.pump();

        let second = cluster.connect(1, &connect(&id, 600));
        cluster.pump();
        let answers = cluster.received(second);
        assert!(session_present(&answers), "{answers:?}");
        assert_eq!(payloads(&answers), ["two", "three"]);
        let Packet::Publish(two) = &answers[1] else { panic!("{answers:?}") };
        assert_eq!((two.dup, two.packet_id), (true, PacketId::new(2)));
        cluster.send(second, &publish("other", "x", QoS::ExactlyOnce, 9));
        cluster.send(second, &pubrel(9));
        cluster.send(writer, &publish("t", "four", QoS::AtLeastOnce, 4));
        cluster.pump();
        let answers = cluster.received(second);
        assert_eq!(payloads(&answers), ["four"]);
        let is_released = |packet: &Packet| matches!(packet, Packet::Pubcomp(pubcomp) if pubcomp.reason_code == ReasonCode::Success);
        assert_eq!(count(&answers, is_released), 1);
        assert_eq!(cluster.broker(0).registry().len(), 0);
        assert_eq!(cluster.broker(0).subscription_count(), 1, "that of broker 1");
        assert_eq!((cluster.ownership(0).held, cluster.ownership(0).exports), (0, 0));
    }
}

#[test]
fn the_former_connection_is_told_that_its_session_was_taken_over() {
    let mut cluster = Cluster::new(2);
    let first = open(&mut cluster, 0, "a", 0);
    let second = open(&mut cluster, 1, "a", 600);
    let farewell = cluster.received(first);
    assert_eq!(refusal(&farewell), Some(ReasonCode::SessionTakenOver));
    assert!(cluster.is_closed(first) && cluster.is_open(second));
    assert_eq!(cluster.broker(0).registry().len(), 0);
}

#[test]
fn two_connects_at_two_brokers_in_one_instant_leave_one() {
    for seed in 0..500 {
        let mut cluster = Cluster::seeded(3, seed);
        let lines = [
            cluster.connect(0, &connect("a", 600)),
            cluster.connect(1, &connect("a", 600)),
            cluster.connect(2, &connect("a", 0)),
        ];
        cluster.pump();
        let open: Vec<_> = lines.into_iter().filter(|line| cluster.is_open(*line)).collect();
        assert_eq!(open.len(), 1, "seed {seed}");
        let held: usize = (0..3).map(|node| cluster.ownership(node).held).sum();
        assert_eq!(held, 1, "seed {seed}");
        let sessions: usize = (0..3).map(|node| cluster.broker(node).registry().len()).sum();
        assert_eq!(sessions, 1, "seed {seed}");
        for line in lines {
            if !open.contains(&line) {
                let told = refusal(&cluster.received(line));
                let told = told.unwrap_or_else(|| panic!("seed {seed}: told nothing"));
                assert!(
                    matches!(told, ReasonCode::SessionTakenOver | ReasonCode::ServerBusy),
                    "seed {seed}: {told:?}"
                );
            }
        }
    }
}

#[test]
fn a_coordinator_that_dies_with_a_claim_is_asked_for_no_longer() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(1, 2);
    let second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    assert!(cluster.received(second).is_empty());
    cluster.kill(2);
    cluster.pump();
    assert!(session_present(&cluster.received(second)));
    assert_eq!(refusal(&cluster.received(first)), Some(ReasonCode::SessionTakenOver));
}

#[test]
fn a_claim_that_nobody_answers_ends_at_its_deadline_and_serves_the_next_try() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    cluster.cut(1, 2);
    let line = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    cluster.elapse(10_000);
    let answers = cluster.received(line);
    assert_eq!(refusal(&answers), Some(ReasonCode::ServerUnavailable));
    cluster.heal(1, 2);
    cluster.pump();
    assert_eq!(cluster.ownership(1).held, 0, "nobody waited when it was granted");
    let _line = open(&mut cluster, 1, &id, 600);
}

#[test]
fn a_session_whose_broker_dies_while_it_moves_begins_anew() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(0, 1);
    let second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    assert!(cluster.received(second).is_empty());
    cluster.kill(0);
    cluster.pump();
    let answers = cluster.received(second);
    assert!(cluster.is_open(second) && !session_present(&answers), "{answers:?}");
    assert_eq!(cluster.broker(1).subscription_count(), 0);
}

#[test]
fn a_session_whose_successor_dies_before_it_has_moved_stays() {
    let mut cluster = Cluster::new(3);
    let id = cluster.client_id_at(2);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.hold(1, 0);
    let _second = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    assert!(cluster.is_closed(first));
    cluster.kill(1);
    cluster.pump();
    let writer = open(&mut cluster, 2, "writer", 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    let third = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    let answers = cluster.received(third);
    assert!(session_present(&answers), "{answers:?}");
    assert_eq!(payloads(&answers), ["one"]);
}

/// It was moved first, found no room, and ended: the client was refused, and its messages were gone.
#[test]
fn a_session_stays_where_it_is_when_there_is_no_room_where_its_client_comes() {
    let options = BrokerOptions { sessions_max: 1, ..BrokerOptions::default() };
    let mut cluster = Cluster::with_options(2, &options);
    let reader = open(&mut cluster, 0, "reader", 600);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    let other = open(&mut cluster, 1, "other", 0);
    cluster.lose(reader);
    cluster.send(other, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    let second = cluster.connect(1, &connect("reader", 600));
    cluster.pump();
    assert_eq!(refusal(&cluster.received(second)), Some(ReasonCode::QuotaExceeded));
    assert_eq!(cluster.broker(0).registry().len(), 1, "it is where it was");

    cluster.lose(other);
    cluster.pump();
    let third = cluster.connect(1, &connect("reader", 600));
    cluster.pump();
    let answers = cluster.received(third);
    assert!(session_present(&answers), "{answers:?}");
    assert_eq!(payloads(&answers), ["one"]);
    assert_eq!(cluster.broker(1).registry().len(), 1);
    assert!(cluster.broker(1).registry().reserve().is_none(), "there is room for one");
}

/// What is set aside for a claim that comes to nothing is given back.
#[test]
fn room_for_a_session_that_does_not_come_is_given_back() {
    let options = BrokerOptions { sessions_max: 1, ..BrokerOptions::default() };
    let mut cluster = Cluster::with_options(2, &options);
    let id = cluster.client_id_at(0);
    cluster.hold(1, 0);
    let first = cluster.connect(1, &connect(&id, 0));
    cluster.pump();
    let (others, registry) = (cluster.client_id_at(1), cluster.broker(1).registry());
    assert!(registry.is_empty() && registry.reserve().is_none(), "the first one is to come");
    let second = cluster.connect(1, &connect(&others, 0));
    cluster.pump();
    assert_eq!(refusal(&cluster.received(second)), Some(ReasonCode::QuotaExceeded));
    cluster.lose(first);
    cluster.release(1, 0);
    cluster.pump();
    assert!(cluster.broker(1).registry().is_empty());
    let _second = open(&mut cluster, 1, &others, 0);
}

#[test]
fn a_large_session_comes_in_parts() {
    let mut cluster = Cluster::new(2);
    let first = open(&mut cluster, 0, "a", 600);
    let long = "x".repeat(4_000);
    for number in 0..1_000 {
        cluster.send(first, &subscribe(&format!("{number}/{long}"), at(QoS::AtMostOnce)));
    }
    cluster.pump();
    cluster.received(first);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.lose(first);
    let writer = open(&mut cluster, 0, "writer", 0);
    let body = |number: usize| format!("{number:05}{}", "y".repeat(20_000));
    for number in 0..400 {
        let id = u16::try_from(number + 1).unwrap();
        cluster.send(writer, &publish("t", &body(number), QoS::AtLeastOnce, id));
    }
    let second = cluster.connect(1, &connect("a", 600));
    cluster.pump();
    let got = payloads(&cluster.received(second));
    assert_eq!(got.len(), 400);
    assert!(got.iter().enumerate().all(|(number, payload)| *payload == body(number)));
    assert_eq!(cluster.broker(1).subscription_count(), 1_001);
}
