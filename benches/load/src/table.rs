//! From runs to the figures of the table.

use crate::{
    brokers::Launch,
    error::LoadError,
    measure::{Failure, Measured},
    number::median,
    rows::{Bar, REFERENCE, REFERENCE_MAX, Row},
};

/// One run of a row.
#[derive(Debug)]
pub struct Run {
    /// The machine's load averages before it.
    pub load_average: String,
    /// What came of it.
    pub outcome: Result<Measured, Failure>,
}

/// A broker in the table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The command line it was started with first.
    pub command: String,
    /// The configuration it was started with first.
    pub config: Option<String>,
}

/// Every run.
#[derive(Debug)]
pub struct Table {
    /// The rows asked for.
    pub rows: Vec<Row>,
    /// The brokers.
    pub columns: Vec<Column>,
    cells: Vec<Cell>,
}

/// The runs of one broker in one row.
#[derive(Debug)]
pub struct Cell {
    row: &'static str,
    broker: String,
    /// In the order they were made.
    pub runs: Vec<Run>,
}

/// What the table shows of a cell.
#[derive(Clone, Debug)]
pub enum Summary {
    /// The medians of the runs.
    Figures(Measured),
    /// A run failed, and why.
    Failed(String),
}

/// How a figure of ours stands to its bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The figure, in the bar's unit: a multiple of the floor, or bytes.
    pub reached: f64,
    /// The bar.
    pub limit: f64,
}

impl Verdict {
    /// Whether the bar is met.
    #[must_use]
    pub fn is_met(self) -> bool {
        self.reached <= self.limit
    }
}

impl Column {
    /// A broker that has not been started yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), command: String::new(), config: None }
    }
}

impl Table {
    /// A table without runs.
    #[must_use]
    pub fn new(rows: &[Row]) -> Self {
        Self { rows: rows.to_vec(), columns: Vec::new(), cells: Vec::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, row: &Row, broker: &str, run: Run) {
        let at = self.cells.iter().position(|cell| cell.row == row.id && cell.broker == broker);
        if let Some(cell) = at.and_then(|at| self.cells.get_mut(at)) {
            cell.runs.push(run);
            return;
        }
        self.cells.push(Cell { row: row.id, broker: broker.to_owned(), runs: vec![run] });
    }

    /// Keeps how a broker was started, the first time.
    pub fn note_launch(&mut self, broker: &str, launch: &Launch) {
        let column = self.columns.iter_mut().find(|column| column.name == broker);
        if let Some(column) = column
            && column.command.is_empty()
        {
            column.command = launch.command.join(" ");
            column.config = launch.config.as_ref().map(|(_, text)| text.clone());
        }
    }

    /// Whether the row has taken too long for this broker, so that repeating it only costs time.
    #[must_use]
    pub fn is_hopeless(&self, row: &Row, broker: &str) -> bool {
        let is_late =
            |run: &Run| matches!(run.outcome, Err(Failure::Load(LoadError::OutOfTime(_))));
        self.cell(row.id, broker).is_some_and(|cell| cell.runs.iter().any(is_late))
    }

    /// The runs of `broker` in the row with this name.
    #[must_use]
    pub fn cell(&self, row: &str, broker: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.row == row && cell.broker == broker)
    }

    /// The figure of `broker` in the row with this name.
    #[must_use]
    pub fn value(&self, row: &str, broker: &str) -> Option<f64> {
        match self.cell(row, broker)?.summary()? {
            Summary::Figures(measured) => Some(measured.value),
            Summary::Failed(_) => None,
        }
    }

    /// A figure as a multiple of its row's floor.
    #[must_use]
    pub fn floors(&self, row: &Row, value: f64) -> Option<f64> {
        match row.bar {
            Bar::Floor(_, of) => Some(value / self.value(of, FLOOR)?),
            Bar::Bytes(_) | Bar::None => None,
        }
    }

    /// How `value` stands to the row's bar.
    #[must_use]
    pub fn verdict(&self, row: &Row, value: f64) -> Option<Verdict> {
        match row.bar {
            Bar::Floor(limit, _) => Some(Verdict { reached: self.floors(row, value)?, limit }),
            Bar::Bytes(limit) => Some(Verdict { reached: value, limit }),
            Bar::None => None,
        }
    }

    /// The floor by which the machine is judged, when it is too high for the run to say anything.
    #[must_use]
    pub fn void(&self) -> Option<f64> {
        self.value(REFERENCE, FLOOR).filter(|&floor| floor > REFERENCE_MAX)
    }

    /// Whether a row of this broker failed.
    #[must_use]
    pub fn has_failed(&self, broker: &str) -> bool {
        let mut cells = self.cells.iter().filter(|cell| cell.broker == broker);
        cells.any(|cell| matches!(cell.summary(), Some(Summary::Failed(_))))
    }
}

impl Cell {
    /// The medians, or the first failure. `None` without runs.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let mut good = Vec::new();
        for run in &self.runs {
            match &run.outcome {
                Ok(measured) => good.push(*measured),
                Err(failure) => return Some(Summary::Failed(failure.to_string())),
            }
        }
        medians(&good).map(Summary::Figures)
    }
}

fn medians(runs: &[Measured]) -> Option<Measured> {
    let of = |pick: &dyn Fn(&Measured) -> Option<f64>| {
        median(&runs.iter().filter_map(pick).collect::<Vec<_>>())
    };
    let latency = |at: usize| of(&|run| run.latency?.get(at).copied());
    Some(Measured {
        value: of(&|run| Some(run.value))?,
        throughput: of(&|run| run.throughput),
        latency: match (latency(0), latency(1), latency(2)) {
            (Some(p50), Some(p99), Some(p999)) => Some([p50, p99, p999]),
            _ => None,
        },
        // The most memory of any run is the honest figure for a peak.
        peak: runs.iter().map(|run| run.peak).max()?,
        load_cores: of(&|run| Some(run.load_cores))?,
        load_cost: of(&|run| run.load_cost),
    })
}

/// The byte copier's name.
pub const FLOOR: &str = "floor";
/// The name of this project's broker.
pub const OURS: &str = "mqttzoo";
/// The name of the broker no row is to be behind.
pub const RIVAL: &str = "mosquitto";
/// The part of a core above which the load, not the broker, may be what is measured.
pub const LOAD_MAX: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Faults, rows::ROWS};

    fn run(value: f64) -> Run {
        let outcome = Ok(Measured {
            value,
            throughput: None,
            latency: None,
            peak: 1,
            load_cores: 0.5,
            load_cost: None,
        });
        Run { load_average: String::new(), outcome }
    }

    #[test]
    fn the_bar_is_a_multiple_of_the_median_floor() {
        let row = &ROWS[0];
        let mut table = Table::new(ROWS);
        for value in [0.1, 9.0, 0.2] {
            table.add(row, FLOOR, run(value));
        }
        let verdict = table.verdict(row, 0.8).unwrap();
        assert!((verdict.reached - 4.0).abs() < 1e-9 && verdict.is_met());
        assert!(!table.verdict(row, 0.9).unwrap().is_met());
        assert_eq!(table.void(), None);
    }

    #[test]
    fn one_failed_run_takes_the_figure_away() {
        let row = &ROWS[0];
        let mut table = Table::new(ROWS);
        table.add(row, OURS, run(0.5));
        let failure = Failure::Faults(Faults { lost: 1, ..Faults::default() });
        table.add(row, OURS, Run { load_average: String::new(), outcome: Err(failure) });
        assert_eq!(table.value(row.id, OURS), None);
        assert!(table.has_failed(OURS));
    }

    #[test]
    fn a_slow_machine_makes_the_run_void() {
        let mut table = Table::new(ROWS);
        table.add(&ROWS[0], FLOOR, run(0.3));
        assert_eq!(table.void(), Some(0.3));
    }
}
