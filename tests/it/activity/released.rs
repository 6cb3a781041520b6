//! A log of the first released version, with what that has written: its rows stay, and the views of now
//! show them.

use super::{expect, written};
use crate::conformance::Version;
use crate::harness::{Broker, Postgres};

/// What was released, in its words: a step is never changed.
const STEPS: [&str; 2] = [
    include_str!("../../../src/activity/schema.sql"),
    include_str!("../../../src/activity/schema_2.sql"),
];

#[test]
fn a_log_of_every_released_version_is_taken_over_with_its_rows() {
    let Some(server) = Postgres::shared() else { return };
    for version in 1..=STEPS.len() {
        let connection = server.fresh_database();
        let database = connection.rsplit_once("dbname=").unwrap().1;
        let steps = STEPS[..version].join("\n");
        server.query(database, &format!("{BEGIN}{steps}\n{ROWS}"));
        let note = "INSERT INTO mqtt_log.migration SELECT generate_series(1, ";
        server.query(database, &format!("{note}{version})"));

        let broker = Broker::start(&["--db", &connection, "--name", "b1", "--admin-port", "0"]);
        broker.stage(Version::V5).client("new").unwrap().leave().unwrap();
        written(&broker, 3);
        let ask = |sql: &str, expected: &str| expect(server, database, sql, expected);
        ask("SELECT max(version) FROM mqtt_log.migration", &STEPS.len().to_string());
        ask("SELECT count(*) FROM mqtt_log.event WHERE boot = 1", "3");
        let left =
            "SELECT until IS NOT NULL, reason FROM mqtt_log.connection WHERE client_id = 'old'";
        ask(left, "t|the broker ended without a word");
        ask("SELECT topic, qos FROM mqtt_log.subscription WHERE client_id = 'old'", "t/#|1");
        ask("SELECT address FROM mqtt_log.client WHERE client_id = 'old'", "192.0.2.1:5000");
        ask("SELECT kind FROM mqtt_log.event WHERE boot <> 1 ORDER BY number LIMIT 1", "started");
        ask("SELECT connections FROM mqtt_log.client WHERE client_id LIKE 'new%'", "1");
    }
}

const BEGIN: &str = "SET client_min_messages TO error; CREATE SCHEMA mqtt_log;
    CREATE TABLE mqtt_log.migration (version BIGINT);\n";
/// A broker that was killed today while a client was there.
const ROWS: &str = "DO $$ BEGIN EXECUTE format(
        'CREATE TABLE mqtt_log.event_%s PARTITION OF mqtt_log.event FOR VALUES FROM (%L) TO (%L)',
        to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'),
        to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00'),
        to_char((now() + interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD 00:00:00+00')); END $$;
    INSERT INTO mqtt_log.writer (boot, broker, since, number) VALUES (1, 'b1', now(), 3);
    INSERT INTO mqtt_log.event (at, broker, boot, number, kind, client_id, address, topic, qos) VALUES
        (now(), 'b1', 1, 1, 'started', NULL, NULL, NULL, NULL),
        (now(), 'b1', 1, 2, 'connected', 'old', '192.0.2.1:5000', NULL, NULL),
        (now(), 'b1', 1, 3, 'subscribed', 'old', NULL, 't/#', 1);";
