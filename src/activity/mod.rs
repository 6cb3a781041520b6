//! The activity log: who came and went, and why, in tables of PostgreSQL, or in a file.
//!
//! It never stands in anybody's way. What happens becomes a [`Row`] and goes into a bounded ring; one
//! task writes what waits there in portions, and keeps it in a bounded spool on the disk while a server
//! is away. A row is written once: the number of the last one is stored with each portion. Every row has
//! a number, also one that there was no room for, so that what is missing is written, too.

mod codec;
mod copy;
mod file;
mod portion;
mod ring;
mod row;
mod server;
mod sink;
mod spool;
mod stock;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::event::Event;
use crate::runtime::Clock;
use crate::runtime::background::BackgroundHandle;
use portion::Start;
use ring::Ring;
pub use ring::{ActivityCounters, RingLimits};
pub use row::{Kind, Row};
use sink::Sink;
pub use sink::{Connect, Place};
use spool::Spool;
use stock::Stock;
use writer::{Parts, Writer};

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
    /// Where rows wait on the disk.
    pub spool: Option<SpoolOptions>,
}

/// A place on the disk for rows.
pub struct SpoolOptions {
    /// It is made where it is not there.
    pub directory: PathBuf,
    /// What it may hold.
    pub bytes_max: u64,
}

impl SpoolOptions {
    /// Without it rows wait in memory alone, which is said once.
    fn open(self, start: &Arc<Start>) -> Option<Spool> {
        let place = self.directory.display().to_string();
        let opened = Spool::open(self.directory, self.bytes_max, Arc::clone(start));
        opened
            .inspect_err(|error| {
                tracing::warn!(
                    place,
                    %error,
                    "there is no place on the disk for the activity log: rows wait in memory alone"
                );
            })
            .ok()
    }
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
        let ActivityOptions { place, broker, boot, days, limits, spool } = options;
        let since_millis = clock.unix_millis();
        let start = Arc::new(Start { boot, since_millis, broker: broker.into() });
        let ring = Arc::new(Ring::new(limits));
        let spool = spool.and_then(|spool| spool.open(&start));
        let stock = Stock::new(Arc::clone(&ring), spool, Arc::clone(&start));
        let parts = Parts { sink: Sink::new(place, start), stock, days };
        tasks.spawn("activity log", Writer::new(parts, Arc::clone(&ring), clock).run());
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

    /// Notes what has become of a broker of the cluster.
    pub fn note_cluster(&self, broker: &str, what: &str) {
        self.note(Row::said(self.clock.unix_millis(), Kind::Cluster, broker, what));
    }

    /// Notes what an operator has done, to a client or to the broker of this name.
    pub fn note_admin(&self, whom: &str, what: &str) {
        self.note(Row::said(self.clock.unix_millis(), Kind::Admin, whom, what));
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

    /// Rows there have been, written or not.
    #[must_use]
    pub fn noted(&self) -> u64 {
        self.ring.noted()
    }

    /// Ends the log: what waits is still written, if that takes no longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.ring.close(Row::new(self.clock.unix_millis(), Kind::Stopped));
        if tokio::time::timeout(limit, self.ring.done()).await.is_err() && self.waiting() > 0 {
            tracing::warn!(rows = self.waiting(), "the last rows of the activity log are lost");
        }
    }
}
