//! What waits to be written.
//!
//! Invariant: rows and bytes stay within their bounds, whatever the database does; every row that
//! there was no room for is counted twice, once in the counter and once in a row of the log.

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
    /// Rows there was no room for, since the last one there was.
    missing: u64,
    is_closed: bool,
}

impl State {
    fn push(&mut self, row: Row) {
        self.last_number += 1;
        self.bytes += row.cost();
        self.rows.push_back(Row { number: self.last_number, ..row });
    }
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
        if is_full || state.is_closed {
            state.missing += 1;
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let missing = std::mem::take(&mut state.missing);
        if missing > 0 {
            state.push(Row::dropped(row.at_millis, missing));
        }
        state.push(row);
        drop(state);
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

    /// So many rows are written.
    pub(super) fn note_written(&self, count: usize) {
        self.counters.written.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// So many rows that were taken cannot be written.
    pub(super) fn note_lost(&self, count: usize) {
        self.counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
        self.state.lock().missing += count as u64;
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

    /// No row is taken any more.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.arrived.notify_one();
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

    pub(super) fn waiting(&self) -> u64 {
        self.state.lock().rows.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Kind;
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_told() {
        let ring = Ring::new(RingLimits { rows_max: 2, bytes_max: 1 << 20 });
        for at_millis in 1..=5 {
            ring.note(Row::new(at_millis, Kind::Connected));
        }
        assert_eq!(ring.counters().dropped(), 3);
        assert_eq!(ring.take(10).len(), 2);
        ring.note(Row::new(6, Kind::Connected));
        let rows = ring.take(10);
        let kinds: Vec<_> = rows.iter().map(|row| (row.number, row.kind, row.count)).collect();
        assert_eq!(kinds, [(3, Kind::Dropped, Some(3)), (4, Kind::Connected, None)]);
        assert_eq!(ring.state.lock().bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let cost = Row::new(1, Kind::Connected).cost();
        let ring = Ring::new(RingLimits { rows_max: 100, bytes_max: cost * 3 });
        for at_millis in 1..=5 {
            ring.note(Row::new(at_millis, Kind::Connected));
        }
        assert_eq!((ring.waiting(), ring.counters().dropped()), (3, 2));
        ring.close();
        ring.take(3);
        ring.note(Row::new(6, Kind::Connected));
        assert_eq!((ring.waiting(), ring.counters().dropped()), (0, 3));
    }
}
