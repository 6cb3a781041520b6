//! Running every row of `--cluster`, and all of it again.

use std::{path::Path, process::Command};

use super::{
    brokers::Ground,
    findings::{Case, Verdict, medians},
    rows::Row,
};
use crate::{
    measure::{Failure, Timing},
    usage,
};

/// The runs of one row.
#[derive(Debug)]
pub struct Outcome {
    /// The row.
    pub row: Row,
    /// In the order they were made.
    pub runs: Vec<Run>,
}

/// One run of a row.
#[derive(Debug)]
pub struct Run {
    /// The machine's load averages before it.
    pub load_average: String,
    /// What came of it.
    pub cases: Result<Vec<Case>, Failure>,
}

impl Outcome {
    /// The medians, or the first failure.
    ///
    /// # Errors
    /// Why a run failed.
    pub fn summary(&self) -> Result<Vec<Case>, String> {
        Ok(medians(&self.all()?))
    }

    /// How it stands to its bar; nothing when there is none, or a run failed.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.row.bar?.judge(&self.all().ok()?)
    }

    /// Whether every run went well and the bar, if there is one, is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let has_passed = self.row.bar.is_none() || self.verdict().is_some_and(|it| it.is_met);
        has_passed && self.all().is_ok()
    }

    fn all(&self) -> Result<Vec<Vec<Case>>, String> {
        let cases = |run: &Run| Ok(run.cases.as_ref().map_err(ToString::to_string)?.clone());
        self.runs.iter().map(cases).collect()
    }
}

/// Runs `rows` so many times; row by row, and all of them again. What was measured before an
/// interruption is told, too.
#[must_use]
pub fn run(rows: &[Row], ground: &Ground, repetitions: u32, timing: Timing) -> Vec<Outcome> {
    let outcome = |&row: &Row| Outcome { row, runs: Vec::new() };
    let mut outcomes: Vec<_> = rows.iter().map(outcome).collect();
    for repetition in 1..=repetitions {
        for outcome in &mut outcomes {
            let load_average = usage::load_average();
            let cases = outcome.row.run(ground, timing);
            if ground.stop.is_raised() {
                return outcomes;
            }
            tell(repetition, repetitions, &outcome.row, &cases);
            outcome.runs.push(Run { load_average, cases });
        }
    }
    outcomes
}

/// The rows that this program can run. The others are named, with the reason.
#[must_use]
pub fn possible(rows: Vec<Row>, program: &Path) -> Vec<Row> {
    let help = Command::new(program).arg("--help").output().map(|output| output.stdout);
    let help = String::from_utf8_lossy(&help.unwrap_or_default()).into_owned();
    let is_possible = |row: &Row| {
        let is_possible = row.is_possible(&help);
        if !is_possible {
            eprintln!("{} is skipped: this broker cannot do that", row.id);
        }
        is_possible
    };
    rows.into_iter().filter(is_possible).collect()
}

fn tell(repetition: u32, repetitions: u32, row: &Row, cases: &Result<Vec<Case>, Failure>) {
    let words = match (cases, row.bar) {
        (Err(failure), _) => format!("FAIL: {failure}"),
        (Ok(cases), Some(bar)) => {
            let verdict = bar.judge(std::slice::from_ref(cases));
            verdict.map_or_else(String::new, |verdict| format!("{:.2}", verdict.reached))
        }
        (Ok(_), None) => "done".to_owned(),
    };
    eprintln!("{repetition}/{repetitions} {}: {words}", row.id);
}
