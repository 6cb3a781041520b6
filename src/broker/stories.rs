//! Bugs the broker once had, each with its story: what happened, why, and what holds it now.
//!
//! The stage drives [`Connection`]s with packets, as a gateway would, without sockets or time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::broker::card::Origin;
use crate::broker::connection::Connection;
use crate::broker::options::ConnectionOptions;
use crate::broker::replay::SCANS_MAX;
use crate::broker::shard::Shard;
use crate::broker::subscribe::INDEX_BATCH_MAX;
use crate::broker::turn::Turn;
use crate::mqtt::{
    Connect, ConnectProperties, Disconnect, Frame, Packet, PacketId, ProtocolVersion, Puback,
    Publish, QoS, ReasonCode, Sender, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use crate::ports::clock::Tick;
use crate::session::mailbox::MailboxOptions;
use crate::session::outbox::Outbox;

mod answers;
mod foreign;
mod latest;
mod own;
mod relief;
pub(super) mod store;

/// A broker on one shard, at a time that stands still.
pub(super) struct Stage {
    pub(super) broker: Broker,
    pub(super) shard: Shard,
    pub(super) now: Tick,
}

/// One client's connection.
pub(super) struct Actor {
    pub(super) connection: Connection,
    version: ProtocolVersion,
}

impl Stage {
    pub(super) fn new(options: BrokerOptions) -> Self {
        let broker = Broker::new(options, Guards::default(), Seeds { hash: 7, instance: 8 });
        let shard = Shard::new(&broker);
        Self { broker, shard, now: Tick::ZERO }
    }

    /// Connects; returns what was answered.
    pub(super) fn connect(
        &mut self,
        id: &str,
        version: ProtocolVersion,
        expiry_secs: u32,
    ) -> (Actor, Vec<Packet>) {
        let (mut actor, connect) = actor(id, version, expiry_secs, self.now);
        let answers = self.send(&mut actor, &connect);
        (actor, answers)
    }

    pub(super) fn send(&mut self, actor: &mut Actor, packet: &Packet) -> Vec<Packet> {
        let mut bytes = BytesMut::new();
        packet.encode(actor.version, &mut bytes);
        self.turn(actor, |connection, turn| {
            connection.receive(turn, &mut bytes.split().freeze(), 1, Waker::noop());
        })
    }

    /// Gives a connection its turn; returns what it sends.
    pub(super) fn poll(&mut self, actor: &mut Actor) -> Vec<Packet> {
        self.turn(actor, |_, _| {})
    }

    pub(super) fn lose(&mut self, mut actor: Actor) {
        self.turn(&mut actor, |connection, turn| connection.handle_lost(turn, "cut"));
    }

    fn turn(
        &mut self,
        actor: &mut Actor,
        work: impl FnOnce(&mut Connection, &mut Turn<'_>),
    ) -> Vec<Packet> {
        let mut outbox = Outbox::new();
        let Self { broker, shard, now } = self;
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        work(&mut actor.connection, turn);
        let _progress = actor.connection.advance(turn, 1_000, usize::MAX, Waker::noop());
        shard.end_turn(*now);
        decode(actor.version, &outbox)
    }
}

fn actor(id: &str, version: ProtocolVersion, expiry_secs: u32, now: Tick) -> (Actor, Packet) {
    let origin =
        Origin { address: Arc::from("here"), listener: Arc::from("stage"), tls_common_name: None };
    let options = Arc::new(ConnectionOptions::default());
    let connection = Connection::new(origin, options, now);
    let connect = Connect {
        protocol_version: version,
        clean_start: expiry_secs == 0,
        keep_alive_secs: 0,
        client_id: id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval_secs: NonZeroU32::new(expiry_secs).map(NonZeroU32::get),
            ..ConnectProperties::default()
        },
    };
    (Actor { connection, version }, Packet::Connect(Box::new(connect)))
}

fn decode(version: ProtocolVersion, outbox: &Outbox) -> Vec<Packet> {
    let mut bytes = Bytes::copy_from_slice(outbox.contiguous().unwrap());
    let mut packets = Vec::new();
    while let Some(frame) = Frame::peek(&bytes, usize::MAX).unwrap() {
        let whole = bytes.split_to(frame.total_len);
        packets.push(Packet::decode(version, Sender::Server, &whole).unwrap());
    }
    packets
}

pub(super) fn publish(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: smallvec::SmallVec::new(),
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    })
}

pub(super) fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    })
}

pub(super) fn payloads(packets: &[Packet]) -> Vec<String> {
    let text = |packet: &Packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some(String::from_utf8(publish.payload.to_vec()).unwrap())
    };
    packets.iter().filter_map(text).collect()
}

/// A queue for one message that refuses the second.
pub(super) fn narrow() -> BrokerOptions {
    let options = BrokerOptions::default();
    let queue = MailboxOptions { messages_max: 1, ..(*options.persistent_queue).clone() };
    BrokerOptions { persistent_queue: Arc::new(queue), ..options }
}

/// A CONNECT named an Authentication Method of 65,535 bytes. The refusal repeated it in a Reason
/// String, which was then longer than a string can be: encoding it ended the broker.
#[test]
fn a_reason_string_is_never_longer_than_a_string_can_be() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut stranger, connect) = actor("a", ProtocolVersion::V5, 0, Tick::ZERO);
    let Packet::Connect(mut connect) = connect else { unreachable!("it was made as one") };
    let method = "\u{fffd}".repeat(usize::from(u16::MAX) / 3);
    connect.properties.authentication_method = Some(method.into());
    let answers = stage.send(&mut stranger, &Packet::Connect(connect));
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::BadAuthenticationMethod);
}

/// A Session was parked and given to the connection that had claimed it in one step. Its expiry had
/// been scheduled before, and nobody cancelled it: every takeover left a timer for seven days.
#[test]
fn a_takeover_leaves_no_timer() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut first, _) = stage.connect("a", ProtocolVersion::V5, 600);
    for _ in 0..3 {
        let (mut second, answers) = stage.connect("a", ProtocolVersion::V5, 600);
        assert!(answers.is_empty(), "the owner has not given the Session up yet");
        let farewell = stage.poll(&mut first);
        assert!(matches!(&farewell[..], [Packet::Disconnect(_)]), "{farewell:?}");
        let answers = stage.poll(&mut second);
        assert!(matches!(&answers[..], [Packet::Connack(connack)] if connack.session_present));
        assert_eq!(stage.broker.timers().len(), 0);
        first = second;
    }
    stage.lose(first);
    assert_eq!(stage.broker.timers().len(), 1);
}

/// A QoS 2 publish of a 3.1.1 client was refused because a queue was full, which 3.1.1 cannot say:
/// the connection was closed. Its identifier stayed among those received, so that the client's
/// second try was answered as a duplicate, and nobody ever got the message.
#[test]
fn a_publish_that_was_not_answered_is_new_when_it_comes_again() {
    let mut stage = Stage::new(narrow());
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V311, 600);
    stage.send(&mut reader, &subscribe("t", QoS::AtLeastOnce));
    stage.lose(reader);
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 600);
    stage.send(&mut writer, &publish("t", "one", QoS::ExactlyOnce, 1));
    assert!(stage.send(&mut writer, &publish("t", "two", QoS::ExactlyOnce, 2)).is_empty());
    stage.now = stage.now.plus_millis(ConnectionOptions::default().publish_hold_millis);
    assert!(stage.poll(&mut writer).is_empty());
    assert!(writer.connection.is_closed());

    let (mut reader, answers) = stage.connect("reader", ProtocolVersion::V311, 600);
    assert_eq!(payloads(&answers), ["one"]);
    let puback = Puback::new(PacketId::MIN, ReasonCode::Success);
    stage.send(&mut reader, &Packet::Puback(puback));
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 600);
    let answers = stage.send(&mut writer, &publish("t", "two", QoS::ExactlyOnce, 2));
    assert!(matches!(&answers[..], [Packet::Pubrec(_)]), "{answers:?}");
    assert_eq!(payloads(&stage.poll(&mut reader)), ["two"]);
}

/// What a member of a Shared Subscription had not been sent when it left, and nobody else could
/// take, was put back one by one at the front of its queue: in reverse.
#[test]
fn what_a_lone_member_leaves_waits_in_order() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut member, _) = stage.connect("member", ProtocolVersion::V5, 600);
    stage.send(&mut member, &subscribe("$share/g/t", QoS::AtLeastOnce));
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    for (id, payload) in ["one", "two", "three"].into_iter().enumerate() {
        let id = u16::try_from(id + 1).unwrap();
        stage.send(&mut writer, &publish("t", payload, QoS::AtLeastOnce, id));
    }
    stage.lose(member);
    let (_member, answers) = stage.connect("member", ProtocolVersion::V5, 600);
    assert_eq!(payloads(&answers), ["one", "two", "three"]);
}

/// The last member of a group that was there ended its Session with a message in flight. Another
/// member was away, with a Session that lasts; the message was dropped instead of waiting for it.
#[test]
fn what_an_ended_session_had_in_flight_waits_for_a_member_that_is_away() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut away, _) = stage.connect("away", ProtocolVersion::V5, 600);
    stage.send(&mut away, &subscribe("$share/g/t", QoS::AtLeastOnce));
    stage.lose(away);
    let (mut ending, _) = stage.connect("ending", ProtocolVersion::V5, 0);
    stage.send(&mut ending, &subscribe("$share/g/t", QoS::AtLeastOnce));
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    stage.send(&mut writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    assert_eq!(payloads(&stage.poll(&mut ending)), ["one"]);
    let goodbye = Disconnect::new(ReasonCode::Success);
    stage.send(&mut ending, &Packet::Disconnect(Box::new(goodbye)));
    let (_away, answers) = stage.connect("away", ProtocolVersion::V5, 600);
    assert_eq!(payloads(&answers), ["one"]);
    assert!(answers.iter().all(|packet| !matches!(packet, Packet::Publish(p) if p.dup)));
}

/// A client asked for many retained messages at once and was not read until it had them; they
/// waited for acknowledgements that were not read.
#[test]
fn acknowledgements_are_read_while_retained_messages_wait() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    for number in 0..3_000_u16 {
        let Packet::Publish(retained) =
            publish(&format!("t/{number}"), "x", QoS::AtLeastOnce, number + 1)
        else {
            unreachable!("it was made as one")
        };
        stage.send(&mut writer, &Packet::Publish(Publish { retain: true, ..retained }));
    }
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V5, 0);
    let mut received = 0;
    let mut unacknowledged = Vec::new();
    for number in 0..3_000_u16 {
        let answers = stage.send(&mut reader, &subscribe(&format!("t/{number}"), QoS::AtLeastOnce));
        unacknowledged.extend(answers);
    }
    while let Some(packet) = unacknowledged.pop() {
        if let Packet::Publish(publish) = packet {
            received += 1;
            let puback = Puback::new(publish.packet_id.unwrap(), ReasonCode::Success);
            unacknowledged.extend(stage.send(&mut reader, &Packet::Puback(puback)));
        }
    }
    assert_eq!(received, 3_000);
}

/// Story: each filter of a SUBSCRIBE looked through the replays of all the others, and the index was
/// locked until the last one was in it: 100,000 filters in one packet froze their shard,
/// and every other shard that had something to route. Replays cannot be looked through any
/// more; what is left is counted here: each filter is looked for once, a bounded number in a turn,
/// and the lock is given up in between.
#[test]
fn the_work_of_a_subscribe_grows_with_its_filters_and_is_cut_into_batches() {
    let mut stage = Stage::new(BrokerOptions::default());
    let (mut client, _) = stage.connect("many", ProtocolVersion::V5, 0);
    let filters = (0..FILTERS).map(|number| SubscribeFilter {
        filter: format!("filter/{number}").into(),
        options: SubscriptionOptions::default(),
    });
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: filters.collect(),
    });
    let batches = FILTERS.div_ceil(INDEX_BATCH_MAX) as u64;
    let before = stage.broker.counters().totals();
    stage.send(&mut client, &subscribe);
    let mut scans = 0;
    for _ in 0..=FILTERS.div_ceil(SCANS_MAX) {
        let totals = stage.broker.counters().totals();
        let in_turn = totals.retained_scans - scans;
        assert!(in_turn <= SCANS_MAX as u64, "{in_turn} scans in a turn");
        scans = totals.retained_scans;
        stage.poll(&mut client);
    }
    assert_eq!(scans, FILTERS as u64);
    let batches_seen = stage.broker.counters().totals().index_batches - before.index_batches;
    assert_eq!(batches_seen, batches);
    stage.lose(client);
    let batches_seen = stage.broker.counters().totals().index_batches - before.index_batches;
    assert_eq!(batches_seen, 2 * batches, "the end of the Session is cut as well");
}

const FILTERS: usize = 10_000;

/// Clients of 3.1.1 whose queues were full of each other's messages published at once after CONNACK.
/// Each was sent away, since 3.1.1 cannot be told that a queue is full, before the acknowledgements
/// were read that would have made room; nobody got in until the queues began to drop.
#[test]
fn clients_whose_queues_are_full_of_each_others_messages_let_each_other_in() {
    let mut stage = Stage::new(narrow());
    let (mut filler, _) = stage.connect("filler", ProtocolVersion::V311, 0);
    for name in ["a", "b"] {
        let (mut client, _) = stage.connect(name, ProtocolVersion::V311, 600);
        stage.send(&mut client, &subscribe(name, QoS::AtLeastOnce));
        stage.lose(client);
        let answers = stage.send(&mut filler, &publish(name, "old", QoS::AtLeastOnce, 1));
        assert!(matches!(&answers[..], [Packet::Puback(_)]), "{answers:?}");
    }
    let (mut a, answers) = stage.connect("a", ProtocolVersion::V311, 600);
    assert_eq!(payloads(&answers), ["old"]);
    let (mut b, answers) = stage.connect("b", ProtocolVersion::V311, 600);
    assert_eq!(payloads(&answers), ["old"]);
    assert!(stage.send(&mut a, &publish("b", "from a", QoS::AtLeastOnce, 7)).is_empty());
    assert!(stage.send(&mut b, &publish("a", "from b", QoS::ExactlyOnce, 7)).is_empty());
    let puback = Packet::Puback(Puback::new(PacketId::MIN, ReasonCode::Success));
    for client in [&mut a, &mut b] {
        assert!(payloads(&stage.send(client, &puback)).is_empty());
    }
    let (to_a, to_b) = (stage.poll(&mut a), stage.poll(&mut b));
    assert!(matches!(&to_a[..], [Packet::Puback(_), Packet::Publish(_)]), "{to_a:?}");
    assert_eq!((payloads(&to_a), payloads(&to_b)), (vec!["from b".into()], vec!["from a".into()]));
    let counters = stage.broker.counters().totals();
    assert_eq!((counters.publishes_held, counters.publishes_refused), (2, 0));
}

/// What is held keeps its order, and no more than so much of it is held: the rest is not read.
#[test]
fn a_burst_into_a_full_queue_waits_in_order() {
    let mut stage = Stage::new(narrow());
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V311, 600);
    stage.send(&mut reader, &subscribe("t", QoS::AtLeastOnce));
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 600);
    let mut burst = BytesMut::new();
    for number in 1..=200 {
        let packet = publish("t", &number.to_string(), QoS::AtLeastOnce, number);
        packet.encode(writer.version, &mut burst);
    }
    let mut burst = burst.freeze();
    let mut received = payloads(&stage.poll(&mut reader));
    let mut answered = 0;
    let mut taken_first = None;
    while received.len() < 200 {
        let answers = stage.turn(&mut writer, |connection, turn| {
            if connection.may_read(turn).is_ok() {
                let taken = connection.receive(turn, &mut burst, 1_000, Waker::noop());
                taken_first.get_or_insert(taken);
            }
        });
        answered += answers.len();
        assert!(!writer.connection.is_closed());
        let messages = stage.poll(&mut reader);
        for packet in &messages {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            let puback = Puback::new(publish.packet_id.unwrap(), ReasonCode::Success);
            let more = stage.send(&mut reader, &Packet::Puback(puback));
            assert!(more.is_empty(), "the queue is for one message: {more:?}");
        }
        received.extend(payloads(&messages));
    }
    assert_eq!(taken_first, Some(129), "one for the queue, and as many as are held");
    assert_eq!(answered, 200);
    assert_eq!(received, (1..=200).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(stage.broker.counters().totals().reads_deferred_by_hold > 0);
}

/// A client whose publish is held loses its connection: what was held is not answered, and new when
/// it comes again. While it is held nothing but its time closes the connection.
#[test]
fn what_is_held_is_given_up_in_time() {
    let mut stage = Stage::new(narrow());
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V311, 600);
    stage.send(&mut reader, &subscribe("t", QoS::AtLeastOnce));
    stage.lose(reader);
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 600);
    stage.send(&mut writer, &publish("t", "taken", QoS::AtLeastOnce, 1));
    for (id, payload) in [(2, "held"), (3, "behind")] {
        let answers = stage.send(&mut writer, &publish("t", payload, QoS::AtLeastOnce, id));
        assert!(answers.is_empty(), "{answers:?}");
    }
    let answers = stage.send(&mut writer, &Packet::Pingreq);
    assert!(matches!(&answers[..], [Packet::Pingresp]), "{answers:?}");
    let hold_millis = ConnectionOptions::default().publish_hold_millis;
    let ends_at = stage.now.plus_millis(hold_millis);
    while stage.now < ends_at {
        assert!(!writer.connection.is_closed());
        stage.now = writer.connection.deadline().expect("a try is due");
        assert!(stage.poll(&mut writer).is_empty());
    }
    assert!(writer.connection.is_closed());
    let counters = stage.broker.counters().totals();
    assert_eq!((counters.held_publishes_dropped, counters.publishes_refused), (2, 1));
}
