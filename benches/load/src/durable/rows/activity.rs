//! What the activity log costs publishers.

use crate::{
    cases::findings::{self, Case},
    cluster::stretch::{self, Speed},
    durable::{
        Ground,
        postgres::Postgres,
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

/// A broker without the log and one with it, in turns.
///
/// A shared machine takes a processor away for some milliseconds now and then, about as often as one
/// message of a hundred is late. So each has many short turns, close to those of the other one. The
/// figures are the medians of the turns, and the one that is judged is that of the quiet ones: what
/// the log costs is there in every turn, what the machine does is not.
pub(super) fn run(ground: &Ground, log: Log, timing: Timing) -> Result<Vec<Case>, Failure> {
    let database = ground.postgres.as_ref();
    let _stepped_back = database.map(Postgres::step_back).transpose()?;
    let start = |log: Log| Server::start(ground, Kind::Postgres, log.flags());
    let (without, with) = (start(Log::Off)?, start(log)?);
    let _frozen = database.filter(|_| log == Log::Frozen).map(Postgres::freeze);
    let turn = |_| Ok(vec![case(&without, Log::Off, timing)?, case(&with, log, timing)?]);
    let turns: Vec<_> = (0..TURNS).map(turn).collect::<Result<_, Failure>>()?;
    let cases = findings::medians(&turns).into_iter();
    Ok(cases.map(|case| with_quiet(case, &turns)).collect())
}

/// Adds what the quietest quarter of the turns does not exceed.
fn with_quiet(case: Case, turns: &[Vec<Case>]) -> Case {
    let one = |turn: &Vec<Case>| findings::value(turn, case.name, P99);
    let mut values: Vec<f64> = turns.iter().filter_map(one).collect();
    values.sort_by(f64::total_cmp);
    match values.get(values.len() / 4) {
        Some(&quiet) => case.with(FIGURE, quiet, 1),
        None => case,
    }
}

fn case(server: &Server, log: Log, timing: Timing) -> Result<Case, Failure> {
    let timing = Timing { warm: timing.warm / 2, steady: timing.steady / 2, ..timing };
    let ends = Ends::from(&server.target(SETUP_MAX + timing.warm + timing.steady));
    let closed = Closed { shape: Shape::Pairs(16), qos: 1, payload_len: 64, window: 64 };
    let speed = Speed::Paced(RATE);
    let (stretch, _) = stretch::drive(&ends, &[server.pid()], &closed.plan(), speed, timing)?;
    Ok(stretch.latency_case(log.name()))
}

/// The figure of the bar.
pub(super) const FIGURE: &str = "quiet PUBACK p99 us";
const P99: &str = "PUBACK p99 us";
const RATE: u64 = 2_000;
const TURNS: u32 = 24;
