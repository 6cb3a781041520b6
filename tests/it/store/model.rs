//! Whatever is asked, in whatever order, every store answers as the one in memory does.

use std::cell::Cell;

use mqttzoo::ports::auth::SessionUser;
use mqttzoo::ports::message::MessageId;
use mqttzoo::ports::store::{
    Done, Operation, OwnerId, Pointer, QueuedMessage, Reply, RetainedRecord, SessionRecord, Slots,
    Store, StoreError,
};
use mqttzoo::runtime::Background;
use mqttzoo::store::MemoryStore;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::client::Client;
use super::contract::{postgres, sqlite};
use super::words::{
    acknowledge, all_retained, enqueue, epoch, forget, message, packet, pointer, put_session_sent,
    queue, release, retained, session, sessions, subscribe, will,
};
use crate::harness::{Postgres, fresh_dir};

/// Who submits, and what.
type Step = (u128, Vec<Operation>);

/// All that can be seen of a store.
#[derive(Debug, PartialEq)]
struct Snapshot {
    sessions: Vec<(u128, Vec<SessionRecord>)>,
    queues: Vec<Vec<QueuedMessage>>,
    retained: Vec<RetainedRecord>,
}

#[test]
fn sqlite_does_what_memory_does() {
    let parent = fresh_dir("store-model");
    let number = Cell::new(0);
    let mut runner = TestRunner::new(Config::with_cases(48));
    let held = runner.run(&story(), |story| {
        number.set(number.get() + 1);
        let store = sqlite(&parent.join(number.get().to_string()));
        compare(&store, story)
    });
    std::fs::remove_dir_all(parent).unwrap();
    held.unwrap();
}

#[test]
fn postgres_does_what_memory_does() {
    let Some(server) = Postgres::shared() else { return };
    let background = Background::start(1).unwrap();
    let mut runner = TestRunner::new(Config::with_cases(24));
    let held = runner.run(&story(), |story| {
        let store = postgres(&server.fresh_database(), &background);
        compare(&store, story)
    });
    held.unwrap();
}

fn compare(store: &dyn Store, story: Vec<Step>) -> Result<(), TestCaseError> {
    let memory = MemoryStore::new();
    let mut brokers = BROKERS.map(|owner| Client::registered(store, owner));
    let mut expected = BROKERS.map(|owner| Client::registered(&memory, owner));
    // All at once, so that they make groups: their answers tell what came of each.
    let mut order = Vec::new();
    for (owner, operations) in story {
        let place = BROKERS.iter().position(|it| *it == owner).unwrap();
        let batch = brokers[place].batch(operations);
        expected[place].submit(batch.clone());
        brokers[place].submit(batch);
        order.push(place);
    }
    for place in order {
        let (real, model) = (brokers[place].next(), expected[place].next());
        prop_assert_eq!(sorted(real.outcome), sorted(model.outcome));
    }
    prop_assert_eq!(snapshot(&mut brokers), snapshot(&mut expected));
    Ok(())
}

/// How much was collected at a time, and the order of Subscriptions, are a store's own.
fn sorted(mut outcome: Result<Done, StoreError>) -> Result<Done, StoreError> {
    let Ok(done) = &mut outcome else { return outcome };
    for reply in &mut done.replies {
        match reply {
            Reply::Session(Some(record)) => {
                record.subscriptions.sort_by(|one, other| one.filter.cmp(&other.filter));
            }
            Reply::Collected(collected) => {
                collected.sessions.sort_unstable();
                (collected.messages, collected.has_more) = (0, false);
            }
            _ => {}
        }
    }
    outcome
}

fn snapshot(brokers: &mut [Client; 2]) -> Snapshot {
    let [reader, _] = brokers;
    let retained = all_retained(reader);
    let queues = SESSIONS.map(|id| queue(reader, id)).collect();
    let sessions = brokers.iter_mut().map(|broker| (broker.owner.0, sessions(broker))).collect();
    Snapshot { sessions, queues, retained }
}

/// Two brokers that quarrel about a few Sessions of a few clients.
fn story() -> impl Strategy<Value = Vec<Step>> {
    let batch = (prop_oneof![Just(BROKERS[0]), Just(BROKERS[1])], vec(operation(), 1..6));
    vec(batch, 1..40).prop_map(number)
}

/// What the port asks of a broker: no place in a queue and no id of a packet's message is given
/// twice, and nothing is acknowledged that was never there.
fn number(mut story: Vec<Step>) -> Vec<Step> {
    let (mut places, mut packets) = (0, 0);
    let known = |drawn: u64, count: u64| 1 + drawn % count.max(1);
    for operation in story.iter_mut().flat_map(|(_, operations)| operations) {
        match operation {
            Operation::Enqueue { pointers, .. } => {
                for pointer in pointers {
                    places += 1;
                    pointer.sequence = places;
                }
            }
            Operation::Acknowledge { sequence, .. }
            | Operation::Forget { sequence, .. }
            | Operation::Release { sequence, .. } => {
                // Before the first one there is none at place 0.
                *sequence = known(*sequence, places) * u64::from(places > 0);
            }
            Operation::PutIncoming { message: put, .. } => {
                packets += 1;
                *put = message(PACKETS + packets);
            }
            Operation::RouteIncoming { message, .. }
            | Operation::RemoveIncoming { message, .. } => {
                *message = MessageId(PACKETS + known(message.0, packets) * u64::from(packets > 0));
            }
            _ => {}
        }
    }
    story
}

fn operation() -> impl Strategy<Value = Operation> {
    let session = || (1..4u64, 1..3u64).prop_map(|(id, counter)| session(id, counter));
    let (sequence, id) = (|| 1..100u64, || 1..8u64);
    let packet_id = || (1..3u16).prop_map(packet);
    let place = (session(), sequence(), any::<bool>());
    let pointers = vec(
        place.prop_map(|(session, sequence, may_repeat)| Pointer {
            may_repeat,
            ..pointer(session, sequence)
        }),
        1..4,
    );
    prop_oneof![
        3 => (session(), proptest::option::of(sequence())).prop_map(|(it, sent_below)| {
            let user = SessionUser::Known(Some("alice".into()));
            put_session_sent(sent_below, user, it, &(it.id.0 % 2).to_string())
        }),
        2 => (0..2u32, 1..4u64).prop_map(|(client, counter)| Operation::TakeSession {
            client_id: client.to_string().into(),
            epoch: epoch(counter),
        }),
        1 => (1..4u64, 1..3u32).prop_map(|(counter, limit)| Operation::TakeSessions {
            former: Some(OwnerId(BROKERS[0])),
            slots: Slots::Only(vec![7]),
            epoch: epoch(counter),
            limit,
        }),
        1 => session().prop_map(Operation::EndSession),
        2 => (session(), "[ab]/[+c]").prop_map(|(it, filter)| subscribe(it, &filter)),
        1 => (session(), "[ab]/[+c]").prop_map(|(session, filter)| {
            Operation::RemoveSubscription { session, filter: super::words::filter(&filter) }
        }),
        6 => (id(), pointers).prop_map(|(id, pointers)| enqueue(&message(id), distinct(pointers))),
        3 => (session(), sequence(), id()).prop_map(|(it, at, id)| acknowledge(it, at, id)),
        3 => (session(), sequence(), id()).prop_map(|(it, at, id)| forget(it, at, id)),
        2 => (session(), sequence(), id()).prop_map(|(it, at, id)| release(it, at, id)),
        3 => (session(), packet_id(), id()).prop_map(|(session, packet_id, id)| {
            Operation::PutIncoming { session, packet_id, message: message(id) }
        }),
        2 => (session(), packet_id(), id()).prop_map(|(session, packet_id, id)| {
            Operation::RouteIncoming { session, packet_id, message: MessageId(id) }
        }),
        2 => (session(), packet_id(), id()).prop_map(|(session, packet_id, id)| {
            Operation::RemoveIncoming { session, packet_id, message: MessageId(id) }
        }),
        1 => (session(), id()).prop_map(|(session, id)| {
            Operation::PutWill { session, will: will(id, Some(1)) }
        }),
        1 => (session(), proptest::option::of(id())).prop_map(|(session, id)| {
            Operation::RemoveWill { session, message: id.map(MessageId) }
        }),
        1 => Just(Operation::DueWills { limit: 2 }),
        2 => ("[abc]", 1..5u64, 0..3u64).prop_map(|(topic, time, id)| {
            Operation::PutRetained(retained(&topic, time, (id > 0).then(|| message(id))))
        }),
        1 => (0..2u8, 1..9u64).prop_map(|(stream, sequence)| {
            Operation::PutCursor { origin: OwnerId(5), stream, sequence }
        }),
        1 => Just(Operation::ListCursors { receiver: OwnerId(BROKERS[0]) }),
    ]
}

/// One message has one place in a queue.
fn distinct(mut pointers: Vec<Pointer>) -> Vec<Pointer> {
    pointers.sort_by_key(|pointer| pointer.session.id);
    pointers.dedup_by_key(|pointer| pointer.session.id);
    pointers
}

/// The messages of packets are others than those that are put into queues.
const PACKETS: u64 = 1_000;
const BROKERS: [u128; 2] = [1, 2];
const SESSIONS: std::ops::Range<u64> = 1..4;
