//! What the activity log costs publishers.

use crate::{
    cases::findings::Case,
    cluster::stretch::{self, Speed},
    durable::{
        Ground,
        server::{Kind, Server},
    },
    measure::{Failure, SETUP_MAX, Timing},
    rows::{Closed, Shape},
    target::Ends,
};

/// What becomes of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Log {
    /// There is none.
    Off,
    /// It is written, each publish with it.
    On,
    /// Its database stands still.
    Frozen,
}

impl Log {
    /// What tables call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Frozen => "frozen",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Off => &["--activity-log", "off"],
            Self::On | Self::Frozen => {
                &["--activity-log", "database", "--activity-publishes", "load/#"]
            }
        }
    }
}

/// Without the log, then with it.
pub(super) fn run(ground: &Ground, log: Log, timing: Timing) -> Result<Vec<Case>, Failure> {
    [Log::Off, log].into_iter().map(|log| case(ground, log, timing)).collect()
}

fn case(ground: &Ground, log: Log, timing: Timing) -> Result<Case, Failure> {
    let server = Server::start(ground, Kind::Postgres, log.flags())?;
    let postgres = ground.postgres.as_ref().filter(|_| log == Log::Frozen);
    let _frozen = postgres.map(crate::durable::postgres::Postgres::freeze);
    let timing = Timing { steady: timing.steady * TIMES_LONGER, ..timing };
    let ends = Ends::from(&server.target(SETUP_MAX + timing.warm + timing.steady));
    let closed = Closed { shape: Shape::Pairs(16), qos: 1, payload_len: 64, window: 64 };
    let speed = Speed::Paced(RATE);
    let (stretch, _) = stretch::drive(&ends, &[server.pid()], &closed.plan(), speed, timing)?;
    Ok(stretch.latency_case(log.name()))
}

/// The figure of the bar.
pub(super) const FIGURE: &str = "PUBACK p99 us";
const RATE: u64 = 2_000;
/// A 99th percentile needs many.
const TIMES_LONGER: u32 = 3;
