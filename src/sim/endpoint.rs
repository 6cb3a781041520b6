//! The broker's end of a simulated link: what a gateway's driver does, without a socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::broker::card::Origin;
use crate::broker::connection::{Connection, Progress};
use crate::broker::options::ConnectionOptions;
use crate::broker::turn::Turn;
use crate::mqtt::Frame;
use crate::ports::clock::Tick;
use crate::session::outbox::Outbox;

/// The connections that want a turn, in the order in which they were woken.
pub(super) type Ready = Mutex<VecDeque<usize>>;

/// Wakes one connection: puts it among the ready ones, once.
struct Flag {
    number: usize,
    is_set: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.is_set.swap(true, Ordering::Relaxed) {
            self.ready.lock().push_back(self.number);
        }
    }
}

/// How much one turn does.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnBounds {
    pub(super) packets: usize,
    pub(super) deliveries: usize,
    pub(super) outbox_bytes: usize,
}

/// A connection, and the bytes between it and its link.
pub(super) struct Endpoint {
    connection: Connection,
    packet_bytes_max: usize,
    arrived: VecDeque<Bytes>,
    has_arrived_all: bool,
    unread: Bytes,
    backlog: Outbox,
    flag: Arc<Flag>,
    waker: Waker,
    /// When the timer goes off that was set last.
    timer_at: Option<Tick>,
    /// Until when the publish rate keeps it from being read.
    deferred_until: Option<Tick>,
    /// Closed, and how long what is left has to be written.
    lingers_until: Option<Tick>,
    /// When a whole packet last came, or the client was not heard for want of reading.
    pub(super) heard_at: u64,
    /// How long it had been silent when the socket took no more.
    stalled_after: u64,
    /// The connection has ended and everything was written.
    pub(super) is_over: bool,
}

impl Endpoint {
    pub(super) fn new(
        number: usize,
        ready: &Arc<Ready>,
        options: &Arc<ConnectionOptions>,
        now: Tick,
    ) -> Self {
        let origin = Origin {
            address: Arc::from(number.to_string()),
            listener: Arc::from("sim"),
            tls_common_name: None,
        };
        let flag =
            Arc::new(Flag { number, is_set: AtomicBool::new(false), ready: Arc::clone(ready) });
        let endpoint = Self {
            connection: Connection::new(origin, Arc::clone(options), now),
            packet_bytes_max: options.packet_bytes_max,
            arrived: VecDeque::new(),
            has_arrived_all: false,
            unread: Bytes::new(),
            backlog: Outbox::new(),
            waker: Waker::from(Arc::clone(&flag)),
            flag,
            timer_at: None,
            deferred_until: None,
            lingers_until: None,
            heard_at: now.as_millis(),
            stalled_after: 0,
            is_over: false,
        };
        endpoint.wake();
        endpoint
    }

    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Bytes have come over the link.
    pub(super) fn arrive(&mut self, bytes: Bytes) {
        self.arrived.push_back(bytes);
        self.wake();
    }

    /// Nothing more will come: the client has closed its side.
    pub(super) fn arrive_end(&mut self) {
        self.has_arrived_all = true;
        self.wake();
    }

    /// The socket takes more again.
    pub(super) fn drained(&self) {
        if !self.backlog.is_empty() {
            self.wake();
        }
    }

    /// A timer that was set for `at` goes off.
    pub(super) fn ring(&mut self, at: Tick) {
        if self.timer_at == Some(at) {
            self.timer_at = None;
            self.wake();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// The waker fires and is lost on its way: only for showing that the checkers see it.
    pub(super) fn forget_wake(&self) {
        self.flag.is_set.store(false, Ordering::Relaxed);
    }

    /// One turn, in which `room` bytes may be written; returns them, and how many were encoded.
    pub(super) fn turn(
        &mut self,
        turn: &mut Turn<'_>,
        room: usize,
        bounds: TurnBounds,
    ) -> (Bytes, usize) {
        self.flag.is_set.store(false, Ordering::Relaxed);
        self.deferred_until = None;
        let wants_turn = self.work(turn, bounds);
        self.connection.handle_timeout(turn);
        let encoded = turn.outbox.len();
        let written = self.flush(turn, room);
        if self.connection.is_closed() {
            let until = *self.lingers_until.get_or_insert(turn.now.plus_millis(LINGER_MILLIS));
            self.is_over = self.backlog.is_empty() || self.has_arrived_all || turn.now >= until;
            return (written, encoded);
        }
        if wants_turn && self.backlog.is_empty() {
            self.wake();
        }
        (written, encoded)
    }

    fn work(&mut self, turn: &mut Turn<'_>, bounds: TurnBounds) -> bool {
        let mut wants_turn = false;
        let mut left = bounds.packets;
        while left > 0 && self.may_read(turn, bounds) {
            let Some(mut chunk) = self.read() else {
                if self.has_arrived_all {
                    self.connection.handle_lost(turn, "the client closed the connection");
                    return false;
                }
                break;
            };
            let taken = self.connection.receive(turn, &mut chunk, left, &self.waker);
            if taken > 0 {
                self.heard_at = turn.now.as_millis();
            }
            left -= taken;
            self.unread = chunk;
            wants_turn = self.is_whole();
            if wants_turn {
                break;
            }
        }
        wants_turn |= left == 0;
        let was_reading = self.connection.is_reading();
        let outbox_max = if self.backlog.is_empty() { bounds.outbox_bytes } else { 0 };
        let progress = self.connection.advance(turn, bounds.deliveries, outbox_max, &self.waker);
        if self.connection.is_waiting() && self.has_arrived_all {
            self.connection.handle_lost(turn, "the client closed the connection");
            return false;
        }
        let reads_again = !was_reading && self.connection.is_reading();
        wants_turn || reads_again || progress == Progress::More
    }

    fn may_read(&mut self, turn: &mut Turn<'_>, bounds: TurnBounds) -> bool {
        if !self.backlog.is_empty() || turn.outbox.len() >= bounds.outbox_bytes {
            return false;
        }
        match self.connection.may_read(turn) {
            Ok(()) => true,
            Err(until) => {
                // Whoever reads on by itself is not heard because it is not listened to.
                if until.is_some() || self.connection.is_reading() {
                    self.heard_at = turn.now.as_millis();
                }
                self.deferred_until = until;
                false
            }
        }
    }

    /// What was left of the last read and is whole, or that with what has come behind it.
    fn read(&mut self) -> Option<Bytes> {
        if self.is_whole() {
            return Some(std::mem::take(&mut self.unread));
        }
        let fresh = self.arrived.pop_front()?;
        if self.unread.is_empty() {
            return Some(fresh);
        }
        let mut joined = BytesMut::with_capacity(self.unread.len() + fresh.len());
        joined.extend_from_slice(&self.unread);
        joined.extend_from_slice(&fresh);
        self.unread = Bytes::new();
        Some(joined.freeze())
    }

    fn is_whole(&self) -> bool {
        match Frame::peek(&self.unread, self.packet_bytes_max) {
            Ok(Some(frame)) => frame.total_len <= self.unread.len(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn flush(&mut self, turn: &mut Turn<'_>, room: usize) -> Bytes {
        let had_backlog = !self.backlog.is_empty();
        self.backlog.append(turn.outbox);
        let mut written = BytesMut::new();
        let mut left = room.min(self.backlog.len());
        while left > 0 {
            let mut slices = [std::io::IoSlice::new(&[]); 1];
            let _one = self.backlog.slices(&mut slices);
            let [slice] = slices;
            let taken = slice.len().min(left);
            written.extend(slice.iter().take(taken));
            self.backlog.advance(taken);
            left -= taken;
        }
        if had_backlog && self.backlog.is_empty() {
            self.wake();
        }
        if self.connection.is_closed() {
            // When it was last heard is what it was let go for.
            return written.freeze();
        }
        if had_backlog && !written.is_empty() {
            self.connection.note_progress(turn.now);
            self.heard_at = turn.now.as_millis();
        }
        if had_backlog && self.backlog.is_empty() {
            self.connection.note_drained(turn.now);
            self.heard_at = turn.now.as_millis().saturating_sub(self.stalled_after);
        }
        if !had_backlog && !self.backlog.is_empty() {
            self.connection.note_stalled(turn.now);
            self.stalled_after = turn.now.as_millis().saturating_sub(self.heard_at);
        }
        written.freeze()
    }

    /// When a timer is to go off that has not been set yet.
    pub(super) fn arm_timer(&mut self) -> Option<Tick> {
        let times = [self.connection.deadline(), self.deferred_until, self.lingers_until];
        let next = times.into_iter().flatten().min()?;
        if self.timer_at.is_some_and(|at| at <= next) {
            return None;
        }
        self.timer_at = Some(next);
        Some(next)
    }
}

/// How long the last packet of a connection has to be written.
const LINGER_MILLIS: u64 = 1_000;
