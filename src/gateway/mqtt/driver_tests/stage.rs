//! A driven connection, the socket it reads, and its client.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{SEEDS, VERSION};
use crate::broker::card::Origin;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::{Broker, Guards};
use crate::gateway::mqtt::{Driver, DriverOptions, Link, ShardContext};
use crate::mqtt::{
    Connect, ConnectProperties, Packet, PacketId, Pingresp, Publish, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions,
};
use crate::ports::auth::{AuthBusy, AuthRequest, AuthVerdict, Authenticator, Completion, Identity};
use crate::runtime::Clock;

/// A driven connection and its client.
pub(super) struct Stage {
    pub(super) driver: Pin<Box<Driver<Socket>>>,
    pub(super) wire: Arc<Mutex<Wire>>,
    pub(super) woken: Arc<Woken>,
    pub(super) broker: Arc<Broker>,
    pub(super) bytes_sent: u64,
}

/// What is between the driver and its client.
#[derive(Default)]
pub(super) struct Wire {
    /// What the client has sent, in the pieces in which it arrives; an empty one is the end.
    pub(super) arriving: VecDeque<Bytes>,
    /// Written, but not on its way as long as flushing stalls.
    pub(super) accepted: BytesMut,
    /// What the client has got.
    pub(super) received: BytesMut,
    pub(super) flush_stalls: bool,
    /// The client has reset the connection: writing fails, and nothing more arrives.
    pub(super) is_reset: bool,
    /// Where the driver wanted the bytes that follow those it has read.
    pub(super) reads_at: usize,
    /// How often it wanted them elsewhere, because it had moved what it has.
    pub(super) moves: usize,
    pub(super) reader: Option<Waker>,
    pub(super) flusher: Option<Waker>,
}

pub(super) struct Socket(Arc<Mutex<Wire>>);

/// An authenticator that takes its time.
#[derive(Default)]
pub(super) struct Doorman(Mutex<Vec<Box<dyn Completion>>>);

impl Authenticator for Doorman {
    fn submit(&self, _: AuthRequest, completion: Box<dyn Completion>) -> Result<(), AuthBusy> {
        self.0.lock().push(completion);
        Ok(())
    }
}

impl Doorman {
    /// Whether the client that came first still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.lock().first().is_some_and(|completion| completion.is_wanted())
    }

    pub(super) fn let_in(&self) {
        let identity = Identity { client_id: Arc::from("c"), user_name: None, anonymous: false };
        for completion in self.0.lock().drain(..) {
            completion.complete(AuthVerdict::Granted(identity.clone()));
        }
    }
}

pub(super) struct Woken(AtomicBool);

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(ConnectionOptions::default())
    }

    pub(super) fn with(connection: ConnectionOptions) -> Self {
        let broker = Self::broker();
        let context = Arc::new(ShardContext::new(&broker));
        Self::on(broker, context, connection)
    }

    pub(super) fn broker() -> Arc<Broker> {
        Arc::new(Broker::new(BrokerOptions::default(), Guards::default(), SEEDS))
    }

    /// A broker that asks `doorman` about every client, and a client that it is asked about.
    pub(super) fn at_the_door(doorman: &Arc<Doorman>) -> Self {
        let authenticator: Arc<dyn Authenticator> = Arc::clone(doorman) as Arc<_>;
        let guards = Guards { authenticator: Some(authenticator), authorizer: None };
        let broker = Arc::new(Broker::new(BrokerOptions::default(), guards, SEEDS));
        let context = Arc::new(ShardContext::new(&broker));
        let options =
            ConnectionOptions { packet_timeout_millis: 20, ..ConnectionOptions::default() };
        Self::on(broker, context, options)
    }

    /// A connection on the shard of `context`.
    pub(super) fn on(
        broker: Arc<Broker>,
        context: Arc<ShardContext>,
        connection: ConnectionOptions,
    ) -> Self {
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
    pub(super) fn send(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut wire = self.wire.lock();
        for piece in pieces {
            self.bytes_sent += piece.len() as u64;
            wire.arriving.push_back(piece);
        }
        wake(wire.reader.take());
    }

    /// The client closes its side.
    pub(super) fn leave(&mut self) {
        self.send([Bytes::new()]);
    }

    /// The socket takes nothing more, or all it has been given.
    pub(super) fn stall_flush(&self, stalls: bool) {
        let mut wire = self.wire.lock();
        wire.flush_stalls = stalls;
        wake(wire.flusher.take());
    }

    /// Polls until nobody wakes the driver; returns how many turns that took.
    pub(super) fn settle(&mut self) -> usize {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut turns = 0;
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let _ended = self.driver.as_mut().poll(&mut Context::from_waker(&waker));
            turns += 1;
        }
        turns
    }

    /// Whether somebody wants it to have a turn.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// How many bytes the broker says it has read.
    pub(super) fn bytes_counted(&self) -> u64 {
        self.broker.counters().totals().bytes_received
    }

    /// What the client has got since it last looked.
    pub(super) fn received(&self) -> Bytes {
        self.wire.lock().received.split().freeze()
    }

    /// What the client gets next, timers included.
    pub(super) async fn next_received(&mut self) -> Bytes {
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

impl Link for Socket {
    type Parked = OwnedFd;

    fn can_park(&self) -> bool {
        false
    }

    fn park(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resume(_: OwnedFd) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

pub(super) fn encoded(packets: &[Packet]) -> Bytes {
    let mut bytes = BytesMut::new();
    for packet in packets {
        packet.encode(VERSION, &mut bytes);
    }
    bytes.freeze()
}

pub(super) fn connect() -> Packet {
    named("c")
}

pub(super) fn named(client_id: &'static str) -> Packet {
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

pub(super) fn with_user_name() -> Packet {
    let Packet::Connect(mut connect) = connect() else { panic!("it is a CONNECT") };
    connect.user_name = Some("somebody".into());
    Packet::Connect(connect)
}

pub(super) fn subscribe(filter: &str) -> Packet {
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

pub(super) fn publish(topic: &str, payload: Vec<u8>) -> Packet {
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
pub(super) fn pieces(mut bytes: Bytes, len: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || bytes.has_remaining().then(|| bytes.split_to(bytes.len().min(len))))
}

pub(super) fn pingresp() -> Bytes {
    let mut bytes = BytesMut::new();
    Pingresp.encode(VERSION, &mut bytes);
    bytes.freeze()
}
