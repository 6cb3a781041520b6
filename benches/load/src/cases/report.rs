//! The results, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    findings::{Bar, Case, Limit, Verdict},
    outcome::{Outcome, Run},
};
use crate::report::Setting;

/// What stands around the rows.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where and how.
    pub setting: Setting,
    /// What runs beside brokers and load, and where.
    pub beside: &'static str,
    /// How brokers were started, without what is this machine's alone.
    pub command: String,
    /// What the figures are.
    pub legend: &'static str,
}

/// The text.
#[must_use]
pub fn text(outcomes: &[Outcome], frame: &Frame) -> String {
    let Setting { commit, command_line, machine, affinity, timing } = &frame.setting;
    let mut text = format!(
        "commit        {commit}\ncommand line  {command_line}\nmachine       {machine}\n\
         affinity      {affinity}; {}\ntiming        {timing}\nbroker        {}\n",
        frame.beside, frame.command
    );
    for outcome in outcomes.iter().filter(|outcome| !outcome.runs.is_empty()) {
        text += &row(outcome);
    }
    let bars = || outcomes.iter().filter(|outcome| outcome.row.bar.is_some());
    let met = bars().filter(|outcome| outcome.is_met()).count();
    let _ = writeln!(text, "\n{met} of {} bars are met.\n\n{}", bars().count(), frame.legend);
    text
}

/// The JSON.
#[must_use]
pub fn json(outcomes: &[Outcome], frame: &Frame) -> String {
    let setting = &frame.setting;
    let rows: Vec<_> = outcomes.iter().map(row_value).collect();
    let value = json!({
        "commit": setting.commit,
        "command_line": setting.command_line,
        "machine": setting.machine,
        "affinity": setting.affinity,
        "timing": setting.timing,
        "broker": frame.command,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases::outcome::Heading, check::Faults, measure::Failure};

    fn outcome(cases: Result<Vec<Case>, Failure>) -> Outcome {
        let bar = Bar {
            figure: "msgs/CPU-s",
            of: "across",
            per: Some("local"),
            limit: Limit::AtLeast(0.6),
        };
        let row = Heading { id: "across-64-q0", title: "pairs", bar: Some(bar) };
        Outcome { row, runs: vec![Run { load_average: "1 2 3".to_owned(), cases }] }
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
