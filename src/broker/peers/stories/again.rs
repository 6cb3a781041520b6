//! Messages of QoS 2 that their publishers send again.

use std::sync::Arc;

use super::*;
use crate::broker::options::BrokerOptions;
use crate::mqtt::{Pubcomp, Publish, Pubrec};
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
