//! Retained messages of a cluster in its database: who has them stored, and how they come back.

use std::sync::Arc;
use std::task::Waker;

use super::retained::{seen, value};
use super::*;
use crate::broker::durable::{Durable, RetainedReader};
use crate::broker::stories::store::{Answers, Slow};
use crate::mqtt::TopicName;
use crate::ports::message::MessageId;
use crate::ports::store::{
    Done, Operation, OwnerId, Reply, RetainedRecord, RetainedVersion, StoreError, StoredMessage,
};

/// Of another broker, `millis` after 1970.
fn record(topic: &str, payload: Option<&str>, millis: u64) -> RetainedRecord {
    let topic = TopicName::try_from(topic).unwrap();
    let message = payload.map(|payload| {
        Arc::new(StoredMessage {
            id: MessageId(1),
            publisher: 1,
            topic: topic.clone(),
            payload: payload.to_owned().into(),
            properties: None,
            qos: QoS::AtLeastOnce,
            retain: true,
            expires_at_millis: None,
        })
    });
    let version = RetainedVersion { time: millis << 16, owner: OwnerId(99) };
    RetainedRecord { topic, version, message }
}

fn expired(topic: &str, millis: u64) -> RetainedRecord {
    let record = record(topic, Some("expired"), millis);
    let message = record.message.map(|stored| {
        Arc::new(StoredMessage { expires_at_millis: Some(1_000), ..StoredMessage::clone(&stored) })
    });
    RetainedRecord { message, ..record }
}

fn page(records: Vec<RetainedRecord>) -> Done {
    Done { replies: vec![Reply::Retained(records)], ..Done::default() }
}

/// A store that answers when it is told to, and what reads it.
fn reader() -> (Slow, Arc<Durable>, RetainedReader) {
    let store = Slow::default();
    store.answer(Answers::None);
    let durable = Arc::new(Durable::new(Arc::new(store.clone()), OwnerId(1), 0));
    (store, Arc::clone(&durable), RetainedReader::new(durable))
}

fn poll(cluster: &mut Cluster, reader: &mut RetainedReader) -> bool {
    cluster.at(0, |turn, peers| reader.poll(turn, peers, Waker::noop()))
}

/// What a broker has had stored of retained messages: of when, by whom, and whether there is one.
fn stored(store: &Slow) -> Vec<(u64, u128, bool)> {
    let put = |operation| {
        if let Operation::PutRetained(record) = operation { Some(record) } else { None }
    };
    let put = store.operations().into_iter().filter_map(put);
    put.map(|it| (it.version.time, it.version.owner.0, it.message.is_some())).collect()
}

/// Retained messages of a cluster were in the memory of its brokers alone.
#[test]
fn who_takes_a_retained_message_has_it_stored_before_it_says_so_and_nobody_else_has() {
    let mut cluster = Cluster::new(2);
    let writer = open(&mut cluster, 0, "writer", 0);
    let stores = [0, 1].map(|node| {
        let store = Slow::default();
        cluster.give_store(node, Arc::new(store.clone()));
        store
    });
    let payloads = ["one", "two", ""];
    for (payload, id) in payloads.into_iter().zip(1..) {
        stores[0].answer(Answers::None);
        cluster.send(writer, &retained("t", payload, QoS::AtLeastOnce, id));
        cluster.pump();
        (0..2).for_each(|node| cluster.hear_store(node));
        cluster.pump();
        assert_eq!(cluster.received(writer), [], "it waits for the store");
        stores[0].answer(Answers::Good);
        cluster.hear_store(0);
        cluster.pump();
        assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
    }
    let found = stored(&stores[0]);
    assert!(found.is_sorted(), "{found:?}");
    let kinds: Vec<_> = found.iter().map(|(_, owner, is_there)| (*owner, *is_there)).collect();
    assert_eq!(kinds, [(1, true), (1, true), (1, false)]);
    assert_eq!(stored(&stores[1]), [], "what came from a peer is stored by that one");
}

#[test]
fn what_was_stored_comes_back_unless_something_later_is_known() {
    let mut cluster = Cluster::new(1);
    let (store, _durable, mut reader) = reader();
    cluster.merge_value(0, value("a/later", Some("a peer's"), 5));
    cluster.merge_value(0, value("b/deleted since", None, 5));
    cluster.merge_value(0, value("c/older", Some("of a znode"), 3));
    cluster.merge_value(0, value("d/gone", Some("of a znode"), 3));
    assert!(!poll(&mut cluster, &mut reader));
    assert!(reader.is_waiting());
    store.answer_with(Ok(page(vec![
        record("a/later", Some("stored"), 4),
        record("b/deleted since", Some("stored"), 4),
        record("c/older", Some("stored"), 4),
    ])));
    assert!(!poll(&mut cluster, &mut reader), "there may be more");
    store.answer_with(Ok(page(vec![record("d/gone", None, 4), expired("e/expired", 4)])));
    assert!(!poll(&mut cluster, &mut reader));
    store.answer_with(Ok(page(Vec::new())));
    assert!(poll(&mut cluster, &mut reader));
    assert_eq!(seen(&mut cluster, 0), ["a peer's", "stored"]);
    // What comes late of the tree of znodes brings nothing back.
    for topic in ["c/older", "d/gone", "e/expired"] {
        cluster.merge_value(0, value(topic, Some("of a znode"), 3));
    }
    assert_eq!(seen(&mut cluster, 0), ["a peer's", "stored"]);
    let from = |operation: &Operation| {
        let Operation::ListRetained { after, .. } = operation else { panic!("{operation:?}") };
        after.as_ref().map(TopicName::to_string)
    };
    let from: Vec<_> = store.operations().iter().map(from).collect();
    assert_eq!(from, [None, Some("c/older".to_owned()), Some("e/expired".to_owned())]);
    assert_eq!(cluster.broker(0).counters().totals().versions_disbelieved, 0);
}

#[test]
fn a_store_that_fails_is_asked_again_and_each_life_reads_anew() {
    let mut cluster = Cluster::new(1);
    let (store, durable, mut reader) = reader();
    assert!(!poll(&mut cluster, &mut reader));
    store.answer_with(Err(StoreError::Transient(String::new())));
    assert!(!poll(&mut cluster, &mut reader));
    assert!(!reader.is_waiting(), "it is left alone for a while");
    cluster.elapse(1_000);
    assert!(!poll(&mut cluster, &mut reader));
    // Another life begins before the answer to the former one is there.
    durable.begin_life(OwnerId(2));
    store.answer_with(Ok(page(vec![record("a", Some("of no use"), 1)])));
    assert!(!poll(&mut cluster, &mut reader));
    assert!(seen(&mut cluster, 0).is_empty());
    for _ in 0..2 {
        store.answer_with(Ok(page(Vec::new())));
        assert!(poll(&mut cluster, &mut reader), "all has been read");
    }
    assert_eq!(store.owners().last(), Some(&OwnerId(2)));
}

/// A broker had a change stored, and was killed before it had told anybody: the next one that joined read
/// it, and nobody else ever had it.
#[test]
fn what_the_store_alone_had_of_a_dead_broker_is_told_to_all() {
    let mut cluster = Cluster::new(2);
    let (store, _durable, mut reader) = reader();
    cluster.elapse(11 * 60 * 1_000);
    cluster.merge_value(1, value("c/later", Some("a peer's"), 600_002));
    assert!(!poll(&mut cluster, &mut reader));
    store.answer_with(Ok(page(vec![
        record("a/long ago", Some("stored"), 4),
        record("b/untold", Some("stored"), 600_001),
        record("c/later", Some("stored"), 600_001),
    ])));
    assert!(!poll(&mut cluster, &mut reader));
    store.answer_with(Ok(page(Vec::new())));
    assert!(poll(&mut cluster, &mut reader));
    assert_eq!(seen(&mut cluster, 1), ["a peer's"]);
    cluster.ping(0);
    cluster.pump();
    assert_eq!(seen(&mut cluster, 1), ["stored", "a peer's"]);
}
