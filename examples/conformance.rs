//! Plays the conformance suite against any MQTT broker and prints one line for each script.
//!
//! ```text
//! bin/conformance --host localhost --port 1883 [--ws-port 8083] [--filter will::] [--list]
//! ```
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "scripts judge a server from outside: they time it, and index what they have measured"
)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;

#[path = "../tests/it/conformance/mod.rs"]
mod conformance;

use conformance::{Script, Target, Verdict, all, runner};

/// Plays the MQTT conformance scripts against a broker.
#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Arguments {
    /// Where the broker listens.
    #[arg(short, long, default_value = "localhost")]
    host: String,
    /// Its TCP port.
    #[arg(short, long, default_value_t = 1883)]
    port: u16,
    /// Its WebSocket port; without one the WebSocket scripts are skipped.
    #[arg(long)]
    ws_port: Option<u16>,
    /// Plays only scripts whose name contains this, `publish::v5`.
    #[arg(short, long, default_value = "")]
    filter: String,
    /// How long a script waits for what must happen, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    patience_ms: u64,
    /// How many scripts play at once.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Prints the scripts and the statements they hold, and plays none.
    #[arg(long)]
    list: bool,
    /// Prints this help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// How many scripts ended which way.
#[derive(Default)]
struct Tally {
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut scripts = all();
    scripts.retain(|script| script.name().contains(&arguments.filter));
    if arguments.list {
        for script in scripts {
            say(&format!("{}  {}", script.name(), script.citations().join(" ")));
        }
        return ExitCode::SUCCESS;
    }
    let target = Target {
        host: arguments.host,
        port: arguments.port,
        ws_port: arguments.ws_port,
        patience: Duration::from_millis(arguments.patience_ms),
    };
    let tally = Tally::default();
    runner::play_all(&target, &scripts, arguments.threads.max(1), |script, outcome| {
        tally.count(script, outcome);
    });
    let failed = tally.failed.load(Ordering::Relaxed);
    say(&format!(
        "{} ok, {failed} failed, {} skipped",
        tally.passed.load(Ordering::Relaxed),
        tally.skipped.load(Ordering::Relaxed)
    ));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Tally {
    fn count(&self, script: &Script, outcome: conformance::Outcome) {
        let (counter, line) = match outcome {
            Ok(()) => (&self.passed, format!("ok    {}", script.name())),
            Err(Verdict::Differs(what)) => {
                (&self.failed, format!("FAIL  {}: {what}", script.name()))
            }
            Err(Verdict::Skipped(why)) => {
                (&self.skipped, format!("skip  {}: {why}", script.name()))
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        say(&line);
    }
}

/// One line on standard output; a reader who has left ends the program.
fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
