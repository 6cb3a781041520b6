//! The results of `--cluster`, for people and for programs.

use std::{fmt::Write as _, path::Path};

use serde_json::{Map, Value, json};

use super::{
    brokers,
    findings::{Bar, Case, Limit, Verdict},
    runner::{Outcome, Run},
};
use crate::report::Setting;

/// The text.
#[must_use]
pub fn text(outcomes: &[Outcome], setting: &Setting, program: &Path) -> String {
    let Setting { commit, command_line, machine, affinity, timing } = setting;
    let mut text = format!(
        "commit        {commit}\ncommand line  {command_line}\nmachine       {machine}\n\
         affinity      {affinity}; three ZooKeeper servers anywhere\ntiming        {timing}\n\
         broker        {}\n",
        command(program)
    );
    for outcome in outcomes.iter().filter(|outcome| !outcome.runs.is_empty()) {
        text += &row(outcome);
    }
    let bars = || outcomes.iter().filter(|outcome| outcome.row.bar.is_some());
    let met = bars().filter(|outcome| outcome.is_met()).count();
    let _ = writeln!(text, "\n{met} of {} bars are met.\n\n{LEGEND}", bars().count());
    text
}

/// The JSON.
#[must_use]
pub fn json(outcomes: &[Outcome], setting: &Setting, program: &Path) -> String {
    let rows: Vec<_> = outcomes.iter().map(row_value).collect();
    let value = json!({
        "commit": setting.commit,
        "command_line": setting.command_line,
        "machine": setting.machine,
        "affinity": setting.affinity,
        "timing": setting.timing,
        "broker": command(program),
        "rows": rows,
    });
    format!("{value:#}\n")
}

fn row(outcome: &Outcome) -> String {
    let average = outcome.runs.iter().map(|run| run.load_average.as_str()).max();
    let row = &outcome.row;
    let average = average.unwrap_or_default();
    let mut text = format!("\n{:<13} {} (load average {average})\n", row.id, row.title);
    match outcome.summary() {
        Err(failure) => {
            let _ = writeln!(text, "  FAIL: {failure}");
        }
        Ok(cases) => {
            for case in &cases {
                text += &case_line(case);
            }
            if let Some(bar) = &row.bar {
                let _ = writeln!(text, "  {}", bar_words(bar, outcome.verdict()));
            }
        }
    }
    text
}

fn case_line(case: &Case) -> String {
    let figures: Vec<_> = case
        .figures
        .iter()
        .map(|figure| format!("{:.*} {}", figure.decimals, figure.value, figure.name))
        .collect();
    format!("  {:<16} {}\n", case.name, figures.join(", "))
}

fn bar_words(bar: &Bar, verdict: Option<Verdict>) -> String {
    let Bar { figure, of, per, limit } = bar;
    let what = match per {
        Some(per) => format!("{figure}: {of} / {per}"),
        None => format!("{figure}: {of}"),
    };
    let wanted = match limit {
        Limit::AtLeast(limit) => format!("at least {limit}"),
        Limit::AtMost(limit) => format!("at most {limit}"),
    };
    match verdict {
        None => format!("{what} is not known, {wanted}: miss"),
        Some(Verdict { reached, is_met }) => {
            format!("{what} = {reached:.2}, {wanted}: {}", if is_met { "ok" } else { "miss" })
        }
    }
}

fn row_value(outcome: &Outcome) -> Value {
    let row = &outcome.row;
    let summary = outcome.summary();
    let verdict = outcome.verdict();
    let bar = row.bar.as_ref().map(|bar| {
        let (side, limit) = match bar.limit {
            Limit::AtLeast(limit) => ("at_least", limit),
            Limit::AtMost(limit) => ("at_most", limit),
        };
        json!({
            "figure": bar.figure,
            "of": bar.of,
            "per": bar.per,
            side: limit,
            "reached": verdict.map(|verdict| verdict.reached),
            "is_met": verdict.is_some_and(|verdict| verdict.is_met),
        })
    });
    json!({
        "id": row.id,
        "title": row.title,
        "bar": bar,
        "medians": summary.as_ref().ok().map(|cases| cases_value(cases)),
        "failed": summary.as_ref().err(),
        "runs": outcome.runs.iter().map(run_value).collect::<Vec<_>>(),
    })
}

fn run_value(run: &Run) -> Value {
    match &run.cases {
        Ok(cases) => json!({ "load_average": run.load_average, "cases": cases_value(cases) }),
        Err(failure) => {
            json!({ "load_average": run.load_average, "failed": failure.to_string() })
        }
    }
}

fn cases_value(cases: &[Case]) -> Value {
    let case = |case: &Case| {
        let figures = case.figures.iter().map(|one| (one.name.to_owned(), json!(one.value)));
        (case.name.to_owned(), Value::Object(figures.collect::<Map<_, _>>()))
    };
    Value::Object(cases.iter().map(case).collect())
}

/// How each broker was started, without what is this machine's alone.
fn command(program: &Path) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let arguments = brokers::arguments("broker-N", "SERVERS", Path::new("DIR"));
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

const LEGEND: &str = "\
local: publishers and subscribers on one broker of the three; across: publishers on one, subscribers on another.
us/delivery, msgs/CPU-s: processor time (user and system, all threads) of all three brokers together, per message
that reached its subscriber. p50 us and so on: from the publisher's socket to the subscriber's; PUBACK: and back.
writes: transactions that ZooKeeper committed. s to join: from starting the process to taking clients.
B/filter: growth of resident memory over the broker without filters. A quotient is the median of those of the runs.
FAIL: something was lost, doubled or out of order, or the row could not be run.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Faults, cluster::rows::ROWS, measure::Failure};

    fn outcome(cases: Result<Vec<Case>, Failure>) -> Outcome {
        Outcome { row: ROWS[0], runs: vec![Run { load_average: "1 2 3".to_owned(), cases }] }
    }

    #[test]
    fn a_row_shows_its_cases_and_how_it_stands_to_its_bar() {
        let case = |name, value| Case::new(name).with("msgs/CPU-s", value, 0);
        let outcome = outcome(Ok(vec![case("local", 100.0), case("across", 61.0)]));
        let text = row(&outcome);
        assert!(text.contains("  local            100 msgs/CPU-s\n"), "{text}");
        assert!(text.contains("across / local = 0.61, at least 0.6: ok"), "{text}");
        assert!(outcome.is_met());
        assert_eq!(row_value(&outcome)["medians"]["across"]["msgs/CPU-s"], 61.0);
    }

    #[test]
    fn a_row_with_a_lost_message_has_no_figure_and_misses_its_bar() {
        let outcome = outcome(Err(Failure::Faults(Faults { lost: 1, ..Faults::default() })));
        assert!(row(&outcome).contains("FAIL: lost 1"));
        assert!(!outcome.is_met());
        assert_eq!(row_value(&outcome)["bar"]["is_met"], false);
    }
}
