//! What the rows find: named figures, their medians, and the bars.

use crate::number::median;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is, unit included.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
    /// Decimals that say something.
    pub decimals: usize,
}

/// The figures of one arrangement, such as publishers and subscribers on different brokers.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The arrangement.
    pub name: &'static str,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// The figure.
    pub figure: &'static str,
    /// Of which case.
    pub of: &'static str,
    /// The case it is divided by.
    pub per: Option<&'static str>,
    /// The limit.
    pub limit: Limit,
}

/// A bound of a figure or a quotient.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// As much, or more.
    AtLeast(f64),
    /// As much, or less.
    AtMost(f64),
}

/// How a row stands to its bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// What was reached.
    pub reached: f64,
    /// Whether that is enough.
    pub is_met: bool,
}

impl Case {
    /// A case without figures.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }

    /// The same with one figure more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: f64, decimals: usize) -> Self {
        self.figures.push(Figure { name, value, decimals });
        self
    }
}

impl Bar {
    /// How several runs of a row stand to it; nothing when there is none, or a figure is missing. The
    /// cases of a run are had one behind the other, so a quotient is made of each run: what the
    /// machine did besides is in both parts of it.
    #[must_use]
    pub fn judge(&self, runs: &[Vec<Case>]) -> Option<Verdict> {
        let reached: Option<Vec<_>> = runs.iter().map(|cases| self.reached(cases)).collect();
        let reached = median(&reached?)?;
        let is_met = match self.limit {
            Limit::AtLeast(limit) => reached >= limit,
            Limit::AtMost(limit) => reached <= limit,
        };
        Some(Verdict { reached, is_met })
    }

    fn reached(&self, cases: &[Case]) -> Option<f64> {
        let of = value(cases, self.of, self.figure)?;
        match self.per {
            Some(per) => Some(of / value(cases, per, self.figure)?),
            None => Some(of),
        }
    }
}

/// The medians of several runs of the same row.
#[must_use]
pub fn medians(runs: &[Vec<Case>]) -> Vec<Case> {
    let Some((first, _)) = runs.split_first() else { return Vec::new() };
    let mut cases = first.clone();
    for case in &mut cases {
        for figure in &mut case.figures {
            let values: Vec<_> =
                runs.iter().filter_map(|run| value(run, case.name, figure.name)).collect();
            figure.value = median(&values).unwrap_or(figure.value);
        }
    }
    cases
}

/// A figure of a case.
#[must_use]
pub fn value(cases: &[Case], case: &str, figure: &str) -> Option<f64> {
    let case = cases.iter().find(|one| one.name == case)?;
    case.figures.iter().find(|one| one.name == figure).map(|one| one.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(local: f64, across: f64) -> Vec<Case> {
        vec![Case::new("local").with("x", local, 0), Case::new("across").with("x", across, 0)]
    }

    #[test]
    fn a_bar_may_be_a_quotient_within_each_run() {
        let cases = [run(10.0, 5.0), run(100.0, 70.0), run(200.0, 160.0)];
        let bar = Bar { figure: "x", of: "across", per: Some("local"), limit: Limit::AtLeast(0.7) };
        let verdict = bar.judge(&cases).unwrap();
        assert!((verdict.reached - 0.7).abs() < 1e-9 && verdict.is_met);
        assert!(!Bar { limit: Limit::AtMost(0.6), ..bar }.judge(&cases).unwrap().is_met);
        assert!(Bar { per: None, limit: Limit::AtMost(70.0), ..bar }.judge(&cases).unwrap().is_met);
    }

    #[test]
    fn there_is_no_verdict_without_figures() {
        let bar = Bar { figure: "y", of: "local", per: None, limit: Limit::AtMost(1.0) };
        assert_eq!(bar.judge(&[run(1.0, 1.0)]), None);
        assert_eq!(bar.judge(&[]), None);
    }
}
