//! `bin/bench --cluster`: three brokers and three ZooKeeper servers on the loopback interface.
//!
//! * What is started: [`ensemble`], [`brokers`], watched over by [`crate::guardian`]; [`admin`] asks a broker
//!   how it is, and [`metrics`] reads what it counts.
//! * What is measured: [`rows`], with [`stretch`] for the loads across two brokers.
//! * What comes of it: [`crate::cases`].

use std::{path::Path, process::Command};

use rows::Row;

pub mod admin;
pub mod brokers;
pub mod ensemble;
pub mod metrics;
pub mod rows;
pub mod stretch;

/// The rows that this program can run. The others are named, with the reason.
#[must_use]
pub fn possible(rows: Vec<Row>, program: &Path) -> Vec<Row> {
    let help = Command::new(program).arg("--help").output().map(|output| output.stdout);
    let help = String::from_utf8_lossy(&help.unwrap_or_default()).into_owned();
    let is_possible = |row: &Row| {
        let is_possible = row.is_possible(&help);
        if !is_possible {
            eprintln!("{} is skipped: this broker cannot do that", row.heading.id);
        }
        is_possible
    };
    rows.into_iter().filter(is_possible).collect()
}

/// What the figures are.
pub const LEGEND: &str = "\
local: publishers and subscribers on one broker of the three; across: publishers on one, subscribers on another.
alone: a broker without ZooKeeper; cluster of one: the same broker with it, and nobody else. ms/s at rest: its processor time.
us/delivery, msgs/CPU-s: processor time (user and system, all threads) of all three brokers together, per message
that reached its subscriber. p50 us and so on: from the publisher's socket to the subscriber's; PUBACK: and back.
writes: transactions that ZooKeeper committed. answers: of ZooKeeper, to a broker whose clients do nothing. s to join: from starting the process to taking clients.
B/filter: growth of resident memory over the broker without filters. A quotient is the median of those of the runs.
FAIL: something was lost, doubled or out of order, or the row could not be run.
";
