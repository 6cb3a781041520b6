//! Brokers that are declared dead while somebody still has to do with them, and batches that break.

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::broker::peers::forward::Errand;
use crate::broker::peers::receive::BatchError;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::cluster::frame::{ControlFrame, InterestEntry, StreamKind};
use crate::cluster::wire::{self, BATCH_HEADER_BYTES, Batch, BatchHeader};
use crate::mqtt::{TopicFilter, TopicName};
use crate::ports::message::{Message, MessageId};

fn batch(kind: StreamKind, first_seq: u64, count: u32, frames: &[u8]) -> Batch {
    let batch_len = BATCH_HEADER_BYTES + frames.len();
    let header = BatchHeader { batch_len, kind, first_seq, count };
    Batch::new(header, Bytes::from([&header.to_bytes()[..], frames].concat())).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

/// A message of QoS 1 that nobody here published.
pub(super) fn message(topic: &str) -> Arc<Message> {
    let topic = TopicName::try_from(topic).unwrap();
    Arc::new(Message {
        qos: QoS::AtLeastOnce,
        id: MessageId(1),
        ..Message::of_broker(topic, Bytes::from_static(b"x"))
    })
}

/// Whoever read a batch while its broker was declared dead put its routes back behind that: they led
/// nowhere, for ever.
#[test]
fn what_is_read_of_a_broker_that_was_declared_dead_meanwhile_adds_no_routes() {
    let mut cluster = Cluster::new(3);
    let dead = cluster.known(0, 2);
    let next = cluster.lane(2, 0).offered.control + 1;
    cluster.kill(2);
    cluster.pump();
    let entry = InterestEntry { filter: filter("$share/g/t"), qos: QoS::AtLeastOnce, weight: 1 };
    let added = ControlFrame::InterestAdded { version: 1, entries: vec![entry] };
    let mut frames = BytesMut::new();
    wire::encode_control(&added, &mut frames);
    let late = batch(StreamKind::Control, next, 1, &frames);
    let taken = cluster.at(0, |turn, peers| turn.receive_batch(peers, &dead, &late));
    assert_eq!(taken, Err(BatchError::Gone));
    assert_eq!(dead.interest_len(), 0);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    let answers = cluster.received(writer);
    let [Packet::Puback(puback)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(puback.reason_code, ReasonCode::NoMatchingSubscribers);
}

fn members(cluster: &mut Cluster) -> [LineId; 2] {
    [1, 2].map(|node| {
        let line = open(cluster, node, &format!("member-{node}"), 0);
        subscribed(cluster, line, "$share/g/t", QoS::AtLeastOnce);
        line
    })
}

/// Its routes are still there, and the way to it is not: the publisher was told that somebody had it.
#[test]
fn no_member_is_chosen_at_a_broker_to_which_there_is_no_way_any_more() {
    let mut cluster = Cluster::new(3);
    let [member, _] = members(&mut cluster);
    let writer = open(&mut cluster, 0, "writer", 0);
    let _nobody = cluster.known(0, 2).lane().close();
    for number in 1..=4 {
        cluster.send(writer, &publish("t", &number.to_string(), QoS::AtLeastOnce, number));
        cluster.pump();
    }
    assert_eq!(payloads(&cluster.received(member)), ["1", "2", "3", "4"]);
    let _nobody = cluster.known(0, 1).lane().close();
    cluster.received(writer);
    cluster.send(writer, &publish("t", "5", QoS::AtLeastOnce, 5));
    cluster.pump();
    let answers = cluster.received(writer);
    let [Packet::Puback(puback)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(puback.reason_code, ReasonCode::QuotaExceeded, "nobody has it");
}

/// It was chosen, and then the way to it was closed.
#[test]
fn what_a_broker_was_chosen_for_when_it_was_declared_dead_goes_to_another() {
    let mut cluster = Cluster::new(3);
    let [member, _] = members(&mut cluster);
    let chosen = cluster.known(0, 2);
    let _nobody = chosen.lane().close();
    let offered = |cluster: &mut Cluster| {
        let ticket = Arc::new(PublishTicket::new(false));
        let groups = [filter("$share/g/t")];
        let errand = Errand::to_groups(QoS::AtLeastOnce, &groups);
        cluster.at(0, |turn, _| turn.forward_errand(&message("t"), &chosen, errand, &ticket, &[]));
        let _pending = ticket.seal();
        cluster.pump();
        ticket.poll(Waker::noop())
    };
    assert_eq!(offered(&mut cluster), Some(RemoteOutcome::Enqueued));
    assert_eq!(payloads(&cluster.received(member)), ["x"]);
    let _nobody = cluster.known(0, 1).lane().close();
    assert_eq!(offered(&mut cluster), Some(RemoteOutcome::Full), "nobody has it");
}

/// What was lent to it goes back to whose it is, and to nobody else besides.
#[test]
fn what_was_to_be_lent_to_a_broker_that_has_just_died_is_offered_to_nobody_else() {
    let mut cluster = Cluster::new(2);
    let member = open(&mut cluster, 0, "member", 0);
    subscribed(&mut cluster, member, "$share/g/t", QoS::AtLeastOnce);
    let chosen = cluster.known(0, 1);
    let _nobody = chosen.lane().close();
    let ticket = Arc::new(PublishTicket::of_loan());
    let groups = [filter("$share/g/t")];
    let errand = Errand::to_groups(QoS::AtLeastOnce, &groups);
    cluster.at(0, |turn, _| turn.forward_errand(&message("t"), &chosen, errand, &ticket, &[]));
    assert_eq!(ticket.seal(), Some(RemoteOutcome::NoMatch));
    cluster.pump();
    assert_eq!(cluster.received(member), []);
}

/// Somebody else confirmed what had been heard while its routes were still being made: a SUBACK went out
/// before publishes here came by.
#[test]
fn interest_is_not_confirmed_before_its_routes_exist() {
    let mut cluster = Cluster::new(2);
    let reader = open(&mut cluster, 0, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    let applied = |cluster: &mut Cluster| cluster.at(0, |_, peers| peers.interest().applied());
    let before = applied(&mut cluster);
    let teller = cluster.known(1, 0);
    let entry = InterestEntry { filter: filter("u"), qos: QoS::AtLeastOnce, weight: 1 };
    let next = teller.interest().lock().version() + 1;
    // Its reader is here: the routes come next.
    let _routes = teller.interest().lock().add(next, vec![entry]);
    let told = cluster.lane(1, 0).offered.control;
    cluster.at(1, |turn, peers| {
        teller.owe_confirmation();
        turn.catch_up(peers);
    });
    assert_eq!(cluster.lane(1, 0).offered.control, told + 1, "something is confirmed");
    cluster.pump();
    assert_eq!(applied(&mut cluster), before);
}

/// What was taken does not come again: its publisher waited for ever for what was known.
#[test]
fn what_came_before_the_fault_of_a_batch_is_answered() {
    let mut cluster = Cluster::new(2);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.hold(0, 1);
    cluster.send(writer, &publish("t", "x", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert!(cluster.received(writer).is_empty());
    let mut frames = BytesMut::new();
    wire::encode_publish(&wire::PublishParts::of(&message("t")), &mut frames);
    // A frame of one byte, and nothing behind its flags.
    frames.extend_from_slice(&[1, 0]);
    let broken = batch(StreamKind::Data, cluster.lane(0, 1).offered.data, 2, &frames);
    let sender = cluster.known(1, 0);
    let taken = cluster.at(1, |turn, peers| turn.receive_batch(peers, &sender, &broken));
    assert!(matches!(taken, Err(BatchError::Wire(_))), "{taken:?}");
    cluster.pump();
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
    cluster.release(0, 1);
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["x"], "it is not taken twice");
}

/// The answers to one batch were one list, and no receiver took a longer one than it has room for.
#[test]
fn answers_to_more_messages_than_one_list_has_room_for_come_in_several() {
    let mut cluster = Cluster::new(2);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    let mut frames = BytesMut::new();
    let count = wire::ENTRIES_MAX + 1;
    // No two in a row come to the same.
    for topic in ["t", "nobody"].into_iter().cycle().take(count) {
        wire::encode_publish(&wire::PublishParts::of(&message(topic)), &mut frames);
    }
    let next = cluster.lane(0, 1).offered.data + 1;
    let batch = batch(StreamKind::Data, next, u32::try_from(count).unwrap(), &frames);
    let sender = cluster.known(1, 0);
    let told = cluster.lane(1, 0).offered.control;
    cluster.at(1, |turn, peers| turn.receive_batch(peers, &sender, &batch)).unwrap();
    assert_eq!(cluster.lane(1, 0).offered.control, told + 2);
    cluster.pump();
}
