//! What the connections of one shard share: only one of them has its turn at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::event::Event;
use crate::broker::shard::Shard;
use crate::broker::turn::Turn;
use crate::ports::clock::Tick;
use crate::session::outbox::Outbox;

/// Somebody who wants to know what happens, beside the log. It must not wait for anything.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// The shard's part of the broker, and the buffers a turn works in, so that an idle connection owns
/// none. The lock is never contended: only the shard's own thread takes it.
pub struct ShardContext {
    bench: Mutex<Workbench>,
    /// As of the last sweep, for whoever reads it from another thread.
    cached_routes: AtomicUsize,
}

/// The content of a [`ShardContext`].
pub struct Workbench {
    pub(super) shard: Shard,
    pub(super) read_buffer: BytesMut,
    pub(super) outbox: Outbox,
    observer: Option<Observer>,
}

impl ShardContext {
    /// The context of a new shard of `broker`.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        let bench = Workbench {
            shard: Shard::new(broker),
            read_buffer: BytesMut::new(),
            outbox: Outbox::new(),
            observer: None,
        };
        Self { bench: Mutex::new(bench), cached_routes: AtomicUsize::new(0) }
    }

    /// The same with somebody who is told what happens.
    #[must_use]
    pub fn observed(mut self, observer: Option<Observer>) -> Self {
        self.bench.get_mut().observer = observer;
        self
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, Workbench> {
        self.bench.lock()
    }

    /// Runs `work` as a turn that belongs to no connection, then wakes whom it concerns.
    pub fn run<R>(&self, broker: &Broker, now: Tick, work: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let mut bench = self.lock();
        let Workbench { shard, outbox, .. } = &mut *bench;
        let result = work(&mut Turn { broker, shard, now, outbox });
        bench.finish_turn(now);
        result
    }

    /// Lets routes go that are out of date.
    pub fn sweep_routes(&self, broker: &Broker) {
        let mut bench = self.lock();
        bench.shard.sweep_routes(broker);
        self.cached_routes.store(bench.shard.cached_routes(), Ordering::Relaxed);
    }

    /// How many routes were cached when they were last swept.
    #[must_use]
    pub fn cached_routes(&self) -> usize {
        self.cached_routes.load(Ordering::Relaxed)
    }
}

impl Workbench {
    /// Logs what happened in the turn and wakes everybody who has got something. What a connection
    /// that broke left unsent is thrown away: the next turn is another client's.
    pub(super) fn finish_turn(&mut self, now: Tick) {
        debug_assert!(self.outbox.is_empty(), "bytes of one connection are left for another");
        self.outbox.clear();
        for event in self.shard.take_events() {
            super::log::log(&event);
            if let Some(observer) = &self.observer {
                observer(&event);
            }
        }
        self.shard.end_turn(now);
    }

    /// Room to read into. What was read stays alive as long as somebody holds a slice of it, so the
    /// block is used up before a new one is taken.
    pub(super) fn room(read_buffer: &mut BytesMut) -> &mut BytesMut {
        debug_assert!(read_buffer.is_empty(), "what was read has been taken");
        if read_buffer.capacity() < ROOM_MIN {
            read_buffer.reserve(READ_BYTES_MAX);
        }
        read_buffer
    }

    /// What was just read.
    pub(super) fn chunk(read_buffer: &mut BytesMut) -> Bytes {
        read_buffer.split().freeze()
    }
}

/// A block of the read buffer.
pub(super) const READ_BYTES_MAX: usize = 64 * 1_024;
/// Less room than this is not worth a system call.
const ROOM_MIN: usize = 16 * 1_024;
