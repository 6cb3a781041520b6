//! What one member of a Shared Subscription hands on to another while the store fails.

use std::num::NonZeroU16;

use super::*;
use crate::mqtt::Puback;

const GROUP: &str = "$share/g/t";

/// A client whose Session is kept, with one message in flight at a time, which it does not acknowledge.
fn worker(stage: &mut Stage, id: &str, filter: &str) -> Actor {
    let (mut actor, connect) = actor(id, ProtocolVersion::V5, 600, stage.now);
    let Packet::Connect(mut connect) = connect else { panic!("{connect:?}") };
    connect.properties.receive_maximum = NonZeroU16::new(1);
    stage.send(&mut actor, &Packet::Connect(connect));
    stage.hear_store();
    assert_eq!(reason_of(&stage.poll(&mut actor)), ReasonCode::Success);
    subscribed(stage, &mut actor, filter);
    actor
}

fn subscribed(stage: &mut Stage, actor: &mut Actor, filter: &str) {
    stage.send(actor, &subscribe(filter, QoS::AtLeastOnce));
    stage.hear_store();
    assert!(matches!(stage.poll(actor)[..], [Packet::Suback(_)]));
}

fn published(stage: &mut Stage, publisher: &mut Actor, topic: &str, payload: &str) {
    assert_eq!(stage.send(publisher, &publish(topic, payload, QoS::AtLeastOnce, 1)), []);
    stage.hear_store();
    assert!(matches!(stage.poll(publisher)[..], [Packet::Puback(_)]));
}

fn delivered(packets: &[Packet]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    for packet in packets {
        if let Packet::Publish(publish) = packet {
            payloads.push(&publish.payload[..]);
        }
    }
    payloads
}

/// It was in the queue of neither then: who had it was done with it, and the store was told so later.
#[test]
fn what_the_store_does_not_take_of_it_is_offered_again() {
    let (mut stage, store) = stage();
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    let mut busy = worker(&mut stage, "busy", GROUP);
    let mut other = worker(&mut stage, "other", "b");
    for (topic, payload) in [("t", "1"), ("t", "2"), ("b", "3")] {
        published(&mut stage, &mut publisher, topic, payload);
    }
    assert_eq!(delivered(&stage.poll(&mut busy)), [b"1"]);
    let got = stage.poll(&mut other);
    assert_eq!(delivered(&got), [b"3"]);
    let Some(Packet::Publish(Publish { packet_id: Some(id), .. })) = got.last() else {
        panic!("{got:?}")
    };
    subscribed(&mut stage, &mut other, GROUP);
    store.answer(Answers::Failure);
    let puback = Puback::new(*id, ReasonCode::Success);
    assert_eq!(stage.send(&mut other, &Packet::Puback(puback)), []);
    stage.hear_store();
    assert_eq!(stage.poll(&mut other), []);
    assert_eq!(stage.shard.counters().deliveries_offered_again.total(), 1);
    store.answer(Answers::Good);
    let is_enqueue = |operation: &Operation| matches!(operation, Operation::Enqueue { .. });
    let before = store.count(is_enqueue);
    assert!(stage.remind_store(), "it is to be offered again");
    // It is read from there, since the store may have it twice by now.
    let is_read = |operation: &Operation| matches!(operation, Operation::ReadQueue { .. });
    stage.hear_store();
    stage.poll(&mut other);
    assert_eq!((store.count(is_enqueue) - before, store.count(is_read)), (1, 1));
    assert!(!stage.remind_store());
}
