//! The same load on one broker of a cluster and between two of them.

use super::{ACROSS, BROKERS, LOCAL, RELAY_FLAG, three};
use crate::{
    cases::findings::Case,
    cluster::{
        brokers::{Cluster, Ground},
        stretch::{self, Speed, Way},
    },
    measure::{Failure, Timing},
    rows::Closed,
};

/// Both, on the same brokers.
pub(super) fn run(
    ground: &Ground,
    closed: Closed,
    speed: Speed,
    timing: Timing,
) -> Result<Vec<Case>, Failure> {
    let cluster = three(ground)?;
    [(LOCAL, HERE), (ACROSS, THERE)]
        .into_iter()
        .map(|(name, way)| {
            let stretch = stretch::run(&cluster, way, &closed.plan(), speed, timing)?;
            Ok(match speed {
                Speed::Closed => stretch.case(name),
                Speed::Paced(_) => stretch.latency_case(name),
            })
        })
        .collect()
}

/// Between two brokers that have no link.
pub(super) fn relay(ground: &Ground, closed: Closed, timing: Timing) -> Result<Vec<Case>, Failure> {
    let cluster = Cluster::start(ground, BROKERS, &[RELAY_FLAG, "znodes"])?;
    let stretch = stretch::run(&cluster, THERE, &closed.plan(), Speed::Closed, timing)?;
    Ok(vec![stretch.case(ACROSS)])
}

const HERE: Way = Way { from: 0, to: 0 };
const THERE: Way = Way { from: 0, to: 1 };
