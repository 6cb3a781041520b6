//! The command line of the runner.

use std::path::PathBuf;

use clap::Parser;

use crate::{
    brokers::Broker,
    cases::outcome,
    cluster, durable,
    rows::{ROWS, Row},
};

/// Measures this project's broker beside others.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Clone, Debug, Parser)]
#[command(
    name = "bin/bench",
    after_help = "Examples:\n  bin/bench                                   everything, three \
                  repetitions\n  bin/bench --quick --rows pairs              a first look\n  \
                  bin/bench --brokers ours,mosquitto --rows fan-in-q1\n  \
                  bin/bench --broker 'flashmq=flashmq -z /etc/flashmq-{port}.conf'\n  \
                  bin/bench --self-test"
)]
pub struct Cli {
    /// Rows whose name contains one of these, separated by commas.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Which brokers: floor, ours, mosquitto, rumqttd.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_values_t = ["floor", "ours", "mosquitto"].map(str::to_owned)
    )]
    pub brokers: Vec<String>,
    /// Another broker: its name and its command line, in which {port} stands for the port.
    #[arg(long, value_name = "NAME=COMMAND")]
    pub broker: Vec<String>,
    /// Adds rumqttd (bin/bench installs it from the registry first).
    #[arg(long)]
    pub with_rumqttd: bool,
    /// One short repetition.
    #[arg(long)]
    pub quick: bool,
    /// How many repetitions; the table shows their median.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub repetitions: u32,
    /// Writes table, figures and chart into this directory; a full run does into docs/bench.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Writes the figures of every run here.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the chart here.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Compares two shards with one, nothing pinned, half of the pairs across shards.
    #[arg(long)]
    pub two_shards: bool,
    /// Measures three brokers that are one, with three ZooKeeper servers.
    #[arg(long)]
    pub cluster: bool,
    /// Measures what Sessions that are stored cost, and kills brokers to see what they lose.
    #[arg(long)]
    pub durable: bool,
    /// Checks that the bench notices delay, loss, duplicates and disorder.
    #[arg(long)]
    pub self_test: bool,
    /// Lists the rows.
    #[arg(long)]
    pub list: bool,
    /// This project's broker.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/mqtt_broker")]
    pub ours: PathBuf,
    /// Mosquitto.
    #[arg(long, value_name = "PROGRAM", default_value = "/usr/sbin/mosquitto")]
    pub mosquitto: PathBuf,
    /// rumqttd.
    #[arg(long, value_name = "PROGRAM", default_value = "benches/load/target/rumqttd/bin/rumqttd")]
    pub rumqttd: PathBuf,
}

/// A command line that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No such broker.
    #[error("unknown broker {0}: floor, ours, mosquitto and rumqttd are known")]
    UnknownBroker(String),
    /// `--broker` without `=`.
    #[error("--broker takes NAME=COMMAND, not {0}")]
    NoCommand(String),
    /// Nothing matches `--rows`.
    #[error("no row matches; --list shows them")]
    NoRow,
}

impl Cli {
    /// The rows asked for.
    ///
    /// # Errors
    /// There are none.
    pub fn chosen_rows(&self) -> Result<Vec<Row>, CliError> {
        let is_chosen = |row: &&Row| {
            self.rows.is_empty() || self.rows.iter().any(|pattern| row.id.contains(pattern))
        };
        let rows: Vec<_> = ROWS.iter().filter(is_chosen).copied().collect();
        if rows.is_empty() { Err(CliError::NoRow) } else { Ok(rows) }
    }

    /// The rows asked for of those of `--cluster`.
    ///
    /// # Errors
    /// There are none.
    pub fn chosen_cluster_rows(&self) -> Result<Vec<cluster::rows::Row>, CliError> {
        let rows = outcome::chosen(cluster::rows::ROWS, &self.rows);
        if rows.is_empty() { Err(CliError::NoRow) } else { Ok(rows) }
    }

    /// The rows asked for of those of `--durable`.
    ///
    /// # Errors
    /// There are none.
    pub fn chosen_durable_rows(&self) -> Result<Vec<durable::rows::Row>, CliError> {
        let rows = outcome::chosen(durable::rows::ROWS, &self.rows);
        if rows.is_empty() { Err(CliError::NoRow) } else { Ok(rows) }
    }

    /// The directory for results: the one asked for, or, when every row was run at full length,
    /// the one that is published.
    #[must_use]
    pub fn results_dir(&self) -> Option<PathBuf> {
        let is_full = self.rows.is_empty() && !self.quick && self.broker.is_empty();
        self.out.clone().or_else(|| is_full.then(|| PathBuf::from("docs/bench")))
    }

    /// The brokers asked for.
    ///
    /// # Errors
    /// One is unknown.
    pub fn chosen_brokers(&self) -> Result<Vec<Broker>, CliError> {
        let is_named = self.brokers.iter().any(|name| name == "rumqttd");
        let rumqttd = (self.with_rumqttd && !is_named).then(|| "rumqttd".to_owned());
        let mut brokers = Vec::new();
        for name in self.brokers.iter().chain(&rumqttd) {
            brokers.push(match name.as_str() {
                "floor" => Broker::Floor,
                "ours" | "mqttzoo" => self.ours_with(1),
                "mosquitto" => Broker::Mosquitto { program: self.mosquitto.clone() },
                "rumqttd" => Broker::Rumqttd { program: self.rumqttd.clone() },
                other => return Err(CliError::UnknownBroker(other.to_owned())),
            });
        }
        for text in &self.broker {
            let (name, command) =
                text.split_once('=').ok_or_else(|| CliError::NoCommand(text.clone()))?;
            let (name, command) = (name.to_owned(), command.to_owned());
            brokers.push(Broker::Named { name, command });
        }
        Ok(brokers)
    }

    /// This project's broker with so many shards.
    #[must_use]
    pub fn ours_with(&self, threads: u32) -> Broker {
        Broker::Ours { program: self.ours.clone(), threads }
    }
}
