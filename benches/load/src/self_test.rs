//! Does the bench notice? Relays that delay, drop, double and reorder must each be reported, and
//! one that does nothing must not.

use std::time::Duration;

use crate::{
    brokers::{Broker, Running, Transport},
    check::Faults,
    child::Pinning,
    engine::{Engine, Pace},
    error::LoadError,
    measure::{Failure, SETUP_MAX},
    number::float,
    relay::{Mischief, Relay},
    rows::{Closed, Shape},
    stop::Stop,
    target::Ends,
};

/// What a run through a relay showed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    faults: Faults,
    p50: f64,
}

/// A relay, and what the bench must make of it.
struct Case {
    name: &'static str,
    mischief: Mischief,
    /// Judges what was seen, given what was seen without any relay's doing.
    is_noticed: fn(&Seen, &Seen) -> bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "delaying",
        mischief: Mischief::Delay(DELAY),
        is_noticed: |seen, clean| {
            seen.faults.is_clean() && seen.p50 >= clean.p50 + 0.8 * float(DELAY_US)
        },
    },
    Case {
        name: "dropping",
        mischief: Mischief::Drop(EVERY),
        is_noticed: |seen, _| only(seen.faults, seen.faults.lost),
    },
    Case {
        name: "doubling",
        mischief: Mischief::Double(EVERY),
        is_noticed: |seen, _| only(seen.faults, seen.faults.duplicates),
    },
    Case {
        name: "reordering",
        mischief: Mischief::Reorder(EVERY),
        is_noticed: |seen, _| only(seen.faults, seen.faults.inversions),
    },
];

/// Runs every case on `broker`; returns whether all of them came out right.
///
/// # Errors
/// The broker does not start, or a relay cannot be set up.
pub fn run(broker: &Broker, stop: &Stop) -> Result<bool, Failure> {
    let running = Running::start(broker, Transport::Plain, Pinning::Free, stop)?;
    let clean = through(&running, Mischief::None)?;
    let mut is_right = tell("honest", &clean, clean.faults.is_clean());
    for case in CASES {
        let seen = through(&running, case.mischief)?;
        is_right &= tell(case.name, &seen, (case.is_noticed)(&seen, &clean));
    }
    Ok(is_right)
}

fn tell(name: &str, seen: &Seen, is_right: bool) -> bool {
    let verdict = if is_right { "ok" } else { "WRONG" };
    eprintln!("{name:<11} relay: {}, p50 {:.0} us: {verdict}", seen.faults, seen.p50);
    is_right
}

/// Whether some faults of one kind were seen, and none of another.
fn only(faults: Faults, kind: u64) -> bool {
    let Faults { lost, duplicates, inversions, strays } = faults;
    kind > 0 && lost + duplicates + inversions + strays == kind
}

fn through(running: &Running, mischief: Mischief) -> Result<Seen, Failure> {
    let target = running.target(SETUP_MAX);
    let relay = Relay::start(target.port, mischief).map_err(LoadError::io("starting a relay"))?;
    let mut target = target;
    target.port = relay.port();
    let row = Closed { shape: Shape::Pairs(4), qos: 0, payload_len: 64, window: 16 };
    let mut engine = Engine::open(&Ends::from(&target), &row.plan())?;
    engine.record_latency();
    engine.start()?;
    // A message that is dropped keeps its window from moving on: the load then stalls, which is
    // an end like any other.
    let (Pace::Steady | Pace::Stalled) = engine.run(RUN)?;
    let latency = engine.take_latency();
    let faults = engine.finish()?;
    let p50 = latency.map_or(0.0, |latency| float(latency.value_at_quantile(0.5)) / 1_000.0);
    Ok(Seen { faults, p50 })
}

const RUN: Duration = Duration::from_secs(1);
const EVERY: u64 = 101;
const DELAY_US: u64 = 20_000;
const DELAY: Duration = Duration::from_micros(DELAY_US);
