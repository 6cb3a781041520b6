//! The chart: a bar per broker and row, on a logarithmic scale, shorter is better.

use std::fmt::Write as _;

use super::Setting;
use crate::{
    measure::Measured,
    number::{count, float},
    rows::{Bar, Row},
    table::{FLOOR, OURS, Summary, Table},
};

/// Rows with the same unit, over one axis.
struct Panel<'a> {
    title: &'a str,
    rows: Vec<&'a Row>,
    decade_min: i32,
    decade_max: i32,
}

/// Draws every row that has a figure.
#[must_use]
pub fn render(table: &Table, setting: &Setting) -> String {
    let has_figure =
        |row: &&Row| table.columns.iter().any(|column| table.value(row.id, &column.name).is_some());
    let panel = |title, is_memory| {
        let is_ours = |row: &&Row| row.is_memory() == is_memory;
        Panel::new(table, title, table.rows.iter().filter(is_ours).filter(has_figure).collect())
    };
    let panels = [
        panel("broker CPU per delivered message, microseconds", false),
        panel("resident memory, bytes", true),
    ];
    let mut body = String::new();
    let mut y = legend(&mut body, table);
    for panel in panels.iter().filter(|panel| !panel.rows.is_empty()) {
        y = panel.draw(&mut body, table, y);
    }
    text(&mut body, MARGIN, y + 8.0, "small", &format!("{}, {}", setting.commit, setting.machine));
    let height = y + 24.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"Cost per message and \
         memory of MQTT brokers\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

impl<'a> Panel<'a> {
    /// Chooses the decades that hold every figure.
    fn new(table: &Table, title: &'a str, rows: Vec<&'a Row>) -> Self {
        let (mut decade_min, mut decade_max) = (i32::MAX, i32::MIN);
        for row in &rows {
            for column in &table.columns {
                let Some(value) = table.value(row.id, &column.name) else { continue };
                for decade in -6..12 {
                    if (10f64.powi(decade)..10f64.powi(decade + 1)).contains(&value) {
                        decade_min = decade_min.min(decade);
                        decade_max = decade_max.max(decade + 1);
                    }
                }
            }
        }
        Self { title, rows, decade_min, decade_max: decade_max.max(decade_min.saturating_add(1)) }
    }

    /// Draws the panel below `top`; returns where it ends.
    fn draw(&self, out: &mut String, table: &Table, top: f64) -> f64 {
        text(out, MARGIN, top + 16.0, "head", self.title);
        let mut marks = String::new();
        let first = top + 46.0;
        let mut y = first;
        for row in &self.rows {
            y = self.draw_row(&mut marks, table, row, y) + ROW_GAP;
        }
        for decade in self.decade_min..=self.decade_max {
            let value = 10f64.powi(decade);
            let x = self.x(value);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
                first - 6.0,
                y - ROW_GAP + 2.0
            );
            text(out, x, first - 12.0, "tick", &plain(value));
        }
        out.push_str(&marks);
        y + 8.0
    }

    fn draw_row(&self, out: &mut String, table: &Table, row: &Row, top: f64) -> f64 {
        let mut y = top;
        for (at, column) in table.columns.iter().enumerate() {
            let Some(cell) = table.cell(row.id, &column.name) else { continue };
            let Some(Summary::Figures(Measured { value, .. })) = cell.summary() else {
                text(out, LEFT + 4.0, y + BAR - 1.5, "fail", &format!("{}: FAIL", column.name));
                y += BAR + BAR_GAP;
                continue;
            };
            let width = (self.x(value) - LEFT).max(1.0);
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"1.5\" \
                 fill=\"{}\"><title>{}: {}</title></rect>",
                colour(&column.name, at),
                escape(&column.name),
                plain(value)
            );
            text(out, LEFT + width + 4.0, y + BAR - 1.5, "value", &plain(value));
            y += BAR + BAR_GAP;
        }
        text(out, LEFT - 8.0, f64::midpoint(top, y) + 3.0, "row", row.title);
        if let Some(limit) = limit(table, row) {
            let x = self.x(limit);
            let (from, to) = (top - 2.0, y - BAR_GAP + 2.0);
            let _ = writeln!(out, "<path class=\"limit\" d=\"M{x:.1} {from:.1}V{to:.1}\"/>");
        }
        y
    }

    fn x(&self, value: f64) -> f64 {
        let decades = f64::from(self.decade_max - self.decade_min);
        LEFT + (RIGHT - LEFT) * (value.log10() - f64::from(self.decade_min)) / decades
    }
}

/// Draws the names of the brokers; returns where the panels begin.
fn legend(out: &mut String, table: &Table) -> f64 {
    for (at, column) in table.columns.iter().enumerate() {
        let x = MARGIN + 120.0 * float(count(at));
        let colour = colour(&column.name, at);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"16\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>"
        );
        let name = if column.name == "floor" { "floor (byte copier)" } else { &column.name };
        text(out, x + 18.0, 26.0, "value", name);
    }
    text(
        out,
        WIDTH - MARGIN,
        26.0,
        "end",
        "logarithmic, shorter is better; the line is what mqttzoo is to reach",
    );
    38.0
}

/// Where the row's bar for this project's broker lies.
fn limit(table: &Table, row: &Row) -> Option<f64> {
    match row.bar {
        Bar::Floor(multiple, of) => Some(multiple * table.value(of, FLOOR)?),
        Bar::Bytes(bytes) => Some(bytes),
        Bar::None => None,
    }
}

fn colour(name: &str, at: usize) -> &'static str {
    match name {
        OURS => "#d9480f",
        "floor" => "#868e96",
        "mosquitto" => "#1971c2",
        "rumqttd" => "#2f9e44",
        _ => ["#9c36b5", "#e8590c", "#0c8599", "#5c940d"].get(at % 4).copied().unwrap_or("#000"),
    }
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ =
        writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number with as many digits as say something.
fn plain(value: f64) -> String {
    let text = match value {
        ..0.0995 => format!("{value:.3}"),
        ..9.95 => format!("{value:.2}"),
        ..99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 20.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 790.0;
const BAR: f64 = 9.0;
const BAR_GAP: f64 = 2.0;
const ROW_GAP: f64 = 9.0;
const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#343a40}\
    .head{font-weight:600;font-size:13px}.row{text-anchor:end}.tick{text-anchor:middle;\
    fill:#868e96}.end{text-anchor:end;fill:#868e96}.value{font-size:10px}\
    .small{font-size:10px;fill:#868e96}.fail{font-size:10px;fill:#c92a2a}\
    .grid{stroke:#e9ecef;fill:none}.limit{stroke:#212529;stroke-width:1.5;fill:none}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let texts = [0.01, 0.1056, 1.0, 4.257, 33.33, 1014.4].map(plain);
        assert_eq!(texts, ["0.01", "0.11", "1", "4.26", "33.3", "1014"]);
    }
}
