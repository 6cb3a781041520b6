//! Stories of the driver, told with sockets that do what the story needs.
//!
//! A driver is polled by hand and only when it was woken, as a runtime would: what nobody wakes it
//! for does not happen.

mod stage;

use stage::{Stage, connect, encoded, named, pieces, pingresp, publish, subscribe, with_user_name};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use proptest::prelude::*;

use super::ShardContext;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::peers::Peers;
use crate::broker::{Broker, Guards, Seeds};
use crate::cluster::identity::BootId;
use crate::cluster::lane::LaneOptions;
use crate::cluster::slots::SlotMap;
use crate::mqtt::{Packet, ProtocolVersion};
use crate::ports::clock::Tick;

/// Story: TLS and WebSocket take bytes that the socket does not take yet. The outbox was empty, so
/// there was no backlog, and when the socket could be written again the driver saw nothing to do:
/// the tail of what a slow subscriber was sent stayed until something else was sent to it. The
/// driver remembers now that it has to flush.
#[tokio::test]
async fn what_the_transport_took_and_the_socket_did_not_goes_out_later() {
    let mut stage = Stage::new();
    stage.send([encoded(&[connect()])]);
    stage.settle();
    stage.received();

    stage.stall_flush(true);
    stage.send([encoded(&[Packet::Pingreq])]);
    stage.settle();
    assert_eq!(stage.received(), "", "the socket takes nothing");
    stage.stall_flush(false);
    stage.settle();
    assert_eq!(stage.received(), pingresp());
}

/// Story: the same at the end of a connection, where the tail is what says why it ends.
#[tokio::test]
async fn a_lingering_connection_flushes_its_last_packet() {
    let mut stage = Stage::new();
    stage.send([encoded(&[connect()])]);
    stage.settle();
    stage.received();

    stage.stall_flush(true);
    stage.send([encoded(&[connect()])]);
    stage.settle();
    assert_eq!(stage.received(), "", "the socket takes nothing");
    stage.stall_flush(false);
    stage.settle();
    assert_eq!(stage.received().first(), Some(&0xE0), "a DISCONNECT");
}

/// Story: every read of a packet that arrived in pieces made the packet so far a chunk, offered it to
/// the state machine and copied it into a new buffer: 370 MB of copies for 1 MiB in 1,460-byte
/// segments. Each of these reads was charged all that had come so far, so after the first 64 KiB
/// every segment cost a turn. Now the pieces are gathered in a buffer that doubles, and a read
/// costs what it read.
#[tokio::test]
async fn a_packet_in_a_thousand_pieces_is_moved_a_few_times_only() {
    let mut stage = Stage::new();
    stage.send([encoded(&[connect(), subscribe("t")])]);
    stage.settle();
    stage.received();
    let moves_before = stage.wire.lock().moves;

    let payload: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
    let packet = encoded(&[publish("t", payload)]);
    stage.send(pieces(packet.clone(), 1_000));
    let turns = stage.settle();
    assert_eq!(stage.received(), packet, "it comes back to its publisher, who subscribed");
    let moves = stage.wire.lock().moves - moves_before;
    assert!(moves <= 12, "moved {moves} times");
    assert!(turns <= 20, "{turns} turns for 16 times 64 KiB");
    assert_eq!(stage.bytes_counted(), stage.bytes_sent);
}

/// Story: the deadline for half a packet runs from its first piece, and the pieces that follow do
/// not put it off: who sends a byte now and then would hold a buffer for ever.
#[tokio::test]
async fn half_a_packet_has_until_the_packet_timeout() {
    for first in [1, 2, 10] {
        let mut stage = Stage::with(ConnectionOptions {
            packet_timeout_millis: 20,
            ..ConnectionOptions::default()
        });
        stage.send([encoded(&[connect()])]);
        stage.settle();
        stage.received();
        let packet = encoded(&[publish("t", vec![0; 20_000])]);
        stage.send([packet.slice(..first)]);
        stage.settle();
        for piece in pieces(packet.slice(first..), 1).take(2_000) {
            if !stage.wire.lock().received.is_empty() {
                break;
            }
            stage.send([piece]);
            tokio::time::sleep(Duration::from_millis(1)).await;
            stage.settle();
        }
        assert_eq!(stage.received().first(), Some(&0xE0), "a DISCONNECT");
    }
}

/// Story: above the high-water mark of memory PUBLISH was held back and SUBSCRIBE was not, and a few
/// clients filled memory with Subscriptions.
#[tokio::test]
async fn short_of_memory_a_large_subscribe_waits_and_a_small_one_does_not() {
    let mut stage = Stage::new();
    stage.send([encoded(&[connect()])]);
    stage.settle();
    stage.received();
    stage.broker.set_short_of_memory(true);
    stage.send([encoded(&[subscribe("small")])]);
    stage.settle();
    assert_eq!(stage.received().first(), Some(&0x90), "a SUBACK");

    stage.send([encoded(&[subscribe(&"x".repeat(5_000)), Packet::Pingreq])]);
    stage.settle();
    assert_eq!(stage.received(), "", "it waits, and what is behind it");
    stage.broker.set_short_of_memory(false);
    while !stage.is_woken() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.settle();
    assert_eq!(stage.received().first(), Some(&0x90), "a SUBACK");
    assert_eq!(stage.broker.subscription_count(), 2);
}

/// Story: the broker was stopped for longer than a Keep Alive, as with its machine. When it went on it
/// looked at the time before it looked at the socket, where a PINGREQ waited, and let the client go.
#[tokio::test]
async fn what_waits_in_the_socket_is_not_silence() {
    let mut stage = Stage::new();
    let Packet::Connect(mut connect) = connect() else { panic!("it is a CONNECT") };
    connect.keep_alive_secs = 1;
    stage.send([encoded(&[Packet::Connect(connect)])]);
    stage.settle();
    stage.received();
    while !stage.is_woken() {
        // Nobody has a turn, until time is what wakes it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.send([encoded(&[Packet::Pingreq])]);
    stage.settle();
    assert_eq!(stage.received(), pingresp());
}

/// Story: while the authenticator was asked the socket was not looked at, so a client that left held
/// its place among the half open and in the queue of passwords until the time-out.
#[tokio::test]
async fn a_client_that_leaves_while_its_password_waits_is_gone_at_once() {
    for ahead in [Bytes::new(), encoded(&[Packet::Pingreq, subscribe("t")])] {
        let doorman = Arc::default();
        let mut stage = Stage::at_the_door(&doorman);
        stage.send([encoded(&[with_user_name()])]);
        if !ahead.is_empty() {
            stage.send([ahead]);
        }
        stage.settle();
        assert!(doorman.is_wanted());
        stage.leave();
        stage.settle();
        assert!(!doorman.is_wanted(), "nobody waits for the answer");
        assert_eq!(stage.broker.counters().totals().connects_refused, 1);
    }
}

/// Story: the same while another broker was asked for the Client Identifier. A client that had given up
/// long ago was let in, and its Session began anew: of its CONNACK it had read nothing, and took that
/// Session at its next CONNECT for the one before. It did not subscribe again, and what it sent again
/// came twice.
#[tokio::test]
async fn a_client_that_leaves_while_its_client_identifier_waits_is_gone_at_once() {
    let peers = Peers::new(BootId(1), "here".into(), 1, LaneOptions::default());
    peers.set_clock_offset(0);
    peers.set_admitting(true);
    let broker = Broker::new(BrokerOptions::default(), Guards::default(), SEEDS);
    let broker = Arc::new(broker.with_peers(peers));
    let context = Arc::new(ShardContext::new(&broker));
    let elsewhere = Arc::new(SlotMap::in_turn(1, vec![BootId(2)]));
    context.run(&broker, Tick::ZERO, |turn| turn.set_slots(broker.peers().unwrap(), elsewhere));
    let mut stage = Stage::on(Arc::clone(&broker), context, ConnectionOptions::default());
    stage.send([encoded(&[connect()])]);
    stage.settle();
    assert_eq!(broker.peers().unwrap().ownership().counts().pending, 1, "broker 2 is asked");
    assert_eq!(broker.counters().totals().connects_refused, 0);
    stage.leave();
    stage.settle();
    assert_eq!(broker.counters().totals().connects_refused, 1);
    assert_eq!(stage.received(), "");
}

#[tokio::test]
async fn what_is_sent_ahead_waits_for_the_connack() {
    for piece_len in [1, 7, 1_000] {
        let doorman = Arc::default();
        let mut stage = Stage::at_the_door(&doorman);
        let packets = encoded(&[with_user_name(), Packet::Pingreq, publish("t", vec![7; 6_000])]);
        stage.send(pieces(packets, piece_len));
        stage.settle();
        assert_eq!(stage.received(), "", "{piece_len}");
        assert!(!stage.wire.lock().arriving.is_empty(), "only so much is kept of it");
        doorman.let_in();
        stage.settle();
        let received = stage.received();
        assert_eq!(received.first(), Some(&0x20), "a CONNACK");
        assert!(received.ends_with(&pingresp()), "{piece_len}");
        assert_eq!(stage.broker.counters().totals().publishes_received, 1);
        assert_eq!(stage.bytes_counted(), stage.bytes_sent);
    }
}

/// Half a packet behind CONNECT had no deadline when the CONNECT had to wait.
#[tokio::test]
async fn half_a_packet_sent_ahead_has_until_the_packet_timeout() {
    let doorman = Arc::default();
    let mut stage = Stage::at_the_door(&doorman);
    stage.send([[&encoded(&[with_user_name()])[..], &[0x30]].concat().into()]);
    stage.settle();
    doorman.let_in();
    assert_eq!(stage.next_received().await.first(), Some(&0x20), "a CONNACK, and no keep alive");
    assert_eq!(stage.next_received().await.first(), Some(&0xE0), "a DISCONNECT");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes are cut on their way, the same packets arrive.
    #[test]
    fn any_cut_of_a_stream_gives_the_same_packets(
        lens in prop::collection::vec(
            prop_oneof![0..8_usize, 100..140_usize, 4_000..5_000_usize, 70_000..200_000_usize],
            1..6,
        ),
        cuts in prop::collection::vec(
            prop_oneof![1..6_usize, 100..140_usize, 1_460..1_461_usize, 60_000..70_000_usize],
            1..40,
        ),
    ) {
        let publishes: Vec<_> = lens.iter().map(|&len| publish("t", vec![7; len])).collect();
        let mut stream = encoded(&[connect(), subscribe("t")]);
        let echoed = encoded(&publishes);
        stream = Bytes::from([stream, echoed.clone()].concat());
        let mut cuts = cuts.into_iter().cycle();
        let cut = std::iter::from_fn(move || {
            let len = stream.len().min(cuts.next()?);
            (len > 0).then(|| stream.split_to(len))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut stage = Stage::new();
        stage.send(cut);
        stage.settle();
        prop_assert!(stage.received().ends_with(&echoed));
        prop_assert_eq!(stage.bytes_counted(), stage.bytes_sent);
    }
}

const VERSION: ProtocolVersion = ProtocolVersion::V5;

/// Story: a client reset its connection while the broker had something for it. The write failed, and
/// what was to be written stayed in the buffer that all connections of a shard share: the next one to
/// have its turn sent it to a stranger.
#[tokio::test]
async fn what_a_broken_connection_had_to_say_is_told_to_nobody() {
    let broker = Stage::broker();
    let context = Arc::new(ShardContext::new(&broker));
    let mut breaking =
        Stage::on(Arc::clone(&broker), Arc::clone(&context), ConnectionOptions::default());
    let mut other = Stage::on(broker, context, ConnectionOptions::default());
    breaking.send([encoded(&[connect()])]);
    breaking.settle();
    other.settle();
    breaking.wire.lock().is_reset = true;
    breaking.send([encoded(&[Packet::Pingreq])]);
    breaking.settle();
    other.send([encoded(&[named("other")])]);
    other.settle();
    let mut received = other.received();
    assert_eq!(received.first(), Some(&0x20), "CONNACK comes first: {received:02x?}");
    received.advance(2 + usize::from(received[1]));
    assert!(received.is_empty(), "{received:02x?}");
}

const SEEDS: Seeds = Seeds { hash: 7, instance: 8 };
