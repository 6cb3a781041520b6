//! Messages that come late to where a Session is, when it had them where it was.

use super::moves::session_present;
use super::*;
use crate::mqtt::{Puback, Pubcomp, Pubrec};

/// A writer at broker 2, a reader of QoS 2 at broker 0 that will move, and others at brokers 1 and 3 that
/// stay.
struct Stage {
    cluster: Cluster,
    writer: LineId,
    id: String,
    line: LineId,
    others: [LineId; 2],
}

impl Stage {
    fn new() -> Self {
        Self::in_cluster(Cluster::new(4))
    }

    fn in_cluster(mut cluster: Cluster) -> Self {
        let id = cluster.client_id_at(0);
        let line = open(&mut cluster, 0, &id, 600);
        subscribed(&mut cluster, line, "t", QoS::ExactlyOnce);
        let others = [1, 3].map(|node| {
            let other = open(&mut cluster, node, &format!("other-{node}"), 0);
            subscribed(&mut cluster, other, "t", QoS::ExactlyOnce);
            other
        });
        let writer = open(&mut cluster, 2, "writer", 0);
        Self { cluster, writer, id, line, others }
    }

    fn publish(&mut self, payload: &str, qos: QoS, id: u16) {
        self.cluster.send(self.writer, &publish("t", payload, qos, id));
        self.cluster.pump();
    }

    /// Whatever the reader has been sent, acknowledged to the end.
    fn complete(&mut self) -> Vec<String> {
        let mut got = Vec::new();
        loop {
            let packets = self.cluster.received(self.line);
            if packets.is_empty() {
                return got;
            }
            got.extend(payloads(&packets));
            for packet in &packets {
                if let Some(answer) = answer_to(packet) {
                    self.cluster.send(self.line, &answer);
                }
            }
            self.cluster.pump();
        }
    }

    fn move_to(&mut self, node: usize) {
        self.cluster.lose(self.line);
        self.line = self.cluster.connect(node, &connect(&self.id, 600));
        self.cluster.pump();
        let answer = self.cluster.next_received(self.line).expect("CONNACK comes first");
        assert!(session_present(&[answer]));
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is answered")]
fn answer_to(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(publish) => {
            let id = publish.packet_id?;
            Some(match publish.qos {
                QoS::ExactlyOnce => Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)),
                QoS::AtMostOnce | QoS::AtLeastOnce => {
                    Packet::Puback(Puback::new(id, ReasonCode::Success))
                }
            })
        }
        Packet::Pubrel(pubrel) => {
            Some(Packet::Pubcomp(Pubcomp::new(pubrel.packet_id, ReasonCode::Success)))
        }
        _ => None,
    }
}

/// The message was sent to both brokers. It came to the one where the client was, which completed it and
/// moved; then it came to the other one, where the Session knew nothing of it any more.
#[test]
fn what_was_completed_before_a_session_moved_does_not_come_again_where_it_is() {
    let mut stage = Stage::new();
    stage.cluster.hold(2, 1);
    stage.publish("one", QoS::ExactlyOnce, 1);
    assert_eq!(stage.complete(), ["one"]);
    stage.move_to(1);
    stage.cluster.release(2, 1);
    stage.cluster.pump();
    assert_eq!(stage.complete(), [""; 0], "it has it");
    assert_eq!(payloads(&stage.cluster.received(stage.others[0])), ["one"]);
    assert_eq!(stage.cluster.broker(1).known_messages(), 1);
    stage.publish("two", QoS::ExactlyOnce, 2);
    assert_eq!(stage.complete(), ["two"]);
}

/// It was taken two moves ago: what a Session remembers goes with it wherever it goes.
#[test]
fn a_session_that_moves_again_still_knows_what_it_has() {
    let mut stage = Stage::new();
    stage.cluster.hold(2, 3);
    stage.publish("one", QoS::ExactlyOnce, 1);
    assert_eq!(stage.complete(), ["one"]);
    stage.move_to(1);
    stage.publish("two", QoS::ExactlyOnce, 2);
    assert_eq!(stage.complete(), ["two"]);
    stage.move_to(3);
    stage.cluster.release(2, 3);
    stage.cluster.pump();
    assert_eq!(stage.complete(), [""; 0], "it has both");
    assert_eq!(payloads(&stage.cluster.received(stage.others[1])), ["one", "two"]);
}

/// What it has not got yet comes, once, in whatever order the ways to both brokers bring it.
#[test]
fn what_was_not_completed_moves_and_does_not_come_again() {
    let mut stage = Stage::new();
    stage.cluster.hold(2, 1);
    stage.publish("one", QoS::ExactlyOnce, 1);
    assert_eq!(payloads(&stage.cluster.received(stage.line)), ["one"]);
    stage.publish("two", QoS::AtLeastOnce, 2);
    stage.move_to(1);
    assert_eq!(stage.complete(), ["one", "two"], "the first one as a repetition");
    stage.cluster.release(2, 1);
    stage.cluster.pump();
    assert_eq!(stage.complete(), [""; 0]);
}

/// What its former holder had stored came to the new one, after the Session, by the way from its publisher. The
/// store left it out, and the client was sent it all the same.
#[test]
fn what_the_store_has_of_a_session_does_not_come_again_where_that_is_by_then() {
    let (cluster, _ways) = Cluster::over_database(4);
    let mut stage = Stage::in_cluster(cluster);
    stage.cluster.hold(2, 1);
    stage.publish("one", QoS::AtLeastOnce, 1);
    assert_eq!(stage.complete(), ["one"]);
    stage.cluster.lose(stage.line);
    stage.publish("two", QoS::AtLeastOnce, 2);
    stage.move_to(1);
    assert_eq!(stage.complete(), ["two"]);
    stage.cluster.release(2, 1);
    stage.cluster.pump();
    assert_eq!(stage.complete(), [""; 0]);
    assert_eq!(payloads(&stage.cluster.received(stage.others[0])), ["one", "two"]);
    stage.publish("three", QoS::AtLeastOnce, 3);
    assert_eq!(stage.complete(), ["three"]);
}
