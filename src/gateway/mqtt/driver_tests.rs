//! Stories of the driver, told with sockets that do what the story needs.
//!
//! A driver is polled by hand and only when it was woken, as a runtime would: what nobody wakes it
//! for does not happen.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Driver, DriverOptions, Link, ShardContext};
use crate::broker::card::Origin;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::{Broker, Guards, Seeds};
use crate::mqtt::{Connect, ConnectProperties, Packet, Pingresp, ProtocolVersion};
use crate::runtime::Clock;

/// A driven connection and its client.
struct Stage {
    driver: Pin<Box<Driver<Socket>>>,
    wire: Arc<Mutex<Wire>>,
    woken: Arc<Woken>,
}

/// What is between the driver and its client.
#[derive(Default)]
struct Wire {
    /// What the client has sent, in the pieces in which it arrives.
    arriving: VecDeque<Bytes>,
    /// Written, but not on its way as long as flushing stalls.
    accepted: BytesMut,
    /// What the client has got.
    received: BytesMut,
    flush_stalls: bool,
    /// The client has reset the connection: writing fails, and nothing more arrives.
    is_reset: bool,
    reader: Option<Waker>,
    flusher: Option<Waker>,
}

struct Socket(Arc<Mutex<Wire>>);

struct Woken(AtomicBool);

impl Stage {
    fn new() -> Self {
        let broker = Self::broker();
        let context = Arc::new(ShardContext::new(&broker));
        Self::on(broker, context)
    }

    fn broker() -> Arc<Broker> {
        Arc::new(Broker::new(BrokerOptions::default(), Guards::default(), SEEDS))
    }

    /// A connection on the shard of `context`.
    fn on(broker: Arc<Broker>, context: Arc<ShardContext>) -> Self {
        let options = DriverOptions {
            broker,
            clock: Clock::start(),
            connection: Arc::new(ConnectionOptions::default()),
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
        Self { driver: Box::pin(driver), wire, woken }
    }

    /// The client sends something.
    fn send(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut wire = self.wire.lock();
        wire.arriving.extend(pieces);
        wake(wire.reader.take());
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

    /// What the client has got since it last looked.
    fn received(&self) -> Bytes {
        self.wire.lock().received.split().freeze()
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

const VERSION: ProtocolVersion = ProtocolVersion::V5;

/// Story: a client reset its connection while the broker had something for it. The write failed, and
/// what was to be written stayed in the buffer that all connections of a shard share: the next one to
/// have its turn sent it to a stranger.
#[tokio::test]
async fn what_a_broken_connection_had_to_say_is_told_to_nobody() {
    let broker = Stage::broker();
    let context = Arc::new(ShardContext::new(&broker));
    let mut breaking = Stage::on(Arc::clone(&broker), Arc::clone(&context));
    let mut other = Stage::on(broker, context);
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
