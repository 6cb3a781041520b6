//! The store in PostgreSQL.
//!
//! One task and one connection: what makes it fast is that a group is a handful of statements over
//! arrays, sent behind each other without waiting, and not that many connections compete for locks. A
//! pool would add nothing but a second order of tickets.

mod collect;
mod connect;
mod failure;
mod flush;
mod group;
mod options;
mod pending;
mod promise;
mod read;
mod sessions;
mod sole;
mod task;
mod tls;

use std::sync::Arc;

use crate::ports::store::{Store, StoreHealth, Submitter};
use crate::runtime::Clock;
use crate::runtime::background::BackgroundHandle;
use crate::store::condition::Condition;
use crate::store::counters::StoreCounters;
use crate::store::intake::{Intake, IntakeLimits};
pub use options::{PostgresOptions, PostgresOptionsError, PostgresParts};

/// A store on a server. It is closed when the handle is dropped: the task ends when what was
/// submitted is stored, or cannot be now.
#[derive(Debug)]
pub struct PostgresStore {
    intake: Intake,
    condition: Arc<Condition>,
    counters: Arc<StoreCounters>,
}

impl PostgresStore {
    /// Starts the task that connects, and goes on trying.
    #[must_use]
    pub fn start(options: PostgresOptions, tasks: &BackgroundHandle) -> Self {
        let counters = Arc::<StoreCounters>::default();
        let intake = Intake::new(IntakeLimits::default(), Arc::clone(&counters));
        let (clock, place) = (Clock::start(), options.place());
        let condition = Arc::new(Condition::of_server(clock, Arc::clone(&counters), place));
        let task = task::Task::new(
            options,
            tasks.clone(),
            clock,
            intake.clone(),
            Arc::clone(&condition),
            Arc::clone(&counters),
        );
        tasks.spawn("store", task.run());
        Self { intake, condition, counters }
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<StoreCounters> {
        Arc::clone(&self.counters)
    }
}

impl Store for PostgresStore {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(self.intake.door())
    }

    fn health(&self) -> StoreHealth {
        self.condition.health()
    }

    fn promise(&self) -> Option<String> {
        self.condition.promise()
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.intake.close();
    }
}
