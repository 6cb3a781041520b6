//! Members of a Shared Subscription, one of which takes nothing more for a while.

use std::num::NonZeroU16;

use super::*;

const GROUP: &str = "$share/g/t";

/// A member that has one message at a time in flight, and what it is sent as soon as it is one.
fn worker(stage: &mut Stage, id: &str) -> (Actor, Vec<Packet>) {
    let (mut actor, connect) = actor(id, ProtocolVersion::V5, 0, stage.now);
    let Packet::Connect(mut connect) = connect else { unreachable!("it was made as one") };
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let _connack = stage.send(&mut actor, &Packet::Connect(connect));
    let mut answers = stage.send(&mut actor, &subscribe(GROUP, QoS::AtLeastOnce));
    assert!(matches!(answers.remove(0), Packet::Suback(_)));
    (actor, answers)
}

/// One that has been sent `1`, and acknowledges nothing.
fn stuck_worker(stage: &mut Stage) -> Actor {
    let (mut stuck, _nothing) = worker(stage, "stuck");
    published(stage, 1..=1);
    assert_eq!(payloads(&stage.poll(&mut stuck)), ["1"]);
    stuck
}

fn published(stage: &mut Stage, numbers: std::ops::RangeInclusive<u16>) {
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    for number in numbers {
        let answers =
            stage.send(&mut writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        assert!(matches!(&answers[..], [Packet::Puback(_)]), "{answers:?}");
    }
    stage.lose(writer);
}

/// What a worker gets that acknowledges whatever it is sent.
fn worked_off(stage: &mut Stage, worker: &mut Actor) -> Vec<String> {
    let packets = stage.poll(worker);
    worked_off_from(stage, worker, packets)
}

/// The same of one that has been sent `packets`.
fn worked_off_from(stage: &mut Stage, worker: &mut Actor, mut packets: Vec<Packet>) -> Vec<String> {
    let mut all = Vec::new();
    while let [Packet::Publish(publish)] = &packets[..] {
        all.extend(payloads(&packets));
        let id = publish.packet_id.unwrap();
        packets = stage.send(worker, &Packet::Puback(Puback::new(id, ReasonCode::Success)));
    }
    assert!(packets.is_empty(), "{packets:?}");
    all
}

/// Its queue was its own, up to half of a hundred thousand messages, whatever the others did.
#[test]
fn what_waits_for_a_member_whose_window_is_full_goes_to_one_whose_window_is_not() {
    let mut stage = Stage::new(BrokerOptions::default());
    let mut stuck = stuck_worker(&mut stage);
    published(&mut stage, 2..=50);
    let (mut quick, first) = worker(&mut stage, "quick");
    let expected: Vec<_> = (2..=50).map(|number| number.to_string()).collect();
    assert_eq!(worked_off_from(&mut stage, &mut quick, first), expected);
    assert_eq!(stage.broker.queue_budget.behind(), 0);
    assert_eq!(stage.broker.counters().totals().shared_deliveries_moved, 49);
    // It is one of them again when it has acknowledged.
    published(&mut stage, 51..=51);
    assert_eq!(worked_off(&mut stage, &mut quick), ["51"]);
    let puback = puback_of(1);
    assert!(stage.send(&mut stuck, &puback).is_empty());
    published(&mut stage, 52..=53);
    let got = [&mut stuck, &mut quick].map(|worker| worked_off(&mut stage, worker).len());
    assert_eq!(got, [1, 1]);
}

/// Its turn comes round, but it could not be sent it.
#[test]
fn a_member_whose_window_is_full_is_passed_over() {
    let mut stage = Stage::new(BrokerOptions::default());
    let _stuck = stuck_worker(&mut stage);
    let (mut quick, _nothing) = worker(&mut stage, "quick");
    for number in 2..=20 {
        published(&mut stage, number..=number);
        assert_eq!(worked_off(&mut stage, &mut quick), [number.to_string()]);
    }
    assert_eq!(stage.broker.counters().totals().shared_deliveries_moved, 0);
}

#[test]
fn several_members_share_what_waits_for_one() {
    let mut stage = Stage::new(BrokerOptions::default());
    let stuck = stuck_worker(&mut stage);
    published(&mut stage, 2..=5);
    let others = ["a", "b", "c"].map(|id| worker(&mut stage, id));
    let got: Vec<_> = others.iter().flat_map(|(_, packets)| payloads(packets)).collect();
    assert_eq!(got, ["2", "3", "4"]);
    assert_eq!(stage.broker.queue_budget.behind(), 1);
    stage.lose(stuck);
    assert_eq!(stage.broker.queue_budget.behind(), 2, "each is another one's now");
    let [mut first, ..] = others.map(|(actor, _)| actor);
    let puback = puback_of(1);
    let mut got = payloads(&stage.send(&mut first, &puback));
    got.extend(payloads(&stage.send(&mut first, &puback_of(2))));
    got.sort();
    assert_eq!(got, ["1", "5"]);
}

/// It waited for the one that had gone, though that might never return, when another one came.
#[test]
fn what_waits_for_a_member_that_is_away_goes_to_one_that_comes() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut leaver, _connack) = stage.connect("leaver", ProtocolVersion::V5, 600);
    let _suback = stage.send(&mut leaver, &subscribe(GROUP, QoS::AtLeastOnce));
    stage.lose(leaver);
    published(&mut stage, 1..=3);
    let (mut comer, begun) = worker(&mut stage, "comer");
    assert_eq!(worked_off_from(&mut stage, &mut comer, begun), ["1", "2", "3"]);
    let (mut leaver, _connack) = stage.connect("leaver", ProtocolVersion::V5, 600);
    assert!(stage.poll(&mut leaver).is_empty());
    assert_eq!(stage.broker.queue_budget.behind(), 0);
}

/// Its own queue has no room: it goes back, and nobody tries for ever.
#[test]
fn what_another_member_has_no_room_for_stays_where_it_is() {
    let options = BrokerOptions::default();
    let queue = MailboxOptions { bytes_max: 1_000, ..(*options.clean_queue).clone() };
    let mut stage = Stage::new(BrokerOptions { clean_queue: Arc::new(queue), ..options });
    let (mut leaver, _connack) = stage.connect("leaver", ProtocolVersion::V5, 600);
    let _suback = stage.send(&mut leaver, &subscribe(GROUP, QoS::AtLeastOnce));
    stage.lose(leaver);
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    stage.send(&mut writer, &publish("t", &"x".repeat(2_000), QoS::AtLeastOnce, 1));
    let (_comer, begun) = worker(&mut stage, "comer");
    assert!(begun.is_empty());
    let (_leaver, packets) = stage.connect("leaver", ProtocolVersion::V5, 600);
    assert_eq!(payloads(&packets), ["x".repeat(2_000)]);
}

/// What it has by a Subscription of its own is for nobody else.
#[test]
fn only_what_is_shared_goes_to_others() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut stuck, _nothing) = worker(&mut stage, "stuck");
    let _suback = stage.send(&mut stuck, &subscribe("t", QoS::AtLeastOnce));
    published(&mut stage, 1..=3);
    let first = stage.poll(&mut stuck);
    assert_eq!(payloads(&first), ["1"]);
    let (mut quick, begun) = worker(&mut stage, "quick");
    assert_eq!(worked_off_from(&mut stage, &mut quick, begun), ["1", "2", "3"]);
    assert_eq!(worked_off_from(&mut stage, &mut stuck, first), ["1", "2", "3"]);
}

fn puback_of(id: u16) -> Packet {
    Packet::Puback(Puback::new(PacketId::new(id).unwrap(), ReasonCode::Success))
}
