//! What waits to be written.
//!
//! Invariant: rows and bytes stay within their bounds, whatever the database does; every row has a
//! number, also one that there is no room for, so that whoever writes rows sees what is missing.

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
    /// Something came, or nothing will come any more.
    arrived: Notify,
    /// The writer has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    rows: VecDeque<Row>,
    bytes: usize,
    last_number: i64,
    is_closed: bool,
}

impl Ring {
    pub(super) fn new(limits: RingLimits) -> Self {
        let (counters, state, arrived, ended) = Default::default();
        Self { limits, counters, state, arrived, ended }
    }

    /// Takes a row if there is room.
    pub(super) fn note(&self, row: Row) {
        let mut state = self.state.lock();
        let is_full = state.rows.len() >= self.limits.rows_max
            || state.bytes + row.cost() > self.limits.bytes_max;
        state.last_number += 1;
        if is_full || state.is_closed {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let number = state.last_number;
        state.bytes += row.cost();
        state.rows.push_back(Row { number, ..row });
        drop(state);
        self.arrived.notify_one();
    }

    /// Takes the last row, whether there is room or not: it says that all is told.
    pub(super) fn close(&self, row: Row) {
        let mut state = self.state.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.bytes += row.cost();
        state.rows.push_back(Row { number, ..row });
        state.is_closed = true;
        drop(state);
        // Whoever waits now, and whoever is about to.
        self.arrived.notify_waiters();
        self.arrived.notify_one();
    }

    /// The oldest rows, at most `limit`.
    pub(super) fn take(&self, limit: usize) -> Vec<Row> {
        let mut state = self.state.lock();
        let count = state.rows.len().min(limit);
        let rows: Vec<Row> = state.rows.drain(..count).collect();
        state.bytes -= rows.iter().map(Row::cost).sum::<usize>();
        rows
    }

    /// Puts rows back that were taken last. What came meanwhile stays, so that for a while there may be
    /// more than there should, by what one call took.
    pub(super) fn put_back(&self, rows: Vec<Row>) {
        let mut state = self.state.lock();
        state.bytes += rows.iter().map(Row::cost).sum::<usize>();
        for row in rows.into_iter().rev() {
            state.rows.push_front(row);
        }
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
            {
                let state = self.state.lock();
                let is_crowded = state.rows.len() > self.limits.rows_max / 2
                    || state.bytes > self.limits.bytes_max / 2;
                if is_crowded {
                    return;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Waits for rows; `false` when there are none and none will come.
    pub(super) async fn arrival(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if !state.rows.is_empty() || state.is_closed {
                    return !state.rows.is_empty();
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Lets `pause` pass, or less when the log ends.
    pub(super) async fn rest(&self, pause: Duration) {
        let closed = async {
            while !self.is_closed() {
                self.arrived.notified().await;
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
        self.state.lock().rows.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Kind;
    use super::*;

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
