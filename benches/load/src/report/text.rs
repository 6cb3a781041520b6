//! The table as text.

use std::fmt::Write as _;

use super::Setting;
use crate::{
    number::float,
    rows::{Bar, REFERENCE_MAX, Row},
    table::{Cell, LOAD_MAX, OURS, RIVAL, Summary, Table},
};

/// The whole report.
#[must_use]
pub fn render(table: &Table, setting: &Setting) -> String {
    let mut text = header(table, setting);
    let _ = writeln!(
        text,
        "\n{:<14} {:<10} {:>9} {:>7} {:>15} {:>7} {:>10} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7}  load average",
        "row",
        "broker",
        "us/del.",
        "xfloor",
        "bar",
        "/mosq.",
        "msgs/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "peak MiB",
        "load",
        "us/del.",
    );
    for row in &table.rows {
        for column in &table.columns {
            if let Some(cell) = table.cell(row.id, &column.name) {
                text += &line(table, row, &column.name, cell);
            }
        }
    }
    text += &legend(table);
    text
}

fn header(table: &Table, setting: &Setting) -> String {
    let Setting { commit, command_line, machine, affinity, timing } = setting;
    let mut text = format!(
        "commit        {commit}\ncommand line  {command_line}\nmachine       {machine}\n\
         affinity      {affinity}\ntiming        {timing}\n"
    );
    for column in &table.columns {
        let _ = writeln!(text, "{:<13} {}", column.name, column.command);
        for line in column.config.iter().flat_map(|config| config.lines()) {
            let _ = writeln!(text, "{:<13}   {line}", "");
        }
    }
    text
}

fn line(table: &Table, row: &Row, broker: &str, cell: &Cell) -> String {
    let average = cell.runs.iter().map(|run| run.load_average.as_str()).max().unwrap_or_default();
    match cell.summary() {
        None => String::new(),
        Some(Summary::Failed(reason)) => {
            format!("{:<14} {broker:<10} FAIL: {reason} (load average {average})\n", row.id)
        }
        Some(Summary::Figures(figures)) => {
            let value = figures.value;
            let decimals = if row.is_memory() { 0 } else { 3 };
            let [p50, p99, p999] = figures.latency.map_or([None; 3], |latency| latency.map(Some));
            let rival = table.value(row.id, RIVAL).filter(|_| broker != RIVAL);
            let mark = if figures.load_cores > LOAD_MAX { "!" } else { " " };
            format!(
                "{:<14} {broker:<10} {value:>9.decimals$} {:>7} {:>15} {:>7} {:>10} {:>9} {:>9} \
                 {:>9} {:>8.1} {:>6.2}{mark} {:>7}  {average}\n",
                row.id,
                number(table.floors(row, value), 2),
                bar(table, row, broker, value),
                number(rival.map(|rival| value / rival), 2),
                number(figures.throughput, 0),
                number(p50, 1),
                number(p99, 1),
                number(p999, 1),
                float(figures.peak) / MIB,
                figures.load_cores,
                number(figures.load_cost, 3),
            )
        }
    }
}

/// The bar, and for our broker whether it is met.
fn bar(table: &Table, row: &Row, broker: &str, value: f64) -> String {
    let limit = match row.bar {
        Bar::Floor(multiple, _) => format!("{multiple} x"),
        Bar::Bytes(bytes) => format!("{bytes} B"),
        Bar::None => return "-".to_owned(),
    };
    match table.verdict(row, value) {
        _ if broker != OURS => "-".to_owned(),
        None => format!("{limit} no floor"),
        Some(verdict) if verdict.is_met() => format!("{limit} ok"),
        Some(_) => format!("{limit} miss"),
    }
}

fn legend(table: &Table) -> String {
    let mut text = String::from(
        "\nus/del.: microseconds of broker time (user and system, all threads) per delivered \
         message; in idle-* and filter-bytes, bytes of\nresident memory per connection or filter. \
         xfloor: multiple of the byte copier in the row the bar names. /mosq.: multiple of \
         Mosquitto.\nload, us/del.: the load's own part of a core (! above 0.9) and its own cost \
         per delivery. FAIL: something was lost, doubled or out of order,\nor the row could not \
         be run.\n",
    );
    let failed: Vec<_> = table.rows.iter().filter_map(|row| behind(table, row)).collect();
    if table.columns.iter().any(|column| column.name == OURS) {
        text += &tally(table);
        for line in failed {
            text += &line;
        }
    }
    if let Some(floor) = table.void() {
        let _ = writeln!(
            text,
            "VOID: the floor of 16 pairs at QoS 0 is {floor:.3} us, above {REFERENCE_MAX} us; the \
             machine was too busy or is too slow for these bars."
        );
    }
    text
}

/// How many bars are met.
fn tally(table: &Table) -> String {
    let verdicts: Vec<_> = table
        .rows
        .iter()
        .filter_map(|row| table.verdict(row, table.value(row.id, OURS)?))
        .collect();
    let met = verdicts.iter().filter(|verdict| verdict.is_met()).count();
    format!("\n{met} of {} bars are met.\n", verdicts.len())
}

fn behind(table: &Table, row: &Row) -> Option<String> {
    let (ours, rival) = (table.value(row.id, OURS)?, table.value(row.id, RIVAL)?);
    (ours > rival).then(|| format!("{} is behind Mosquitto: {ours:.3} to {rival:.3}.\n", row.id))
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

const MIB: f64 = 1_048_576.0;
