//! The same with a store behind the broker: what it keeps stops growing when nothing is added.
//!
//! Three rounds, or as many as fit into `MQTTZOO_STORE_CHURN_SECS`: with an hour of them (3600) tables,
//! files, write-ahead log and memory are to be seen to have settled.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{check_leaks, held};
use crate::conformance::bytes::{Will, disconnect_with};
use crate::conformance::{Client, Connect, Publish, Stage, Version, kind, prop};
use crate::harness::{Broker, Postgres};

#[test]
fn sqlite_holds_no_more_after_persistent_clients_have_come_and_gone() {
    let broker = broker(&[]);
    let (file, log) = (broker.directory().join("store.sqlite"), "store.sqlite-wal");
    let log = broker.directory().join(log);
    let store = Connection::open(&file).unwrap();
    let bytes = |path| fs::metadata(path).map_or(0, |file| file.len());
    churn(
        &broker,
        "SQLite",
        &Probe {
            query: &|sql| store.query_row(sql, [], |row| row.get(0)).unwrap(),
            sizes: &|| (bytes(&file), bytes(&log)),
            schema: "",
        },
    );
}

#[test]
fn postgres_holds_no_more_after_persistent_clients_have_come_and_gone() {
    let Some(server) = Postgres::start() else { return };
    // So that an hour is shown in minutes: nobody has set them on a server that goes for years.
    for (setting, value) in
        [("autovacuum_naptime", "5s"), ("min_wal_size", "32MB"), ("max_wal_size", "64MB")]
    {
        server.set(setting, value);
    }
    let broker = broker(&["--db", &server.database("postgres")]);
    let query = |sql: &str| -> i64 { server.query("postgres", sql).parse().unwrap() };
    churn(
        &broker,
        "PostgreSQL",
        &Probe {
            query: &query,
            sizes: &|| {
                let size = |sql| u64::try_from(query(sql)).unwrap();
                let log = size("SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()");
                (size("SELECT pg_database_size('postgres')"), log)
            },
            schema: "mqttzoo.",
        },
    );
}

fn broker(arguments: &[&str]) -> Broker {
    let quiet = ["--admin-port", "0", "--sys-interval-secs", "off", "--log", "warn"];
    let alone = ["--activity-log", "off", "--park-after-secs", "0"];
    let broker = Broker::start(&[&quiet[..], &alone, arguments].concat());
    broker.wait_until("it serves", |broker| {
        broker.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 200)
    });
    broker
}

/// How a store is looked at.
struct Probe<'a> {
    query: &'a dyn Fn(&str) -> i64,
    /// The tables' bytes, and those of the write-ahead log.
    sizes: &'a dyn Fn() -> (u64, u64),
    schema: &'static str,
}

/// What is held after a round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    tables: u64,
    log: u64,
    resident: u64,
}

impl Sample {
    fn most(self, other: Self) -> Self {
        Self {
            tables: self.tables.max(other.tables),
            log: self.log.max(other.log),
            resident: self.resident.max(other.resident),
        }
    }
}

fn churn(broker: &Broker, name: &str, probe: &Probe<'_>) {
    let s = broker.stage(Version::V5);
    let before = held(broker);
    let secs = std::env::var("MQTTZOO_STORE_CHURN_SECS").map_or(0, |secs| secs.parse().unwrap());
    let (started, mut samples, mut told) = (Instant::now(), Vec::new(), 0);
    while samples.len() < ROUNDS || started.elapsed() < Duration::from_secs(secs) {
        round(&s);
        let leaks = check_leaks(broker, &before, Duration::from_secs(30));
        assert_eq!(leaks, Ok(()), "after round {}", samples.len() + 1);
        broker.wait_until("tables are empty", |_| rows_left(probe).is_empty());
        let deleted = (probe.query)(&format!("SELECT count(*) FROM {}retained", probe.schema));
        assert!(deleted <= CLIENTS.try_into().unwrap(), "a topic is remembered once");
        let ((tables, log), resident) = ((probe.sizes)(), broker.metrics().value("resident_bytes"));
        let sample = Sample { tables, log, resident };
        samples.push(sample);
        let minute = started.elapsed().as_secs() / 60;
        if minute >= told {
            eprintln!("{name}, minute {minute}, round {}: {sample:?}", samples.len());
            told = minute + 1;
        }
    }
    eprintln!("{name}: {} rounds, at last {:?}", samples.len(), samples.last());
    assert_eq!(grown(&samples), None, "{samples:?}");
}

/// The tables in which something is left.
fn rows_left(probe: &Probe<'_>) -> Vec<&'static str> {
    let rows =
        |table: &str| (probe.query)(&format!("SELECT count(*) FROM {}{table}", probe.schema));
    TABLES.iter().copied().filter(|table| rows(table) > 0).collect()
}

/// Clients of every kind come and go, one behind the other.
fn round(s: &Stage) {
    let mut publisher = s.client("publisher").unwrap();
    for n in 0..CLIENTS {
        live(s, &mut publisher, n);
    }
    publisher.leave().unwrap();
}

fn live(s: &Stage, publisher: &mut Client, n: usize) {
    let (name, topic) = (format!("stored{n}"), format!("stored/{n}"));
    let kept = s.connect(&name).kept();
    match n % 4 {
        // It does not come back, and leaves a queue and a will behind.
        0 => {
            let expires = s.connect(&name).resumed().with(&prop::four(prop::SESSION_EXPIRY, 1));
            let will = Will::new(&topic, "late").with(&prop::four(prop::WILL_DELAY, 1));
            leave_queue(s, &expires.will(will), &topic, publisher, 1);
        }
        // It takes all it has missed, and ends its Session.
        1 => {
            leave_queue(s, &kept, &topic, publisher, 1);
            let mut client = s.enter(&kept).unwrap();
            for _ in 0..MESSAGES {
                client.receive(&topic, &payload(), 1).unwrap();
            }
            let at_once = prop::four(prop::SESSION_EXPIRY, 0);
            client.leave_with(&disconnect_with(0, &at_once)).unwrap();
        }
        // It wants nothing of what it has missed.
        2 => {
            leave_queue(s, &kept, &topic, publisher, 2);
            s.enter(&s.connect(&name)).unwrap().leave().unwrap();
        }
        // Its messages expire, and so does what is retained.
        _ => {
            let mut client = s.enter(&kept).unwrap();
            client.subscribe(&topic, 1).unwrap();
            client.leave().unwrap();
            let soon = prop::four(prop::MESSAGE_EXPIRY, 1);
            let id = publisher.fresh_id();
            let message = s.message(&topic, payload()).qos(1, id).retained().with(&soon);
            publisher.complete(&message).unwrap();
            publisher.retain(&topic, "").unwrap();
            s.enter(&s.connect(&name)).unwrap().leave().unwrap();
        }
    }
}

/// A client subscribes and goes, and messages come for it.
fn leave_queue(s: &Stage, connect: &Connect, topic: &str, publisher: &mut Client, qos: u8) {
    let mut client = s.enter(connect).unwrap();
    client.subscribe(topic, qos).unwrap();
    client.cut().unwrap();
    if qos == 2 {
        return publisher.publish(topic, &payload(), 2).unwrap();
    }
    let ids: Vec<u16> = (0..MESSAGES).map(|_| publisher.fresh_id()).collect();
    let all = |id: &u16| Publish::new(Version::V5, topic, payload()).qos(1, *id).bytes();
    publisher.send(&ids.iter().flat_map(all).collect::<Vec<u8>>());
    for id in ids {
        publisher.expect_ack(kind::PUBACK, id).unwrap();
    }
}

fn payload() -> String {
    "x".repeat(500)
}

/// What has grown from the second third of the samples to the last, when there are enough of them.
fn grown(samples: &[Sample]) -> Option<(Sample, Sample)> {
    let third = samples.len() / 3;
    if third < ENOUGH {
        return None;
    }
    let most = |part: &[Sample]| part.iter().copied().fold(Sample::default(), Sample::most);
    let (middle, last) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    let is_more = |before: u64, after: u64| after > before + before / 5 + SLACK_BYTES;
    let has_grown = is_more(middle.tables, last.tables)
        || is_more(middle.log, last.log)
        || is_more(middle.resident, last.resident);
    has_grown.then_some((middle, last))
}

#[test]
fn what_grows_is_found() {
    let rising = |step: u64| -> Vec<Sample> {
        (0..30).map(|n| Sample { tables: 10_000_000 + n * step, ..Sample::default() }).collect()
    };
    assert!(grown(&rising(4_000_000)).is_some());
    assert!(grown(&rising(100)).is_none());
}

/// Where nothing may be left.
const TABLES: [&str; 7] =
    ["session", "subscription", "message", "pointer", "incoming", "will", "ended_session"];
const ROUNDS: usize = 3;
const CLIENTS: usize = 40;
/// In each queue.
const MESSAGES: usize = 50;
/// Samples of which a third tells something.
const ENOUGH: usize = 5;
/// A segment of PostgreSQL's write-ahead log.
const SLACK_BYTES: u64 = 16 * 1_024 * 1_024;
