//! The simulation of a whole cluster: seeds in virtual time, and rules broken on purpose that a
//! checker must notice.

use mqttzoo::sim::cluster::{Checker, Failure, Habits, Plant, run, run_with};

use crate::seeds::Suite;

const SUITE: Suite = Suite {
    variable: "MQTTZOO_CLUSTER_SEED",
    test: "promises_are_kept_by_many",
    play: |seed| match run(seed, Plant::Nothing) {
        Ok(report) => Ok(report.tally),
        Err(failure) => Err(format!("{}\n{failure}", failure.trace.join("\n"))),
    },
};

/// Seeds from 1 on, or the one that `MQTTZOO_CLUSTER_SEED` names.
#[test]
fn promises_are_kept_by_many_brokers_whatever_fails() {
    SUITE.run(1..=SEEDS, &HAPPENS);
}

#[test]
fn a_seed_is_a_run_of_many_brokers_bit_by_bit() {
    let first = run(7, Plant::Nothing);
    assert_eq!(first, run(7, Plant::Nothing));
    assert_ne!(first, run(8, Plant::Nothing));
    let habits = Habits { register: true, retain: true, ..Habits::NONE };
    let registering = run_with(7, Plant::Nothing, habits);
    assert_eq!(registering, run_with(7, Plant::Nothing, habits));
}

/// What happened: SUBACK left past the lease, CONNACK left where a Session had been claimed before its
/// end or before there was a lease at all, whoever waited for the lease was woken by nobody, parked
/// Sessions outlived the death of their broker, and a lease that had ended was revived by peers that
/// had lost the ensemble as well. They are of clients without any habits.
#[test]
fn seeds_that_found_faults_stay_clean() {
    for seed in [1, 14, 61, 85, 124, 156, 282] {
        let played = run_with(seed, Plant::Nothing, Habits::NONE);
        let _report = played.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// A broker that slept until it was declared dead had a message of QoS 2 for a member of a Shared
/// Subscription, and its answer did not come: who sent the message gave it to another member, and so did it
/// when it was awake.
#[test]
fn what_a_broker_had_that_slept_comes_to_one_member() {
    // In the second it sleeps again when it has asked.
    for seed in [997, 1_679] {
        let _report = run(seed, Plant::Nothing).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// What happened: a broker alone that had been given another session went on acknowledging by nobody's word,
/// and past its own death; and a Session that began while another CONNECT of its client was under way was not
/// thought to go where that led, and to end there; what a broker that died had left in the tree of znodes was
/// read by one of those that came later, and collected before another one could read it.
#[test]
fn seeds_of_clients_with_habits_that_found_faults_stay_clean() {
    for seed in [627, 674, 746] {
        let _report = run(seed, Plant::Nothing).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// The same where all brokers register topics and clients retain messages, and in the second also relay all frames:
/// what a broker that died had retained was known to one alone, which had come when it was gone and told nobody;
/// what two brokers had that were declared dead while they stood still was asked of the third; and the clock began
/// anew though one was to come back that knew the time.
#[test]
fn seeds_of_brokers_that_register_that_found_faults_stay_clean() {
    for (seed, relay_all) in [(2_112, false), (329, true), (3_674, false), (4_181, false)] {
        let habits = Habits { register: true, retain: true, relay_all, ..Habits::NONE };
        let played = run_with(seed, Plant::Nothing, habits);
        let _report = played.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn every_broken_rule_of_the_cluster_is_noticed() {
    for (plant, checkers) in PLANTS {
        let from = if plant == Plant::AcknowledgeBeforeDone { RARELY_FROM } else { 1 };
        let mut seeds = from..from + PLANT_SEEDS;
        let mut play = |seed| run_with(seed, plant, Habits::NONE).err();
        check_noticed(plant, checkers, seeds.find_map(&mut play));
    }
}

#[test]
fn every_broken_rule_of_sessions_that_move_is_noticed() {
    let habits = Habits { move_about: true, ..Habits::NONE };
    for (plant, checkers) in MOVING_PLANTS {
        let found = (1..=PLANT_SEEDS).find_map(|seed| run_with(seed, plant, habits).err());
        check_noticed(plant, checkers, found);
    }
}

#[test]
fn every_broken_rule_of_what_brokers_keep_in_the_tree_is_noticed() {
    let habits = Habits { register: true, ..Habits::NONE };
    for (plant, checkers) in KEEPING_PLANTS {
        let found = (1..=PLANT_SEEDS).find_map(|seed| run_with(seed, plant, habits).err());
        check_noticed(plant, checkers, found);
    }
}

#[test]
fn a_snapshot_without_retained_messages_is_noticed() {
    let (plant, habits) = (Plant::EmptySnapshot, Habits { retain: true, ..Habits::NONE });
    let found = (1..=PLANT_SEEDS).find_map(|seed| run_with(seed, plant, habits).err());
    check_noticed(plant, &[Checker::Retained], found);
}

fn check_noticed(plant: Plant, checkers: &[Checker], found: Option<Failure>) {
    let found = found.unwrap_or_else(|| panic!("nobody noticed {plant:?}"));
    assert!(checkers.contains(&found.checker), "{plant:?}: {found}");
}

const SEEDS: u64 = 120;
/// A broken rule is noticed within so many: the rarest in one of fifty.
const PLANT_SEEDS: u64 = 400;
/// The first one of the rarest. Whatever changes what brokers ask of the ensemble changes it.
const RARELY_FROM: u64 = 281;

/// What all runs together must contain, so that they mean something.
const HAPPENS: [&str; 27] = [
    "brokers declared dead",
    "processes killed",
    "processes stopped",
    "links broken",
    "links cut",
    "links refused",
    "late batches",
    "connections to the ensemble lost",
    "ways to the ensemble cut",
    "ways to the ensemble slow",
    "followers cut off",
    "leaders of the ensemble changed",
    "outages of the ensemble",
    "subacks_deferred",
    "sessions kept without a lease",
    "sessions moved",
    "sessions moved while links were cut",
    "connections left behind",
    "two connects at a time",
    "retained messages replayed",
    "retained messages replayed by brokers that came later",
    "topics collected too early",
    "topics to be made again",
    "latest values replayed",
    "latest values had by who came late",
    "lanes changed to the relay",
    "lanes changed to the link",
];

const PLANTS: [(Plant, &[Checker]); 11] = [
    (Plant::AcknowledgeBeforeDone, &[Checker::Loss]),
    (Plant::SubackBeforeApplied, &[Checker::Loss]),
    (Plant::AcceptGap, &[Checker::Loss, Checker::Progress, Checker::Interest]),
    (Plant::ForgetDedupe, &[Checker::Duplicate, Checker::Order]),
    (Plant::SequenceBeforeDrop, &[Checker::Progress]),
    (Plant::BuryInDoubt, &[Checker::Loss, Checker::Progress]),
    (Plant::EndlessLease, &[Checker::Lease]),
    (Plant::WrongLife, &[Checker::Progress, Checker::Loss, Checker::Protocol, Checker::Interest]),
    (Plant::MissedDeath, &[Checker::Progress]),
    (Plant::LostWake, &[Checker::Progress]),
    (Plant::EndWithLease, &[Checker::Loss]),
];

const MOVING_PLANTS: [(Plant, &[Checker]); 2] = [
    (Plant::QueueLeftBehind, &[Checker::Loss]),
    (Plant::MarksAtOnce, &[Checker::Loss, Checker::Duplicate, Checker::Order]),
];

const KEEPING_PLANTS: [(Plant, &[Checker]); 7] = [
    (Plant::CollectionUnheard, &[Checker::Registry]),
    (Plant::LatestUnheard, &[Checker::Latest]),
    (Plant::LatestForEver, &[Checker::Latest]),
    (Plant::NothingSwept, &[Checker::Registry]),
    (Plant::FreeForAll, &[Checker::Bank]),
    (Plant::NotRelayed, &[Checker::Progress, Checker::Relay]),
    (Plant::ForgetRelayed, &[Checker::Duplicate, Checker::Order]),
];
