//! The activity log: what a broker writes down of its clients, asked of a real PostgreSQL.

mod document;
mod released;
mod spool;

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::conformance::Version;
use crate::harness::{Broker, Ensemble, Postgres, Ttl};

/// A broker that writes its log into a fresh database of the shared server, and the database's name.
fn start(server: &Postgres, arguments: &[&str]) -> (Broker, String) {
    let connection = server.fresh_database();
    let name = connection.rsplit_once("dbname=").unwrap().1.to_owned();
    let place = ["--db", &connection, "--name", "b1", "--admin-port", "0"];
    (Broker::start(&[&place, arguments].concat()), name)
}

/// Asks until the answer is as it should be.
#[track_caller]
fn expect(server: &Postgres, database: &str, sql: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = server.query(database, sql);
        if answer == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}\n{answer}\ninstead of\n{expected}");
        std::thread::yield_now();
    }
}

fn written(broker: &Broker, at_least: u64) {
    broker.wait_for_metric("activity_rows_written_total", |rows| rows >= at_least);
}

#[test]
fn comings_and_goings_are_written_down() {
    let Some(server) = Postgres::shared() else { return };
    let (broker, database) = start(server, &["--activity-publishes", "t/#"]);
    let stage = broker.stage(Version::V5);
    let mut client = stage.client("client").unwrap();
    client.subscribe("t/#", 1).unwrap();
    client.subscribe("gone", 2).unwrap();
    client.unsubscribe(&["gone"]).unwrap();
    client.publish("t/x", "hello", 0).unwrap();
    client.receive("t/x", "hello", 0).unwrap();
    client.publish("not/told", "hello", 0).unwrap();
    let name = stage.client_id("client");

    // started, connected, 2 subscribed, unsubscribed, published.
    written(&broker, 6);
    let ask = |sql: &str, expected: &str| {
        expect(server, &database, &sql.replace("NAME", &name), expected);
    };
    let kinds = "SELECT string_agg(kind, ' ' ORDER BY number) FROM mqtt_log.event";
    ask(kinds, "started connected subscribed subscribed unsubscribed published");
    ask("SELECT client_id = 'NAME', broker, until IS NULL FROM mqtt_log.connection", "t|b1|t");
    ask("SELECT count(*) FROM mqtt_log.connected WHERE client_id = 'NAME'", "1");
    ask("SELECT topic, qos FROM mqtt_log.subscription WHERE client_id = 'NAME'", "t/#|1");
    let publish = "SELECT topic, qos, bytes, convert_from(preview, 'UTF8') FROM mqtt_log.event
        WHERE kind = 'published'";
    ask(publish, "t/x|0|5|hello");

    client.leave().unwrap();
    ask("SELECT count(*) FROM mqtt_log.connected", "0");
    let ended = "SELECT reason_code, reason <> '' FROM mqtt_log.connection WHERE until IS NOT NULL";
    ask(ended, "0|t");
    ask("SELECT connections FROM mqtt_log.client WHERE client_id = 'NAME'", "1");
    for _ in 0..4 {
        stage.client("client").unwrap().cut().unwrap();
    }
    ask("SELECT connections FROM mqtt_log.flapping WHERE client_id = 'NAME'", "5");
}

#[test]
fn one_publish_in_so_many_stands_for_all_of_them() {
    let Some(server) = Postgres::shared() else { return };
    let samples = ["--activity-samples", "10:t/some/#", "--activity-samples", "0:t/none"];
    let all = ["--activity-publishes", "t/#", "--threads", "1"];
    let (broker, database) = start(server, &[samples, all].concat());
    let stage = broker.stage(Version::V5);
    let mut client = stage.client("client").unwrap();
    let publishes = |topic: &str, payload: &[u8], count: usize| {
        stage.message(topic, payload).bytes().repeat(count)
    };
    client.send(&publishes("t/some/x", b"12345", 95));
    client.send(&publishes("t/none", b"12345", 10));
    // Not a text, and longer than what is kept of it.
    client.send(&publishes("t/all", &[0xff; 300], 3));
    client.ping().unwrap();
    // started, connected, ten of 95, three.
    written(&broker, 15);
    let ask = |sql: &str, expected: &str| expect(server, &database, sql, expected);
    let topics = "SELECT topic, publishes, bytes, publishers, owner = (SELECT client_id FROM
        mqtt_log.connected) FROM mqtt_log.topic ORDER BY topic";
    ask(topics, "t/all|3|900|1|t\nt/some/x|100|500|1|t");
    let preview = "SELECT DISTINCT bytes, preview = decode(repeat('ff', 256), 'hex')
        FROM mqtt_log.event WHERE topic = 't/all'";
    ask(preview, "300|t");
}

#[test]
fn subscriptions_have_an_end_and_filters_match() {
    let Some(server) = Postgres::shared() else { return };
    let (broker, database) = start(server, &[]);
    let ask = |sql: &str, expected: &str| expect(server, &database, sql, expected);
    let stage = broker.stage(Version::V5);
    let mut client = stage.client("client").unwrap();
    client.subscribe("plant/+/alarm", 1).unwrap();
    client.subscribe("gone", 2).unwrap();
    client.unsubscribe(&["gone"]).unwrap();
    ask("SELECT topic FROM mqtt_log.subscription", "plant/+/alarm");
    let at_all = "SELECT topic, until IS NULL FROM mqtt_log.subscription_history ORDER BY since";
    ask(at_all, "plant/+/alarm|t\ngone|f");
    let of =
        "SELECT count(*) FROM mqtt_log.subscription WHERE mqtt_log.matches(topic, 'plant/1/alarm')";
    ask(of, "1");
    client.leave().unwrap();
    ask(at_all, "plant/+/alarm|f\ngone|f");
    for (filter, topic, matches) in [
        ("a/+/c", "a/b/c", "t"),
        ("a/+/c", "a/b/d/c", "f"),
        ("a/#", "a", "t"),
        ("a/#", "a/b/c", "t"),
        ("a/#", "ab", "f"),
        ("#", "a/b", "t"),
        ("#", "$SYS/x", "f"),
        ("+/x", "$SYS/x", "f"),
        ("$SYS/#", "$SYS/x", "t"),
        ("$share/g/a/+", "a/b", "t"),
        ("a.b", "a.b", "t"),
        ("a.b", "axb", "f"),
        ("a$b/[x]", "a$b/[x]", "t"),
        ("a\\b", "a\\b", "t"),
    ] {
        ask(&format!("SELECT mqtt_log.matches('{filter}', '{topic}')"), matches);
    }
}

#[test]
fn what_a_queue_has_dropped_is_written_down_when_its_connection_and_its_session_end() {
    let Some(server) = Postgres::shared() else { return };
    let bound = ["--queue-messages-max", "2", "--overflow-persistent", "drop_oldest"];
    let (broker, database) = start(server, &bound);
    let stage = broker.stage(Version::V5);
    let mut sleeper = stage.enter(&stage.connect("sleeper").kept()).unwrap();
    sleeper.subscribe("t", 1).unwrap();
    sleeper.leave().unwrap();
    let mut publisher = stage.client("publisher").unwrap();
    for number in 0..5 {
        publisher.publish("t", &number.to_string(), 1).unwrap();
    }
    broker.wait_for_metric("deliveries_dropped_total", |dropped| dropped == 3);
    let name = stage.client_id("sleeper");
    let ask = |sql: &str, expected: &str| {
        expect(server, &database, &sql.replace("NAME", &name), expected);
    };
    let counts = "SELECT string_agg(kind || coalesce(' ' || count, ''), ', ' ORDER BY number)
        FROM mqtt_log.event WHERE client_id = 'NAME' AND kind IN ('disconnected', 'session_ended')";
    ask(counts, "disconnected");
    let mut sleeper = stage.enter(&stage.connect("sleeper").kept()).unwrap();
    for payload in ["3", "4"] {
        sleeper.receive("t", payload, 1).unwrap();
    }
    sleeper.leave().unwrap();
    ask(counts, "disconnected, disconnected 3");
    // A clean start ends it.
    stage.client("sleeper").unwrap().leave().unwrap();
    ask(counts, "disconnected, disconnected 3, session_ended 3, disconnected");
}

#[test]
fn what_an_operator_does_is_written_down() {
    let Some(server) = Postgres::shared() else { return };
    let (broker, database) = start(server, &[]);
    let stage = broker.stage(Version::V5);
    let mut client = stage.client("client").unwrap();
    let name = stage.client_id("client");
    let (status, _) = broker.ask_admin("DELETE", &format!("/clients/{name}")).unwrap();
    assert_eq!(status, 204);
    client.refused(&[0x98]).unwrap();
    let acts = "SELECT client_id, reason FROM mqtt_log.event WHERE kind = 'admin'";
    expect(server, &database, acts, &format!("{name}|the session was ended by an operator"));
}

#[test]
fn what_becomes_of_the_brokers_of_a_cluster_is_written_down() {
    let Some(server) = Postgres::shared() else { return };
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    let arguments = ["--zookeeper", &zookeeper, "--link-port", "0"];
    let (broker, database) = start(server, &arguments);
    broker.wait_for_log("accepts connections");
    let said = "SELECT string_agg(client_id || ' ' || reason, ', ' ORDER BY reason)
        FROM mqtt_log.event WHERE kind = 'cluster' AND reason !~ 'now$'";
    expect(server, &database, said, "b1 it is part of the cluster");
    let leads = "SELECT client_id FROM mqtt_log.event WHERE reason = 'it leads now'";
    expect(server, &database, leads, "b1");
}

#[test]
fn what_a_killed_broker_left_open_is_closed_by_its_next_start() {
    let Some(server) = Postgres::shared() else { return };
    let (mut broker, database) = start(server, &[]);
    let client = broker.stage(Version::V5).client("client").unwrap();
    written(&broker, 2);
    expect(server, &database, "SELECT count(*) FROM mqtt_log.connected", "1");
    broker.kill();
    drop(client);
    broker.start_again();
    written(&broker, 1);
    expect(server, &database, "SELECT count(*) FROM mqtt_log.connected", "0");
    let reason = "SELECT reason FROM mqtt_log.connection";
    expect(server, &database, reason, "the broker ended without a word");
    assert!(broker.terminate().success());
    let last = "SELECT kind FROM mqtt_log.event ORDER BY at DESC, number DESC LIMIT 1";
    expect(server, &database, last, "stopped");
}

/// Rows go into the ring while the server does not answer, and are written once when it does.
#[test]
fn a_stopped_server_holds_nobody_up_and_gets_every_row_once() {
    let Some(server) = Postgres::start() else { return };
    let database = server.database("postgres");
    let arguments = ["--db", &database, "--admin-port", "0"];
    let broker = Broker::start(&arguments);
    broker.wait_for_log("accepts connections");
    written(&broker, 1);
    server.freeze();
    let stage = broker.stage(Version::V5);
    for number in 0..300 {
        let client = stage.client(&format!("c{number}")).unwrap();
        client.leave().unwrap();
    }
    server.thaw();
    written(&broker, 601);
    let rows = "SELECT count(*), count(DISTINCT number), max(number) FROM mqtt_log.event";
    expect(&server, "postgres", rows, "601|601|601");
    assert_eq!(broker.metrics().value("activity_rows_dropped_total"), 0);
}

/// After a failover the server that answers may be read-only for a while: rows were given up after four
/// tries, while the ring was all but empty.
#[test]
fn a_server_that_may_not_be_written_to_gets_every_row_once_it_may() {
    let Some(server) = Postgres::shared() else { return };
    let (broker, database) = start(server, &[]);
    broker.wait_for_log("accepts connections");
    written(&broker, 1);
    let set = |word: &str| {
        let sql = format!("ALTER DATABASE {database} SET default_transaction_read_only = {word}");
        server.query("postgres", &sql);
    };
    set("on");
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = '{database}'"
    );
    server.query("postgres", &end);
    broker.stage(Version::V5).client("client").unwrap().leave().unwrap();
    broker.wait_for_metric("activity_failures_total", |failures| failures >= 5);
    set("off");
    written(&broker, 3);
    let rows = "SELECT count(*), count(DISTINCT number), max(number) FROM mqtt_log.event";
    expect(server, &database, rows, "3|3|3");
    assert_eq!(broker.metrics().value("activity_rows_dropped_total"), 0);
}

#[test]
fn days_that_are_too_old_are_removed_whole() {
    let Some(server) = Postgres::shared() else { return };
    let (mut broker, database) = start(server, &["--activity-days", "7"]);
    written(&broker, 1);
    broker.terminate();
    let days = "SELECT count(*) FROM pg_tables WHERE schemaname = 'mqtt_log'
        AND tablename LIKE 'event_2%'";
    expect(server, &database, days, "1");
    server.query(
        &database,
        "CREATE TABLE mqtt_log.event_20200101 PARTITION OF mqtt_log.event
         FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00')",
    );
    expect(server, &database, days, "2");
    broker.start_again();
    expect(server, &database, days, "1");
}

#[test]
fn without_a_server_it_goes_into_a_file() {
    let mut broker = Broker::start(&["--activity-log", "file", "--admin-port", "0"]);
    broker.stage(Version::V5).client("client").unwrap().leave().unwrap();
    written(&broker, 3);
    assert!(broker.terminate().success());
    let file = Connection::open(broker.directory().join("activity.sqlite")).unwrap();
    let ask = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let kinds = "SELECT group_concat(kind, ' ') FROM (SELECT kind FROM event ORDER BY number)";
    assert_eq!(ask(kinds), "started connected disconnected stopped");
    assert_eq!(ask("SELECT count(*) || '' FROM connection WHERE until >= since"), "1");
}
