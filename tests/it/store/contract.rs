//! What every store does, whatever it keeps things in: a table of cases.

use std::sync::Arc;

use mqttzoo::mqtt::QoS;
use mqttzoo::ports::auth::SessionUser;
use mqttzoo::ports::message::MessageId;
use mqttzoo::ports::store::{
    Collected, CursorRecord, IncomingRecord, Operation, OwnerId, PacketState, Pointer, QueueEnds,
    QueuedState, Reply, SessionId, SessionLife, SessionRecord, Slots, Store, StoreError,
    StoredMessage,
};
use mqttzoo::runtime::Background;
use mqttzoo::store::{MemoryStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};

use super::client::Client;
use super::words::{
    acknowledge, all_retained, enqueue, epoch, forget, life, message, message_of, packet, pointer,
    properties, put_session, put_session_of, put_session_sent, queue, release, repeatable,
    retained, sequences, session, sessions, sessions_under, subscribe, subscription, tag, take,
    topic, will,
};
use crate::harness::{Postgres, fresh_dir};

#[test]
fn memory_holds_the_contract() {
    check(|| Box::new(MemoryStore::new()));
}

#[test]
fn sqlite_holds_the_contract() {
    let parent = fresh_dir("store-contract");
    let mut number = 0;
    check(|| {
        number += 1;
        Box::new(sqlite(&parent.join(number.to_string())))
    });
    std::fs::remove_dir_all(parent).unwrap();
}

#[test]
fn postgres_holds_the_contract() {
    let Some(server) = Postgres::shared() else { return };
    let background = Background::start(1).unwrap();
    check(|| Box::new(postgres(&server.fresh_database(), &background)));
}

pub(crate) fn sqlite(directory: &std::path::Path) -> SqliteStore {
    std::fs::create_dir_all(directory).unwrap();
    let patience = std::time::Duration::from_secs(30);
    let options = SqliteOptions { directory: directory.to_owned(), patience, hook: None };
    SqliteStore::start(options).unwrap()
}

pub(crate) fn postgres(database: &str, background: &Background) -> PostgresStore {
    PostgresStore::start(PostgresOptions::parse(database).unwrap(), &background.handle())
}

/// Runs a store through all cases, each with an empty one.
fn check(mut empty: impl FnMut() -> Box<dyn Store>) {
    for (name, case) in CASES {
        eprintln!("{name}");
        case(&*empty());
    }
}

type Case = fn(&dyn Store);

const CASES: [(&str, Case); 24] = [
    ("brokers_are_numbered", brokers_are_numbered),
    ("a_session_is_read_back", a_session_is_read_back),
    ("a_newer_claim_fences_the_older", a_newer_claim_fences_the_older),
    ("the_rest_of_a_batch_goes_on", the_rest_of_a_batch_goes_on),
    ("a_dead_broker_writes_nothing", a_dead_broker_writes_nothing),
    ("a_clean_start_ends_the_former_session", a_clean_start_ends_the_former_session),
    ("a_message_is_stored_as_it_is", a_message_is_stored_as_it_is),
    ("a_queue_is_read_in_pages", a_queue_is_read_in_pages),
    ("an_acknowledged_delivery_is_gone_from_one_queue", an_acknowledged_delivery_is_gone),
    ("a_released_delivery_is_only_released", a_released_delivery_is_only_released),
    ("what_may_repeat_is_taken_once", what_may_repeat_is_taken_once),
    ("what_another_member_has_may_come_again", what_another_member_has_may_come_again),
    ("a_packet_is_known_until_it_is_released", a_packet_is_known_until_it_is_released),
    ("a_packet_that_comes_anew_replaces_the_former", a_packet_replaces_the_former),
    ("a_batch_may_come_twice", a_batch_may_come_twice),
    ("a_session_keeps_its_user", a_session_keeps_its_user),
    ("sessions_change_hands_by_slot_and_owner", sessions_change_hands_by_slot_and_owner),
    ("how_far_a_queue_was_sent_is_known", how_far_a_queue_was_sent_is_known),
    ("the_later_retained_message_counts", the_later_retained_message_counts),
    ("a_will_is_due_when_its_time_has_come", a_will_is_due_when_its_time_has_come),
    ("cursors_only_go_up", cursors_only_go_up),
    ("long_names_are_told_apart", long_names_are_told_apart),
    ("what_is_over_is_collected_in_parts", what_is_over_is_collected_in_parts),
    ("tickets_complete_in_order", tickets_complete_in_order),
];

fn brokers_are_numbered(store: &dyn Store) {
    let mut one = Client::new(store, 1);
    assert_eq!(one.run([put_session(session(1, 1), "c")]), Err(StoreError::Fenced));
    let first = one.register(Some(10));
    assert_eq!(one.register(Some(10)), first, "it asks again");
    let second = Client::new(store, 2).register(Some(10));
    assert!(second.number > first.number);
    assert_eq!(second.era, first.era);
    let third = Client::new(store, 3).register(Some(9));
    assert_eq!(third.era, first.era + 1, "the znodes were made anew");
    let fourth = Client::new(store, 4).register(None);
    assert_eq!(fourth.era, third.era);
}

fn a_session_is_read_back(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    assert_eq!(take(&mut broker, "c", 1), None);
    let ours = session(1, 1);
    let life = SessionLife { expiry_interval_secs: 300, expires_at_millis: Some(5_000_000) };
    let client_id: Arc<str> = "c".into();
    broker.must([
        put_session(ours, "c"),
        subscribe(ours, "a/#"),
        subscribe(ours, "b/+"),
        subscribe(ours, "$share/g/c"),
        Operation::RemoveSubscription { session: ours, filter: super::words::filter("b/+") },
        Operation::PutWill { session: ours, will: will(9, None) },
        Operation::PutSession {
            session: ours,
            client_id,
            user: alice(),
            slot: 7,
            life,
            sent_below: Some(4),
        },
        Operation::PutIncoming { session: ours, packet_id: packet(65_535), message: message(5) },
        enqueue(&message(6), vec![pointer(ours, 3)]),
        enqueue(&message(7), vec![pointer(ours, 4)]),
        enqueue(&message(8), vec![pointer(ours, 9)]),
    ]);
    let found = take(&mut broker, "c", 1).expect("it was put");
    assert_eq!((found.session, &*found.client_id, found.life), (ours, "c", life));
    assert_eq!(found.user, alice());
    assert_eq!(found.will, Some(will(9, None)));
    assert_eq!(found.subscriptions, [subscription("$share/g/c"), subscription("a/#")]);
    let (packet_id, message) = (packet(65_535), MessageId(5));
    let incoming = IncomingRecord { packet_id, message, state: PacketState::Routing };
    assert_eq!(found.incoming, [incoming]);
    assert_eq!(found.queue, Some(QueueEnds { first: 3, last: 9, count: 3 }));
    assert_eq!((found.next_sequence, found.sent_below), (10, Some(4)));
    assert_eq!(sessions(&mut broker), [found]);
    broker.must([
        Operation::RemoveWill { session: ours, message: None },
        Operation::EndSession(ours),
    ]);
    assert_eq!(take(&mut broker, "c", 1), None);
    assert_eq!(sessions(&mut broker), []);
}

fn a_newer_claim_fences_the_older(store: &dyn Store) {
    let (mut one, mut other) = (Client::registered(store, 1), Client::registered(store, 2));
    let before = session(1, 1);
    one.must([put_session(before, "c"), enqueue(&message(1), vec![pointer(before, 1)])]);
    let refused =
        other.run([Operation::TakeSession { client_id: "c".into(), epoch: epoch(1) }]).unwrap();
    assert_eq!(refused.fenced, [before], "the same claim is another broker's");
    assert_eq!(refused.replies, [Reply::Session(None)]);
    let after = session(1, 2);
    assert_eq!(take(&mut other, "c", 2).unwrap().session, after);
    assert_eq!(take(&mut other, "c", 2).unwrap().session, after, "it asks again");

    let writes = [
        put_session(before, "c"),
        subscribe(before, "a"),
        Operation::RemoveSubscription { session: before, filter: super::words::filter("a") },
        enqueue(&message(2), vec![pointer(before, 2)]),
        acknowledge(before, 1, 1),
        release(before, 1, 1),
        Operation::PutIncoming { session: before, packet_id: packet(1), message: message(3) },
        Operation::RouteIncoming { session: before, packet_id: packet(1), message: MessageId(3) },
        Operation::RemoveIncoming { session: before, packet_id: packet(1), message: MessageId(3) },
        Operation::PutWill { session: before, will: will(4, None) },
        Operation::RemoveWill { session: before, message: None },
        Operation::EndSession(before),
        enqueue(&message(2), vec![pointer(after, 2)]),
        put_session(session(77, 1), "c"),
    ];
    // By the claim that was named, and not by that which counts.
    let named = [before; 12].into_iter().chain([after, session(77, 1)]);
    for (write, named) in writes.into_iter().zip(named) {
        let done = one.run([write.clone()]).unwrap();
        assert_eq!(done.fenced, [named], "{write:?}");
    }
    let found = take(&mut other, "c", 2).unwrap();
    assert_eq!(found.queue, Some(QueueEnds { first: 1, last: 1, count: 1 }));
    assert!(found.subscriptions.is_empty() && found.incoming.is_empty() && found.will.is_none());
    assert_eq!(take(&mut one, "c", 3).unwrap().session, session(1, 3), "and back");
}

fn the_rest_of_a_batch_goes_on(store: &dyn Store) {
    let (mut one, mut other) = (Client::registered(store, 1), Client::registered(store, 2));
    let (lost, kept) = (session(1, 1), session(2, 1));
    one.must([put_session(lost, "lost"), put_session(kept, "kept")]);
    take(&mut other, "lost", 2);
    let done = one
        .run([
            enqueue(&message(1), vec![pointer(lost, 1), pointer(kept, 1)]),
            enqueue(&message(2), vec![pointer(lost, 2)]),
            subscribe(kept, "a"),
        ])
        .unwrap();
    assert_eq!(done.fenced, [lost]);
    assert_eq!(sequences(&mut one, 1), [0; 0]);
    assert_eq!(sequences(&mut one, 2), [1]);
    assert_eq!(sessions(&mut one)[0].subscriptions, [subscription("a")]);
}

fn a_dead_broker_writes_nothing(store: &dyn Store) {
    let (mut one, mut other) = (Client::registered(store, 1), Client::registered(store, 2));
    one.must([put_session(session(1, 1), "c")]);
    other.must([Operation::DeclareDead(OwnerId(1))]);
    assert_eq!(one.run([put_session(session(2, 1), "d")]), Err(StoreError::Fenced));
    let register = one.run([Operation::Register { root: None }]);
    assert_eq!(register, Err(StoreError::Fenced), "a dead boot id stays dead");
    assert_eq!(take(&mut other, "c", 2).unwrap().session.id, SessionId(1));
    assert_eq!(take(&mut other, "d", 2), None);
}

fn a_clean_start_ends_the_former_session(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let (former, new) = (session(1, 1), session(2, 1));
    broker.must([put_session(former, "c"), enqueue(&message(1), vec![pointer(former, 1)])]);
    broker.must([put_session(new, "c"), enqueue(&message(2), vec![pointer(new, 1)])]);
    let found = take(&mut broker, "c", 1).unwrap();
    assert_eq!((found.session.id, found.queue.unwrap().last), (SessionId(2), 1));
    let late = broker.run([enqueue(&message(3), vec![pointer(former, 2)])]).unwrap();
    assert_eq!(late.fenced, [former]);
    let again = broker.run([put_session(former, "c")]).unwrap();
    assert_eq!(again.fenced, [former], "a Session that is over does not come back");
    assert_eq!(sequences(&mut broker, 1), [0; 0]);
    assert_eq!(queue(&mut broker, 2)[0].message, Some(message(2)));
}

fn a_message_is_stored_as_it_is(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    let full = Arc::new(StoredMessage {
        id: MessageId(u64::MAX),
        properties: Some(properties()),
        qos: QoS::ExactlyOnce,
        retain: true,
        expires_at_millis: Some(9_000_000_000_000),
        payload: vec![0, 1, 255].into(),
        ..(*message(1)).clone()
    });
    let empty = message_of(2, "");
    let bare = pointer(ours, 2);
    let tagged =
        Pointer { qos: QoS::ExactlyOnce, retain: true, tag: Some(tag()), ..pointer(ours, 1) };
    broker.must([
        put_session(ours, "c"),
        enqueue(&full, vec![tagged]),
        enqueue(&empty, vec![bare]),
    ]);
    let read = queue(&mut broker, 1);
    assert_eq!(read[0].message.as_ref(), Some(&full));
    assert_eq!((read[0].qos, read[0].retain, &read[0].tag), (QoS::ExactlyOnce, true, &Some(tag())));
    assert_eq!(read[1].message, Some(empty));
    assert_eq!((read[1].qos, read[1].retain, &read[1].tag), (QoS::AtLeastOnce, false, &None));
}

fn a_queue_is_read_in_pages(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    broker.must([put_session(ours, "c")]);
    let large = |id| message_of(id, vec![b'x'; 100]);
    let all = (1..=20).map(|id| enqueue(&large(id), vec![pointer(ours, 2 * id)]));
    broker.must(all.collect::<Vec<_>>());
    let mut page = |after, limit, bytes_max| {
        let read = Operation::ReadQueue { session: ours.id, after, limit, bytes_max };
        let Reply::Queue(page) = broker.ask(read) else { panic!("not a queue") };
        page.iter().map(|queued| queued.sequence).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 3, 1_000_000), [2, 4, 6]);
    assert_eq!(page(6, 2, 1_000_000), [8, 10]);
    assert_eq!(page(7, 1, 1_000_000), [8]);
    assert_eq!(page(0, 20, 250), [2, 4]);
    assert_eq!(page(0, 20, 1), [2], "at least one");
    assert_eq!(page(38, 20, 1_000), [40]);
    assert_eq!(page(40, 20, 1_000), [0; 0]);
}

fn an_acknowledged_delivery_is_gone(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let (one, other) = (session(1, 1), session(2, 1));
    broker.must([put_session(one, "1"), put_session(other, "2")]);
    broker.must([enqueue(&message(1), vec![pointer(one, 1), pointer(other, 1)])]);
    broker.must([acknowledge(one, 1, 1)]);
    broker.must([acknowledge(one, 1, 1)]);
    assert_eq!(sequences(&mut broker, 1), [0; 0]);
    assert_eq!(queue(&mut broker, 2)[0].message, Some(message(1)), "the other still needs it");
    // In one batch with what it acknowledges.
    broker.must([
        enqueue(&message(2), vec![pointer(one, 2)]),
        acknowledge(one, 2, 2),
        acknowledge(other, 1, 1),
    ]);
    assert_eq!(sequences(&mut broker, 1), [0; 0]);
    assert_eq!(sequences(&mut broker, 2), [0; 0]);
}

fn a_released_delivery_is_only_released(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    broker.must([put_session(ours, "c"), enqueue(&message(1), vec![pointer(ours, 1)])]);
    for _ in 0..2 {
        broker.must([release(ours, 1, 1)]);
        let read = queue(&mut broker, 1);
        assert_eq!((read[0].state, &read[0].message), (QueuedState::Released, &None));
    }
    broker.must([acknowledge(ours, 1, 1)]);
    assert_eq!(sequences(&mut broker, 1), [0; 0]);
}

fn what_may_repeat_is_taken_once(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    broker.must([put_session(ours, "c"), enqueue(&message(1), vec![repeatable(ours, 1)])]);
    broker.must([enqueue(&message(1), vec![repeatable(ours, 2)])]);
    assert_eq!(sequences(&mut broker, 1), [1]);
    broker.must([acknowledge(ours, 1, 1)]);
    broker.must([enqueue(&message(1), vec![repeatable(ours, 3)])]);
    assert_eq!(sequences(&mut broker, 1), [0; 0], "it was delivered");
    let found = take(&mut broker, "c", 1).unwrap();
    assert_eq!((found.queue, found.next_sequence), (None, 2), "its place is not given again");
    broker.now_millis += 10_000;
    collect(&mut broker, 100);
    broker.must([enqueue(&message(1), vec![repeatable(ours, 4)])]);
    assert_eq!(sequences(&mut broker, 1), [4], "it is forgotten in the end");
}

fn what_another_member_has_may_come_again(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let (one, other) = (session(1, 1), session(2, 1));
    broker.must([put_session(one, "one"), put_session(other, "other")]);
    broker.must([enqueue(&message(1), vec![repeatable(one, 1)])]);
    let to_other = [enqueue(&message(1), vec![repeatable(other, 1)]), forget(one, 1, 1)];
    broker.must(to_other.clone());
    assert_eq!((sequences(&mut broker, 1), sequences(&mut broker, 2)), (vec![], vec![1]));
    let found = take(&mut broker, "one", 1).unwrap();
    assert_eq!((found.queue, found.next_sequence), (None, 2), "its place is not given again");
    // There and back in one batch, which may come twice.
    let back = [
        enqueue(&message(1), vec![repeatable(one, 2)]),
        forget(other, 1, 1),
        enqueue(&message(1), vec![repeatable(other, 2)]),
        forget(one, 2, 1),
        enqueue(&message(1), vec![repeatable(one, 3)]),
        forget(other, 2, 1),
    ];
    for batch in [to_other.to_vec(), back.to_vec(), back.to_vec()] {
        broker.must(batch);
    }
    assert_eq!((sequences(&mut broker, 1), sequences(&mut broker, 2)), (vec![3], vec![]));
    assert_eq!(queue(&mut broker, 1)[0].message, Some(message(1)));
    // What was delivered is not to come again.
    broker.must([acknowledge(one, 3, 1), forget(one, 3, 1)]);
    broker.must([enqueue(&message(1), vec![repeatable(one, 4)])]);
    assert_eq!(sequences(&mut broker, 1), [0; 0]);
    broker.must([enqueue(&message(2), vec![pointer(one, 5)]), forget(one, 5, 2)]);
    assert_eq!(sequences(&mut broker, 1), [0; 0], "so does what comes once");
}

fn a_packet_is_known_until_it_is_released(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    let put = |packet_id, id| Operation::PutIncoming {
        session: ours,
        packet_id: packet(packet_id),
        message: message(id),
    };
    let route = |packet_id, id| Operation::RouteIncoming {
        session: ours,
        packet_id: packet(packet_id),
        message: MessageId(id),
    };
    let remove = |packet_id, id| Operation::RemoveIncoming {
        session: ours,
        packet_id: packet(packet_id),
        message: MessageId(id),
    };
    let read =
        |packet_id| Operation::ReadIncoming { session: ours.id, packet_id: packet(packet_id) };
    broker.must([put_session(ours, "c"), put(1, 1), put(2, 2)]);
    assert_eq!(broker.ask(read(1)), Reply::Message(Some(message(1))));
    broker.must([route(1, 1)]);
    broker.must([put(1, 1)]);
    assert_eq!(broker.ask(read(1)), Reply::Message(None), "it need not be routed again");
    let found = take(&mut broker, "c", 1).unwrap();
    let states: Vec<_> = found.incoming.iter().map(|it| (it.packet_id.get(), it.state)).collect();
    assert_eq!(states, [(1, PacketState::Routed), (2, PacketState::Routing)]);
    broker.must([remove(1, 1), remove(2, 2), put(1, 3)]);
    broker.must([remove(1, 1)]);
    let found = take(&mut broker, "c", 1).unwrap();
    let ids: Vec<_> = found.incoming.iter().map(|it| it.message.0).collect();
    assert_eq!(ids, [3], "a late PUBREL is for the message before");
    assert_eq!(broker.ask(read(1)), Reply::Message(Some(message(3))));
}

/// A COMMIT was in doubt, and the client has sent its message again.
fn a_packet_replaces_the_former(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let (ours, other) = (session(1, 1), session(2, 1));
    broker.must([put_session(ours, "1"), put_session(other, "2")]);
    let (packet_id, put) = (packet(1), |id| vec![pointer(ours, id), pointer(other, id)]);
    let taken = |id| {
        let (session, message) = (ours, message(id));
        let routed = message.id;
        [
            enqueue(&message, put(id)),
            Operation::PutIncoming { session, packet_id, message },
            Operation::RouteIncoming { session, packet_id, message: routed },
        ]
    };
    broker.must([enqueue(&message(9), put(9)), enqueue(&message(8), vec![repeatable(ours, 8)])]);
    broker.must(taken(10));
    broker.must([release(other, 10, 10)]);
    broker.must(taken(11));
    assert_eq!(sequences(&mut broker, 1), [8, 9, 11], "the former is gone from where it waited");
    assert_eq!(sequences(&mut broker, 2), [9, 10, 11], "but not where it was sent");
    broker.must(taken(11));
    assert_eq!(sequences(&mut broker, 1), [8, 9, 11], "the same again replaces nothing");
    let remove = Operation::RemoveIncoming { session: ours, packet_id, message: MessageId(11) };
    broker.must([remove]);
    broker.must(taken(12));
    assert_eq!(sequences(&mut broker, 1), [8, 9, 11, 12], "what was released is another one");
    // In one group, as well.
    broker.must(taken(13).into_iter().chain(taken(14)).collect::<Vec<_>>());
    assert_eq!(sequences(&mut broker, 1), [8, 9, 11, 14]);
}

fn a_batch_may_come_twice(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let ours = session(1, 1);
    broker.must([put_session(ours, "c"), enqueue(&message(1), vec![pointer(ours, 1)])]);
    let batch = [
        put_session(ours, "c"),
        subscribe(ours, "a"),
        enqueue(&message(2), vec![pointer(ours, 2)]),
        enqueue(&message(3), vec![repeatable(ours, 3)]),
        enqueue(&message(4), vec![pointer(ours, 4)]),
        acknowledge(ours, 1, 1),
        release(ours, 4, 4),
        Operation::PutIncoming { session: ours, packet_id: packet(1), message: message(5) },
        Operation::PutRetained(retained("a/b", 1, Some(message(6)))),
        Operation::PutCursor { origin: OwnerId(9), stream: 15, sequence: 8 },
        Operation::PutWill { session: ours, will: will(7, None) },
    ];
    let snapshot = |broker: &mut Client| (sessions(broker), queue(broker, 1), all_retained(broker));
    broker.must(batch.clone());
    let once = snapshot(&mut broker);
    broker.must(batch);
    assert_eq!(snapshot(&mut broker), once);
}

/// Whose a Session is stays known, also that it is nobody's in particular, or that nobody knows.
fn a_session_keeps_its_user(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let users = [
        SessionUser::Unknown,
        SessionUser::Known(None),
        SessionUser::Known(Some("".into())),
        SessionUser::Known(Some("-".into())),
        SessionUser::Known(Some("\u{fc}ser =1".into())),
    ];
    for (id, user) in (1..).zip(&users) {
        broker.must([put_session_of(user.clone(), session(id, 1), &id.to_string())]);
    }
    let found: Vec<_> = sessions(&mut broker).into_iter().map(|found| found.user).collect();
    assert_eq!(found, users);
    // Who comes to one of which nobody knew is its user.
    broker.must([put_session_of(alice(), session(1, 1), "1")]);
    assert_eq!(take(&mut broker, "1", 1).map(|found| found.user), Some(alice()));
}

fn alice() -> SessionUser {
    SessionUser::Known(Some("alice".into()))
}

fn sessions_change_hands_by_slot_and_owner(store: &dyn Store) {
    let mut dead = Client::registered(store, 1);
    let mut adopter = Client::registered(store, 2);
    let of_slot_under = |id: u64, slot, counter| Operation::PutSession {
        session: session(id, counter),
        client_id: id.to_string().into(),
        user: SessionUser::Unknown,
        slot,
        life: life(),
        sent_below: None,
    };
    let of_slot = |id, slot| of_slot_under(id, slot, 1);
    dead.must((1..=6).map(|id| of_slot(id, u16::from(id > 2))));
    let mut bystander = Client::registered(store, 3);
    bystander.must([of_slot(7, 1)]);
    let adopt = |slots, limit| Operation::TakeSessions {
        former: Some(OwnerId(1)),
        slots,
        epoch: epoch(2),
        limit,
    };
    assert_eq!(adopter.ask(adopt(Slots::Only(vec![1, 1_023]), 3)), Reply::Count(3));
    assert_eq!(adopter.ask(adopt(Slots::Only(vec![1, 1_023]), 3)), Reply::Count(1));
    let ids =
        |client: &mut Client| sessions(client).iter().map(|it| it.session.id.0).collect::<Vec<_>>();
    assert_eq!(ids(&mut adopter), [3, 4, 5, 6]);
    assert_eq!(ids(&mut dead), [1, 2]);
    // What is its own besides is not read again.
    adopter.must([subscribe(session(3, 2), "a"), of_slot_under(8, 1, 3), of_slot_under(9, 1, 1)]);
    adopter.must([subscribe(session(8, 3), "b"), subscribe(session(9, 1), "c")]);
    let mut under = |counter| {
        let found = sessions_under(&mut adopter, Some(epoch(counter)));
        assert!(found.iter().all(|it| it.session.epoch == epoch(counter)));
        let of = |it: &SessionRecord| (it.session.id.0, it.subscriptions.len());
        found.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(under(2), [(3, 1), (4, 0), (5, 0), (6, 0)]);
    assert_eq!((under(1), under(3), under(4)), (vec![(9, 1)], vec![(8, 1)], vec![]));
    adopter.must([8, 9].map(|id| Operation::EndSession(session(id, if id == 8 { 3 } else { 1 }))));
    assert_eq!(adopter.ask(adopt(Slots::All, 10)), Reply::Count(2));
    let all =
        Operation::TakeSessions { former: None, slots: Slots::All, epoch: epoch(2), limit: 10 };
    assert_eq!(adopter.ask(all), Reply::Count(1));
    assert_eq!(ids(&mut adopter), [1, 2, 3, 4, 5, 6, 7]);
    assert!(sessions(&mut adopter).iter().all(|it| it.session.epoch == epoch(2)));
    // What was taken within a batch is fenced from there on.
    let late = bystander.run([subscribe(session(7, 1), "a")]).unwrap();
    assert_eq!(late.fenced, [session(7, 1)]);
    adopter.must([subscribe(session(7, 2), "a")]);
}

/// Also of a Session whose broker was killed before it could say so.
fn how_far_a_queue_was_sent_is_known(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let taken = |broker: &mut Client, counter| take(broker, "c", counter).unwrap().sent_below;
    let place = |counter, at| enqueue(&message(at), vec![pointer(session(1, counter), at)]);
    broker.must([put_session(session(1, 1), "c"), place(1, 3), place(1, 4)]);
    assert_eq!(sessions(&mut broker)[0].sent_below, None, "it may be sent all of it");
    assert_eq!(taken(&mut broker, 2), Some(5));
    broker.must([place(2, 5)]);
    assert_eq!(taken(&mut broker, 3), Some(5), "what came since was not sent");
    let all =
        Operation::TakeSessions { former: None, slots: Slots::All, epoch: epoch(4), limit: 9 };
    assert_eq!(broker.ask(all), Reply::Count(1));
    assert_eq!(sessions(&mut broker)[0].sent_below, Some(5));

    let sent = |counter, below| put_session_sent(below, alice(), session(1, counter), "c");
    broker.must([sent(4, Some(6))]);
    assert_eq!(taken(&mut broker, 5), Some(6));
    broker.must([3, 4, 5].map(|at| acknowledge(session(1, 5), at, at)));
    assert_eq!(taken(&mut broker, 6), Some(1), "the places of an empty queue are given anew");

    broker.must([sent(6, None), place(6, 3), place(6, 100_000)]);
    assert_eq!(taken(&mut broker, 7), Some(65_538), "there are no more Packet Identifiers");
}

fn the_later_retained_message_counts(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let put = |name: &str, time, id: u64| {
        Operation::PutRetained(retained(name, time, (id > 0).then(|| message(id))))
    };
    broker.must([put("a", 2, 1), put("a", 1, 2), put("b", 1, 3), put("b", 2, 0), put("c", 5, 4)]);
    broker.must([put("c", 4, 0), put("d", 1, 5)]);
    let now: Vec<_> = all_retained(&mut broker)
        .into_iter()
        .map(|it| (it.topic.to_string(), it.version.time, it.message.map(|it| it.id.0)))
        .collect();
    let expected = [("a", 2, Some(1)), ("b", 2, None), ("c", 5, Some(4)), ("d", 1, Some(5))];
    assert_eq!(now, expected.map(|(name, time, id)| (name.to_owned(), time, id)));
    broker.must([put("b", 1, 6)]);
    broker.now_millis += 10_000;
    assert!(collect(&mut broker, 100).retained >= 1, "the deletion is forgotten");
    assert_eq!(all_retained(&mut broker).len(), 3);
    let expiring = StoredMessage { expires_at_millis: Some(1), ..(*message(7)).clone() };
    let record = retained("e", 1, Some(Arc::new(expiring)));
    broker.must([Operation::PutRetained(record)]);
    assert_eq!(collect(&mut broker, 100).retained, 1);
    assert_eq!(all_retained(&mut broker).len(), 3);
}

fn a_will_is_due_when_its_time_has_come(store: &dyn Store) {
    let (mut broker, mut other) = (Client::registered(store, 1), Client::registered(store, 2));
    for (id, fires_at) in [(1, Some(1_005_000)), (2, None), (3, Some(1_001_000))] {
        let ours = session(id, 1);
        let put = Operation::PutWill { session: ours, will: will(id, fires_at) };
        broker.must([put_session(ours, &id.to_string()), put]);
    }
    other.must([put_session(session(4, 1), "4")]);
    let due = |client: &mut Client| {
        let Reply::Wills(due) = client.ask(Operation::DueWills { limit: 10 }) else {
            panic!("not wills")
        };
        due
    };
    assert_eq!(due(&mut broker), []);
    broker.now_millis = 1_005_000;
    let found = due(&mut broker);
    let ids: Vec<_> = found.iter().map(|it| it.session.id.0).collect();
    assert_eq!(ids, [3, 1]);
    assert_eq!(found[1].will, will(1, Some(1_005_000)));
    assert_eq!(due(&mut other), []);
    let gone = |id| Operation::RemoveWill { session: session(3, 1), message: Some(MessageId(id)) };
    broker.must([gone(1)]);
    assert_eq!(due(&mut broker), found, "it is the one of that name that is gone");
    broker.must([gone(3), Operation::EndSession(session(1, 1))]);
    assert_eq!(due(&mut broker), []);
    let wills: Vec<_> = sessions(&mut broker).into_iter().map(|it| it.will).collect();
    assert_eq!(wills, [Some(will(2, None)), None]);
    broker.must([Operation::PutWill { session: session(2, 1), will: will(5, Some(7)) }]);
    assert_eq!(sessions(&mut broker)[0].will, Some(will(5, Some(7))), "it is due now");
}

fn cursors_only_go_up(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let put =
        |stream, sequence| Operation::PutCursor { origin: OwnerId(u128::MAX), stream, sequence };
    broker.must([put(0, 5), put(0, 4), put(15, 1)]);
    broker.must([put(0, 3), put(15, 2)]);
    Client::registered(store, 2).must([put(0, 100)]);
    let cursor = |stream, sequence| CursorRecord { origin: OwnerId(u128::MAX), stream, sequence };
    let listed = broker.ask(Operation::ListCursors { receiver: OwnerId(1) });
    assert_eq!(listed, Reply::Cursors(vec![cursor(0, 5), cursor(15, 2)]));
}

fn long_names_are_told_apart(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let long = |end: &str| "x".repeat(65_000) + end;
    let ours = session(1, 1);
    broker.must([put_session(ours, &long("1")), put_session(session(2, 1), &long("2"))]);
    broker.must([subscribe(ours, &long("1")), subscribe(ours, &long("2"))]);
    broker.must([
        Operation::PutRetained(retained(&long("1"), 1, Some(message(1)))),
        Operation::PutRetained(retained(&long("2"), 1, Some(message(2)))),
        Operation::PutRetained(retained("short", 1, Some(message(3)))),
    ]);
    let found = take(&mut broker, &long("1"), 1).unwrap();
    assert_eq!(*found.client_id, *long("1"));
    assert_eq!(found.subscriptions, [subscription(&long("1")), subscription(&long("2"))]);
    assert_eq!(take(&mut broker, &long("2"), 1).unwrap().session.id, SessionId(2));
    let topics: Vec<_> = all_retained(&mut broker).into_iter().map(|it| it.topic).collect();
    assert_eq!(topics, [topic("short"), topic(&long("1")), topic(&long("2"))]);
}

fn what_is_over_is_collected_in_parts(store: &dyn Store) {
    let mut broker = Client::registered(store, 1);
    let (over, stays, forgotten) = (session(1, 1), session(2, 1), session(3, 1));
    let life = SessionLife { expiry_interval_secs: 1, expires_at_millis: Some(1_000) };
    broker.must([
        put_session(over, "over"),
        put_session(stays, "stays"),
        Operation::PutSession {
            session: forgotten,
            client_id: "f".into(),
            user: alice(),
            slot: 1,
            life,
            sent_below: None,
        },
        subscribe(over, "a"),
    ]);
    let expiring =
        Arc::new(StoredMessage { expires_at_millis: Some(1_000), ..(*message(50)).clone() });
    let shared = message(40);
    let many = (1..=10).map(|id| enqueue(&message(id), vec![pointer(over, id)]));
    broker.must(many.collect::<Vec<_>>());
    broker.must([
        enqueue(&shared, vec![pointer(over, 11), pointer(stays, 1)]),
        enqueue(&expiring, vec![pointer(stays, 2)]),
        Operation::EndSession(over),
    ]);
    let first = collect(&mut broker, 4);
    assert_eq!(first.sessions, [SessionId(3)]);
    assert!(first.has_more && first.pointers <= 5, "{first:?}");
    let mut pointers = first.pointers;
    for round in 0.. {
        let next = collect(&mut broker, 4);
        pointers += next.pointers;
        assert!(round < 10, "it comes to an end");
        if !next.has_more {
            break;
        }
    }
    assert_eq!(pointers, 12, "eleven of the Session, one that expired");
    assert_eq!(queue(&mut broker, 2)[0].message, Some(shared));
    assert_eq!(sequences(&mut broker, 2), [1]);
    assert_eq!(sessions(&mut broker).len(), 1);
}

fn tickets_complete_in_order(store: &dyn Store) {
    let (mut one, mut other) = (Client::registered(store, 1), Client::registered(store, 2));
    let (mine, theirs) = (session(1, 1), session(2, 1));
    one.must([put_session(mine, "1")]);
    other.must([put_session(theirs, "2")]);
    let mut tickets = (Vec::new(), Vec::new());
    for id in 1..=500 {
        let batch = one.batch([enqueue(&message(id), vec![pointer(mine, id)])]);
        tickets.0.push(one.submit(batch));
        let batch = other.batch([enqueue(&message(1_000 + id), vec![pointer(theirs, id)])]);
        tickets.1.push(other.submit(batch));
    }
    for (client, tickets) in [(&mut one, tickets.0), (&mut other, tickets.1)] {
        let completed: Vec<_> = tickets.iter().map(|_| client.next()).collect();
        assert!(completed.iter().all(|it| it.outcome.is_ok()));
        let order: Vec<_> = completed.iter().map(|it| it.ticket).collect();
        assert_eq!(order, tickets);
    }
    assert_eq!(sequences(&mut one, 1), (1..=500).collect::<Vec<_>>());
    assert_eq!(sequences(&mut other, 2), (1..=500).collect::<Vec<_>>());
}

pub(crate) fn collect(client: &mut Client, limit: u32) -> Collected {
    let before = client.now_millis;
    let collect = Operation::Collect {
        sessions_before_millis: before,
        messages_before_millis: before,
        memories_before_millis: before,
        limit,
    };
    match client.ask(collect) {
        Reply::Collected(collected) => collected,
        other => panic!("{other:?}"),
    }
}
