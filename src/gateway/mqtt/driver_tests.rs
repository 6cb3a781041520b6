//! Stories of the driver, told with sockets that do what the story needs.
//!
//! A driver is polled by hand and only when it was woken, as a runtime would: what nobody wakes it
//! for does not happen.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use proptest::prelude::*;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Driver, DriverOptions, Link, ShardContext};
use crate::broker::card::Origin;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::peers::Peers;
use crate::broker::{Broker, Guards, Seeds};
use crate::cluster::identity::BootId;
use crate::cluster::lane::LaneOptions;
use crate::cluster::slots::SlotMap;
use crate::mqtt::{
    Connect, ConnectProperties, Packet, PacketId, Pingresp, ProtocolVersion, Publish, QoS,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use crate::ports::auth::{AuthBusy, AuthRequest, AuthVerdict, Authenticator, Completion, Identity};
use crate::ports::clock::Tick;
use crate::runtime::Clock;

/// A driven connection and its client.
struct Stage {
    driver: Pin<Box<Driver<Socket>>>,
    wire: Arc<Mutex<Wire>>,
    woken: Arc<Woken>,
    broker: Arc<Broker>,
    bytes_sent: u64,
}

/// What is between the driver and its client.
#[derive(Default)]
struct Wire {
    /// What the client has sent, in the pieces in which it arrives; an empty one is the end.
    arriving: VecDeque<Bytes>,
    /// Written, but not on its way as long as flushing stalls.
    accepted: BytesMut,
    /// What the client has got.
    received: BytesMut,
    flush_stalls: bool,
    /// The client has reset the connection: writing fails, and nothing more arrives.
    is_reset: bool,
    /// Where the driver wanted the bytes that follow those it has read.
    reads_at: usize,
    /// How often it wanted them elsewhere, because it had moved what it has.
    moves: usize,
    reader: Option<Waker>,
    flusher: Option<Waker>,
}

struct Socket(Arc<Mutex<Wire>>);

/// An authenticator that takes its time.
#[derive(Default)]
struct Doorman(Mutex<Vec<Box<dyn Completion>>>);

impl Authenticator for Doorman {
    fn submit(&self, _: AuthRequest, completion: Box<dyn Completion>) -> Result<(), AuthBusy> {
        self.0.lock().push(completion);
        Ok(())
    }
}

impl Doorman {
    /// Whether the client that came first still waits.
    fn is_wanted(&self) -> bool {
        self.0.lock().first().is_some_and(|completion| completion.is_wanted())
    }

    fn let_in(&self) {
        let identity = Identity { client_id: Arc::from("c"), user_name: None, anonymous: false };
        for completion in self.0.lock().drain(..) {
            completion.complete(AuthVerdict::Granted(identity.clone()));
        }
    }
}

struct Woken(AtomicBool);

impl Stage {
    fn new() -> Self {
        Self::with(ConnectionOptions::default())
    }

    fn with(connection: ConnectionOptions) -> Self {
        let broker = Self::broker();
        let context = Arc::new(ShardContext::new(&broker));
        Self::on(broker, context, connection)
    }

    fn broker() -> Arc<Broker> {
        Arc::new(Broker::new(BrokerOptions::default(), Guards::default(), SEEDS))
    }

    /// A broker that asks `doorman` about every client, and a client that it is asked about.
    fn at_the_door(doorman: &Arc<Doorman>) -> Self {
        let authenticator: Arc<dyn Authenticator> = Arc::clone(doorman) as Arc<_>;
        let guards = Guards { authenticator: Some(authenticator), authorizer: None };
        let broker = Arc::new(Broker::new(BrokerOptions::default(), guards, SEEDS));
        let context = Arc::new(ShardContext::new(&broker));
        let options =
            ConnectionOptions { packet_timeout_millis: 20, ..ConnectionOptions::default() };
        Self::on(broker, context, options)
    }

    /// A connection on the shard of `context`.
    fn on(broker: Arc<Broker>, context: Arc<ShardContext>, connection: ConnectionOptions) -> Self {
        let options = DriverOptions {
            broker: Arc::clone(&broker),
            clock: Clock::start(),
            connection: Arc::new(connection),
            diagnose: |_| None,
        };
        let origin = Origin {
            address: Arc::from("here"),
            listener: Arc::from("stage"),
            tls_common_name: None,
        };
        let wire = Arc::<Mutex<Wire>>::default();
        let socket = Socket(Arc::clone(&wire));
        let driver = Driver::new(socket, origin, Arc::new(options), context);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Self { driver: Box::pin(driver), wire, woken, broker, bytes_sent: 0 }
    }

    /// The client sends something.
    fn send(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut wire = self.wire.lock();
        for piece in pieces {
            self.bytes_sent += piece.len() as u64;
            wire.arriving.push_back(piece);
        }
        wake(wire.reader.take());
    }

    /// The client closes its side.
    fn leave(&mut self) {
        self.send([Bytes::new()]);
    }

    /// The socket takes nothing more, or all it has been given.
    fn stall_flush(&self, stalls: bool) {
        let mut wire = self.wire.lock();
        wire.flush_stalls = stalls;
        wake(wire.flusher.take());
    }

    /// Polls until nobody wakes the driver; returns how many turns that took.
    fn settle(&mut self) -> usize {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut turns = 0;
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let _ended = self.driver.as_mut().poll(&mut Context::from_waker(&waker));
            turns += 1;
        }
        turns
    }

    /// How many bytes the broker says it has read.
    fn bytes_counted(&self) -> u64 {
        self.broker.counters().totals().bytes_received
    }

    /// What the client has got since it last looked.
    fn received(&self) -> Bytes {
        self.wire.lock().received.split().freeze()
    }

    /// What the client gets next, timers included.
    async fn next_received(&mut self) -> Bytes {
        poll_fn(|cx| {
            let _ended = self.driver.as_mut().poll(cx);
            let received = self.wire.lock().received.split();
            if received.is_empty() { Poll::Pending } else { Poll::Ready(received.freeze()) }
        })
        .await
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        let Some(piece) = wire.arriving.front_mut() else {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let count = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece.split_to(count));
        if !piece.has_remaining() {
            wire.arriving.pop_front();
        }
        let (start, end) = (buffer.filled().as_ptr().addr(), buffer.filled().len());
        wire.moves += usize::from(start != wire.reads_at);
        wire.reads_at = start + end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        if wire.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        wire.accepted.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        if wire.flush_stalls {
            wire.flusher = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let accepted = wire.accepted.split();
        wire.received.unsplit(accepted);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Link for Socket {}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn encoded(packets: &[Packet]) -> Bytes {
    let mut bytes = BytesMut::new();
    for packet in packets {
        packet.encode(VERSION, &mut bytes);
    }
    bytes.freeze()
}

fn connect() -> Packet {
    named("c")
}

fn named(client_id: &'static str) -> Packet {
    Packet::Connect(Box::new(Connect {
        protocol_version: VERSION,
        clean_start: true,
        keep_alive_secs: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }))
}

fn with_user_name() -> Packet {
    let Packet::Connect(mut connect) = connect() else { panic!("it is a CONNECT") };
    connect.user_name = Some("somebody".into());
    Packet::Connect(connect)
}

fn subscribe(filter: &str) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions::default(),
        }],
    })
}

fn publish(topic: &str, payload: Vec<u8>) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: topic.into(),
        packet_id: None,
        topic_alias: None,
        subscription_ids: SmallVec::new(),
        properties: None,
        payload: Bytes::from(payload),
    })
}

/// `bytes` in pieces of this many bytes.
fn pieces(mut bytes: Bytes, len: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || bytes.has_remaining().then(|| bytes.split_to(bytes.len().min(len))))
}

fn pingresp() -> Bytes {
    let mut bytes = BytesMut::new();
    Pingresp.encode(VERSION, &mut bytes);
    bytes.freeze()
}

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
