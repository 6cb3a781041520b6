//! `docs/CONFIG.md`: every option, generated from its definition.

use std::fmt::Write as _;

use super::{
    Config, ListenerTable,
    option::{OptionRow, Section, paragraph},
    value::EMPTY,
};

/// The document.
pub(super) fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in Config::default().sections() {
        section(&mut text, group);
    }
    listener_tables(&mut text);
    text
}

fn section(text: &mut String, group: &dyn Section) {
    let table = group.table().map_or_else(String::new, |table| format!(", the table `[{table}]`"));
    write(text, &format!("\n## {}{table}\n\n{}\n", group.heading(), paragraph(group.about())));
    for row in group.options() {
        write(
            text,
            &format!(
                "\n### `{}`\n\n{}\n\n`--{} {}` or `{}`; {}.\n",
                row.key,
                row.text(),
                row.flag(),
                row.form,
                row.variable(),
                default(&row)
            ),
        );
    }
}

fn listener_tables(text: &mut String) {
    let table = ListenerTable::default();
    let about = paragraph(table.about());
    write(text, &format!("\n## {}, `[[listener]]`\n\n{about}\n", table.heading()));
    write(text, LISTENER_EXAMPLE);
    write(text, "\n| key | takes | what it is |\n|---|---|---|\n");
    for row in table.options() {
        write(text, &format!("| `{}` | {} | {} |\n", row.key, row.form, row.text()));
    }
}

fn default(row: &OptionRow) -> String {
    match row.value.as_deref() {
        None | Some(EMPTY) => "absent by default".to_owned(),
        Some("\"off\"") => "off by default".to_owned(),
        Some(value) => format!("default `{value}`"),
    }
}

fn write(text: &mut String, piece: &str) {
    text.write_str(piece).expect("writing to a String cannot fail");
}

const INTRODUCTION: &str = "\
# Configuration

This page is generated from the types in `src/config` (`mqtt_broker --print-config-docs`).

`mqtt_broker` needs no configuration. Each option below is a key of a TOML file (`--config FILE`), an
environment variable, and a flag, under the same name: flags win over the environment, the
environment wins over the file. `mqtt_broker --print-config` shows what they come to, and where each
value is from.

* An unknown key or flag is an error, with a suggestion. An unknown variable that opens with
  `MQTTZOO_` is a warning. What Kubernetes sets for a Service named `mqttzoo` is ignored.
* Sizes are a number of bytes, or a number with a unit: `64 KiB`, `1 MiB`, `2 GiB`.
* Where a bound may be absent, `off` says so. An empty variable counts as absent.
* A flag that is true or false may stand alone: `--allow-anonymous` is `--allow-anonymous true`.
* Options that may be repeated are a list in the file and separated by commas in the environment.
* Relative paths start at the working directory.
* No option needs to hold a secret itself: there is one that names the file which holds it.

SIGHUP reads certificates, keys, password and ACL files, and `log` again, and opens `log_file` anew.
Everything else needs a restart.
";

const LISTENER_EXAMPLE: &str = "
```toml
allow_anonymous = true

[[listener]]            # devices in the field
kind = \"tls\"
host = [\"0.0.0.0\", \"::\"]
port = 8883
cert = \"/etc/mqttzoo/chain.pem\"
key = \"/etc/mqttzoo/key.pem\"
packet_bytes_max = \"64 KiB\"
connect_rate_max = 5

[[listener]]            # services on this machine
kind = \"unix\"
path = \"/run/mqttzoo/broker.sock\"
```
";

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_EXPECT=1 cargo test config_document` writes it.
    #[test]
    fn config_document_is_what_the_types_say() {
        expect_test::expect_file!["../../docs/CONFIG.md"].assert_eq(&render());
    }
}
