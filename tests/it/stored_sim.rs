//! The simulation of a cluster whose Sessions are in one database: clients that sleep and come back to
//! another broker, brokers that are killed or stand still, a database that is slow, down or in doubt.

use std::sync::Arc;

use mqttzoo::sim::cluster::{Checker, Failure, Plant, Report, run_stored};
use mqttzoo::store::MemoryStore;

use crate::seeds::Suite;

const SUITE: Suite = Suite {
    variable: "MQTTZOO_STORED_SEED",
    test: "stored_sessions_outlive",
    play: |seed| match play(seed, Plant::Nothing) {
        Ok(report) => Ok(report.tally),
        Err(failure) => Err(format!("{}\n{failure}", failure.trace.join("\n"))),
    },
};

/// Those of the suite, all up to `MQTTZOO_STORED_SEEDS`, or the one that `MQTTZOO_STORED_SEED` names.
#[test]
fn stored_sessions_outlive_their_brokers_whatever_fails() {
    SUITE.run(SEEDS, &HAPPENS);
}

#[test]
fn a_seed_is_a_run_of_brokers_with_a_database_bit_by_bit() {
    let first = play(3, Plant::Nothing);
    assert_eq!(first, play(3, Plant::Nothing));
    assert_ne!(first, play(4, Plant::Nothing));
}

#[test]
fn every_broken_rule_of_stored_sessions_is_noticed() {
    for (plant, checkers) in PLANTS {
        let found: Option<Failure> = (1..=PLANT_SEEDS).find_map(|seed| play(seed, plant).err());
        let found = found.unwrap_or_else(|| panic!("nobody noticed {plant:?}"));
        assert!(checkers.contains(&found.checker), "{plant:?}: {found}");
    }
}

fn play(seed: u64, plant: Plant) -> Result<Report, Failure> {
    run_stored(seed, plant, Arc::new(MemoryStore::new()))
}

/// Of the suite: the first ones, and those that found faults.
const SEEDS: [u64; 55] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 28, 31, 46, 58, 64, 70, 84, 85, 141,
    144, 148, 153, 172, 190, 209, 226, 242, 387, 509, 788, 851, 1059, 1088, 1166, 1387, 1440, 1454,
    1571, 1579, 1687, 1712, 2099, 2106, 2414, 2440, 2652, 2748, 2762,
];
/// A broken rule is noticed within so many.
const PLANT_SEEDS: u64 = 60;

/// What all runs together must contain, so that they mean something.
const HAPPENS: [&str; 9] = [
    "brokers declared dead",
    "processes killed",
    "processes stopped",
    "outages of the database",
    "database slow",
    "batches stored twice",
    "batches given up",
    "sessions_adopted",
    "adoption_publishes_held",
];

const PLANTS: [(Plant, &[Checker]); 5] = [
    (Plant::AcknowledgeBeforeDone, &[Checker::Loss]),
    (Plant::NothingHeld, &[Checker::Loss]),
    (Plant::NoAdoption, &[Checker::Progress]),
    (Plant::StoreForgets, &[Checker::Duplicate, Checker::Order]),
    (Plant::SessionLost, &[Checker::Session]),
];
