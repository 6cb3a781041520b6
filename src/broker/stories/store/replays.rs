//! Stories of retained messages on their way to a Session that is stored.

use std::num::NonZeroU16;

use super::*;
use crate::ports::message::MessageId;

fn retain(stage: &mut Stage, count: u16) {
    let (mut writer, _connack) = stage.connect("writer", ProtocolVersion::V5, 0);
    for number in 1..=count {
        let topic = format!("t/{number}");
        let Packet::Publish(message) = publish(&topic, "x", QoS::ExactlyOnce, number) else {
            panic!()
        };
        stage.send(&mut writer, &Packet::Publish(Publish { retain: true, ..message }));
        stage.hear_store();
        assert!(matches!(*stage.poll(&mut writer), [Packet::Pubrec(_)]));
        stage.send(&mut writer, &pubrel(number));
    }
    stage.lose(writer);
}

fn subscriber(stage: &mut Stage, receive_maximum: u16) -> Actor {
    let (mut client, connect) = actor("client", ProtocolVersion::V5, 600, stage.now);
    let Packet::Connect(mut connect) = connect else { unreachable!("it was made as one") };
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    stage.send(&mut client, &Packet::Connect(connect));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut client), [Packet::Connack(_)]));
    assert_eq!(stage.send(&mut client, &subscribe("t/#", QoS::AtLeastOnce)), []);
    stage.hear_store();
    client
}

fn is_enqueue(operation: &Operation) -> bool {
    matches!(operation, Operation::Enqueue { .. })
}

/// What came back from the store has a turn, and then the client.
fn hear_and_poll(stage: &mut Stage, client: &mut Actor) -> Vec<Packet> {
    stage.hear_store();
    stage.poll(client)
}

/// It was sent at once and without a place: after a start its Packet Identifier was that of another
/// message.
#[test]
fn a_replay_is_sent_when_the_store_has_it_at_a_place() {
    let (mut stage, store) = stage();
    retain(&mut stage, 1);
    let mut client = subscriber(&mut stage, 10);
    assert!(matches!(*stage.poll(&mut client), [Packet::Suback(_)]));
    let operations = store.operations();
    let enqueued = operations.iter().find_map(|operation| {
        let Operation::Enqueue { message, pointers } = operation else { return None };
        Some((message, &pointers[..]))
    });
    let Some((message, [pointer])) = enqueued else { panic!("{operations:?}") };
    assert!(pointer.retain && pointer.sequence == 1 && message.id != MessageId::NONE);
    let answers = hear_and_poll(&mut stage, &mut client);
    let [Packet::Publish(sent)] = &*answers else { panic!("{answers:?}") };
    assert!(sent.retain && sent.packet_id == Some(PacketId::MIN));
}

#[test]
fn no_more_of_a_replay_waits_in_the_queue_than_the_window_holds() {
    let (mut stage, store) = stage();
    retain(&mut stage, 100);
    let mut client = subscriber(&mut stage, 10);
    assert!(matches!(*stage.poll(&mut client), [Packet::Suback(_)]));
    assert_eq!(store.count(is_enqueue), 10);
    let mut unacknowledged = hear_and_poll(&mut stage, &mut client);
    for _ in 0..5 {
        unacknowledged.extend(hear_and_poll(&mut stage, &mut client));
    }
    assert_eq!((unacknowledged.len(), store.count(is_enqueue)), (10, 20));
    let mut topics = Vec::new();
    while let Some(Packet::Publish(message)) = unacknowledged.pop() {
        let puback = Puback::new(message.packet_id.unwrap(), ReasonCode::Success);
        topics.push(message.topic.to_string());
        unacknowledged.extend(stage.send(&mut client, &Packet::Puback(puback)));
        unacknowledged.extend(hear_and_poll(&mut stage, &mut client));
        let acknowledged = topics.len();
        assert!(store.count(is_enqueue) <= acknowledged + 20, "{acknowledged} were done with");
    }
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), 100);
    assert!(client.connection.is_at_rest(), "nothing is left to do");
}

/// The client is told that something could not be stored; when it comes again the replay goes on.
#[test]
fn what_the_store_does_not_take_of_a_replay_comes_on_the_next_connection() {
    let (mut stage, store) = stage();
    retain(&mut stage, 3);
    let mut client = subscriber(&mut stage, 2);
    store.answer(Answers::Failure);
    assert!(matches!(*stage.poll(&mut client), [Packet::Suback(_)]));
    let answers = hear_and_poll(&mut stage, &mut client);
    assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
    let is_forgotten = |operation: &Operation| matches!(operation, Operation::Acknowledge { .. });
    assert_eq!(store.count(is_forgotten), 2);
    store.answer(Answers::Good);
    let (mut client, answers) = stage.keep("client");
    assert!(is_present(&answers));
    let sent = hear_and_poll(&mut stage, &mut client);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!(hear_and_poll(&mut stage, &mut client), []);
}

/// It fell with the connection that it was placed for: the next one has nothing to do with that.
#[test]
fn what_the_store_gives_up_after_the_connection_has_ended_does_not_end_the_next_one() {
    let (mut stage, store) = stage();
    retain(&mut stage, 1);
    let mut client = subscriber(&mut stage, 2);
    store.answer(Answers::None);
    assert!(matches!(*stage.poll(&mut client), [Packet::Suback(_)]));
    stage.lose(client);
    store.answer(Answers::Failure);
    stage.hear_store();
    store.answer(Answers::Good);
    let (mut client, answers) = stage.keep("client");
    assert!(is_present(&answers));
    assert!(matches!(*hear_and_poll(&mut stage, &mut client), [Packet::Publish(_)]));
}
