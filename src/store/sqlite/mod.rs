//! The store in one file in the data directory: SQLite, which is part of this program.
//!
//! One thread owns the file. `synchronous=FULL` over a write-ahead log: a commit is one write and one
//! flush of that log, and a power cut loses nothing that was answered.

mod collect;
mod failure;
mod group;
mod left_out;
mod messages;
mod open;
mod read;
mod salvage;
mod sessions;
mod worker;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports::store::{Store, StoreHealth, Submitter};
use crate::runtime::Clock;
use crate::store::condition::Condition;
use crate::store::counters::StoreCounters;
use crate::store::intake::{Intake, IntakeLimits};
pub use worker::{Hook, Step};

/// How a file is kept.
pub struct SqliteOptions {
    /// The directory; the file in it is `store.sqlite`.
    pub directory: PathBuf,
    /// How long a transaction that fails for want of space, or because somebody has locked the file,
    /// is tried before its batches are answered so.
    pub patience: Duration,
    /// Called at every step of the writing thread: for tests that end the process there.
    pub hook: Option<Hook>,
}

/// A store in a file. It is closed when the handle is dropped: what was submitted is stored first.
#[derive(Debug)]
pub struct SqliteStore {
    intake: Intake,
    condition: Arc<Condition>,
    counters: Arc<StoreCounters>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file, or makes it. The thread does so: a start never waits for a repair. Until it
    /// is open, batches wait.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(options: SqliteOptions) -> io::Result<Self> {
        let counters = Arc::<StoreCounters>::default();
        let intake = Intake::new(IntakeLimits::default(), Arc::clone(&counters));
        let clock = Clock::start();
        let condition = Arc::new(Condition::new(clock, Arc::clone(&counters)));
        let worker = worker::Worker::new(
            options,
            clock,
            intake.clone(),
            Arc::clone(&condition),
            Arc::clone(&counters),
        );
        let thread = thread::Builder::new().name("store".to_owned()).spawn(|| worker.run())?;
        Ok(Self { intake, condition, counters, thread: Some(thread) })
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<StoreCounters> {
        Arc::clone(&self.counters)
    }
}

impl Store for SqliteStore {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(self.intake.door())
    }

    fn health(&self) -> StoreHealth {
        self.condition.health()
    }

    fn was_replaced(&self) -> bool {
        self.condition.was_replaced()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.intake.close();
        if let Some(thread) = self.thread.take() {
            // It has said in the log what went wrong.
            let _panicked = thread.join();
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteOptions")
            .field("directory", &self.directory)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
