//! What waits to be written.
//!
//! Invariant: rows and bytes stay within their bounds, whatever the database does; every row has a
//! number, also one that there is no room for, so that whoever writes rows sees what is missing.
//!
//! Shards note rows, and must not pay for those who write them: the lock is held to add one row, or to
//! take chunks as they are, and the writer is woken when it has something to do, not for each row.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::row::Row;

/// The bounds of what waits.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Rows.
    pub rows_max: usize,
    /// Bytes of them.
    pub bytes_max: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { rows_max: 65_536, bytes_max: 16 * 1_024 * 1_024 }
    }
}

/// What the log counts.
#[derive(Debug, Default)]
pub struct ActivityCounters {
    written: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) spool_bytes: AtomicU64,
    pub(super) damaged: AtomicU64,
}

impl ActivityCounters {
    /// Rows that are in the database.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Rows that never will be.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Batches that were not written at once.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Rows that went by the disk.
    #[must_use]
    pub fn spooled(&self) -> u64 {
        self.spooled.load(Ordering::Relaxed)
    }

    /// Bytes that are on the disk now.
    #[must_use]
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes.load(Ordering::Relaxed)
    }

    /// Segments of the spool that could not be read to their end.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    limits: RingLimits,
    counters: ActivityCounters,
    state: Mutex<State>,
    /// Something came where nothing was, or nothing will come any more.
    arrived: Notify,
    /// Half of it is used.
    crowded: Notify,
    /// Nothing will come any more.
    closed: Notify,
    /// The writer has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    rows: usize,
    bytes: usize,
    last_number: i64,
    is_closed: bool,
}

/// Rows that are taken together.
#[derive(Debug, Default)]
struct Chunk {
    rows: Vec<Row>,
    bytes: usize,
}

impl State {
    fn push(&mut self, row: Row) {
        self.last_number += 1;
        let row = Row { number: self.last_number, ..row };
        if self.chunks.back().is_none_or(|last| last.rows.len() >= CHUNK_ROWS) {
            self.chunks.push_back(Chunk { rows: Vec::with_capacity(CHUNK_ROWS), bytes: 0 });
        }
        let last = self.chunks.back_mut().expect("one was just added");
        last.bytes += row.cost();
        self.bytes += row.cost();
        self.rows += 1;
        last.rows.push(row);
    }

    /// The oldest chunks, the first of them and what fits beside it.
    fn take(&mut self, limit: usize) -> Vec<Chunk> {
        let (mut taken, mut count) = (Vec::new(), 0);
        while let Some(next) = self.chunks.front() {
            count += next.rows.len();
            if count > limit && !taken.is_empty() {
                break;
            }
            let chunk = self.chunks.pop_front().expect("it was just looked at");
            self.rows -= chunk.rows.len();
            self.bytes -= chunk.bytes;
            taken.push(chunk);
        }
        taken
    }
}

impl Ring {
    pub(super) fn new(limits: RingLimits) -> Self {
        let (counters, state, arrived, crowded, closed, ended) = Default::default();
        Self { limits, counters, state, arrived, crowded, closed, ended }
    }

    /// Takes a row if there is room.
    pub(super) fn note(&self, row: Row) {
        let mut state = self.state.lock();
        let is_full =
            state.rows >= self.limits.rows_max || state.bytes + row.cost() > self.limits.bytes_max;
        if is_full || state.is_closed {
            state.last_number += 1;
            drop(state);
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (is_first, was_crowded) = (state.rows == 0, self.is_crowded(&state));
        state.push(row);
        let is_now_crowded = !was_crowded && self.is_crowded(&state);
        drop(state);
        if is_first {
            self.arrived.notify_one();
        }
        if is_now_crowded {
            self.crowded.notify_one();
        }
    }

    /// Takes the last row, whether there is room or not: it says that all is told.
    pub(super) fn close(&self, row: Row) {
        let mut state = self.state.lock();
        state.push(row);
        state.is_closed = true;
        drop(state);
        self.arrived.notify_one();
        self.closed.notify_one();
    }

    /// The oldest rows: a chunk, or as many chunks as `limit` has room for.
    pub(super) fn take(&self, limit: usize) -> Vec<Row> {
        let chunks = self.state.lock().take(limit);
        chunks.into_iter().flat_map(|chunk| chunk.rows).collect()
    }

    /// Puts rows back that were taken last. What came meanwhile stays, so that for a while there may be
    /// more than there should, by what one call took.
    pub(super) fn put_back(&self, rows: Vec<Row>) {
        let bytes = rows.iter().map(Row::cost).sum();
        let mut state = self.state.lock();
        state.rows += rows.len();
        state.bytes += bytes;
        state.chunks.push_front(Chunk { rows, bytes });
    }

    /// So many rows are written.
    pub(super) fn note_written(&self, count: usize) {
        self.counters.written.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// So many rows that were taken cannot be written.
    pub(super) fn note_lost(&self, count: usize) {
        self.counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Waits until half of it is used.
    pub(super) async fn crowd(&self) {
        loop {
            if self.is_crowded(&self.state.lock()) {
                return;
            }
            self.crowded.notified().await;
        }
    }

    fn is_crowded(&self, state: &State) -> bool {
        state.rows > self.limits.rows_max / 2 || state.bytes > self.limits.bytes_max / 2
    }

    /// Waits for rows; `false` when there are none and none will come.
    pub(super) async fn arrival(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if state.rows > 0 || state.is_closed {
                    return state.rows > 0;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Lets `pause` pass, or less when the log ends.
    pub(super) async fn rest(&self, pause: Duration) {
        let closed = async {
            while !self.is_closed() {
                self.closed.notified().await;
            }
        };
        let _timed_out = tokio::time::timeout(pause, closed).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.ended.notify_one();
    }

    /// Waits until the writer has ended.
    pub(super) async fn done(&self) {
        self.ended.notified().await;
    }

    pub(super) fn counters(&self) -> &ActivityCounters {
        &self.counters
    }

    /// The number of the last row, taken or not.
    pub(super) fn noted(&self) -> u64 {
        self.state.lock().last_number.unsigned_abs()
    }

    pub(super) fn waiting(&self) -> u64 {
        self.state.lock().rows as u64
    }
}

/// Rows that lie together: who notes the first of them allocates for all.
const CHUNK_ROWS: usize = 128;

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use super::super::row::Kind;
    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A wake is a system call of whoever publishes, and the writer then asked for the lock to find that
    /// there was nothing to do: with every publish.
    #[test]
    fn who_notes_a_row_wakes_the_writer_when_there_is_something_to_do() {
        let ring = Ring::new(RingLimits { rows_max: 1_000, bytes_max: 1 << 20 });
        let count = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut arrival = pin!(ring.arrival());
        assert!(arrival.as_mut().poll(&mut context).is_pending());
        let note = |rows| (0..rows).for_each(|_| ring.note(Row::new(1, Kind::Published)));
        note(10);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(arrival.as_mut().poll(&mut context), Poll::Ready(true));
        let mut crowd = pin!(ring.crowd());
        assert!(crowd.as_mut().poll(&mut context).is_pending());
        note(490);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        note(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(crowd.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn rows_are_taken_in_chunks_and_in_their_order() {
        let ring = Ring::new(RingLimits::default());
        (0..1_000).for_each(|at_millis| ring.note(Row::new(at_millis, Kind::Published)));
        let first = ring.take(300);
        assert_eq!((first.len(), ring.waiting()), (2 * CHUNK_ROWS, 1_000 - 2 * CHUNK_ROWS as u64));
        ring.put_back(first);
        let all: Vec<_> =
            std::iter::from_fn(|| Some(ring.take(1)).filter(|rows| !rows.is_empty())).collect();
        let numbers: Vec<_> = all.iter().flatten().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
        assert_eq!((ring.waiting(), ring.state.lock().bytes), (0, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_has_its_number() {
        let ring = Ring::new(RingLimits { rows_max: 2, bytes_max: 1 << 20 });
        for at_millis in 1..=5 {
            ring.note(Row::new(at_millis, Kind::Connected));
        }
        assert_eq!((ring.counters().dropped(), ring.noted()), (3, 5));
        let first = ring.take(10);
        assert_eq!(first.len(), 2);
        ring.note(Row::new(6, Kind::Connected));
        ring.put_back(first);
        let numbers: Vec<_> = ring.take(10).iter().map(|row| row.number).collect();
        assert_eq!(numbers, [1, 2, 6]);
        assert_eq!(ring.state.lock().bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_too_and_the_last_row_is_taken_all_the_same() {
        let cost = Row::new(1, Kind::Connected).cost();
        let ring = Ring::new(RingLimits { rows_max: 100, bytes_max: cost * 3 });
        for at_millis in 1..=5 {
            ring.note(Row::new(at_millis, Kind::Connected));
        }
        assert_eq!((ring.waiting(), ring.counters().dropped()), (3, 2));
        ring.close(Row::new(6, Kind::Stopped));
        assert_eq!(ring.take(4).last().map(|row| row.number), Some(6));
        ring.note(Row::new(7, Kind::Connected));
        assert_eq!((ring.waiting(), ring.counters().dropped()), (0, 3));
    }
}
