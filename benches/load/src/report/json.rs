//! The results as JSON: the medians and every run.

use serde_json::{Value, json};

use super::Setting;
use crate::{
    measure::Measured,
    rows::{Bar, Row},
    table::{Cell, Column, OURS, Run, Summary, Table},
};

/// The whole report.
#[must_use]
pub fn render(table: &Table, setting: &Setting) -> String {
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| {
            json!({ "name": column.name, "command": column.command, "config": column.config })
        })
        .collect();
    let rows: Vec<_> = table.rows.iter().map(|row| row_value(table, row)).collect();
    let value = json!({
        "commit": setting.commit,
        "command_line": setting.command_line,
        "machine": setting.machine,
        "affinity": setting.affinity,
        "timing": setting.timing,
        "void": table.void().is_some(),
        "brokers": columns,
        "rows": rows,
    });
    format!("{value:#}\n")
}

fn row_value(table: &Table, row: &Row) -> Value {
    let cell = |column: &Column| {
        let cell = table.cell(row.id, &column.name)?;
        Some(cell_value(table, row, &column.name, cell))
    };
    let bar = match row.bar {
        Bar::Floor(multiple, of) => json!({ "floors": multiple, "of": of }),
        Bar::Bytes(bytes) => json!({ "bytes": bytes }),
        Bar::None => Value::Null,
    };
    json!({
        "id": row.id,
        "title": row.title,
        "unit": if row.is_memory() { "bytes" } else { "us" },
        "bar": bar,
        "brokers": table.columns.iter().filter_map(cell).collect::<Vec<_>>(),
    })
}

fn cell_value(table: &Table, row: &Row, broker: &str, cell: &Cell) -> Value {
    let runs: Vec<_> = cell.runs.iter().map(run_value).collect();
    let mut value = match cell.summary() {
        Some(Summary::Figures(figures)) => {
            let mut value = figures_value(&figures);
            set(&mut value, "floors", json!(table.floors(row, figures.value)));
            let verdict = table.verdict(row, figures.value).filter(|_| broker == OURS);
            set(&mut value, "bar_met", json!(verdict.map(super::super::table::Verdict::is_met)));
            value
        }
        Some(Summary::Failed(reason)) => json!({ "failed": reason }),
        None => json!({}),
    };
    set(&mut value, "name", json!(broker));
    set(&mut value, "runs", json!(runs));
    value
}

fn run_value(run: &Run) -> Value {
    let mut value = match &run.outcome {
        Ok(figures) => figures_value(figures),
        Err(failure) => json!({ "failed": failure.to_string() }),
    };
    set(&mut value, "load_average", json!(run.load_average));
    value
}

fn figures_value(figures: &Measured) -> Value {
    json!({
        "value": figures.value,
        "messages_per_second": figures.throughput,
        "latency_us_p50_p99_p999": figures.latency,
        "peak_bytes": figures.peak,
        "load_cores": figures.load_cores,
        "load_us_per_delivery": figures.load_cost,
    })
}

fn set(value: &mut Value, key: &str, field: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), field);
    }
}
