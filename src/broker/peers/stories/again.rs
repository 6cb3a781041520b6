//! Messages of QoS 2 that their publishers send again: because nobody told them what came of them, or
//! nothing true could be told.

use std::sync::Arc;

use super::*;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::peers::again::{LeftOut, LeftOuts, Unfinished};
use crate::cluster::lane::LaneOptions;
use crate::mqtt::{Pubcomp, Publish, Pubrec, TopicFilter};
use crate::ports::clock::Tick;
use crate::session::mailbox::MailboxOptions;

/// Brokers at which a queue of a Session that lasts has room for one message.
fn narrow_cluster(count: usize) -> Cluster {
    let options = BrokerOptions::default();
    let queue =
        MailboxOptions { messages_max: 1, ..MailboxOptions::clone(&options.persistent_queue) };
    Cluster::with_options(count, &BrokerOptions { persistent_queue: Arc::new(queue), ..options })
}

fn sent(cluster: &mut Cluster, writer: LineId, topic: &str, body: &str, id: u16) {
    cluster.send(writer, &publish(topic, body, QoS::ExactlyOnce, id));
    cluster.pump();
}

/// A publisher of 3.1.1 is let go when it has been held for as long as may be.
fn let_go(cluster: &mut Cluster, writer: LineId) {
    assert!(!cluster.is_closed(writer), "it is held");
    cluster.elapse(ConnectionOptions::default().publish_hold_millis);
    assert!(cluster.is_closed(writer), "nothing true can be said of its message");
}

fn is_pubrec(packet: &Packet) -> bool {
    matches!(packet, Packet::Pubrec(pubrec) if !pubrec.reason_code.is_error())
}

/// A client with a Session that lasts comes back, acknowledges what waits for it, and has room again.
fn emptied(cluster: &mut Cluster, node: usize, id: &str) -> (LineId, Vec<String>) {
    let line = cluster.connect(node, &connect(id, 600));
    cluster.pump();
    let got = cluster.received(line);
    for packet in &got {
        if let Packet::Publish(Publish { packet_id: Some(id), qos, .. }) = packet {
            let (id, qos) = (*id, *qos);
            if qos == QoS::AtLeastOnce {
                cluster.send(line, &Packet::Puback(Puback::new(id, ReasonCode::Success)));
            } else {
                cluster.send(line, &Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
                cluster.send(line, &Packet::Pubcomp(Pubcomp::new(id, ReasonCode::Success)));
            }
        }
    }
    cluster.pump();
    let got = payloads(&got);
    (line, got.into_iter().chain(payloads(&cluster.received(line))).collect())
}

/// *A process stood still with a message in its hands that a client had sent again, until it was declared
/// dead* (simulated seed 2444). It had been taken before, and PUBREC was sent whatever the lease said.
#[test]
fn a_message_that_comes_again_is_not_acknowledged_past_the_lease() {
    let mut cluster = Cluster::new(2);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "one", 1);
    assert!(matches!(&cluster.received(writer)[..], [Packet::Pubrec(_)]));
    cluster.lose(writer);
    let writer = open(&mut cluster, 0, "writer", 600);
    cluster.broker(0).peers().unwrap().set_lease(Tick::ZERO);
    sent(&mut cluster, writer, "t", "one", 1);
    assert_eq!(cluster.received(writer), [], "others may have gone on");
    cluster.broker(0).peers().unwrap().set_lease(Tick::from_millis(u64::MAX));
    cluster.pump();
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
}

/// A queue here was full, and that was to be said behind the answer of another broker, when the
/// connection broke. What the client sent again was taken for known and acknowledged: nobody got it.
#[test]
fn a_refusal_that_was_not_heard_is_no_success_when_the_message_comes_again() {
    let mut cluster = narrow_cluster(2);
    let far = open(&mut cluster, 1, "far", 0);
    subscribed(&mut cluster, far, "far", QoS::ExactlyOnce);
    let near = open(&mut cluster, 0, "near", 600);
    subscribed(&mut cluster, near, "near", QoS::ExactlyOnce);
    cluster.lose(near);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "near", "one", 1);
    cluster.hold(0, 1);
    sent(&mut cluster, writer, "far", "two", 2);
    sent(&mut cluster, writer, "near", "three", 3);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1, "broker 1 has answered nothing");
    cluster.lose(writer);
    cluster.release(0, 1);
    cluster.pump();
    let (near, got) = emptied(&mut cluster, 0, "near");
    assert_eq!(got, ["one"]);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "far", "two", 2);
    sent(&mut cluster, writer, "near", "three", 3);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 2);
    assert_eq!(payloads(&cluster.received(near)), ["three"]);
    assert_eq!(payloads(&cluster.received(far)), ["two"]);
}

/// The same of a Shared Subscription whose member at another broker had no room.
#[test]
fn a_message_that_nobody_had_room_for_is_new_when_its_publisher_did_not_hear_so() {
    let mut cluster = narrow_cluster(2);
    let member = open(&mut cluster, 1, "member", 600);
    subscribed(&mut cluster, member, "$share/g/t", QoS::ExactlyOnce);
    cluster.lose(member);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "one", 1);
    cluster.hold(1, 0);
    sent(&mut cluster, writer, "t", "two", 2);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    cluster.lose(writer);
    cluster.release(1, 0);
    cluster.pump();
    let (member, got) = emptied(&mut cluster, 1, "member");
    assert_eq!(got, ["one"]);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "two", 2);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    assert_eq!(payloads(&cluster.received(member)), ["two"]);
}

/// Messages until the way to broker 2 is full, with the last of them.
const MESSAGES: u16 = 5;

fn body(number: u16) -> String {
    format!("{number}{}", "x".repeat(1_000))
}

fn numbers(packets: &[Packet]) -> Vec<u16> {
    payloads(packets).iter().map(|body| body.trim_end_matches('x').parse().unwrap()).collect()
}

fn repeated(cluster: &Cluster, node: usize) -> u64 {
    cluster.broker(node).counters().totals().peer_publishes_repeated
}

/// A publisher at broker 0 whose last message broker 2 did not take, a subscriber at each broker, and
/// one at broker 2 alone that is in a group.
fn with_a_broker_left_out() -> (Cluster, LineId, [LineId; 4]) {
    let lanes = LaneOptions { data_bytes_max: 1_000, ..LaneOptions::default() };
    let mut cluster = Cluster::with_lanes(3, lanes);
    let readers = [0, 1, 2, 2].map(|node| {
        let count = cluster.broker(node).registry().len();
        let expiry_secs = if node == 1 { 600 } else { 0 };
        open(&mut cluster, node, &format!("reader-{node}-{count}"), expiry_secs)
    });
    for reader in &readers[..3] {
        subscribed(&mut cluster, *reader, "t", QoS::ExactlyOnce);
    }
    subscribed(&mut cluster, readers[3], "$share/g/t", QoS::ExactlyOnce);
    let writer = open_old(&mut cluster, 0, "writer");
    cluster.hold(0, 2);
    for number in 1..=MESSAGES {
        sent(&mut cluster, writer, "t", &body(number), number);
    }
    assert!(cluster.received(writer).is_empty(), "broker 2 has answered nothing");
    cluster.release(0, 2);
    cluster.pump();
    let answers = cluster.received(writer);
    assert_eq!(count(&answers, is_pubrec), usize::from(MESSAGES) - 1);
    let_go(&mut cluster, writer);
    (cluster, writer, readers)
}

fn check_all_have_it(cluster: &mut Cluster, node: usize, readers: [LineId; 4]) {
    let writer = open_old(cluster, node, "writer");
    for _ in 0..2 {
        sent(cluster, writer, "t", &body(MESSAGES), MESSAGES);
        assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    }
    assert_eq!(repeated(cluster, node), 1, "whoever is known to have it is not asked");
    let all: Vec<_> = (1..=MESSAGES).collect();
    for reader in readers {
        assert_eq!(numbers(&cluster.received(reader)), all);
    }
}

/// The way to one broker was full, the others had the message. Neither success nor a refusal could be
/// told, the publisher's connection was closed, and the message that it sent again was a new one to the
/// broker: who had it got it twice.
#[test]
fn who_was_left_out_gets_a_message_that_is_sent_again_and_nobody_else() {
    let (mut cluster, _closed, readers) = with_a_broker_left_out();
    check_all_have_it(&mut cluster, 0, readers);
}

/// The same where the Session of the publisher has moved, be it to the broker that was left out.
#[test]
fn who_was_left_out_gets_a_message_that_is_sent_again_at_another_broker() {
    for node in [1, 2] {
        let (mut cluster, _closed, readers) = with_a_broker_left_out();
        check_all_have_it(&mut cluster, node, readers);
    }
}

/// It had the message where it was, and moved to the broker that was left out, to which the message came
/// again: it got it twice.
#[test]
fn who_has_moved_to_a_broker_that_was_left_out_does_not_get_a_message_twice() {
    let (mut cluster, _closed, readers) = with_a_broker_left_out();
    let got = cluster.received(readers[1]);
    assert_eq!(numbers(&got).len(), usize::from(MESSAGES));
    for number in 1..=MESSAGES {
        let id = PacketId::new(number).unwrap();
        let pubrec = Pubrec::new(id, ReasonCode::Success);
        cluster.send(readers[1], &Packet::Pubrec(pubrec));
        let pubcomp = Pubcomp::new(id, ReasonCode::Success);
        cluster.send(readers[1], &Packet::Pubcomp(pubcomp));
    }
    cluster.lose(readers[1]);
    let moved = open_again(&mut cluster, 2, "reader-1-0");
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", &body(MESSAGES), MESSAGES);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    assert_eq!(numbers(&cluster.received(moved)), [0; 0], "it has all of them");
    let all: Vec<_> = (1..=MESSAGES).collect();
    assert_eq!(numbers(&cluster.received(readers[2])), all);
}

fn open_again(cluster: &mut Cluster, node: usize, id: &str) -> LineId {
    let line = cluster.connect(node, &connect(id, 600));
    cluster.pump();
    let answers = cluster.received(line);
    assert!(super::moves::session_present(&answers), "{answers:?}");
    assert_eq!(numbers(&answers), [0; 0]);
    line
}

/// What is remembered goes with the Packet Identifier that PUBREL frees, and with the Session.
#[test]
fn a_packet_identifier_that_is_used_again_is_for_all() {
    for is_released in [true, false] {
        let (mut cluster, _closed, readers) = with_a_broker_left_out();
        for reader in readers {
            cluster.received(reader);
        }
        if !is_released {
            let anew = open(&mut cluster, 0, "writer", 0);
            cluster.lose(anew);
        }
        let writer = open_old(&mut cluster, 0, "writer");
        if is_released {
            let id = PacketId::new(MESSAGES).unwrap();
            cluster.send(writer, &Packet::Pubrel(Pubrel::new(id, ReasonCode::Success)));
        }
        sent(&mut cluster, writer, "t", &body(9), MESSAGES);
        assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
        assert_eq!(readers.map(|one| numbers(&cluster.received(one))), [[9]; 4]);
        assert_eq!(repeated(&cluster, 0), 0);
    }
}

/// The queue of this client of broker 1 has room for one message: the second one is refused. When the
/// client has made room its publisher sends that again.
#[track_caller]
fn check_full_and_again(cluster: &mut Cluster, name: &str) {
    let writer = open_old(cluster, 0, "writer");
    sent(cluster, writer, "t", "one", 1);
    sent(cluster, writer, "t", "two", 2);
    let_go(cluster, writer);
    let (reader, got) = emptied(cluster, 1, name);
    assert_eq!(got, ["one"]);
    let writer = open_old(cluster, 0, "writer");
    sent(cluster, writer, "t", "two", 2);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    assert_eq!(payloads(&cluster.received(reader)), ["two"]);
}

#[test]
fn whose_queue_was_full_gets_a_message_that_is_sent_again_and_nobody_else() {
    let mut cluster = narrow_cluster(2);
    let near = open(&mut cluster, 0, "near", 0);
    let far = open(&mut cluster, 1, "far", 600);
    for reader in [near, far] {
        subscribed(&mut cluster, reader, "t", QoS::ExactlyOnce);
    }
    cluster.lose(far);
    check_full_and_again(&mut cluster, "far");
    assert_eq!(payloads(&cluster.received(near)), ["one", "two"]);
}

/// The members of a group had no room, and a subscriber beside them had: only they are tried again.
#[test]
fn a_group_that_was_full_gets_a_message_that_is_sent_again_and_nobody_else() {
    let mut cluster = narrow_cluster(2);
    let reader = open(&mut cluster, 1, "reader", 0);
    subscribed(&mut cluster, reader, "t", QoS::ExactlyOnce);
    let member = open(&mut cluster, 1, "member", 600);
    subscribed(&mut cluster, member, "$share/g/t", QoS::ExactlyOnce);
    cluster.lose(member);
    check_full_and_again(&mut cluster, "member");
    assert_eq!(payloads(&cluster.received(reader)), ["one", "two"]);
}

/// The answer of one broker is lost, and with it whether it has the message. It had it, was offered it
/// again, and its subscribers got it twice. The others have it.
#[test]
fn a_message_whose_answer_is_lost_comes_again_to_nobody_who_has_it() {
    let lanes = LaneOptions { control_bytes_max: 200, ..LaneOptions::default() };
    let mut cluster = Cluster::with_lanes(3, lanes);
    let readers = [0, 1, 2].map(|node| open(&mut cluster, node, &format!("reader-{node}"), 0));
    for reader in readers {
        subscribed(&mut cluster, reader, "t", QoS::ExactlyOnce);
    }
    let noisy = open(&mut cluster, 1, "noisy", 0);
    subscribed(&mut cluster, noisy, "noise", QoS::AtLeastOnce);
    let writer = open(&mut cluster, 0, "writer", 600);
    let other = open(&mut cluster, 0, "other", 0);
    cluster.hold(1, 0);
    sent(&mut cluster, writer, "t", "one", 1);
    for number in 1..=100 {
        cluster.send(other, &publish("noise", "x", QoS::AtLeastOnce, number));
        cluster.pump();
    }
    assert_eq!(cluster.lane(1, 0).cuts, 1);
    cluster.release(1, 0);
    cluster.pump();
    assert!(cluster.is_closed(writer), "nobody knows what came of it at broker 1");
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "one", 1);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    let got = readers.map(|reader| payloads(&cluster.received(reader)).len());
    assert_eq!(got, [1, 1, 1]);
    assert_eq!(cluster.broker(1).known_messages(), 1);
}

/// It comes to its end while the client is away, which is not let go for it when it is back.
#[test]
fn who_is_back_before_it_has_asked_stays() {
    let mut cluster = narrow_cluster(2);
    let near = open(&mut cluster, 0, "near", 0);
    let far = open(&mut cluster, 1, "far", 600);
    for reader in [near, far] {
        subscribed(&mut cluster, reader, "t", QoS::ExactlyOnce);
    }
    cluster.lose(far);
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "one", 1);
    cluster.hold(1, 0);
    sent(&mut cluster, writer, "t", "two", 2);
    cluster.lose(writer);
    cluster.release(1, 0);
    let (far, _one) = emptied(&mut cluster, 1, "far");
    let writer = open(&mut cluster, 0, "writer", 600);
    sent(&mut cluster, writer, "t", "two", 2);
    assert_eq!(count(&cluster.received(writer), is_pubrec), 1);
    assert_eq!(payloads(&cluster.received(far)), ["two"]);
    assert_eq!(payloads(&cluster.received(near)), ["one", "two"]);
}

/// More is not remembered than there is room for. What is forgotten goes to all, and is counted.
#[test]
fn what_is_remembered_of_one_session_is_bounded() {
    let mut left_outs = LeftOuts::default();
    let left_out = || {
        let left_out = vec![LeftOut::of_group(&TopicFilter::parse("$share/g/t").unwrap())];
        Unfinished { left_out, ..Unfinished::default() }
    };
    let mut id = PacketId::MIN;
    while left_outs.note(id, left_out()) {
        id = id.next();
    }
    assert_eq!(id.get(), 1_025);
    assert!(left_outs.note(PacketId::MIN, left_out()), "it is known already");
}
