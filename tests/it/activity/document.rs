//! `docs/ACTIVITY.md` has queries and what they answer: each is asked of what a broker has written, and
//! answers that. `UPDATE_EXPECT=1` writes the answers down anew.
//!
//! Moments and addresses are made those of the document: rows stand a second apart, connections come from
//! addresses of their own. All else is as the broker has written it.

use std::fs;
use std::path::PathBuf;

use mqttzoo::auth::passwd::set_password;

use super::expect;
use crate::conformance::{Client, Connect, Stage, Version, kind};
use crate::harness::{Broker, Postgres};

#[test]
fn the_document_has_the_answers_to_its_questions() {
    let Some(server) = Postgres::shared() else { return };
    let connection = server.fresh_database();
    let database = connection.rsplit_once("dbname=").unwrap().1;
    let mut broker = Broker::start_with(|directory| {
        let (rules, users) = (directory.join("rules"), directory.join("users"));
        fs::write(&rules, RULES).unwrap();
        set_password(&users, "alice", b"wonder").unwrap();
        let files = [("--acl-file", rules), ("--password-file", users)];
        let files: Vec<_> = files
            .into_iter()
            .flat_map(|(option, file)| [option.to_owned(), file.display().to_string()])
            .collect();
        let place = ["--db", &connection, "--name", "broker-1"].map(str::to_owned);
        [&files[..], &place, &OPTIONS.map(str::to_owned)].concat()
    });
    let _sensor = play(&mut broker, server, database);
    server.query(database, AS_DOCUMENTED);
    let minute = server.query(database, MINUTE);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ACTIVITY.md");
    let document = fs::read_to_string(&path).unwrap();
    let answered = with_answers(&document, |sql| {
        let answer = server.table(database, &sql.replace(DOCUMENTED, &minute));
        answer.replace(&minute, DOCUMENTED)
    });
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, answered).unwrap();
        return;
    }
    assert!(document.matches("```sql").count() > 8, "there are questions");
    assert_eq!(document, answered, "UPDATE_EXPECT=1 writes it down");
}

/// The document with what is answered now behind each query.
fn with_answers(document: &str, ask: impl Fn(&str) -> String) -> String {
    let (mut written, mut rest) = (String::new(), document);
    while let Some((before, behind)) = rest.split_once("```sql\n") {
        let (sql, behind) = behind.split_once("```\n").expect("a block has an end");
        let answers: Vec<_> = sql.split_inclusive(";\n").map(&ask).collect();
        let answers = answers.join("\n");
        written += &[before, "```sql\n", sql, "```\n\n```text\n", &answers, "```\n"].concat();
        let former = behind.strip_prefix("\n```text\n");
        let without = former.map(|it| it.split_once("```\n").expect("a block has an end").1);
        rest = without.unwrap_or(behind);
    }
    written + rest
}

/// What there is to ask for. Each step is in the log before the next one begins. The sensor stays.
fn play(broker: &mut Broker, server: &Postgres, database: &str) -> Client {
    super::written(broker, 1);
    broker.kill();
    broker.start_again();
    let see = |kind: &str, count: u32| {
        let sql = format!("SELECT count(*) FROM mqtt_log.event WHERE kind = '{kind}'");
        expect(server, database, &sql, &count.to_string());
    };
    see("started", 2);
    let mut stage = broker.stage(Version::V5);
    stage.unique.clear();
    let mut sensor = stage.enter(&with_password(stage.connect("sensor-7"), "wonder")).unwrap();
    let mut display = stage.client("display").unwrap();
    display.subscribe("plant/+/alarm", 1).unwrap();
    let mut archive = stage.enter(&stage.connect("archive").kept()).unwrap();
    archive.subscribe("plant/#", 1).unwrap();
    archive.leave().unwrap();
    see("disconnected", 1);
    for (id, payload) in (1..).zip(["21.5 C", "too hot: \u{1f525}", "nobody takes it"]) {
        let message = stage.message("plant/1/alarm", payload).qos(1, id);
        sensor.send(&message.bytes());
        let answer = sensor.expect_ack(kind::PUBACK, id).unwrap();
        assert_eq!(answer.code, if id < 3 { 0 } else { 0x97 });
    }
    see("publish_refused", 1);
    for _ in 0..2 {
        let message = display.message().unwrap();
        display.settle(&message).unwrap();
    }
    let denied = display.subscribe_all(&[], &[("secret/#", 0)]).unwrap().codes;
    assert_eq!(denied, [0x87]);
    see("denied", 1);
    display.subscribe("plant/2/+", 0).unwrap();
    display.unsubscribe(&["plant/2/+"]).unwrap();
    // It acknowledges nothing more: of three there is room for two.
    display.subscribe("note", 1).unwrap();
    for text in ["one", "two", "three"] {
        sensor.publish("note", text, 1).unwrap();
    }
    for _ in 0..2 {
        display.message().unwrap();
    }
    refused(&stage);
    see("refused", 1);
    for round in 0..5 {
        stage.client("meter").unwrap().leave().unwrap();
        see("disconnected", 2 + round);
    }
    broker.admin("DELETE", "/clients/display");
    display.refused(&[0x98]).unwrap();
    see("disconnected", 7);
    see("admin", 1);
    sensor
}

/// Somebody who does not know the password.
fn refused(stage: &Stage) {
    let mallory = with_password(stage.connect("sensor-7"), "wonde");
    let mut client = stage.open().unwrap();
    client.send(&mallory.bytes());
    assert_eq!(client.expect(kind::CONNACK).unwrap().reason().unwrap().code, 0x86);
    client.closed().unwrap();
}

fn with_password(connect: Connect, password: &str) -> Connect {
    Connect { user_name: Some("alice".into()), password: Some(password.into()), ..connect }
}

const RULES: &str = "topic readwrite plant/#
topic readwrite note
user alice
topic readwrite plant/#
topic readwrite note
";
const OPTIONS: [&str; 10] = [
    "--allow-anonymous",
    "true",
    "--activity-publishes",
    "plant/#",
    "--threads",
    "1",
    "--queue-messages-max",
    "2",
    "--admin-port",
    "0",
];

/// The minute of the document.
const DOCUMENTED: &str = "2026-11-21 12:00";
/// Rows a second apart from the beginning of a minute on, of the day of which there is a partition. What
/// an operator does is written by another thread than what comes of it: it goes last.
const AS_DOCUMENTED: &str = "
    CREATE TEMPORARY TABLE moment AS SELECT e.boot, e.number,
        greatest(date_trunc('minute', first.at) - interval '5 minutes', date_trunc('day', first.at))
        + row_number() OVER (ORDER BY w.since, e.kind = 'admin', e.number) * interval '1 second' AS at
        FROM mqtt_log.event AS e JOIN mqtt_log.writer AS w USING (boot),
        (SELECT min(at) AS at FROM mqtt_log.event) AS first;
    UPDATE mqtt_log.event AS e SET at = moment.at FROM moment
        WHERE e.boot = moment.boot AND e.number = moment.number;
    UPDATE mqtt_log.writer SET since =
        (SELECT min(at) FROM mqtt_log.event WHERE event.boot = writer.boot);
    UPDATE mqtt_log.gap SET at = (SELECT max(since) FROM mqtt_log.writer);
    UPDATE mqtt_log.event SET address = known.address FROM (
        SELECT address AS former, '192.0.2.' || row_number() OVER (ORDER BY min(at)) || ':50000' AS address
        FROM mqtt_log.event WHERE address IS NOT NULL GROUP BY event.address) AS known
        WHERE event.address = former;";
const MINUTE: &str = "SELECT to_char(min(at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
    FROM mqtt_log.event";
