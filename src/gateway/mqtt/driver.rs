//! The driver of one connection: a future that owns a socket and a state machine.
//!
//! A poll is a turn: read once, let the state machine work, write once. The turn is bounded; what is
//! left goes on in the next one. The buffers belong to the shard; a connection holds bytes of its own
//! only while a packet is not whole or the socket takes no more.

use std::borrow::Cow;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::broker::Broker;
use crate::broker::card::Origin;
use crate::broker::connection::{Connection, Progress};
use crate::broker::options::ConnectionOptions;
use crate::broker::parts::FREE_BYTES;
use crate::broker::turn::Turn;
use crate::gateway::mqtt::parking::ParkingPlace;
use crate::gateway::mqtt::part::{Bounds, Unread};
use crate::gateway::mqtt::shard_context::{READ_BYTES_MAX, ShardContext, Workbench};
use crate::ports::clock::Tick;
use crate::runtime::Clock;
use crate::session::outbox::Outbox;

/// A byte stream to a client.
pub trait Link: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// The same outside every event loop.
    type Parked: AsFd + Send + 'static;

    /// The client has been let in: the connection is no longer half open.
    fn mark_established(&mut self) {}

    /// Whether it may wait outside the event loop; asked once.
    fn can_park(&self) -> bool;

    /// Takes it out of its event loop; nothing can be read or written after that.
    ///
    /// # Errors
    ///
    /// The stream is gone.
    fn park(&mut self) -> io::Result<Self::Parked>;

    /// Brings it into the event loop of the caller.
    ///
    /// # Errors
    ///
    /// The stream is gone.
    fn resume(parked: Self::Parked) -> io::Result<Self>;
}

/// What all connections of a listener have in common.
#[derive(Clone)]
pub struct DriverOptions {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The time.
    pub clock: Clock,
    /// The bounds of a connection.
    pub connection: Arc<ConnectionOptions>,
    /// Says what a client speaks whose first bytes are no MQTT.
    pub diagnose: fn(&[u8]) -> Option<&'static str>,
}

/// Serves one connection until it ends, or is parked.
pub struct Driver<S: Link> {
    stream: S,
    connection: Connection,
    options: Arc<DriverOptions>,
    context: Arc<ShardContext>,
    /// Bytes read and not yet handled: part of a packet, or what the last turn had no room for.
    unread: Unread,
    /// What the socket did not take.
    backlog: Option<Box<Outbox>>,
    /// What TLS or WebSocket took may not have reached the socket yet.
    needs_flush: bool,
    timer: Option<Pin<Box<Sleep>>>,
    timer_at: Option<Tick>,
    phase: Phase,
    /// Where it may wait when there is nothing to do.
    place: Option<Arc<ParkingPlace<S>>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nothing has been heard.
    First,
    Serving,
    /// There was nothing to do since the timer was set.
    Quiet,
    /// The state machine is closed: what is left is written, and until the client closes its side
    /// what it sends is thrown away. Closing at once would reset the connection and take the last
    /// packet with it.
    Lingering,
}

/// What a read came to.
enum Read {
    /// Bytes to handle, of which the socket just gave as many as `fresh` says.
    Chunk {
        chunk: Bytes,
        fresh: usize,
    },
    /// More of a packet that is still not whole.
    Piece {
        fresh: usize,
    },
    Ended(&'static str),
}

impl<S: Link> Driver<S> {
    /// A driver for a connection that has just come through its handshakes.
    #[must_use]
    pub fn new(
        stream: S,
        origin: Origin,
        options: Arc<DriverOptions>,
        context: Arc<ShardContext>,
    ) -> Self {
        let now = options.clock.now();
        let connection = Connection::new(origin, Arc::clone(&options.connection), now);
        Self {
            stream,
            connection,
            options,
            context,
            unread: Unread::Nothing,
            backlog: None,
            needs_flush: false,
            timer: None,
            timer_at: None,
            phase: Phase::First,
            place: None,
        }
    }

    /// The same for a connection that may be parked while there is nothing to do.
    #[must_use]
    pub fn parked_at(mut self, place: Arc<ParkingPlace<S>>) -> Self {
        self.place = Some(place).filter(|_| self.stream.can_park());
        self
    }

    /// A driver for a connection that was parked.
    pub(super) fn resumed(
        stream: S,
        connection: Connection,
        options: Arc<DriverOptions>,
        place: Arc<ParkingPlace<S>>,
    ) -> Self {
        Self {
            stream,
            connection,
            options,
            context: Arc::clone(place.context()),
            unread: Unread::Nothing,
            backlog: None,
            needs_flush: false,
            timer: None,
            timer_at: None,
            phase: Phase::Serving,
            place: Some(place),
        }
    }

    /// One turn. `Ready` when the connection is over, or parked.
    fn turn(&mut self, cx: &mut Context<'_>, was_quiet: bool) -> Poll<()> {
        let context = Arc::clone(&self.context);
        let mut bench = context.lock();
        let Workbench { shard, read_buffer, outbox, .. } = &mut *bench;
        let options = Arc::clone(&self.options);
        let now = options.clock.now();
        let turn = &mut Turn { broker: &options.broker, shard, now, outbox };
        let was_admitted = self.connection.is_admitted();
        let is_due = self.timer_at.is_some_and(|at| at <= now);
        if is_due {
            // It has gone off: whatever this turn waits for arms it again.
            self.timer_at = None;
        }
        let wants_turn = self.work(cx, turn, read_buffer);
        if is_due {
            // Behind what was there to be read: that we come late to it is not the client's silence.
            self.connection.handle_timeout(turn);
        }
        if !was_admitted && self.connection.is_admitted() {
            // Before the client can hear of it: its place among the half open is free by then.
            self.stream.mark_established();
        }
        let is_broken = self.flush(cx, turn).is_err();
        if is_broken {
            self.connection.handle_lost(turn, "the connection broke");
            // What it had to say is nobody else's.
            turn.outbox.clear();
        }
        bench.finish_turn(now);
        drop(bench);
        if is_broken {
            return Poll::Ready(());
        }
        if self.connection.is_closed() {
            return self.start_lingering(cx, now);
        }
        if is_due && was_quiet && !wants_turn && self.park() {
            return Poll::Ready(());
        }
        self.arm_timer(cx, now);
        if wants_turn && self.backlog.is_none() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads and lets the state machine work. `true` when there is more to do at once.
    fn work(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>, buffer: &mut BytesMut) -> bool {
        let mut wants_turn = false;
        let mut left = PACKETS_MAX;
        let mut bytes_left = READ_BYTES_MAX;
        while left > 0 && bytes_left > 0 && self.may_read(cx, turn) {
            let Poll::Ready(read) = self.read(cx, buffer) else { break };
            let (chunk, fresh) = match read {
                Ok(Read::Chunk { chunk, fresh }) => (Some(chunk), fresh),
                Ok(Read::Piece { fresh }) => (None, fresh),
                Ok(Read::Ended(reason)) => {
                    self.connection.handle_lost(turn, reason);
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.connection.handle_violation(turn, &error.to_string());
                    return false;
                }
                Err(error) => {
                    self.connection.handle_lost(turn, &broken(&error));
                    return false;
                }
            };
            turn.shard.counters().bytes_received.add(fresh as u64);
            bytes_left = bytes_left.saturating_sub(fresh);
            let Some(mut chunk) = chunk else { continue };
            if self.is_not_mqtt(turn, &chunk) {
                return false;
            }
            left -= self.connection.receive(turn, &mut chunk, left, cx.waker());
            self.unread = Unread::new(chunk, bounds(&self.connection, turn.broker));
            wants_turn = matches!(self.unread, Unread::Whole(_));
            if wants_turn {
                break;
            }
        }
        wants_turn |= bytes_left == 0 || left == 0;
        let was_reading = self.connection.is_reading();
        let outbox_max = if self.backlog.is_some() { 0 } else { OUTBOX_MAX };
        let progress = self.connection.advance(turn, DELIVERIES_MAX, outbox_max, cx.waker());
        if self.connection.is_waiting()
            && let Err(reason) = self.watch(cx, turn)
        {
            self.connection.handle_lost(turn, &reason);
            return false;
        }
        // What it has just come to may be a reason to read on.
        let reads_again = !was_reading && self.connection.is_reading();
        wants_turn || reads_again || progress == Progress::More
    }

    fn may_read(&mut self, cx: &Context<'_>, turn: &mut Turn<'_>) -> bool {
        // A client that does not read its answers is not asked for more.
        if self.backlog.is_some() || turn.outbox.len() >= OUTBOX_MAX {
            return false;
        }
        if !self.has_room_for_rest(cx, turn) {
            return false;
        }
        match self.connection.may_read(turn) {
            Ok(()) => true,
            Err(until) => {
                if let Some(until) = until {
                    self.set_timer(cx, until);
                }
                false
            }
        }
    }

    /// Whether there is room for more of a packet that has come in part.
    fn has_room_for_rest(&mut self, cx: &Context<'_>, turn: &mut Turn<'_>) -> bool {
        let Unread::Part(part) = &mut self.unread else { return true };
        let is_short = turn.broker.is_short_of_memory();
        if part.make_room(bounds(&self.connection, turn.broker), is_short) {
            return true;
        }
        let counters = turn.shard.counters();
        if is_short {
            counters.reads_deferred_by_memory.increment();
        } else {
            counters.reads_deferred_by_partial_packets.increment();
        }
        self.connection.note_held_up(turn.now);
        self.set_timer(cx, turn.now.plus_millis(ROOM_RETRY_MILLIS));
        false
    }

    /// How much is read at a time: while there is no room for parts of packets, not more than each
    /// connection may keep.
    fn read_bytes_max(&self) -> usize {
        let broker = &self.options.broker;
        let is_short =
            broker.is_short_of_memory() || broker.part_budget().is_full(self.connection.sender());
        if is_short { FREE_BYTES } else { READ_BYTES_MAX }
    }

    /// Notices that a client leaves which waits to be let in. What it sends ahead is kept; beyond a
    /// bound it is no longer listened to.
    fn watch(&mut self, cx: &mut Context<'_>, turn: &Turn<'_>) -> Result<(), Cow<'static, str>> {
        let mut piece = [0; AHEAD_BYTES_MAX];
        // Half a packet behind CONNECT is new to the state machine when it takes packets again.
        self.unread.append(&[]);
        loop {
            let room = AHEAD_BYTES_MAX.saturating_sub(self.unread.len());
            if room == 0 {
                return Ok(());
            }
            let mut piece = ReadBuf::new(piece.get_mut(..room).unwrap_or_default());
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(broken(&error).into()),
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Err(CLOSED.into()),
                Poll::Ready(Ok(())) => {
                    turn.shard.counters().bytes_received.add(piece.filled().len() as u64);
                    self.unread.append(piece.filled());
                }
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<Read>> {
        match std::mem::replace(&mut self.unread, Unread::Nothing) {
            Unread::Whole(chunk) => Poll::Ready(Ok(Read::Chunk { chunk, fresh: 0 })),
            Unread::Nothing => {
                let mut room = Workbench::room(buffer).limit(self.read_bytes_max());
                let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut room))?;
                if count == 0 {
                    return Poll::Ready(Ok(Read::Ended(CLOSED)));
                }
                Poll::Ready(Ok(Read::Chunk { chunk: Workbench::chunk(buffer), fresh: count }))
            }
            Unread::Part(mut part) => {
                let bytes_max = self.connection.packet_bytes_max();
                let mut room = part.room(bytes_max);
                let polled = poll_read_buf(Pin::new(&mut self.stream), cx, &mut room);
                drop(room);
                let Poll::Ready(count) = polled else {
                    self.unread = Unread::Part(part);
                    return Poll::Pending;
                };
                let fresh = count?;
                if fresh == 0 {
                    return Poll::Ready(Ok(Read::Ended(CLOSED_MIDWAY)));
                }
                if part.is_whole(bytes_max) {
                    return Poll::Ready(Ok(Read::Chunk { chunk: part.freeze(), fresh }));
                }
                self.unread = Unread::Part(part);
                Poll::Ready(Ok(Read::Piece { fresh }))
            }
        }
    }

    /// Whether the first bytes show that the client speaks something else.
    fn is_not_mqtt(&mut self, turn: &mut Turn<'_>, chunk: &[u8]) -> bool {
        if self.phase != Phase::First {
            return false;
        }
        self.phase = Phase::Serving;
        let Some(diagnosis) = (self.options.diagnose)(chunk) else { return false };
        self.connection.refuse_stranger(turn, diagnosis);
        true
    }

    /// Writes what there is; what the socket does not take becomes the backlog.
    fn flush(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> io::Result<()> {
        if let Some(backlog) = &mut self.backlog {
            backlog.append(turn.outbox);
            let written = write_out(&mut self.stream, cx, backlog)?;
            self.needs_flush = !written.is_flushed;
            turn.shard.counters().bytes_sent.add(written.bytes);
            if written.bytes > 0 {
                self.connection.note_progress(turn.now);
            }
            if backlog.is_empty() {
                self.backlog = None;
                self.connection.note_drained(turn.now);
                // There may be deliveries that had to wait.
                cx.waker().wake_by_ref();
            }
            return Ok(());
        }
        if turn.outbox.is_empty() && !self.needs_flush {
            return Ok(());
        }
        let written = write_out(&mut self.stream, cx, turn.outbox)?;
        self.needs_flush = !written.is_flushed;
        turn.shard.counters().bytes_sent.add(written.bytes);
        if !turn.outbox.is_empty() {
            let mut backlog = Box::new(Outbox::new());
            backlog.append(turn.outbox);
            self.backlog = Some(backlog);
            self.connection.note_stalled(turn.now);
        }
        Ok(())
    }

    fn start_lingering(&mut self, cx: &mut Context<'_>, now: Tick) -> Poll<()> {
        self.phase = Phase::Lingering;
        self.unread = Unread::Nothing;
        self.timer_at = None;
        self.set_timer(cx, now.plus_millis(LINGER_MILLIS));
        self.linger(cx)
    }

    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer_at.is_some_and(|at| at <= self.options.clock.now()) {
            return Poll::Ready(());
        }
        if self.backlog.is_some() || self.needs_flush {
            let backlog = self.backlog.get_or_insert_default();
            match write_out(&mut self.stream, cx, backlog) {
                Err(_) => return Poll::Ready(()),
                Ok(written) if !written.is_flushed => return self.poll_timer(cx),
                Ok(_) => (self.backlog, self.needs_flush) = (None, false),
            }
        }
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        if matches!(shut, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        let mut scrap = [0; 1_024];
        loop {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.stream).poll_read(cx, &mut scrap) {
                Poll::Pending => return self.poll_timer(cx),
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }

    /// Arms the timer for the deadline of the state machine. A timer that goes off early is cheaper
    /// than one that is moved with every packet.
    fn arm_timer(&mut self, cx: &Context<'_>, now: Tick) {
        // Who has said nothing yet cannot be parked.
        let place = self.place.as_ref().filter(|_| self.phase != Phase::First);
        let quiet_until = place.map(|place| place.quiet_until(now));
        let Some(at) = self.connection.deadline().into_iter().chain(quiet_until).min() else {
            return;
        };
        let is_armed = self.set_timer(cx, at);
        if is_armed && self.phase == Phase::Serving && self.place.is_some() {
            self.phase = Phase::Quiet;
        }
    }

    /// Leaves the connection to the parking place, if there is nothing it has to do or wait for
    /// here.
    fn park(&mut self) -> bool {
        let is_at_rest = matches!(self.unread, Unread::Nothing)
            && self.backlog.is_none()
            && !self.needs_flush
            && self.connection.is_at_rest();
        let Some(place) = self.place.as_ref().filter(|_| is_at_rest) else { return false };
        place.park(&mut self.stream, &mut self.connection, &self.options)
    }

    /// `true` when there was no timer that goes off as early.
    fn set_timer(&mut self, cx: &Context<'_>, at: Tick) -> bool {
        if self.timer_at.is_some_and(|armed| armed <= at) {
            return false;
        }
        self.timer_at = Some(at);
        let instant = self.options.clock.instant_at(at);
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(instant),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(instant))),
        }
        let mut cx = Context::from_waker(cx.waker());
        let _due = self.poll_timer(&mut cx);
        true
    }

    /// Lets the timer know whom to wake.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S: Link> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.phase {
            Phase::First | Phase::Serving => this.turn(cx, false),
            Phase::Quiet => {
                this.phase = Phase::Serving;
                this.turn(cx, true)
            }
            Phase::Lingering => this.linger(cx),
        }
    }
}

impl<S: Link> Drop for Driver<S> {
    /// A task that is dropped before its connection ended, at the end of a shutdown.
    fn drop(&mut self) {
        if self.connection.is_closed() {
            return;
        }
        let now = self.options.clock.now();
        let connection = &mut self.connection;
        self.context.run(&self.options.broker, now, |turn| {
            connection.handle_lost(turn, "the broker has stopped");
        });
    }
}

/// What a write came to.
struct Written {
    bytes: u64,
    /// Whether nothing is left, neither in the outbox nor in the transport.
    is_flushed: bool,
}

/// Writes as much as the socket takes. Where something is left, the transport wakes the task.
fn write_out<S: Link>(
    stream: &mut S,
    cx: &mut Context<'_>,
    outbox: &mut Outbox,
) -> io::Result<Written> {
    let mut bytes = 0;
    while !outbox.is_empty() {
        let polled = if let Some(piece) = outbox.contiguous() {
            Pin::new(&mut *stream).poll_write(cx, piece)
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outbox.slices(&mut slices);
            Pin::new(&mut *stream).poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
        };
        match polled {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => {
                outbox.advance(count);
                bytes += count as u64;
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    // TLS and WebSocket hold bytes back until they are told.
    let is_flushed = match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(Ok(())) => outbox.is_empty(),
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Pending => false,
    };
    Ok(Written { bytes, is_flushed })
}

/// What bounds the packet of `connection` that is not whole.
fn bounds<'a>(connection: &Connection, broker: &'a Broker) -> Bounds<'a> {
    Bounds {
        packet_bytes_max: connection.packet_bytes_max(),
        budget: broker.part_budget(),
        sender: connection.sender(),
    }
}

fn broken(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::ConnectionReset {
        return "the client reset the connection".to_owned();
    }
    if kind == io::ErrorKind::TimedOut {
        return "the client stopped acknowledging what was sent".to_owned();
    }
    if kind == io::ErrorKind::UnexpectedEof {
        return "the client closed the connection without ending TLS".to_owned();
    }
    format!("the connection broke: {error}")
}

/// Packets handled in a turn.
const PACKETS_MAX: usize = 128;
/// Messages sent in a turn.
const DELIVERIES_MAX: usize = 4_096;
/// Bytes encoded before they are written.
const OUTBOX_MAX: usize = 256 * 1_024;
/// Bytes kept of a client that waits to be let in.
const AHEAD_BYTES_MAX: usize = 4 * 1_024;
/// How soon it is asked again for room for the rest of a packet.
const ROOM_RETRY_MILLIS: u64 = 500;
/// Pieces of one write.
const SLICES_MAX: usize = 64;
/// How long the last packet of a connection has to arrive.
const LINGER_MILLIS: u64 = 1_000;
const CLOSED: &str = "the client closed the connection";
const CLOSED_MIDWAY: &str = "the client closed the connection in the middle of a packet";
