//! The runner behind `bin/bench`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use mqttzoo_load::{
    brokers::Broker,
    cases::{
        self,
        outcome::{self, Heading},
        report::Frame,
    },
    child::{Cores, Pinning},
    cli::Cli,
    cluster::{self, brokers::Ground, ensemble::Ensemble},
    durable::{self, postgres::Postgres},
    measure::Timing,
    report::{self, Setting},
    rows::ROWS,
    runner::Schedule,
    self_test,
    stop::Stop,
    table::OURS,
    two_shards,
};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = if cli.list {
        list(&cli)
    } else if cli.cluster {
        run_cluster(&cli)
    } else if cli.durable {
        run_durable(&cli)
    } else if cli.self_test {
        check(&cli)
    } else if cli.two_shards {
        compare(&cli)
    } else {
        run(&cli)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::from(1)
    })
}

fn run(cli: &Cli) -> Outcome {
    let stop = Stop::on_signals()?;
    let (timing, repetitions) = timing(cli);
    let pinning = Pinning::from_machine()?;
    let schedule = Schedule {
        rows: cli.chosen_rows()?,
        brokers: cli.chosen_brokers()?,
        repetitions,
        timing,
        pinning,
    };
    let setting = Setting::new(pinning, timing, repetitions);
    let table = schedule.run(&stop);
    let text = report::text::render(&table, &setting);
    say(&text)?;
    let json = report::json::render(&table, &setting);
    let chart = report::chart::render(&table, &setting);
    write(cli.json.as_deref(), &json)?;
    write(cli.svg.as_deref(), &chart)?;
    if stop.is_raised() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if let Some(dir) = cli.results_dir() {
        write(Some(&dir.join("table.txt")), &text)?;
        write(Some(&dir.join("figures.json")), &json)?;
        write(Some(&dir.join("chart.svg")), &chart)?;
    }
    Ok(if table.has_failed(OURS) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn run_cluster(cli: &Cli) -> Outcome {
    let stop = Stop::on_signals()?;
    let (timing, repetitions) = timing(cli);
    if !cli.ours.exists() {
        return Err(format!("there is no {}: build it first", cli.ours.display()).into());
    }
    let rows = cluster::possible(cli.chosen_cluster_rows()?, &cli.ours);
    // Before anything is pinned: the servers run where there is room.
    let ensemble = Ensemble::start(&stop)?;
    let pinning = Pinning::from_machine()?;
    let ground = Ground { program: cli.ours.clone(), pinning, ensemble: &ensemble, stop: &stop };
    let run = |row: &cluster::rows::Row| row.run(&ground, timing);
    let outcomes = outcome::run(&rows, repetitions, &stop, run);
    let frame = Frame {
        setting: Setting::new(pinning, timing, repetitions),
        beside: "three ZooKeeper servers anywhere",
        command: cluster::brokers::command(&cli.ours),
        legend: cluster::LEGEND,
    };
    publish(cli, &stop, &outcomes, &frame, "cluster")
}

fn run_durable(cli: &Cli) -> Outcome {
    let stop = Stop::on_signals()?;
    let (timing, repetitions) = timing(cli);
    if !cli.ours.exists() {
        return Err(format!("there is no {}: build it first", cli.ours.display()).into());
    }
    let rows = cli.chosen_durable_rows()?;
    // Before anything is pinned: the server runs where there is room.
    let (cores, postgres) = (Cores::of_thread()?, Postgres::start()?);
    let pinning = Pinning::from_machine()?;
    let (ours, mosquitto) = (cli.ours.clone(), cli.mosquitto.clone());
    let ground = durable::Ground { ours, mosquitto, postgres, pinning, cores, stop: &stop };
    let run = |row: &durable::rows::Row| row.run(&ground, timing);
    let outcomes = outcome::run(&rows, repetitions, &stop, run);
    let frame = Frame {
        setting: Setting::new(pinning, timing, repetitions),
        beside: "PostgreSQL anywhere",
        command: durable::server::command(&cli.ours),
        legend: durable::LEGEND,
    };
    publish(cli, &stop, &outcomes, &frame, "durable")
}

/// Prints what was found, and writes it down.
fn publish(
    cli: &Cli,
    stop: &Stop,
    outcomes: &[outcome::Outcome],
    frame: &Frame,
    name: &str,
) -> Outcome {
    let text = cases::report::text(outcomes, frame);
    let json = cases::report::json(outcomes, frame);
    say(&text)?;
    write(cli.json.as_deref(), &json)?;
    if stop.is_raised() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if let Some(dir) = cli.results_dir() {
        write(Some(&dir.join(format!("{name}-table.txt"))), &text)?;
        write(Some(&dir.join(format!("{name}-figures.json"))), &json)?;
    }
    let is_met = outcomes.iter().all(outcome::Outcome::is_met);
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn compare(cli: &Cli) -> Outcome {
    let stop = Stop::on_signals()?;
    let (timing, repetitions) = timing(cli);
    let brokers = [cli.ours_with(1), cli.ours_with(2)];
    if !cli.ours.exists() {
        return Err(format!("there is no {}: build it first", cli.ours.display()).into());
    }
    let [one, two] = &brokers;
    let mut is_met = true;
    for comparison in two_shards::compare([one, two], repetitions, timing, &stop)? {
        let ratio = comparison.ratio();
        is_met &= ratio <= two_shards::RATIO_MAX;
        let verdict = if ratio <= two_shards::RATIO_MAX { "ok" } else { "miss" };
        say(&format!(
            "{:<14} one shard {:.3} us, two {:.3} us: {ratio:.2} of {} {verdict}\n",
            comparison.row,
            comparison.one,
            comparison.two,
            two_shards::RATIO_MAX
        ))?;
    }
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn check(cli: &Cli) -> Outcome {
    let stop = Stop::on_signals()?;
    let mosquitto = Broker::Mosquitto { program: cli.mosquitto.clone() };
    let broker = if cli.mosquitto.exists() { mosquitto } else { cli.ours_with(1) };
    let is_right = self_test::run(&broker, &stop)?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn list(cli: &Cli) -> Outcome {
    let of = |heading: Heading| (heading.id, heading.title);
    let rows: Vec<_> = if cli.cluster {
        cluster::rows::ROWS.iter().map(|row| of(row.heading)).collect()
    } else if cli.durable {
        durable::rows::ROWS.iter().map(|row| of(row.heading)).collect()
    } else {
        ROWS.iter().map(|row| (row.id, row.title)).collect()
    };
    for (id, title) in rows {
        say(&format!("{id:<16} {title}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn timing(cli: &Cli) -> (Timing, u32) {
    let millis = Duration::from_millis;
    if cli.quick {
        return (Timing { warm: millis(200), steady: millis(600), divisor: 5 }, 1);
    }
    (Timing { warm: millis(500), steady: millis(2000), divisor: 1 }, cli.repetitions)
}

fn say(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

fn write(path: Option<&Path>, text: &str) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)
}

const INTERRUPTED: u8 = 130;
