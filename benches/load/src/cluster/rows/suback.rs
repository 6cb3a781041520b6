//! How long SUBSCRIBE takes: with two brokers that must know the filter first, and without.

use hdrhistogram::Histogram;

use super::{LOCAL, three};
use crate::{
    brokers::{self, Running, Transport},
    cases::findings::Case,
    clock,
    cluster::{brokers::Ground, stretch::with_percentiles},
    error::LoadError,
    floor::Side,
    frames::Version,
    measure::{Failure, SETUP_MAX, Timing},
    target::{Opening, Target, hello},
    wire::{Start, digits},
};

/// A broker that is alone, then one of three.
pub(super) fn run(ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
    let broker = brokers::Broker::Ours { program: ground.program.clone(), threads: 1 };
    let alone = Running::start(&broker, Transport::Plain, ground.pinning, ground.stop)?;
    let local = subscribe(&alone.target(SETUP_MAX), timing)?;
    drop(alone);
    let cluster = three(ground)?;
    let told = subscribe(&cluster.target(0, SETUP_MAX), timing)?;
    Ok(vec![
        with_percentiles(Case::new(LOCAL), Some(&local), SUBACK),
        with_percentiles(Case::new("of three"), Some(&told), SUBACK),
    ])
}

fn subscribe(target: &Target, timing: Timing) -> Result<Histogram<u64>, Failure> {
    let mut session = target.open(&Opening {
        version: Version::V311,
        client_id: "load-subscriber",
        start: Start::Clean,
        hello: hello(Side::Subscriber, 0, 0),
    })?;
    let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
    let mut histogram =
        histogram.map_err(|_| LoadError::Refused("no histogram has these bounds".to_owned()))?;
    for at in 0..WARM + SUBSCRIBES / timing.divisor {
        let filter = [format!("load/suback/{}/+", digits(at))];
        let sent = clock::now();
        session.subscribe(&filter, 0)?;
        if at >= WARM {
            histogram.saturating_record(clock::now() - sent);
        }
    }
    Ok(histogram)
}

const SUBACK: [&str; 3] = ["SUBACK p50 us", "SUBACK p99 us", "SUBACK p99.9 us"];
const WARM: u64 = 200;
const SUBSCRIBES: u64 = 10_000;
const LONGEST: u64 = 60_000_000_000;
