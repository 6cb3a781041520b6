//! The simulation: seeds in virtual time, and planted faults that each checker must find.

use std::collections::BTreeMap;

use mqttzoo::sim::{Checker, Failure, Plant, run};

/// Seeds from 1 on, or the one that `MQTTZOO_SIM_SEED` names.
#[test]
fn promises_are_kept_whatever_fails() {
    if let Some(seed) = number("MQTTZOO_SIM_SEED") {
        return check(seed, &mut BTreeMap::new());
    }
    let mut tally = BTreeMap::new();
    for seed in 1..=number("MQTTZOO_SIM_SEEDS").unwrap_or(SEEDS) {
        check(seed, &mut tally);
    }
    for what in HAPPENS {
        assert!(tally.get(what).is_some_and(|count| *count > 0), "never: {what}; {tally:#?}");
    }
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

fn check(seed: u64, tally: &mut BTreeMap<&'static str, u64>) {
    match run(seed, Plant::Nothing) {
        Ok(report) => {
            for (what, count) in report.tally {
                *tally.entry(what).or_default() += count;
            }
        }
        Err(failure) => panic!(
            "{failure}\nagain: MQTTZOO_SIM_SEED={seed} cargo test --test it promises_are_kept"
        ),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

const SEEDS: u64 = 1_000;

/// What a thousand runs must contain, so that they mean something.
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
