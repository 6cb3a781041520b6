//! The configuration in force, as a file that would give the same again.

use std::fmt::Write as _;

use super::{ListenerTable, draft::Draft, option::Section};

/// The configuration as TOML; what was given says where.
pub(super) fn render(draft: &Draft) -> String {
    let mut text = String::new();
    for group in draft.config.sections() {
        heading(&mut text, group);
        for row in group.options() {
            let origin = draft
                .origins
                .get(row.key)
                .map_or_else(String::new, |origin| format!("  # {origin}"));
            match row.value {
                Some(value) => line(&mut text, &format!("{} = {value}{origin}", row.key)),
                None => line(&mut text, &format!("# {} is absent", row.key)),
            }
        }
    }
    for table in &draft.config.tables {
        listener(&mut text, table);
    }
    text
}

fn heading(text: &mut String, group: &dyn Section) {
    if !text.is_empty() {
        text.push('\n');
    }
    match group.table() {
        Some(table) => line(text, &format!("[{table}]")),
        None => line(text, &format!("# {}", group.heading())),
    }
}

/// One `[[listener]]` table, with what differs from a table that says nothing.
fn listener(text: &mut String, table: &ListenerTable) {
    line(text, "\n[[listener]]");
    let silent = ListenerTable::default().options();
    for (row, silent) in table.options().into_iter().zip(silent) {
        if let Some(value) = row.value.filter(|value| Some(value) != silent.value.as_ref()) {
            line(text, &format!("{} = {value}", row.key));
        }
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}
