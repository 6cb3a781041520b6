//! Distinct filters: what each costs the brokers, and how fast a broker that joins knows them all.

use std::time::Duration;

use super::three;
use crate::{
    cases::findings::Case,
    clock,
    cluster::brokers::{Broker, Cluster, Ground},
    error::LoadError,
    holders::Holders,
    measure::{Failure, Timing},
    number::float,
};

/// A broker joins, leaves, and joins again when clients of the first one hold the filters.
pub(super) fn run(ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
    let mut cluster = three(ground)?;
    let filters = FILTERS / timing.divisor;
    let without = cluster.join()?;
    let empty = memory(&cluster)?;
    cluster.part()?;
    let start = clock::now();
    // Clients of the first broker have them all.
    let mut holders = Holders::open(&cluster.target(HOLDER, PATIENCE))?;
    holders.subscribe(filters)?;
    let subscribed = clock::now() - start;
    let with = cluster.join()?;
    let told = newcomer(&cluster)?.interest_of("broker-1");
    if told != Some(filters) {
        let said = format!("the newcomer knows {told:?} of {filters} filters");
        return Err(LoadError::Refused(said).into());
    }
    let full = memory(&cluster)?;
    let each = |at: usize| {
        let grown =
            full.get(at).copied().unwrap_or(0).saturating_sub(empty.get(at).copied().unwrap_or(0));
        float(grown) / float(filters)
    };
    Ok(vec![
        Case::new(WITHOUT).with(SECONDS, float(without) / 1e9, 2),
        Case::new(WITH)
            .with(SECONDS, float(with) / 1e9, 2)
            .with("s to subscribe", float(subscribed) / 1e9, 2)
            .with("B/filter, clients' broker", each(HOLDER), 0)
            .with("B/filter, their peer", each(PEER), 0)
            .with("B/filter, newcomer", each(NEWCOMER), 0),
    ])
}

fn newcomer<'a>(cluster: &'a Cluster) -> Result<&'a Broker, LoadError> {
    cluster.broker(NEWCOMER).ok_or(LoadError::Closed("joining"))
}

/// Resident memory of every broker, once it has had a moment for what it does later.
fn memory(cluster: &Cluster) -> Result<Vec<u64>, LoadError> {
    clock::pause(SETTLE);
    (HOLDER..=NEWCOMER).filter_map(|at| cluster.broker(at)).map(Broker::resident).collect()
}

/// Nobody has subscribed.
const WITHOUT: &str = "without filters";
/// The filters are there.
pub(super) const WITH: &str = "with filters";
/// The figure: from starting the process to taking clients.
pub(super) const SECONDS: &str = "s to join";

const HOLDER: usize = 0;
const PEER: usize = 1;
const NEWCOMER: usize = 3;
const FILTERS: u64 = 1_000_000;
const SETTLE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(600);
