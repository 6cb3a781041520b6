//! Queues that are full at another broker than the publisher's: who hears of it, and what goes on.

use std::sync::Arc;

use super::*;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::mqtt::Disconnect;
use crate::session::mailbox::MailboxOptions;

/// Three brokers at which a queue of a Session that lasts has room for one message; at the second one
/// somebody is away whose queue for `t` is full, at the third one somebody wants all.
fn with_a_full_queue() -> (Cluster, LineId) {
    let options = BrokerOptions::default();
    let queue =
        MailboxOptions { messages_max: 1, ..MailboxOptions::clone(&options.persistent_queue) };
    let options = BrokerOptions { persistent_queue: Arc::new(queue), ..options };
    let mut cluster = Cluster::with_options(3, &options);
    let away = open(&mut cluster, 1, "away", 600);
    subscribed(&mut cluster, away, "t", QoS::ExactlyOnce);
    cluster.lose(away);
    let reader = open(&mut cluster, 2, "reader", 0);
    subscribed(&mut cluster, reader, "#", QoS::ExactlyOnce);
    let first = open(&mut cluster, 0, "first", 0);
    cluster.send(first, &publish("t", "first", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["first"]);
    (cluster, reader)
}

/// There is room for one more.
fn make_room(cluster: &mut Cluster) -> Vec<String> {
    let away = cluster.connect(1, &connect("away", 600));
    cluster.pump();
    let got = cluster.received(away);
    for packet in &got {
        if let Packet::Publish(publish) = packet {
            let id = publish.packet_id.unwrap();
            cluster.send(away, &Packet::Puback(Puback::new(id, ReasonCode::Success)));
        }
    }
    cluster.pump();
    cluster.lose(away);
    payloads(&got)
}

/// The Reason Codes and Strings of what publishes were answered with.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other packets answer no publish")]
fn answers(packets: &[Packet]) -> Vec<(u16, ReasonCode, Option<String>)> {
    let answer = |packet: &Packet| match packet {
        Packet::Puback(ack) => {
            let reason = ack.reason_string.as_deref().map(str::to_owned);
            Some((ack.packet_id.get(), ack.reason_code, reason))
        }
        Packet::Pubrec(ack) => {
            let reason = ack.reason_string.as_deref().map(str::to_owned);
            Some((ack.packet_id.get(), ack.reason_code, reason))
        }
        _ => None,
    };
    packets.iter().filter_map(answer).collect()
}

fn codes(packets: &[Packet]) -> Vec<(u16, ReasonCode)> {
    answers(packets).into_iter().map(|(id, code, _)| (id, code)).collect()
}

const TAKEN: ReasonCode = ReasonCode::Success;
const REFUSED: ReasonCode = ReasonCode::QuotaExceeded;

/// The publisher was disconnected with 0x97, came back, sent all again and was disconnected: none of its
/// messages was ever acknowledged, and who had room got each of them eighteen times a second.
#[test]
fn a_queue_that_is_full_at_another_broker_is_told_and_the_rest_goes_on() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut cluster, reader) = with_a_full_queue();
        let writer = open(&mut cluster, 0, "writer", 600);
        for (topic, id) in [("a", 1), ("t", 2), ("b", 3), ("c", 4)] {
            cluster.send(writer, &publish(topic, topic, qos, id));
        }
        cluster.pump();
        let told = answers(&cluster.received(writer));
        let ids: Vec<_> = told.iter().map(|(id, code, _)| (*id, *code)).collect();
        assert_eq!(ids, [(1, TAKEN), (2, REFUSED), (3, TAKEN), (4, TAKEN)], "in order");
        let reason = told[1].2.as_deref().unwrap();
        assert!(reason.contains("not every subscriber"), "{reason}");
        assert!(!cluster.is_closed(writer));
        assert_eq!(payloads(&cluster.received(reader)), ["a", "t", "b", "c"]);
        assert_eq!(cluster.broker(0).counters().totals().publishes_refused_elsewhere, 1);
    }
}

/// The refusal ends the exchange: what the client publishes under that identifier is another message
/// [MQTT-4.3.3-9], and for all.
#[test]
fn an_identifier_that_was_refused_is_free_for_another_message() {
    let (mut cluster, reader) = with_a_full_queue();
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 7));
    cluster.pump();
    assert_eq!(codes(&cluster.received(writer)), [(7, REFUSED)]);
    assert_eq!(make_room(&mut cluster), ["first"]);
    cluster.send(writer, &publish("t", "two", QoS::ExactlyOnce, 7));
    cluster.pump();
    assert_eq!(codes(&cluster.received(writer)), [(7, TAKEN)]);
    assert_eq!(payloads(&cluster.received(reader)), ["one", "two"]);
    assert_eq!(make_room(&mut cluster), ["two"]);
    assert_eq!(cluster.broker(0).counters().totals().peer_publishes_repeated, 0);
}

/// Its client was away when that was known, and was told nothing: the message is the same when it comes
/// again, for those only who have not got it. Then it is told.
#[test]
fn what_was_refused_while_the_client_was_away_comes_again_to_nobody_who_has_it() {
    let (mut cluster, reader) = with_a_full_queue();
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.hold(1, 0);
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 7));
    cluster.pump();
    cluster.lose(writer);
    cluster.release(1, 0);
    cluster.pump();
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 7));
    cluster.pump();
    assert_eq!(codes(&cluster.received(writer)), [(7, REFUSED)]);
    assert_eq!(payloads(&cluster.received(reader)), ["one"]);
    assert_eq!(cluster.broker(0).counters().totals().peer_publishes_repeated, 1);
}

/// A client of 3.1.1 cannot be told. It was let go at once, and came back at once, for ever.
#[test]
fn a_client_that_cannot_be_told_is_held_before_it_is_let_go() {
    let hold_millis = ConnectionOptions::default().publish_hold_millis;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut cluster, reader) = with_a_full_queue();
        let writer = open_old(&mut cluster, 0, "writer");
        for (topic, id) in [("a", 1), ("t", 2), ("b", 3)] {
            cluster.send(writer, &publish(topic, topic, qos, id));
        }
        cluster.pump();
        assert_eq!(codes(&cluster.received(writer)), [(1, TAKEN)]);
        assert!(cluster.is_due(writer, hold_millis) && !cluster.is_due(writer, hold_millis - 1));
        cluster.elapse(hold_millis - 1);
        assert!(!cluster.is_closed(writer), "it is held");
        cluster.send(writer, &Packet::Pingreq);
        cluster.pump();
        assert_eq!(cluster.received(writer), [Packet::Pingresp], "and read meanwhile");
        cluster.elapse(1);
        assert!(cluster.is_closed(writer));
        assert_eq!(cluster.received(writer), [], "nothing that it could be told is true");
        assert_eq!(payloads(&cluster.received(reader)), ["a", "t", "b"]);
        // What comes again after that, there is room for.
        assert_eq!(make_room(&mut cluster), ["first"]);
        let writer = open_old(&mut cluster, 0, "writer");
        cluster.send(writer, &publish("t", "t", qos, 2));
        cluster.pump();
        assert_eq!(codes(&cluster.received(writer)), [(2, TAKEN)]);
        let again: &[&str] = if qos == QoS::ExactlyOnce { &[] } else { &["t"] };
        assert_eq!(payloads(&cluster.received(reader)), again);
        assert_eq!(make_room(&mut cluster), ["t"]);
    }
}

/// It leaves before it is let go: nothing of it is lost, and its next connection is held anew.
#[test]
fn who_leaves_while_it_is_held_begins_anew() {
    let hold_millis = ConnectionOptions::default().publish_hold_millis;
    let (mut cluster, reader) = with_a_full_queue();
    for _ in 0..2 {
        let writer = open_old(&mut cluster, 0, "writer");
        cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 7));
        cluster.pump();
        cluster.elapse(hold_millis - 1);
        assert!(!cluster.is_closed(writer));
        let good_bye = Disconnect::new(ReasonCode::Success);
        cluster.send(writer, &Packet::Disconnect(Box::new(good_bye)));
    }
    assert_eq!(make_room(&mut cluster), ["first"]);
    let writer = open_old(&mut cluster, 0, "writer");
    cluster.send(writer, &publish("t", "one", QoS::ExactlyOnce, 7));
    cluster.pump();
    assert_eq!(codes(&cluster.received(writer)), [(7, TAKEN)]);
    assert_eq!(make_room(&mut cluster), ["one"]);
    assert_eq!(payloads(&cluster.received(reader)), ["one"]);
}
