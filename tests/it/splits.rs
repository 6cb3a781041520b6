//! However the bytes of a client are cut, the broker answers them with the same bytes.

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use mqttzoo::broker::card::Origin;
use mqttzoo::broker::connection::{Connection, Progress};
use mqttzoo::broker::options::ConnectionOptions;
use mqttzoo::mqtt::{Packet, ProtocolVersion, QoS};
use proptest::prelude::*;

use crate::stories::{Stage, connect, puback, publish, subscribe};

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_answers(
        packets in prop::collection::vec(packet(), 0..12),
        is_v5: bool,
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let version = if is_v5 { ProtocolVersion::V5 } else { ProtocolVersion::V311 };
        let mut bytes = BytesMut::new();
        Packet::Connect(Box::new(connect("client", version, |_| {}))).encode(version, &mut bytes);
        for packet in packets {
            packet.encode(version, &mut bytes);
        }
        let bytes = bytes.freeze();
        let whole = answers(&bytes, &[bytes.len()]);
        prop_assert_eq!(&answers(&bytes, &[1]), &whole);
        prop_assert_eq!(&answers(&bytes, &cuts), &whole);
    }
}

/// What a client may send, sensible or not. What it acknowledges decides what comes next, so its
/// own messages have QoS 0 at most when they come back.
fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        (1_u16..4).prop_map(|id| publish("a", QoS::AtLeastOnce, id, b"once or more")),
        (1_u16..4).prop_map(|id| publish("a/b", QoS::ExactlyOnce, id, b"once")),
        Just(publish("a", QoS::AtMostOnce, 0, &[b'x'; 300])),
        Just(subscribe("+", QoS::AtMostOnce)),
        Just(subscribe("not/#/valid", QoS::AtMostOnce)),
        (1_u16..4).prop_map(puback),
        Just(Packet::Pingreq),
    ]
}

/// Everything the broker writes when `bytes` come in pieces of these lengths, over and over.
fn answers(bytes: &Bytes, lengths: &[usize]) -> Vec<u8> {
    let mut stage = Stage::new(100);
    let origin = Origin { address: "here".into(), listener: "test".into(), tls_common_name: None };
    let options = Arc::new(ConnectionOptions::default());
    let mut connection = Connection::new(origin, options, stage.now);
    let mut written = Vec::new();
    let (mut left, mut unread) = (bytes.clone(), BytesMut::new());
    for length in lengths.iter().cycle() {
        unread.extend_from_slice(&left.split_to((*length).min(left.len())));
        // One packet at a time, so that deliveries come between the same packets.
        loop {
            let mut chunk = unread.split().freeze();
            let taken = stage.turn(|turn| connection.receive(turn, &mut chunk, 1, Waker::noop()));
            unread.extend_from_slice(&chunk);
            let mut advance =
                || stage.turn(|turn| connection.advance(turn, 100, usize::MAX, Waker::noop()));
            while advance() == Progress::More {}
            written.extend_from_slice(stage.outbox.contiguous().unwrap());
            stage.outbox.clear();
            if taken == 0 {
                break;
            }
        }
        if left.is_empty() {
            break;
        }
    }
    written
}
