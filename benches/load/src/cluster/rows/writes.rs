//! Writes to ZooKeeper: they are to depend on brokers and time, not on what is published.

use super::{Speed, pairs, three};
use crate::{
    cases::findings::Case,
    clock,
    cluster::{
        brokers::{Cluster, Ground},
        stretch::{self, PER_SECOND, Way},
    },
    error::LoadError,
    measure::{Failure, Timing},
    number::{float, ratio},
};

/// Idle, paced, and at full speed, on the same brokers.
pub(super) fn run(ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
    let cluster = three(ground)?;
    // The topics are new to the cluster once; what is written of that is written before.
    let long = Timing { steady: timing.steady * TIMES, ..timing };
    stretch::run(&cluster, THERE, &pairs(0, 64).plan(), Speed::Paced(PACE), timing)?;
    clock::pause(timing.steady);
    let mut cases = vec![during(&cluster, IDLE, || {
        clock::pause(long.warm + long.steady);
        Ok(0.0)
    })?];
    for (name, speed) in [(PACED, Speed::Paced(PACE)), (FULL, Speed::Closed)] {
        cases.push(during(&cluster, name, || {
            Ok(stretch::run(&cluster, THERE, &pairs(0, 64).plan(), speed, long)?.rate())
        })?);
    }
    Ok(cases)
}

/// Writes per second while `load` runs, which tells its rate.
fn during(
    cluster: &Cluster,
    name: &'static str,
    load: impl FnOnce() -> Result<f64, Failure>,
) -> Result<Case, Failure> {
    let (before, start) = (zxid(cluster)?, clock::now());
    let rate = load()?;
    let (after, end) = (zxid(cluster)?, clock::now());
    let (writes, time) = (between(before, after)?, end - start);
    Ok(Case::new(name)
        .with(PER_SECOND, rate, 0)
        .with(WRITES, ratio(writes, time) * 1e9, 2)
        .with("writes", float(writes), 0)
        .with("s", float(time) / 1e9, 1))
}

/// Transactions from one to another.
pub(super) fn between(before: u64, after: u64) -> Result<u64, Failure> {
    // With another leader numbers begin anew.
    if before >> EPOCH_SHIFT != after >> EPOCH_SHIFT {
        return Err(LoadError::Refused("ZooKeeper has another leader".to_owned()).into());
    }
    Ok(after - before)
}

/// The transaction that was committed last.
pub(super) fn zxid(cluster: &Cluster) -> Result<u64, Failure> {
    let zxid = cluster.ensemble().zxid();
    zxid.map_err(|error| LoadError::Refused(error.to_string()).into())
}

/// Nothing is published.
pub(super) const IDLE: &str = "idle";
/// A little is published.
const PACED: &str = "paced";
/// As much is published as the brokers take.
pub(super) const FULL: &str = "full speed";
/// The figure.
pub(super) const WRITES: &str = "writes/s";

const THERE: Way = Way { from: 0, to: 1 };
const PACE: u64 = 1_000;
/// Writes are few: it takes a while to tell their rate.
const TIMES: u32 = 5;
const EPOCH_SHIFT: u32 = 32;
