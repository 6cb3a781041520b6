//! The results, for people and for programs.

pub mod chart;
pub mod json;
pub mod text;

use std::process::Command;

use crate::{child::Pinning, measure::Timing, usage};

/// Where and how the figures were taken.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The commit measured, marked when the tree differs from it.
    pub commit: String,
    /// The bench's command line.
    pub command_line: String,
    /// The machine.
    pub machine: String,
    /// Which core ran what.
    pub affinity: String,
    /// Repetitions and times.
    pub timing: String,
}

impl Setting {
    /// Asks the machine and the repository.
    #[must_use]
    pub fn new(pinning: Pinning, timing: Timing, repetitions: u32) -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            commit: commit(),
            command_line: ["bin/bench".to_owned()]
                .into_iter()
                .chain(arguments)
                .collect::<Vec<_>>()
                .join(" "),
            machine: format!("{}, Linux {}", usage::processor(), kernel.trim()),
            affinity: match pinning {
                Pinning::Apart { broker, load } => {
                    format!("broker on core {broker}, load on core {load}")
                }
                Pinning::Free => "none".to_owned(),
            },
            timing: format!(
                "{repetitions} repetitions, interleaved, medians; {} ms of warm-up, {} ms measured",
                timing.warm.as_millis(),
                timing.steady.as_millis()
            ),
        }
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit} with local changes"),
        _ => commit,
    }
}
