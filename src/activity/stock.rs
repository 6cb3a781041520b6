//! What is to be written: the ring, and the spool behind which it stands while the database is away.
//!
//! Invariant: what is in the spool is older than what is in the ring. A portion that was taken from the
//! ring and is on its way is kept with the first that follows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::portion::{Missing, Portion, Start};
use super::ring::Ring;
use super::row::Row;
use super::spool::{Kept, Spool};

/// The rows that wait.
pub(super) struct Stock {
    ring: Arc<Ring>,
    spool: Option<Spool>,
    start: Arc<Start>,
    /// What was taken from the ring last, and is neither written nor in the spool.
    head: Option<Portion>,
    /// When what waits in memory is to be kept, if the database has not taken it by then.
    due: Instant,
    /// Whether the spool took what it was given last.
    has_room: bool,
    /// Whether the log has said that it does not.
    has_complained: bool,
}

impl Stock {
    pub(super) fn new(ring: Arc<Ring>, spool: Option<Spool>, start: Arc<Start>) -> Self {
        let (head, due, has_room) = (None, Instant::now() + KEEP_AFTER, true);
        let stock = Self { ring, spool, start, head, due, has_room, has_complained: false };
        stock.note_spool();
        stock
    }

    /// Waits for rows; `false` when there are none and none will come.
    pub(super) async fn arrival(&self) -> bool {
        self.head.is_some() || !self.is_spool_empty() || self.ring.arrival().await
    }

    /// The oldest rows, the same until they are done with.
    pub(super) fn front(&mut self) -> Option<Portion> {
        if let Some(head) = &self.head {
            return Some(head.clone());
        }
        if let Some(portion) = self.spool.as_mut().and_then(spooled) {
            return Some(portion);
        }
        self.note_spool();
        let rows: Arc<[Row]> = self.ring.take(PORTION_MAX).into();
        if rows.is_empty() {
            return None;
        }
        let start = Arc::clone(&self.start);
        self.head = Some(Portion { start, rows, told: 0, before: Missing::NoRoom });
        self.due = Instant::now() + KEEP_AFTER;
        self.head.clone()
    }

    /// This portion, the oldest, is done with, wherever it is by now.
    pub(super) fn advance(&mut self, portion: &Portion) {
        if self.head.take().is_some() {
            return;
        }
        let Some(spool) = &mut self.spool else { return };
        tokio::task::block_in_place(|| {
            let is_front =
                |front: Portion| front.start == portion.start && front.last() == portion.last();
            if spool.front().is_some_and(is_front) {
                spool.advance();
            }
        });
        self.has_room = true;
        self.note_spool();
    }

    /// Waits until it is time to keep what waits in memory.
    pub(super) async fn pressure(&self) {
        let due = sleep_until(self.due);
        if self.spool.is_none() || !self.has_room {
            return due.await;
        }
        tokio::select! {
            () = due => {}
            () = self.ring.crowd() => {}
        }
    }

    /// The same for rows that wait behind others in the spool.
    pub(super) fn keep_what_is_due(&mut self) {
        if !self.is_spool_empty() && Instant::now() >= self.due {
            self.keep();
        }
    }

    /// Keeps what waits in memory, as far as there is room.
    pub(super) fn keep(&mut self) {
        self.due = Instant::now() + KEEP_AFTER;
        if self.spool.is_some() {
            self.has_room = tokio::task::block_in_place(|| self.keep_all());
            self.note_spool();
        }
    }

    fn keep_all(&mut self) -> bool {
        if let Some(head) = self.head.take()
            && !self.append(&head.rows)
        {
            self.head = Some(head);
            return false;
        }
        loop {
            let rows = self.ring.take(PORTION_MAX);
            if rows.is_empty() {
                return true;
            }
            if !self.append(&rows) {
                self.ring.put_back(rows);
                return false;
            }
        }
    }

    fn append(&mut self, rows: &[Row]) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let why = match spool.append(rows) {
            Kept::Yes => {
                let spooled = &self.ring.counters().spooled;
                spooled.fetch_add(rows.len() as u64, Ordering::Relaxed);
                self.has_complained = false;
                return true;
            }
            Kept::NoRoom => "it is full".to_owned(),
            Kept::Failed(error) => error.to_string(),
        };
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(
                why,
                "the activity log has no room on the disk: rows wait in memory, then they are dropped"
            );
        }
        false
    }

    /// Rows that are on their way, and nowhere else.
    pub(super) fn in_hand(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.rows.len() as u64)
    }

    /// Whether rows of the ring are next.
    pub(super) fn is_alone(&self) -> bool {
        self.head.is_none() && self.is_spool_empty()
    }

    /// Whether an earlier start has left something that is not written yet.
    pub(super) fn has_former(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::has_former)
    }

    fn is_spool_empty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    fn note_spool(&self) {
        let Some(spool) = &self.spool else { return };
        let counters = self.ring.counters();
        counters.spool_bytes.store(spool.bytes(), Ordering::Relaxed);
        counters.damaged.store(spool.damaged(), Ordering::Relaxed);
    }
}

fn spooled(spool: &mut Spool) -> Option<Portion> {
    tokio::task::block_in_place(|| spool.front())
}

/// How long rows wait in memory for a database that does not take them.
const KEEP_AFTER: Duration = Duration::from_secs(1);
/// Rows of a portion.
const PORTION_MAX: usize = 4_096;
