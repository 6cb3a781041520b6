//! The database is away for longer than memory lasts, or than the broker: every row is there once in the
//! end, or a gap says that it is not.

use std::fs;
use std::path::PathBuf;

use super::expect;
use crate::conformance::Version;
use crate::harness::{Broker, Postgres};

const DATABASE: &str = "postgres";

fn start(server: &Postgres, arguments: &[&str]) -> Broker {
    let place = ["--db", &server.database(DATABASE), "--name", "b1", "--admin-port", "0"];
    let broker = Broker::start(&[&place, arguments].concat());
    broker.wait_for_log("accepts connections");
    super::written(&broker, 1);
    broker
}

/// Clients that come and go, two rows each.
fn come_and_go(broker: &Broker, clients: u32) {
    let stage = broker.stage(Version::V5);
    for number in 0..clients {
        stage.client(&format!("c{number}")).unwrap().leave().unwrap();
    }
}

/// Publishes that nobody takes, a row each.
fn publish(broker: &Broker, count: usize) {
    let before = noted(broker);
    let stage = broker.stage(Version::V5);
    let mut client = stage.client("publisher").unwrap();
    let message = stage.message("t/x", vec![0xfe; 300]).bytes();
    for _ in 0..count.div_ceil(1_000) {
        client.send(&message.repeat(1_000));
    }
    client.leave().unwrap();
    let all = before + count as u64 + 2;
    broker.wait_for_metric("activity_rows_noted_total", |rows| rows >= all);
}

fn noted(broker: &Broker) -> u64 {
    broker.metrics().value("activity_rows_noted_total")
}

/// Waits until nothing is in memory any more that `kill -9` would take.
fn wait_until_kept(broker: &Broker) {
    broker.wait_until("all is on the disk or written", |broker| {
        let metrics = broker.metrics();
        let safe = metrics.value("activity_rows_spooled_total")
            + metrics.value("activity_rows_written_total")
            + metrics.value("activity_rows_dropped_total");
        safe >= metrics.value("activity_rows_noted_total")
    });
}

/// Waits until nothing is on its way.
fn wait_until_written(broker: &Broker) {
    broker.wait_until("all is written", |broker| {
        let metrics = broker.metrics();
        let done = metrics.value("activity_rows_written_total")
            + metrics.value("activity_rows_dropped_total");
        metrics.value("activity_spool_bytes") == 0
            && done >= metrics.value("activity_rows_noted_total")
    });
}

/// All numbers of all starts are rows or in gaps, and none is twice.
#[track_caller]
fn expect_all_accounted_for(server: &Postgres) {
    let unaccounted = "SELECT count(*) FROM mqtt_log.writer AS w WHERE number <>
        (SELECT count(*) FROM mqtt_log.event AS e WHERE e.boot = w.boot) +
        (SELECT coalesce(sum(count), 0) FROM mqtt_log.gap AS g WHERE g.boot = w.boot)";
    expect(server, DATABASE, unaccounted, "0");
    let twice = "SELECT count(*) - count(DISTINCT (boot, number)) FROM mqtt_log.event";
    expect(server, DATABASE, twice, "0");
    let both = "SELECT count(*) FROM mqtt_log.event JOIN mqtt_log.gap USING (boot)
        WHERE number BETWEEN first AND coalesce(last, 9223372036854775807)";
    expect(server, DATABASE, both, "0");
}

fn segments(broker: &Broker) -> Vec<PathBuf> {
    let entries = fs::read_dir(broker.directory().join("activity-spool")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The number of the last row of each start, in their order.
const NUMBERS: &str = "SELECT string_agg(number::text, ' ' ORDER BY since) FROM mqtt_log.writer";

#[test]
fn rows_that_a_killed_broker_kept_are_written_by_its_next_start() {
    let Some(mut server) = Postgres::start() else { return };
    let mut broker = start(&server, &[]);
    server.freeze();
    come_and_go(&broker, 100);
    wait_until_kept(&broker);
    assert!(broker.metrics().value("activity_spool_bytes") > 0);
    // Stopped instead of frozen, and traffic goes on.
    server.kill();
    come_and_go(&broker, 100);
    wait_until_kept(&broker);
    assert_eq!(noted(&broker), 401);
    broker.kill();
    assert_eq!(segments(&broker).len(), 1);
    broker.start_again();
    server.start_again();
    broker.wait_for_metric("activity_rows_written_total", |rows| rows >= 401);
    expect(&server, DATABASE, NUMBERS, "401 1");
    expect_all_accounted_for(&server);
    // Nobody knows what it had in its memory besides.
    let gap = "SELECT first, last IS NULL, reason FROM mqtt_log.gap";
    expect(&server, DATABASE, gap, "402|t|the broker ended without a word");
    broker.wait_for_metric("activity_spool_bytes", |bytes| bytes == 0);
    assert_eq!(segments(&broker), Vec::<PathBuf>::new());
}

#[test]
fn a_broker_that_ends_in_order_leaves_nothing_out() {
    let Some(mut server) = Postgres::start() else { return };
    let mut broker = start(&server, &[]);
    server.kill();
    come_and_go(&broker, 10);
    assert!(broker.terminate().success());
    assert_eq!(broker.count_in_log("are lost"), 0);
    server.start_again();
    broker.start_again();
    expect(&server, DATABASE, NUMBERS, "22 1");
    expect_all_accounted_for(&server);
    expect(&server, DATABASE, "SELECT count(*) FROM mqtt_log.gap", "0");
}

#[test]
fn of_a_damaged_segment_the_rest_is_a_gap() {
    let Some(mut server) = Postgres::start() else { return };
    let mut broker = start(&server, &["--activity-publishes", "t/#"]);
    server.kill();
    publish(&broker, 30_000);
    wait_until_kept(&broker);
    let all = noted(&broker);
    broker.kill();
    let files = segments(&broker);
    assert!(files.len() > 1, "{files:?}");
    let mut bytes = fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    server.start_again();
    broker.start_again();
    expect(&server, DATABASE, NUMBERS, &format!("{all} 1"));
    expect_all_accounted_for(&server);
    let gaps =
        "SELECT count(*), min(count) > 0 FROM mqtt_log.gap WHERE reason = 'the spool was damaged'";
    expect(&server, DATABASE, gaps, "1|t");
    let read = "SELECT count(*) > 1000 FROM mqtt_log.event";
    expect(&server, DATABASE, read, "t");
    broker.wait_for_metric("activity_spool_bytes", |bytes| bytes == 0);
    assert_eq!(segments(&broker), [broker.directory().join("activity-spool/segment.damaged")]);
    assert_eq!(broker.count_in_log("a segment of the activity log is damaged"), 1);
}

#[test]
fn what_there_is_no_room_for_is_a_gap_of_the_right_size() {
    let Some(server) = Postgres::start() else { return };
    let arguments = ["--activity-publishes", "t/#", "--activity-spool-bytes-max", "1 MiB"];
    let broker = start(&server, &arguments);
    server.freeze();
    publish(&broker, 60_000);
    let dropped = broker.metrics().value("activity_rows_dropped_total");
    assert!(dropped > 1_000, "{dropped}");
    assert!(broker.metrics().value("activity_spool_bytes") <= 1 << 20);
    broker.wait_for_log("has no room on the disk");
    server.thaw();
    wait_until_written(&broker);
    assert_eq!(broker.count_in_log("has no room on the disk"), 1);
    // Behind the gap, so that it is known where it ends.
    come_and_go(&broker, 1);
    wait_until_written(&broker);
    let dropped = broker.metrics().value("activity_rows_dropped_total");
    expect(&server, DATABASE, NUMBERS, &noted(&broker).to_string());
    expect_all_accounted_for(&server);
    let gaps = "SELECT sum(count) FROM mqtt_log.gap WHERE reason = 'there was no room for them'";
    expect(&server, DATABASE, gaps, &dropped.to_string());
}

#[test]
fn without_a_place_on_the_disk_rows_wait_in_memory() {
    let Some(server) = Postgres::start() else { return };
    let database = server.database(DATABASE);
    let broker = Broker::start_with(|directory| {
        fs::write(directory.join("activity-spool"), "in the way").unwrap();
        ["--db", &database, "--admin-port", "0"].map(str::to_owned).into()
    });
    broker.wait_for_log("accepts connections");
    super::written(&broker, 1);
    server.freeze();
    come_and_go(&broker, 50);
    // Long enough for rows to have been kept, had there been a place.
    broker.wait_for_log("the activity log is not written");
    server.thaw();
    super::written(&broker, 101);
    expect(&server, DATABASE, NUMBERS, "101");
    expect_all_accounted_for(&server);
    assert_eq!(broker.count_in_log("there is no place on the disk"), 1);
    assert_eq!(broker.metrics().value("activity_rows_spooled_total"), 0);
}

/// Server and broker are killed in turns while clients come and go.
#[test]
fn whoever_is_killed_every_row_is_there_once_or_in_a_gap() {
    let Some(mut server) = Postgres::start() else { return };
    let mut broker = start(&server, &["--activity-publishes", "t/#"]);
    for round in 0..4 {
        broker.wait_for_log("accepts connections");
        publish(&broker, 3_000);
        match round % 2 {
            0 => server.kill(),
            _ => server.freeze(),
        }
        publish(&broker, 3_000);
        // Whatever it is at: some rows are on their way, some on the disk, some in memory.
        broker.kill();
        if round % 2 == 0 {
            server.start_again();
        }
        server.thaw();
        broker.start_again();
    }
    broker.wait_for_log("accepts connections");
    wait_until_written(&broker);
    let open = "SELECT count(*) FROM mqtt_log.writer WHERE NOT is_complete";
    expect(&server, DATABASE, open, "1");
    assert!(broker.terminate().success());
    let starts = "SELECT count(*) FROM mqtt_log.writer WHERE is_complete";
    expect(&server, DATABASE, starts, "5");
    expect_all_accounted_for(&server);
    let ends = "SELECT count(*) FROM mqtt_log.gap WHERE last IS NULL";
    expect(&server, DATABASE, ends, "4");
    let last = "SELECT kind FROM mqtt_log.event ORDER BY at DESC, number DESC LIMIT 1";
    expect(&server, DATABASE, last, "stopped");
}
