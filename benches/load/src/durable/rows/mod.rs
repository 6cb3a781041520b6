//! The rows of `--durable`.

mod activity;
mod fan_out;
mod quiet;
mod returning;
mod start;
mod stored;

use super::{Ground, server::Kind as Store};
use crate::{
    cases::{
        findings::{Bar, Case, Limit},
        outcome::{self, Heading},
    },
    measure::{Failure, Timing},
};

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is said of it.
    pub heading: Heading,
    /// What is done.
    kind: Kind,
}

/// What is done in a row.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// As many messages as fit to one Session, and a kill in the middle of them.
    Stored(Store),
    /// Each message to a thousand Sessions that are away.
    FanOut,
    /// A Session returns to what was queued for it before the broker was killed.
    Returning,
    /// The broker starts with many Sessions that are away.
    Start,
    /// The activity log is written, or its database is frozen.
    Activity(activity::Log),
}

impl Row {
    /// Runs it once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(&self, ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
        match self.kind {
            Kind::Stored(store) => stored::run(ground, store, timing),
            Kind::FanOut => every(ground, |store| fan_out::run(ground, store, timing)),
            Kind::Returning => every(ground, |store| returning::run(ground, store, timing)),
            Kind::Start => every(ground, |store| start::run(ground, store, timing)),
            Kind::Activity(log) => activity::run(ground, log, timing),
        }
    }
}

impl outcome::Row for Row {
    fn heading(&self) -> Heading {
        self.heading
    }
}

/// One case for each broker and store that is installed.
fn every(
    ground: &Ground,
    run: impl Fn(Store) -> Result<Case, Failure>,
) -> Result<Vec<Case>, Failure> {
    let stores = [Store::Sqlite, Store::Postgres, Store::Mosquitto].into_iter();
    stores.filter(|store| store.is_installed(ground)).map(run).collect()
}

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    stored("stored-sqlite", "QoS 1 to one persistent Session, SQLite", Store::Sqlite, 40_000.0),
    stored(
        "stored-postgres",
        "QoS 1 to one persistent Session, PostgreSQL",
        Store::Postgres,
        25_000.0,
    ),
    row(
        "stored-mosquitto",
        "QoS 1 to one persistent Session, Mosquitto with persistence",
        None,
        Kind::Stored(Store::Mosquitto),
    ),
    row("fan-out-away", "one message to 1,000 Sessions that are away", None, Kind::FanOut),
    row("return-100k", "return to 100,000 queued messages after a kill", None, Kind::Returning),
    row("start-100k", "start with 100,000 Sessions that are away, after a kill", None, Kind::Start),
    activity("activity-on", "2,000 publishes a second, all in the log", activity::Log::On),
    activity("activity-frozen", "the same, database frozen", activity::Log::Frozen),
];

const fn row(id: &'static str, title: &'static str, bar: Option<Bar>, kind: Kind) -> Row {
    Row { heading: Heading { id, title, bar }, kind }
}

const fn stored(id: &'static str, title: &'static str, store: Store, rate: f64) -> Row {
    let limit = Limit::AtLeast(rate);
    let bar = Bar { figure: stored::RATE, of: stored::AWAKE, per: None, limit };
    row(id, title, Some(bar), Kind::Stored(store))
}

const fn activity(id: &'static str, title: &'static str, log: activity::Log) -> Row {
    let (of, per) = (log.name(), Some(activity::Log::Off.name()));
    let bar = Bar { figure: activity::FIGURE, of, per, limit: Limit::AtMost(1.05) };
    row(id, title, Some(bar), Kind::Activity(log))
}
