//! Running every row against every broker, in turns.
//!
//! Repetitions are interleaved (row by row, broker by broker, and all of it again), so that a
//! noisy minute of the machine does not fall on one broker alone.

use crate::{
    brokers::{Broker, Running},
    child::Pinning,
    measure::{Failure, Timing},
    rows::{REFERENCE, ROWS, Row},
    stop::Stop,
    table::{Column, Run, Table},
    usage,
};

/// What is to be run.
#[derive(Debug)]
pub struct Schedule {
    /// The rows.
    pub rows: Vec<Row>,
    /// The brokers.
    pub brokers: Vec<Broker>,
    /// How often.
    pub repetitions: u32,
    /// How long.
    pub timing: Timing,
    /// Where.
    pub pinning: Pinning,
}

impl Schedule {
    /// Runs it all. What was measured before an interruption is in the table, too.
    #[must_use]
    pub fn run(&self, stop: &Stop) -> Table {
        let mut table = Table::new(&self.rows);
        let brokers: Vec<_> = self.brokers.iter().filter(|broker| is_there(broker)).collect();
        for broker in &brokers {
            table.columns.push(Column::new(broker.name()));
        }
        for repetition in 1..=self.repetitions {
            for row in &self.rows_with_reference() {
                for broker in brokers.iter().filter(|broker| self.wants(row, broker)) {
                    if stop.is_raised() {
                        return table;
                    }
                    if table.is_hopeless(row, broker.name()) {
                        continue;
                    }
                    let run = self.run_once(row, broker, &mut table, stop);
                    if stop.is_raised() {
                        return table;
                    }
                    tell(repetition, self.repetitions, row, broker, &run);
                    table.add(row, broker.name(), run);
                }
            }
        }
        table
    }

    /// The rows asked for, after the one whose floor says what the machine is worth.
    fn rows_with_reference(&self) -> Vec<Row> {
        let is_reference = |row: &&Row| row.id == REFERENCE;
        let mut rows = self.rows.clone();
        if !rows.iter().any(|row| row.id == REFERENCE)
            && let Some(reference) = ROWS.iter().find(is_reference)
        {
            rows.insert(0, *reference);
        }
        rows
    }

    /// The reference row is run for the floor alone where it was not asked for.
    fn wants(&self, row: &Row, broker: &Broker) -> bool {
        let is_asked_for = self.rows.iter().any(|asked| asked.id == row.id);
        row.suits(broker) && (is_asked_for || *broker == Broker::Floor)
    }

    fn run_once(&self, row: &Row, broker: &Broker, table: &mut Table, stop: &Stop) -> Run {
        let load_average = usage::load_average();
        let outcome = Running::start(broker, row.transport(), self.pinning, stop)
            .map_err(Failure::from)
            .and_then(|running| {
                table.note_launch(broker.name(), running.launch());
                row.run(&running, self.timing)
            });
        Run { load_average, outcome }
    }
}

fn is_there(broker: &Broker) -> bool {
    match broker.program() {
        Some(program) if !program.exists() => {
            eprintln!("{} is skipped: there is no {}", broker.name(), program.display());
            false
        }
        _ => true,
    }
}

fn tell(repetition: u32, repetitions: u32, row: &Row, broker: &Broker, run: &Run) {
    let (id, name) = (row.id, broker.name());
    let unit = if row.is_memory() { "bytes" } else { "us" };
    match &run.outcome {
        Ok(measured) => {
            eprintln!("{repetition}/{repetitions} {id} {name}: {:.3} {unit}", measured.value);
        }
        Err(failure) => eprintln!("{repetition}/{repetitions} {id} {name}: FAIL: {failure}"),
    }
}
