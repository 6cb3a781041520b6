//! Each bound of `[limits]`: its answer is given, its counter moves, and a second client is unharmed.
//!
//! Not here: `write_timeout_secs` and `tcp_keep_alive_secs` are the kernel's to keep (that they are
//! set on every socket is a test of `net`), and running out of files needs a process of its own.

mod connections;
mod memory;
mod packets;
mod queues;
mod retained;
mod sessions;
mod time;

use crate::conformance::{Client, Connect, Publish, Stage, Version, kind};
use crate::harness::Broker;

/// Both versions of the protocol.
const BOTH: [Version; 2] = [Version::V4, Version::V5];

/// A broker with these bounds and an administration port.
fn limited(limits: &[&str]) -> Broker {
    Broker::start(&[&["--admin-port", "0", "--sys-interval-secs", "off"], limits].concat())
}

/// What a CONNECT that is not let in is told; the connection is closed after it.
#[track_caller]
fn refusal(s: &Stage, connect: &Connect) -> u8 {
    let mut client = s.open().unwrap();
    client.send(&connect.bytes());
    let code = client.expect(kind::CONNACK).unwrap().reason().unwrap().code;
    client.closed().unwrap();
    code
}

/// What a PUBLISH of QoS 1 or 2 is answered with.
#[track_caller]
fn answer(client: &mut Client, message: &Publish) -> u8 {
    client.send(&message.bytes());
    let kind = if message.qos == 1 { kind::PUBACK } else { kind::PUBREC };
    client.expect_ack(kind, message.id).unwrap().code
}

/// Publishes with QoS 1; what that is answered with.
#[track_caller]
fn publish(client: &mut Client, s: &Stage, topic: &str, payload: &str) -> u8 {
    let id = client.fresh_id();
    answer(client, &s.message(topic, payload).qos(1, id))
}
