//! The simulation: seeds in virtual time, and planted faults that each checker must find.

use mqttzoo::sim::{Checker, Failure, Plant, run};

use crate::seeds::Suite;

const SUITE: Suite = Suite {
    variable: "MQTTZOO_SIM_SEED",
    test: "promises_are_kept",
    play: |seed| match run(seed, Plant::Nothing) {
        Ok(report) => Ok(report.tally),
        Err(failure) => Err(failure.to_string()),
    },
};

/// Seeds from 1 on, or the one that `MQTTZOO_SIM_SEED` names.
#[test]
fn promises_are_kept_whatever_fails() {
    SUITE.run(1..=SEEDS, &HAPPENS);
}

#[test]
fn a_seed_is_a_run_bit_by_bit() {
    let first = run(7, Plant::Nothing);
    assert_eq!(first, run(7, Plant::Nothing));
    assert_ne!(first, run(8, Plant::Nothing));
}

#[test]
fn every_checker_finds_the_fault_that_is_planted_for_it() {
    for (plant, checker) in PLANTS {
        let found: Option<Failure> = (1..=30).find_map(|seed| run(seed, plant).err());
        let found = found.unwrap_or_else(|| panic!("nobody found {plant:?}"));
        assert_eq!(found.checker, checker, "{plant:?}: {found}");
    }
}

const SEEDS: u64 = 400;

/// What all runs together must contain, so that they mean something.
const HAPPENS: [&str; 16] = [
    "publishes refused",
    "wills",
    "wills delayed",
    "wills cancelled",
    "sessions expired",
    "sessions resumed",
    "silent clients let go",
    "half-open connections",
    "own takeovers",
    "takeovers",
    "stopped reading",
    "stopped acknowledging",
    "deliveries_expired",
    "deliveries_too_large",
    "reads_deferred_by_rate",
    "connects_refused",
];

const PLANTS: [(Plant, Checker); 15] = [
    (Plant::LostDelivery, Checker::Loss),
    (Plant::DoubledDelivery, Checker::Duplicate),
    (Plant::SwappedDeliveries, Checker::Order),
    (Plant::SmallerBound, Checker::Bound),
    (Plant::TwoOwners, Checker::Ownership),
    (Plant::LostWake, Checker::Progress),
    (Plant::ShortKeepAlive, Checker::KeepAlive),
    (Plant::DeafTimers, Checker::KeepAlive),
    (Plant::LostWill, Checker::Will),
    (Plant::LateExpiry, Checker::SessionExpiry),
    (Plant::LongerMessageExpiry, Checker::MessageExpiry),
    (Plant::LostRetained, Checker::Retained),
    (Plant::FalseRefusal, Checker::Refusal),
    (Plant::SmallerWindow, Checker::Window),
    (Plant::ForgottenConnection, Checker::Gauges),
];
