//! The activity log: who came and went, and why, in tables of PostgreSQL, or in a file.
//!
//! It never stands in anybody's way. What happens becomes a [`Row`] and goes into a bounded ring; one
//! task writes what waits there in batches. A row for which there is no room is counted, and the next
//! one that finds room stands behind a row that says how many are missing. A row is written once: the
//! number of the last one is stored with each batch.

mod file;
mod ring;
mod row;
mod server;
mod sink;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::event::Event;
use crate::runtime::Clock;
use crate::runtime::background::BackgroundHandle;
use ring::Ring;
pub use ring::{ActivityCounters, RingLimits};
pub use row::{Kind, Row};
pub use sink::{Connect, Place};
use writer::Writer;

/// How the log is kept.
pub struct ActivityOptions {
    /// Where.
    pub place: Place,
    /// The name of this broker.
    pub broker: String,
    /// Tells this start of the broker from all others.
    pub boot: i64,
    /// Days for which rows are kept, the day that has begun not counted.
    pub days: u32,
    /// The bounds of what waits.
    pub limits: RingLimits,
}

/// The log. Clones are the same.
#[derive(Clone, Debug)]
pub struct ActivityLog {
    ring: Arc<Ring>,
    clock: Clock,
}

impl ActivityLog {
    /// Starts the task that writes. It connects when there is something to write.
    #[must_use]
    pub fn start(options: ActivityOptions, clock: Clock, tasks: &BackgroundHandle) -> Self {
        let ring = Arc::new(Ring::new(options.limits));
        tasks.spawn("activity log", Writer::new(options, Arc::clone(&ring), clock).run());
        let log = Self { ring, clock };
        log.note(Row::new(clock.unix_millis(), Kind::Started));
        log
    }

    /// Notes what happened, if it is worth a row.
    pub fn note_event(&self, event: &Event) {
        if let Some(row) = Row::of(event, self.clock.unix_millis()) {
            self.note(row);
        }
    }

    fn note(&self, row: Row) {
        self.ring.note(row);
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &ActivityCounters {
        self.ring.counters()
    }

    /// Rows that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.ring.waiting()
    }

    /// Ends the log: what waits is still written, if that takes no longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.note(Row::new(self.clock.unix_millis(), Kind::Stopped));
        self.ring.close();
        if tokio::time::timeout(limit, self.ring.done()).await.is_err() {
            tracing::warn!(rows = self.waiting(), "the last rows of the activity log are lost");
        }
    }
}
