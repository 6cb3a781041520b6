//! Runs the simulation of a cluster for many seeds:
//! `cargo run --release --example simulate_cluster -- --seeds 1000000 --from 1`.
//!
//! A seed that fails is printed with what happened before; `--from SEED --seeds 1` plays it again.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use mqttzoo::sim::cluster::{Plant, run};

fn main() -> ExitCode {
    let (from, seeds) = (number("--from").unwrap_or(1), number("--seeds").unwrap_or(1_000));
    let (mut failures, mut tally) = (0_u64, BTreeMap::<&str, u64>::new());
    for seed in from..from.saturating_add(seeds) {
        match run(seed, Plant::Nothing) {
            Ok(report) => {
                for (what, count) in report.tally {
                    *tally.entry(what).or_default() += count;
                }
            }
            Err(failure) => {
                failures += 1;
                if failures <= SHOWN_MAX {
                    if number("--trace").is_some() {
                        failure.trace.iter().for_each(|line| println!("{line}"));
                    }
                    println!("{failure}");
                }
            }
        }
    }
    println!("{seeds} seeds from {from}, {failures} failed");
    if number("--tally").is_some() {
        println!("{tally:#?}");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The number that follows `flag`.
fn number(flag: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag);
    arguments.nth(1)?.parse().ok()
}

const SHOWN_MAX: u64 = 100;
