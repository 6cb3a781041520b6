//! Stories of publishers that need not wait for the store.

use super::*;
use crate::broker::acknowledge::{Level, TopicLevel};
use crate::mqtt::TopicFilter;

fn topic_levels() -> BrokerOptions {
    let level = |filter, level| TopicLevel { filter: TopicFilter::parse(filter).unwrap(), level };
    let acknowledge_topics = vec![
        level("now/stored", Level::Durable),
        level("now/#", Level::Accepted),
        level("queued/#", Level::Enqueued),
    ];
    BrokerOptions { acknowledge_topics, ..BrokerOptions::default() }
}

fn ids(answers: &[Packet]) -> Vec<u16> {
    let id = |packet: &Packet| {
        if let Packet::Puback(puback) = packet {
            return puback.packet_id.get();
        }
        let Packet::Pubrec(pubrec) = packet else { panic!("{packet:?}") };
        pubrec.packet_id.get()
    };
    answers.iter().map(id).collect()
}

/// Twice each: what the route cache has of a topic says the same.
#[test]
fn only_messages_of_the_level_durable_wait_for_the_store() {
    for (qos, expiry_secs) in [(QoS::AtLeastOnce, 0), (QoS::ExactlyOnce, 600)] {
        let (mut stage, store) = stage_with(topic_levels());
        stage.sleeper("#");
        let (mut publisher, _early) = stage.connect("publisher", ProtocolVersion::V5, expiry_secs);
        stage.hear_store();
        stage.poll(&mut publisher);
        store.answer(Answers::None);
        for (id, topic) in (1..).zip(["now/x", "now/x", "queued/x", "queued/x"]) {
            let answers = stage.send(&mut publisher, &publish(topic, "x", qos, id));
            assert_eq!(ids(&answers), [id], "{topic}");
        }
        for (id, topic) in (5..).zip(["now/stored", "now/stored", "other"]) {
            assert_eq!(stage.send(&mut publisher, &publish(topic, "x", qos, id)), [], "{topic}");
        }
        let answers = stage.send(&mut publisher, &publish("now/x", "x", qos, 8));
        assert_eq!(answers, [], "not before those that came before it");
        store.answer(Answers::Good);
        stage.hear_store();
        assert_eq!(ids(&stage.poll(&mut publisher)), [5, 6, 7, 8]);
        let is_enqueue = |operation: &Operation| matches!(operation, Operation::Enqueue { .. });
        assert_eq!(store.count(is_enqueue), 8, "all are stored");
    }
}

/// What is not stored is not sent, whatever its publisher was told.
#[test]
fn what_was_acknowledged_before_it_was_stored_is_sent_when_it_is() {
    let (mut stage, store) = stage_with(topic_levels());
    let (mut reader, _connack) = stage.keep("reader");
    stage.send(&mut reader, &subscribe("#", QoS::AtLeastOnce));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut reader), [Packet::Suback(_)]));
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    store.answer(Answers::None);
    let answers = stage.send(&mut publisher, &publish("now/x", "x", QoS::AtLeastOnce, 1));
    assert_eq!(ids(&answers), [1]);
    assert_eq!(stage.poll(&mut reader), []);
    store.answer(Answers::Good);
    stage.hear_store();
    assert_eq!(payloads(&stage.poll(&mut reader)), ["x"]);
}

/// The level of a topic holds for whoever publishes to it, that of a listener where there is none.
#[test]
fn a_listener_has_a_level_for_topics_that_have_none() {
    let (mut stage, store) = stage_with(topic_levels());
    stage.sleeper("#");
    let options =
        ConnectionOptions { acknowledge: Level::Enqueued, ..ConnectionOptions::default() };
    let (mut publisher, connect) = actor("publisher", ProtocolVersion::V5, 0, stage.now);
    let origin =
        Origin { address: Arc::from("here"), listener: Arc::from("stage"), tls_common_name: None };
    publisher.connection = Connection::new(origin, Arc::new(options), stage.now);
    stage.send(&mut publisher, &connect);
    store.answer(Answers::None);
    let answers = stage.send(&mut publisher, &publish("other", "x", QoS::AtLeastOnce, 1));
    assert_eq!(ids(&answers), [1]);
    assert_eq!(stage.send(&mut publisher, &publish("now/stored", "x", QoS::AtLeastOnce, 2)), []);
}

/// A connection that had nothing to do for a while forgot the level of its listener.
#[test]
fn a_listener_keeps_its_level_for_a_client_that_was_idle() {
    let (mut stage, store) = stage_with(topic_levels());
    stage.sleeper("#");
    let options =
        ConnectionOptions { acknowledge: Level::Enqueued, ..ConnectionOptions::default() };
    let options = Arc::new(options);
    let (mut publisher, connect) = actor("publisher", ProtocolVersion::V5, 0, stage.now);
    let origin =
        Origin { address: Arc::from("here"), listener: Arc::from("stage"), tls_common_name: None };
    publisher.connection = Connection::new(origin, Arc::clone(&options), stage.now);
    stage.send(&mut publisher, &connect);
    let dormant = publisher.connection.fall_asleep(Waker::noop()).expect("it is at rest");
    publisher.connection = dormant.wake_up(&stage.broker, options);
    store.answer(Answers::None);
    let answers = stage.send(&mut publisher, &publish("other", "x", QoS::AtLeastOnce, 1));
    assert_eq!(ids(&answers), [1]);
}

/// The store could not take a message that was acknowledged: its publisher is not let go, it is gone
/// from the queue, and counted.
#[test]
fn what_the_store_gives_up_is_lost_below_the_level_durable_and_counted() {
    let (mut stage, store) = stage_with(topic_levels());
    stage.sleeper("#");
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    store.answer(Answers::Failure);
    let answers = stage.send(&mut publisher, &publish("queued/x", "x", QoS::AtLeastOnce, 1));
    assert_eq!(ids(&answers), [1]);
    stage.hear_store();
    assert_eq!(stage.poll(&mut publisher), []);
    assert!(!publisher.connection.is_closed());
    assert_eq!(stage.shard.counters().deliveries_given_up.total(), 1);
}
