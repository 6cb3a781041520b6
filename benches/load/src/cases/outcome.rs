//! Running every row, and all of it again.

use super::findings::{Bar, Case, Verdict, medians};
use crate::{measure::Failure, stop::Stop, usage};

/// What is said of a row before it is run.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// Its name, for `--rows` and JSON.
    pub id: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// What is to be reached.
    pub bar: Option<Bar>,
}

/// A row that can be run.
pub trait Row {
    /// What is said of it.
    fn heading(&self) -> Heading;
}

/// The runs of one row.
#[derive(Debug)]
pub struct Outcome {
    /// The row.
    pub row: Heading,
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

/// Runs `rows` with `run` so many times; row by row, and all of them again. What was measured before
/// an interruption is told, too.
#[must_use]
pub fn run<R: Row>(
    rows: &[R],
    repetitions: u32,
    stop: &Stop,
    run: impl Fn(&R) -> Result<Vec<Case>, Failure>,
) -> Vec<Outcome> {
    let outcome = |row: &R| Outcome { row: row.heading(), runs: Vec::new() };
    let mut outcomes: Vec<_> = rows.iter().map(outcome).collect();
    for repetition in 1..=repetitions {
        for (row, outcome) in rows.iter().zip(&mut outcomes) {
            let load_average = usage::load_average();
            let cases = run(row);
            if stop.is_raised() {
                return outcomes;
            }
            tell(repetition, repetitions, &outcome.row, &cases);
            outcome.runs.push(Run { load_average, cases });
        }
    }
    outcomes
}

/// Those of `rows` whose names contain one of `patterns`; all when there are none.
#[must_use]
pub fn chosen<R: Row + Copy>(rows: &[R], patterns: &[String]) -> Vec<R> {
    let is_chosen = |row: &&R| {
        let id = row.heading().id;
        patterns.is_empty() || patterns.iter().any(|pattern| id.contains(pattern))
    };
    rows.iter().filter(is_chosen).copied().collect()
}

fn tell(repetition: u32, repetitions: u32, row: &Heading, cases: &Result<Vec<Case>, Failure>) {
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
