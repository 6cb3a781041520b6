//! Runs the simulation of a cluster for many seeds, on all cores; `bin/simulate` builds and calls it:
//! `simulate_cluster [--stored] [--registering [--relaying]] [--broken] [--trace] [--tally] [FROM [COUNT]]`.
//!
//! A seed that fails is printed, with the command that plays it again.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]
#![expect(clippy::print_stderr, reason = "how far it is goes beside what it found")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mqttzoo::sim::cluster::{Failure, Habits, Plant, Report, run, run_stored, run_with};
use mqttzoo::store::MemoryStore;
use parking_lot::Mutex;

/// What is to be played.
struct Order {
    is_stored: bool,
    /// Instead of those that are drawn from the seed.
    habits: Option<Habits>,
    plant: Plant,
    shows_trace: bool,
    from: u64,
    count: u64,
}

/// What has been played.
#[derive(Default)]
struct Outcome {
    done: u64,
    failed: Vec<u64>,
    tally: BTreeMap<&'static str, u64>,
}

fn main() -> ExitCode {
    let flag = |flag: &str| std::env::args().any(|argument| argument == flag);
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let registering =
        Habits { retain: true, register: true, relay_all: flag("--relaying"), ..Habits::NONE };
    let order = Order {
        is_stored: flag("--stored"),
        habits: flag("--registering").then_some(registering),
        plant: if flag("--broken") { Plant::AcknowledgeBeforeDone } else { Plant::Nothing },
        shows_trace: flag("--trace"),
        from: numbers.first().copied().unwrap_or(1),
        count: numbers.get(1).copied().unwrap_or(1_000),
    };
    let (next, outcome) = (AtomicU64::new(0), Mutex::new(Outcome::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&order, &next, &outcome));
        }
    });
    let Outcome { done, mut failed, tally } = outcome.into_inner();
    if flag("--tally") {
        println!("{tally:#?}");
    }
    failed.sort_unstable();
    println!("{done} seeds from {}, {} failed", order.from, failed.len());
    let kind: String = KINDS.into_iter().filter(|kind| flag(kind.trim_end())).collect();
    for seed in &failed {
        println!("again: bin/simulate {kind}--trace {seed} 1");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one seed after the other, as long as there are any.
fn work(order: &Order, next: &AtomicU64, outcome: &Mutex<Outcome>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= order.count {
            return;
        }
        let seed = order.from.saturating_add(number);
        let played = catch_unwind(|| play(order, seed));
        let mut outcome = outcome.lock();
        outcome.done += 1;
        match played {
            Ok(Ok(report)) => {
                for (what, count) in report.tally {
                    *outcome.tally.entry(what).or_default() += count;
                }
            }
            Ok(Err(failure)) => {
                if order.shows_trace {
                    failure.trace.iter().for_each(|line| println!("{line}"));
                }
                println!("{failure}");
                outcome.failed.push(seed);
            }
            Err(_panic) => {
                println!("seed {seed} panicked");
                outcome.failed.push(seed);
            }
        }
        if outcome.done.is_multiple_of(SAID_EACH) {
            eprintln!("{} of {}, {} failed", outcome.done, order.count, outcome.failed.len());
        }
    }
}

fn play(order: &Order, seed: u64) -> Result<Report, Failure> {
    if order.is_stored {
        return run_stored(seed, order.plant, Arc::new(MemoryStore::new()));
    }
    match order.habits {
        Some(habits) => run_with(seed, order.plant, habits),
        None => run(seed, order.plant),
    }
}

/// What a run depends on beside its seed.
const KINDS: [&str; 4] = ["--stored ", "--registering ", "--relaying ", "--broken "];
/// How far it is is said after so many.
const SAID_EACH: u64 = 1_000;
