//! Stories of a store that takes its time, or fails.

mod handed_on;
mod levels;
mod replays;
mod slow;
mod turned_away;

use super::*;
use crate::mqtt::{Pubcomp, Pubrec, Pubrel, Unsubscribe};
use crate::ports::store::{Operation, OwnerId};

pub(in crate::broker) use slow::{Answers, Slow};

fn stage() -> (Stage, Slow) {
    stage_with(BrokerOptions::default())
}

fn stage_with(options: BrokerOptions) -> (Stage, Slow) {
    let store = Slow::default();
    let durable = Durable::new(Arc::new(store.clone()), OwnerId(1), 0);
    let seeds = Seeds { hash: 7, instance: 8 };
    let broker = Broker::new(options, Guards::default(), seeds).with_store(Arc::new(durable));
    let shard = Shard::new(&broker);
    (Stage { broker, shard, now: Tick::ZERO }, store)
}

impl Stage {
    /// The store's answers come in.
    fn hear_store(&mut self) {
        let Self { broker, shard, now } = self;
        let mut outbox = Outbox::new();
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        let _owes = turn.poll_store(Waker::noop());
        shard.end_turn(*now);
    }

    /// Nobody comes; the store is told what it has missed if it has to be.
    fn remind_store(&mut self) -> bool {
        let Self { broker, shard, now } = self;
        let mut outbox = Outbox::new();
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        let owes = turn.poll_store(Waker::noop());
        turn.remind_store();
        shard.end_turn(*now);
        owes
    }

    /// A client whose Session is kept, and what it was sent when the store had answered.
    fn keep(&mut self, id: &str) -> (Actor, Vec<Packet>) {
        let (mut client, early) = self.connect(id, ProtocolVersion::V5, 600);
        assert_eq!(early, [], "CONNACK waits");
        self.hear_store();
        let answers = self.poll(&mut client);
        (client, answers)
    }

    fn may_read(&mut self, actor: &mut Actor) -> bool {
        let Self { broker, shard, now } = self;
        let mut outbox = Outbox::new();
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        actor.connection.may_read(turn).is_ok()
    }

    /// Time passes until what waits for the store has waited long enough.
    fn lose_patience(&mut self, actor: &mut Actor) -> Vec<Packet> {
        self.now = self.now.plus_millis(self.broker.options().store_wait_millis);
        assert!(actor.connection.deadline().is_some_and(|at| at <= self.now), "it is woken");
        self.turn(actor, Connection::handle_timeout)
    }

    fn sleeper(&mut self, filter: &str) {
        let (mut sleeper, _connack) = self.keep("sleeper");
        self.send(&mut sleeper, &subscribe(filter, QoS::ExactlyOnce));
        self.hear_store();
        assert!(matches!(*self.poll(&mut sleeper), [Packet::Suback(_)]));
        self.lose(sleeper);
        self.hear_store();
    }
}

fn reason_of(answers: &[Packet]) -> ReasonCode {
    match answers {
        [Packet::Connack(connack)] => connack.reason_code,
        [Packet::Disconnect(disconnect)] => disconnect.reason_code,
        other => panic!("{other:?}"),
    }
}

fn is_present(answers: &[Packet]) -> bool {
    let [Packet::Connack(connack)] = answers else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::Success);
    connack.session_present
}

/// A SUBSCRIBE waited for the store when its connection broke. Its SUBACK was sent on the next one,
/// or the next one was closed for its failure.
#[test]
fn a_suback_that_waits_for_the_store_ends_with_its_connection() {
    for outcome in [Answers::Good, Answers::Failure] {
        let (mut stage, store) = stage();
        let (mut client, _connack) = stage.keep("client");
        store.answer(Answers::None);
        assert_eq!(stage.send(&mut client, &subscribe("a", QoS::AtLeastOnce)), []);
        stage.lose(client);
        store.answer(outcome);
        stage.hear_store();
        store.answer(Answers::Good);
        let (mut client, answers) = stage.keep("client");
        assert!(is_present(&answers));
        assert_eq!(stage.poll(&mut client), []);
    }
}

#[test]
fn a_publish_waits_for_a_silent_store_within_a_bound() {
    let (mut stage, store) = stage();
    stage.sleeper("a");
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    store.answer(Answers::None);
    assert_eq!(stage.send(&mut publisher, &publish("a", "x", QoS::AtLeastOnce, 1)), []);
    let answers = stage.lose_patience(&mut publisher);
    assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
    assert!(publisher.connection.is_closed());
}

/// Nobody knows what became of it: the publisher asks again, and it is there once.
#[test]
fn a_message_of_qos_2_that_waited_too_long_is_there_once() {
    let (mut stage, store) = stage();
    stage.sleeper("a");
    let (mut publisher, _connack) = stage.keep("publisher");
    store.answer(Answers::None);
    let Packet::Publish(message) = publish("a", "x", QoS::ExactlyOnce, 1) else { panic!() };
    assert_eq!(stage.send(&mut publisher, &Packet::Publish(message.clone())), []);
    let answers = stage.lose_patience(&mut publisher);
    assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
    store.answer(Answers::Good);
    stage.hear_store();
    let (mut publisher, answers) = stage.keep("publisher");
    assert!(is_present(&answers));
    let again = Packet::Publish(Publish { dup: true, ..message });
    let answers = stage.send(&mut publisher, &again);
    assert!(matches!(&*answers, [Packet::Pubrec(Pubrec { .. })]), "{answers:?}");
    let is_enqueue = |operation: &Operation| matches!(operation, Operation::Enqueue { .. });
    assert_eq!(store.count(is_enqueue), 1);
    let pubrel = Pubrel::new(PacketId::MIN, ReasonCode::Success);
    assert_eq!(stage.send(&mut publisher, &Packet::Pubrel(pubrel)), [], "PUBCOMP waits");
}

#[test]
fn connect_waits_for_a_silent_store_within_a_bound() {
    let (mut stage, store) = stage();
    let (client, _connack) = stage.keep("client");
    stage.lose(client);
    store.answer(Answers::None);
    for _ in 0..2 {
        let (mut client, answers) = stage.connect("client", ProtocolVersion::V5, 600);
        assert_eq!(answers, []);
        let answers = stage.lose_patience(&mut client);
        assert_eq!(reason_of(&answers), ReasonCode::ServerUnavailable);
    }
    store.answer(Answers::Good);
    stage.hear_store();
    let (_client, answers) = stage.keep("client");
    assert!(is_present(&answers), "it was there all the time");
}

/// A message of QoS 2 waited for the store, and its client sent it again and again: each time it was to
/// be answered once more, in one turn, and however often that was, the client was read on.
#[test]
fn repeats_of_a_message_that_waits_count_as_what_waits() {
    let (mut stage, store) = stage();
    stage.sleeper("a");
    let (mut publisher, _connack) = stage.keep("publisher");
    store.answer(Answers::None);
    let message = publish("a", "x", QoS::ExactlyOnce, 1);
    let mut sent = 0;
    while stage.may_read(&mut publisher) {
        assert_eq!(stage.send(&mut publisher, &message), []);
        sent += 1;
        assert!(sent <= 1_024, "it is read without end");
    }
    store.answer(Answers::Good);
    stage.hear_store();
    assert_eq!(stage.poll(&mut publisher).len(), sent, "each is answered [MQTT-4.3.3-10]");
    assert!(stage.may_read(&mut publisher));
}

/// A connection ended while the store was asked for what follows in its queue. The next one waited for
/// an answer that nobody took, and its client got no more.
#[test]
fn what_a_connection_has_asked_for_is_asked_for_again_by_the_next_one() {
    let (mut stage, store) = stage();
    stage.sleeper("a");
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    for id in 1..=100 {
        stage.send(&mut publisher, &publish("a", "x", QoS::AtLeastOnce, id));
        stage.hear_store();
    }
    let is_page = |operation: &Operation| matches!(operation, Operation::ReadQueue { .. });
    let (sleeper, answers) = stage.keep("sleeper");
    assert_eq!((payloads(&answers).len(), store.count(is_page)), (64, 1));
    stage.lose(sleeper);
    stage.hear_store();
    stage.keep("sleeper");
    assert_eq!(store.count(is_page), 2);
}

/// A client of a Session that is not kept does not wait, but for the end of one that was.
#[test]
fn a_clean_start_waits_until_the_former_session_has_ended() {
    let (mut stage, store) = stage();
    let (client, _connack) = stage.keep("client");
    stage.lose(client);
    store.answer(Answers::None);
    let (_other, answers) = stage.connect("other", ProtocolVersion::V5, 0);
    assert!(!is_present(&answers));
    let (mut client, answers) = stage.connect("client", ProtocolVersion::V5, 0);
    assert_eq!(answers, []);
    store.answer(Answers::Good);
    stage.hear_store();
    assert!(!is_present(&stage.poll(&mut client)));
}

/// The store failed when a Session ended. When the broker was started anew the Session was there.
#[test]
fn what_nobody_waits_for_is_told_again_to_a_store_that_failed() {
    let (mut stage, store) = stage();
    let (mut client, _connack) = stage.keep("client");
    store.answer(Answers::Failure);
    let good_bye = Disconnect {
        reason_code: ReasonCode::Success,
        session_expiry_interval_secs: Some(0),
        reason_string: None,
        user_properties: Vec::new(),
        server_reference: None,
    };
    stage.send(&mut client, &Packet::Disconnect(Box::new(good_bye)));
    stage.hear_store();
    let is_end = |operation: &Operation| matches!(operation, Operation::EndSession(_));
    assert_eq!(store.count(is_end), 1);
    store.answer(Answers::Good);
    stage.keep("other");
    assert_eq!(store.count(is_end), 2);
    stage.hear_store();
    stage.keep("third");
    assert_eq!(store.count(is_end), 2);
}

/// The same, and nobody came to that shard any more: the store was not told.
#[test]
fn what_nobody_waits_for_is_told_again_although_nobody_comes() {
    let (mut stage, store) = stage();
    let (mut publisher, _connack) = stage.keep("publisher");
    stage.send(&mut publisher, &publish("a", "x", QoS::ExactlyOnce, 5));
    stage.hear_store();
    stage.poll(&mut publisher);
    store.answer(Answers::Failure);
    stage.send(&mut publisher, &pubrel(5));
    stage.hear_store();
    for tries in 2..4 {
        assert!(stage.remind_store(), "it fails");
        assert_eq!(store.count(is_removal), tries);
        stage.hear_store();
    }
    store.answer(Answers::Good);
    assert!(stage.remind_store());
    stage.hear_store();
    assert_eq!(store.count(is_removal), 4);
    assert!(!stage.remind_store(), "it has been told");
    assert_eq!(store.count(is_removal), 4);
}

/// UNSUBACK waits for the store, and no longer than anything else.
#[test]
fn an_unsubscribe_waits_for_a_silent_store_within_a_bound() {
    let (mut stage, store) = stage();
    let (mut client, _connack) = stage.keep("client");
    stage.send(&mut client, &subscribe("a", QoS::AtLeastOnce));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut client), [Packet::Suback(_)]));
    store.answer(Answers::None);
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::MIN,
        user_properties: Vec::new(),
        filters: vec!["a".into()],
    };
    assert_eq!(stage.send(&mut client, &Packet::Unsubscribe(unsubscribe)), []);
    let answers = stage.lose_patience(&mut client);
    assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

fn pubrel(n: u16) -> Packet {
    Packet::Pubrel(Pubrel::new(id(n), ReasonCode::Success))
}

fn is_removal(operation: &Operation) -> bool {
    matches!(operation, Operation::RemoveIncoming { .. })
}

/// PUBREL came, and its connection broke before the store had forgotten the message. The client said
/// PUBREL again and was told at once that nothing was known of it. The broker was started anew, found
/// the message in the store, and took the next one with its identifier for the same.
#[test]
fn a_pubrel_that_is_repeated_waits_until_the_store_has_forgotten_the_message() {
    for outcome in [Answers::Good, Answers::Failure] {
        let (mut stage, store) = stage();
        let (mut publisher, _connack) = stage.keep("publisher");
        assert_eq!(stage.send(&mut publisher, &publish("a", "x", QoS::ExactlyOnce, 5)), []);
        stage.hear_store();
        assert!(matches!(*stage.poll(&mut publisher), [Packet::Pubrec(_)]));
        store.answer(Answers::None);
        assert_eq!(stage.send(&mut publisher, &pubrel(5)), []);
        stage.lose(publisher);
        store.answer(outcome);
        stage.hear_store();
        store.answer(Answers::Good);
        let (mut publisher, answers) = stage.keep("publisher");
        assert!(is_present(&answers));
        let removals = store.count(is_removal);
        assert_eq!(stage.send(&mut publisher, &pubrel(5)), [], "PUBCOMP waits");
        assert!(store.count(is_removal) > removals, "the store is told");
        stage.hear_store();
        let pubcomp = Packet::Pubcomp(Pubcomp::new(id(5), ReasonCode::Success));
        assert_eq!(stage.poll(&mut publisher), [pubcomp]);
    }
}

/// The client said PUBREL twice: the second one was answered at once, before the store had heard of
/// the first one.
#[test]
fn a_pubrel_that_comes_twice_is_answered_once_and_when_it_is_stored() {
    let (mut stage, store) = stage();
    let (mut publisher, _connack) = stage.keep("publisher");
    stage.send(&mut publisher, &publish("a", "x", QoS::ExactlyOnce, 5));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut publisher), [Packet::Pubrec(_)]));
    store.answer(Answers::None);
    assert_eq!(stage.send(&mut publisher, &pubrel(5)), []);
    assert_eq!(stage.send(&mut publisher, &pubrel(5)), []);
    store.answer(Answers::Good);
    stage.hear_store();
    let pubcomp = Packet::Pubcomp(Pubcomp::new(id(5), ReasonCode::Success));
    assert_eq!(stage.poll(&mut publisher), [pubcomp]);
}

/// The store failed when a message was released, and its client did not come again: the message was
/// there after the next start.
#[test]
fn a_store_that_failed_is_told_again_of_what_was_released() {
    let (mut stage, store) = stage();
    let (mut publisher, _connack) = stage.keep("publisher");
    stage.send(&mut publisher, &publish("a", "x", QoS::ExactlyOnce, 5));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut publisher), [Packet::Pubrec(_)]));
    store.answer(Answers::Failure);
    stage.send(&mut publisher, &pubrel(5));
    stage.hear_store();
    let answers = stage.poll(&mut publisher);
    assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
    store.answer(Answers::Good);
    stage.hear_store();
    stage.keep("other");
    assert_eq!(store.count(is_removal), 2);
}

fn is_release(operation: &Operation) -> bool {
    matches!(operation, Operation::Release { .. })
}

/// A client to whom a message of QoS 2 was sent, and the identifier of that.
fn receiver(stage: &mut Stage) -> (Actor, PacketId) {
    let (mut receiver, _connack) = stage.keep("receiver");
    stage.send(&mut receiver, &subscribe("a", QoS::ExactlyOnce));
    stage.hear_store();
    assert!(matches!(*stage.poll(&mut receiver), [Packet::Suback(_)]));
    let (mut publisher, _connack) = stage.connect("publisher", ProtocolVersion::V5, 0);
    stage.send(&mut publisher, &publish("a", "x", QoS::ExactlyOnce, 1));
    stage.hear_store();
    let answers = stage.poll(&mut receiver);
    let [Packet::Publish(message)] = &*answers else { panic!("{answers:?}") };
    let id = message.packet_id.unwrap();
    (receiver, id)
}

/// PUBREC came, and its connection broke before that was stored. PUBREL was sent on the next one at
/// once. The client answered it, and the broker, started anew, found a message to be sent.
#[test]
fn a_pubrel_is_not_sent_again_before_the_store_knows_of_the_pubrec() {
    for outcome in [Answers::Good, Answers::Failure] {
        let (mut stage, store) = stage();
        let (mut client, id) = receiver(&mut stage);
        store.answer(Answers::None);
        let received = Packet::Pubrec(Pubrec::new(id, ReasonCode::Success));
        assert_eq!(stage.send(&mut client, &received), []);
        stage.lose(client);
        store.answer(outcome);
        stage.hear_store();
        store.answer(Answers::Good);
        let (mut client, answers) = stage.keep("receiver");
        assert!(is_present(&answers), "PUBREL waits");
        assert_eq!(store.count(is_release), 2);
        stage.hear_store();
        let pubrel = Packet::Pubrel(Pubrel::new(id, ReasonCode::Success));
        let answers = stage.poll(&mut client);
        assert!(matches!(&*answers, [again] if *again == pubrel), "{answers:?}");
        // Now that the store has it, PUBREL does not wait.
        stage.lose(client);
        let (mut client, _connack) = stage.connect("receiver", ProtocolVersion::V5, 600);
        stage.hear_store();
        let answers = stage.poll(&mut client);
        assert!(matches!(&*answers, [Packet::Connack(_), again] if *again == pubrel));
        let pubcomp = Packet::Pubcomp(Pubcomp::new(id, ReasonCode::Success));
        assert_eq!(stage.send(&mut client, &pubcomp), []);
        let is_done = |operation: &Operation| matches!(operation, Operation::Acknowledge { .. });
        assert_eq!((store.count(is_release), store.count(is_done)), (2, 1));
    }
}

/// The client said PUBREC twice: the second one was answered at once, before the store had heard of
/// the first one.
#[test]
fn a_pubrec_that_comes_twice_is_answered_when_it_is_stored() {
    let (mut stage, store) = stage();
    let (mut client, id) = receiver(&mut stage);
    store.answer(Answers::None);
    let received = Packet::Pubrec(Pubrec::new(id, ReasonCode::Success));
    assert_eq!(stage.send(&mut client, &received), []);
    assert_eq!(stage.send(&mut client, &received), []);
    store.answer(Answers::Good);
    stage.hear_store();
    let answers = stage.poll(&mut client);
    assert!(matches!(&*answers, [Packet::Pubrel(_), Packet::Pubrel(_)]), "{answers:?}");
}

/// PUBREL that waits for a silent store is waited for within a bound, as on the first connection.
#[test]
fn a_pubrel_to_be_sent_again_waits_for_a_silent_store_within_a_bound() {
    let (mut stage, store) = stage();
    let (mut client, id) = receiver(&mut stage);
    store.answer(Answers::Failure);
    stage.send(&mut client, &Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
    stage.hear_store();
    assert_eq!(reason_of(&stage.poll(&mut client)), ReasonCode::ServerBusy);
    store.answer(Answers::Good);
    stage.hear_store();
    let (mut client, answers) = stage.connect("receiver", ProtocolVersion::V5, 600);
    assert_eq!(answers, []);
    stage.hear_store();
    store.answer(Answers::None);
    assert!(is_present(&stage.poll(&mut client)));
    assert_eq!(reason_of(&stage.lose_patience(&mut client)), ReasonCode::ServerBusy);
}
