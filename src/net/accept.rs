//! The accept loop: from a listening socket to connections served on their shards.

use super::admission::{Admission, ConnectionBudget, Seat};
use super::bind::{BoundListener, ListenAddress};
use super::counters::{NetCounters, Refusal};
use super::handshake::{HandshakeError, Handshakes};
use super::peer::{Peer, PeerAddress, TransportKind};
use super::transport::{Stream, Transport};
use crate::runtime::background::BackgroundHandle;
use crate::runtime::line_limit::LineLimit;
use crate::runtime::shard::ShardHandles;
use crate::runtime::{Clock, ShardHandle, Shutdown};
use rustix::io::Errno;
use socket2::Socket;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// Serves connections: the broker, as the listeners see it.
pub trait Serve: Send + Sync + 'static {
    /// Serves one connection until it ends, as a task of `shard`.
    ///
    /// The future is the task: an idle connection costs what it holds across its `await`s.
    fn serve(
        self: Arc<Self>,
        transport: Transport,
        peer: Peer,
        shard: ShardHandle,
    ) -> impl Future<Output = ()> + Send + 'static;
}

/// What all listeners share.
#[derive(Debug)]
pub struct AcceptContext<S> {
    /// Who serves the connections.
    pub server: Arc<S>,
    /// Where they live.
    pub shards: Arc<ShardHandles>,
    /// What is counted.
    pub counters: Arc<NetCounters>,
    /// How many there may be, over all listeners.
    pub budget: Arc<ConnectionBudget>,
    /// What time it is.
    pub clock: Clock,
    /// When it begins, listeners close. Connections that stand are not theirs to end.
    pub shutdown: Shutdown,
}

impl BoundListener {
    /// Accepts connections, in one task for each socket on the background runtime.
    ///
    /// # Errors
    ///
    /// When the system cannot watch another socket.
    pub fn accept<S: Serve>(
        self,
        context: AcceptContext<S>,
        background: &BackgroundHandle,
    ) -> io::Result<()> {
        let limits = &self.options.limits;
        let door = Arc::new(Door {
            name: self.options.name.as_str().into(),
            kind: self.options.kind(),
            handshake_timeout: limits.handshake_timeout,
            handshakes: Handshakes {
                proxy_protocol: self.options.proxy_protocol,
                tls: self.tls,
                websocket: self.options.websocket,
            },
            admission: Admission::new(limits, context.budget.clone(), context.counters.clone()),
            refusal_lines: LineLimit::per_minute(REFUSAL_LINES_PER_MINUTE),
            setback_lines: LineLimit::per_minute(SETBACK_LINES_PER_MINUTE),
            pause_lines: LineLimit::per_minute(1),
            context,
        });
        for (socket, address) in self.sockets {
            let socket = background.enter(|| Listening::new(socket, &address))?;
            let door = door.clone();
            background.spawn("acceptor", async move {
                let shutdown = door.context.shutdown.clone();
                tokio::select! {
                    () = shutdown.begun() => {}
                    () = door.accept_all(&socket) => {}
                }
                if let ListenAddress::Unix(path) = &address {
                    remove_socket(path);
                }
            });
        }
        Ok(())
    }
}

/// One listener while it accepts.
struct Door<S> {
    name: Arc<str>,
    kind: TransportKind,
    handshake_timeout: Duration,
    handshakes: Handshakes,
    admission: Arc<Admission>,
    refusal_lines: LineLimit,
    setback_lines: LineLimit,
    pause_lines: LineLimit,
    context: AcceptContext<S>,
}

impl<S: Serve> Door<S> {
    async fn accept_all(self: &Arc<Self>, socket: &Listening) {
        loop {
            match poll_fn(|cx| self.poll_accept(cx, socket)).await {
                (shard, Ok((stream, address))) => self.welcome(&shard, stream, address),
                (_, Err(error)) if is_exhaustion(&error) => self.pause(&error).await,
                // The client was gone before we came to it, or the network said so.
                (_, Err(error)) => {
                    tracing::debug!(listener = %self.name, %error, "a connection was not accepted");
                }
            }
        }
    }

    /// Accepts in the context of the shard the connection is for, which makes the socket known to
    /// that shard's event loop and to no other.
    fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        socket: &Listening,
    ) -> Poll<(ShardHandle, Accepted)> {
        let shard = self.context.shards.pick();
        let accepted = ready!(shard.enter(|| socket.poll_accept(cx)));
        Poll::Ready((shard.clone(), accepted))
    }

    /// No file or memory is left for a socket: accepting again at once would only burn the core.
    async fn pause(&self, error: &io::Error) {
        self.context.counters.accept_pauses.up();
        if self.pause_lines.allow(self.context.clock.now()).is_some() {
            tracing::error!(
                listener = %self.name, %error, open = self.context.counters.open.value(),
                "cannot accept connections: raise the limit of open files (ulimit -n)"
            );
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    fn welcome(self: &Arc<Self>, shard: &ShardHandle, stream: Stream, address: PeerAddress) {
        if let Err(refusal) = self.try_welcome(shard, stream, address) {
            self.refuse(refusal, &address);
        }
    }

    /// Starts the connection's task on its shard, unless a bound forbids it.
    fn try_welcome(
        self: &Arc<Self>,
        shard: &ShardHandle,
        stream: Stream,
        address: PeerAddress,
    ) -> Result<(), Refusal> {
        let mut seat = self.admission.admit(shard.take_place())?;
        if let (Some(ip), false) = (address.ip(), self.handshakes.proxy_protocol) {
            seat.claim_address(ip, self.context.clock.now())?;
        }
        let peer = Peer {
            address,
            listener: self.name.clone(),
            kind: self.kind,
            tls_common_name: None,
            proxied_by: None,
        };
        self.context.counters.accepted(self.kind).up();
        match stream {
            Stream::Tcp(stream) if !self.handshakes.is_none() => {
                let task = self.clone().shake_hands(stream, peer, seat, shard.clone());
                shard.spawn(HANDSHAKE, task);
            }
            stream @ (Stream::Tcp(_)
            | Stream::Unix(_)
            | Stream::Tls(_)
            | Stream::WebSocket(_)
            | Stream::SecureWebSocket(_)
            | Stream::Parked) => {
                self.serve(Transport::new(stream, seat), peer, shard.clone());
            }
        }
        Ok(())
    }

    /// Performs the handshakes. The task and all it holds end before the connection's own begins.
    async fn shake_hands(
        self: Arc<Self>,
        stream: TcpStream,
        mut peer: Peer,
        seat: Seat,
        shard: ShardHandle,
    ) {
        let handshakes = self.handshakes.perform(stream, &mut peer, seat, self.context.clock);
        let outcome = tokio::time::timeout(self.handshake_timeout, handshakes).await;
        match outcome.unwrap_or(Err(HandshakeError::TimedOut)) {
            Ok(transport) => self.serve(transport, peer, shard),
            Err(error) => self.set_back(&error, &peer),
        }
    }

    fn serve(&self, transport: Transport, peer: Peer, shard: ShardHandle) {
        let server = self.context.server.clone();
        shard.clone().spawn(CONNECTION, server.serve(transport, peer, shard));
    }

    fn refuse(&self, refusal: Refusal, address: &PeerAddress) {
        self.context.counters.refused(refusal).up();
        if let Some(unsaid) = self.refusal_lines.allow(self.context.clock.now()) {
            tracing::warn!(
                listener = %self.name, %address, unsaid, "a connection is refused: {refusal}"
            );
        }
    }

    fn set_back(&self, error: &HandshakeError, peer: &Peer) {
        let address = &peer.address;
        match error.setback() {
            Err(refusal) => return self.refuse(refusal, address),
            Ok(setback) => self.context.counters.setbacks(setback).up(),
        }
        // A health check that connects and leaves before any byte is nothing to talk about.
        if matches!(error, HandshakeError::Vanished) {
            tracing::debug!(listener = %self.name, %address, "{error}");
        } else if let Some(unsaid) = self.setback_lines.allow(self.context.clock.now()) {
            tracing::warn!(listener = %self.name, %address, unsaid, "{error}");
        }
    }
}

/// A listening socket, known to the background runtime.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

type Accepted = io::Result<(Stream, PeerAddress)>;

impl Listening {
    fn new(socket: Socket, address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Ip(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            ListenAddress::Unix(_) => UnixListener::from_std(socket.into()).map(Self::Unix),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Accepted> {
        match self {
            Self::Tcp(socket) => socket
                .poll_accept(cx)
                .map_ok(|(stream, address)| (Stream::Tcp(stream), PeerAddress::Ip(address))),
            Self::Unix(socket) => socket
                .poll_accept(cx)
                .map_ok(|(stream, _)| (Stream::Unix(stream), PeerAddress::Unix)),
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "the socket's path is left behind");
    }
}

/// What the tasks of clients are called, from the first byte to the last.
pub const CONNECTION_TASKS: [&str; 2] = [HANDSHAKE, CONNECTION];

const HANDSHAKE: &str = "handshake";
/// The task of a client that is through its handshakes.
pub const CONNECTION: &str = "connection";
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const REFUSAL_LINES_PER_MINUTE: u32 = 6;
const SETBACK_LINES_PER_MINUTE: u32 = 60;
