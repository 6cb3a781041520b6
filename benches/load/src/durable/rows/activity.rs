//! What the activity log costs publishers.

use super::quiet::{Range, quiet, quotient};
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
            Self::Off => OFF,
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

/// Two brokers without the log and one with it, in turns, on a database server of their own: what the
/// rows before have left to be done is not in it.
///
/// A shared machine takes a processor away for some milliseconds now and then, about as often as one
/// message of a hundred is late. So each has many short turns, close to those of the others. The
/// figures are the medians of the turns, and the one that is judged is that of the quiet ones: what
/// the log costs is there in every turn, what the machine does is not. How far two brokers are apart
/// that do the same is told as well: less than that cannot be seen.
pub(super) fn run(ground: &Ground, log: Log, timing: Timing) -> Result<Vec<Case>, Failure> {
    let ground = ground.with_fresh_postgres()?;
    let database = ground.postgres.as_ref();
    let _stepped_back = database.map(Postgres::step_back).transpose()?;
    let start = |log: Log| Server::start(&ground, Kind::Postgres, log.flags());
    let servers =
        [(OFF, start(Log::Off)?), (OFF_AGAIN, start(Log::Off)?), (log.name(), start(log)?)];
    // Tables are made, and what that leaves in memory is written down, before anything counts.
    take_turns(&servers, 0, timing)?;
    database.map(Postgres::settle).transpose()?;
    let _frozen = database.filter(|_| log == Log::Frozen).map(Postgres::freeze);
    let turns = (0..TURNS).map(|number| take_turns(&servers, number, timing));
    let turns: Vec<_> = turns.collect::<Result<_, Failure>>()?;
    let cases = findings::medians(&turns).into_iter();
    Ok(cases.map(|case| with_quiet(case, &turns)).collect())
}

/// One turn of each, in another order each time: what one leaves to be done falls on all alike.
fn take_turns(
    servers: &[(&'static str, Server)],
    number: usize,
    timing: Timing,
) -> Result<Vec<Case>, Failure> {
    let (count, is_backwards) = (servers.len(), number % 2 == 1);
    let mut order: Vec<_> = servers.iter().cycle().skip(number / 2 % count).take(count).collect();
    if is_backwards {
        order.reverse();
    }
    order.into_iter().map(|(name, server)| case(name, server, timing)).collect()
}

/// Adds what the quietest quarter of the turns does not exceed, and how it stands to the one without
/// a log.
fn with_quiet(case: Case, turns: &[Vec<Case>]) -> Case {
    let of = |name| -> Option<Vec<f64>> {
        turns.iter().map(|turn| findings::value(turn, name, P99)).collect()
    };
    let Some((own, off)) = of(case.name).zip(of(OFF)) else { return case };
    let name = case.name;
    let case = case.with(FIGURE, quiet(own.clone()), 1);
    if name == OFF {
        return case;
    }
    let Range { value, low, high } = quotient(&own, &off);
    case.with("of off", value, 2).with("from", low, 2).with("to", high, 2)
}

fn case(name: &'static str, server: &Server, timing: Timing) -> Result<Case, Failure> {
    let timing = Timing { warm: timing.warm / 2, steady: timing.steady / 2, ..timing };
    let ends = Ends::from(&server.target(SETUP_MAX + timing.warm + timing.steady));
    let closed = Closed { shape: Shape::Pairs(16), qos: 1, payload_len: 64, window: 64 };
    let speed = Speed::Paced(RATE);
    let (stretch, _) = stretch::drive(&ends, &[server.pid()], &closed.plan(), speed, timing)?;
    Ok(stretch.latency_case(name))
}

/// The figure of the bar.
pub(super) const FIGURE: &str = "quiet PUBACK p99 us";
const P99: &str = "PUBACK p99 us";
const RATE: u64 = 2_000;
const OFF: &str = "off";
const OFF_AGAIN: &str = "off again";
/// As often as not each of the six orders.
const TURNS: usize = 24;
