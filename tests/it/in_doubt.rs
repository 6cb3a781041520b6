//! A COMMIT whose fate nobody knows: the store took a batch and could not say so, and the broker gave
//! it up. What was published with QoS 2 is there once all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use mqttzoo::broker::card::Origin;
use mqttzoo::broker::connection::{Connection, Progress};
use mqttzoo::broker::durable::Durable;
use mqttzoo::broker::options::{BrokerOptions, ConnectionOptions};
use mqttzoo::broker::shard::Shard;
use mqttzoo::broker::turn::Turn;
use mqttzoo::broker::{Broker, Guards, Seeds};
use mqttzoo::mqtt::{
    Frame, PACKET_SIZE_MAX, Packet, PacketId, ProtocolVersion, Pubcomp, Pubrec, Pubrel, QoS,
    ReasonCode, Sender,
};
use mqttzoo::ports::clock::Tick;
use mqttzoo::ports::store::{
    Batch, Completion, Full, Operation, OwnerId, Reply, Slots, Store, StoreError, StoreHealth,
    Submitter, Ticket,
};
use mqttzoo::session::mailbox::MailboxOptions;
use mqttzoo::session::outbox::Outbox;
use mqttzoo::store::MemoryStore;

use crate::stories::{connect, puback, publish, subscribe};

/// A store that takes everything, and while it is `in_doubt` says that it could not.
#[derive(Clone, Default)]
struct Doubtful {
    store: MemoryStore,
    in_doubt: Arc<AtomicBool>,
}

struct Door(Box<dyn Submitter>, Arc<AtomicBool>);

impl Store for Doubtful {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(Door(self.store.submitter(), Arc::clone(&self.in_doubt)))
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }
}

impl Submitter for Door {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        self.0.submit(batch)
    }

    fn poll(&mut self, waker: &Waker) -> Option<Completion> {
        let completion = self.0.poll(waker)?;
        if self.1.load(Ordering::Relaxed) {
            let outcome = Err(StoreError::Transient("the connection is gone".to_owned()));
            return Some(Completion { outcome, ..completion });
        }
        Some(completion)
    }
}

impl Doubtful {
    fn doubt(&self, is_in_doubt: bool) {
        self.in_doubt.store(is_in_doubt, Ordering::Relaxed);
    }

    fn ask(&self, owner: OwnerId, operation: Operation) -> Option<Reply> {
        let mut submitter = self.store.submitter();
        submitter.submit(Batch { owner, now_millis: 0, operations: vec![operation] }).unwrap();
        let done = submitter.poll(Waker::noop()).unwrap().outcome.unwrap();
        done.replies.into_iter().next()
    }
}

/// One life of a broker over a store.
struct Life {
    store: Doubtful,
    broker: Broker,
    shard: Shard,
    outbox: Outbox,
}

impl Life {
    /// The `number`th, with what the one before has left.
    fn begin(store: &Doubtful, number: u128, messages_max: usize) -> Self {
        let owner = OwnerId(number);
        let durable = Arc::new(Durable::new(Arc::new(store.clone()), owner, 0));
        let register = store.ask(owner, Operation::Register { root: None });
        let Some(Reply::Registered(registered)) = register else { panic!("{register:?}") };
        durable.note_registered(registered);
        let (former, slots, epoch) = (None, Slots::All, durable.epoch());
        store.ask(owner, Operation::TakeSessions { former, slots, epoch, limit: 100 });
        let options = BrokerOptions::default();
        let queue = MailboxOptions { messages_max, ..(*options.persistent_queue).clone() };
        let options = BrokerOptions { persistent_queue: Arc::new(queue), ..options };
        let broker = Broker::new(options, Guards::default(), Seeds { hash: 1, instance: 1 })
            .with_store(Arc::clone(&durable));
        let shard = Shard::new(&broker);
        let mut life = Self { store: store.clone(), broker, shard, outbox: Outbox::new() };
        let listed =
            store.ask(owner, Operation::ListSessions { claim: None, after: None, limit: 100 });
        let Some(Reply::Sessions(sessions)) = listed else { panic!("{listed:?}") };
        life.turn(|turn| {
            for record in &sessions {
                turn.restore_session(&durable, record).unwrap();
            }
        });
        life
    }

    fn turn<R>(&mut self, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let Self { broker, shard, outbox, .. } = self;
        let result = work(&mut Turn { broker, shard, now: Tick::ZERO, outbox });
        self.shard.end_turn(Tick::ZERO);
        result
    }

    fn hear_store(&mut self) {
        let _owes = self.turn(|turn| turn.poll_store(Waker::noop()));
    }

    /// What the client is sent once the store has answered all it was asked on its behalf.
    fn advance(&mut self, connection: &mut Connection) -> Vec<Packet> {
        for _ in 0..4 {
            self.hear_store();
            while self.turn(|turn| connection.advance(turn, 1_000, usize::MAX, Waker::noop()))
                == Progress::More
            {}
        }
        let mut bytes = Bytes::copy_from_slice(self.outbox.contiguous().unwrap());
        self.outbox.clear();
        let mut packets = Vec::new();
        while let Some(frame) = Frame::peek(&bytes, PACKET_SIZE_MAX).unwrap() {
            let packet = bytes.split_to(frame.total_len);
            packets.push(Packet::decode(V5, Sender::Server, &packet).unwrap());
        }
        packets
    }

    fn send(&mut self, connection: &mut Connection, packet: &Packet) -> Vec<Packet> {
        let mut bytes = BytesMut::new();
        packet.encode(V5, &mut bytes);
        let mut bytes = bytes.freeze();
        self.turn(|turn| connection.receive(turn, &mut bytes, 10, Waker::noop()));
        self.advance(connection)
    }

    /// A client whose Session is kept, and what it was sent behind CONNACK.
    fn enter(&mut self, name: &str) -> (Connection, Vec<Packet>) {
        let origin =
            Origin { address: "here".into(), listener: "test".into(), tls_common_name: None };
        let options = Arc::new(ConnectionOptions::default());
        let mut connection = Connection::new(origin, options, Tick::ZERO);
        let connect = Packet::Connect(Box::new(connect(name, V5, |_| {})));
        let mut answers = self.send(&mut connection, &connect);
        assert!(matches!(answers.first(), Some(Packet::Connack(_))), "{answers:?}");
        (connection, answers.split_off(1))
    }

    fn lose(&mut self, mut connection: Connection) {
        self.turn(|turn| connection.handle_lost(turn, "gone"));
        self.hear_store();
    }

    fn sleeper(&mut self) {
        let (mut sleeper, _) = self.enter("sleeper");
        let answers = self.send(&mut sleeper, &subscribe("a", QoS::ExactlyOnce));
        assert!(matches!(*answers, [Packet::Suback(_)]), "{answers:?}");
        self.lose(sleeper);
    }

    /// The publisher sends its message, and the store cannot say whether it has it.
    fn publish_in_doubt(&mut self, message: &Packet) {
        let (mut publisher, _) = self.enter("publisher");
        self.store.doubt(true);
        let answers = self.send(&mut publisher, message);
        assert_eq!(reason_of(&answers), ReasonCode::ServerBusy);
        assert!(publisher.is_closed());
        self.hear_store();
        self.store.doubt(false);
    }

    /// It sends it again, until it is done with it.
    fn publish_again(&mut self, message: &Packet) {
        let (mut publisher, _) = self.enter("publisher");
        let answers = self.send(&mut publisher, message);
        assert!(
            matches!(&*answers, [Packet::Pubrec(Pubrec { reason_code, .. })]
            if *reason_code < ReasonCode::UnspecifiedError),
            "{answers:?}"
        );
        let answers = self.send(&mut publisher, &pubrel());
        assert!(matches!(*answers, [Packet::Pubcomp(_)]), "{answers:?}");
        self.lose(publisher);
    }

    /// The payloads that the sleeper gets, each once.
    fn wake_sleeper(&mut self) -> Vec<String> {
        let (mut sleeper, mut packets) = self.enter("sleeper");
        let mut payloads = Vec::new();
        while !packets.is_empty() {
            let answers: Vec<_> =
                packets.iter().map(|packet| answer_to(packet, &mut payloads)).collect();
            packets = answers.iter().flat_map(|answer| self.send(&mut sleeper, answer)).collect();
        }
        self.lose(sleeper);
        payloads
    }
}

fn answer_to(packet: &Packet, payloads: &mut Vec<String>) -> Packet {
    if let Packet::Pubrel(pubrel) = packet {
        return Packet::Pubcomp(Pubcomp::new(pubrel.packet_id, SUCCESS));
    }
    let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
    payloads.push(String::from_utf8_lossy(&publish.payload).into_owned());
    let id = publish.packet_id.unwrap();
    match publish.qos {
        QoS::ExactlyOnce => Packet::Pubrec(Pubrec::new(id, SUCCESS)),
        QoS::AtMostOnce | QoS::AtLeastOnce => puback(id.get()),
    }
}

fn reason_of(packets: &[Packet]) -> ReasonCode {
    let [Packet::Disconnect(disconnect)] = packets else { panic!("{packets:?}") };
    disconnect.reason_code
}

fn message(payload: &'static str) -> Packet {
    publish("a", QoS::ExactlyOnce, ID, payload.as_bytes())
}

fn pubrel() -> Packet {
    Packet::Pubrel(Pubrel::new(PacketId::new(ID).unwrap(), SUCCESS))
}

/// The store gave a message up, and had it. Its publisher sent it again, and after the next start a
/// persistent Session had it twice.
#[test]
fn what_was_in_doubt_and_came_again_is_there_once_after_a_start() {
    let store = Doubtful::default();
    let mut life = Life::begin(&store, 1, 1_000);
    life.sleeper();
    life.publish_in_doubt(&message("x"));
    life.publish_in_doubt(&message("x"));
    life.publish_again(&message("x"));
    life.publish_again(&message("y"));
    let mut next = Life::begin(&store, 2, 1_000);
    assert_eq!(next.wake_sleeper(), ["x", "y"]);
    assert_eq!(next.wake_sleeper(), [""; 0]);
}

/// The broker is killed before the publisher comes again: what it repeats is there.
#[test]
fn what_was_in_doubt_and_comes_again_after_a_start_is_there_once() {
    let store = Doubtful::default();
    let mut life = Life::begin(&store, 1, 1_000);
    life.sleeper();
    life.publish_in_doubt(&message("x"));
    let mut next = Life::begin(&store, 2, 1_000);
    next.publish_again(&message("x"));
    next.publish_again(&message("y"));
    assert_eq!(next.wake_sleeper(), ["x", "y"]);
}

/// The queue was longer than what is kept in memory of it, so that a page was read which had what
/// the broker had given up.
#[test]
fn what_was_in_doubt_is_not_read_from_the_store() {
    let store = Doubtful::default();
    let mut life = Life::begin(&store, 1, 1_000);
    life.sleeper();
    for _ in 0..100 {
        life.publish_again(&message("before"));
    }
    life.publish_in_doubt(&message("x"));
    let mut payloads = life.wake_sleeper();
    assert_eq!(payloads.len(), 100, "its publisher has not sent it again yet");
    life.publish_again(&message("x"));
    payloads.extend(life.wake_sleeper());
    assert_eq!(payloads.split_off(100), ["x"]);
}

/// There was no room for the message when it came again. Its publisher was told that it was refused,
/// and used its identifier for another one: which a broker that was started then took for the one that
/// it found in the store.
#[test]
fn what_is_in_doubt_is_not_refused() {
    let store = Doubtful::default();
    let mut life = Life::begin(&store, 1, 2);
    life.sleeper();
    life.publish_again(&message("first"));
    life.publish_in_doubt(&message("x"));
    let (mut other, _) = life.enter("other");
    let filler = publish("a", QoS::AtLeastOnce, 1, b"filler");
    assert!(matches!(*life.send(&mut other, &filler), [Packet::Puback(_)]));
    let (mut publisher, _) = life.enter("publisher");
    let answers = life.send(&mut publisher, &message("x"));
    assert_eq!(reason_of(&answers), ReasonCode::QuotaExceeded);
    assert_eq!(life.wake_sleeper(), ["first", "filler"]);
    life.publish_again(&message("x"));
    assert_eq!(life.wake_sleeper(), ["x"]);
}

const V5: ProtocolVersion = ProtocolVersion::V5;
const SUCCESS: ReasonCode = ReasonCode::Success;
/// The identifier of all that the publisher sends.
const ID: u16 = 5;
