//! What the broker says of itself: one structured line for each connect and disconnect.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::conformance::{Connect, Version, prop};
use crate::harness::Broker;

/// The lines of the log, each of which must be an object of its own.
#[track_caller]
fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{line} is not JSON: {error}"));
            assert!(value["timestamp"].is_string() && value["level"].is_string(), "{line}");
            value
        })
        .collect()
}

/// Every way in and out, by clients whose names would break a careless log.
#[test]
fn connects_and_disconnects_are_lines_of_json_with_their_reasons() {
    let broker = Broker::start(&["--log-format", "json", "--keep-alive-max-secs", "1"]);
    let s = broker.stage(Version::V5);
    let strange = "a\"b\\c{}\u{1F980}";
    let enter = |name: &str| s.enter(&Connect { client_id: name.into(), ..s.connect("") });
    enter(strange).unwrap().leave().unwrap();
    enter("with-reason")
        .unwrap()
        .leave_with(&crate::conformance::bytes::disconnect_with(
            0x04,
            &prop::text(prop::REASON_STRING, "off \"to\" bed"),
        ))
        .unwrap();
    let mut old = enter("twice").unwrap();
    let new = enter("twice").unwrap();
    old.refused(&[0x8E]).unwrap();
    new.cut().unwrap();
    let mut bad = enter("bad").unwrap();
    bad.send(&[0xF0, 0]);
    bad.refused(&[0x82]).unwrap();
    let mut silent = enter("silent").unwrap();
    let mut stranger = s.open().unwrap();
    stranger.send(b"\x10\x00");
    stranger.closed().unwrap();
    silent.refused(&[0x8D]).unwrap();
    broker.wait_for_log("nothing came within");

    let lines = lines(&broker.log());
    let of = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"] == message).collect()
    };
    let connects = of("client connected");
    assert_eq!(connects.len(), 6);
    for line in connects {
        assert!(line["client_id"].is_string() && line["session_present"].is_boolean(), "{line}");
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["listener"].as_str().unwrap().starts_with("tcp"), "{line}");
        assert_eq!(line["version"], "5.0", "{line}");
    }
    let disconnects = of("client disconnected");
    let ends: Vec<_> = disconnects
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
            assert!(!text("reason").is_empty(), "{line}");
            (text("client_id"), text("reason_code"), text("reason"))
        })
        .collect();
    let has = |id: &str, code: &str, reason: &str| {
        ends.iter().any(|end| end.0 == id && end.1 == code && end.2.contains(reason))
    };
    assert!(has(strange, "", "good-bye"), "{ends:?}");
    assert!(has("with-reason", "0x04", "off \"to\" bed"), "{ends:?}");
    assert!(has("twice", "0x8e", "took the session over"), "{ends:?}");
    assert!(has("twice", "0x80", "the client closed the connection"), "{ends:?}");
    assert!(has("bad", "0x82", ""), "{ends:?}");
    assert!(has("silent", "0x8d", "keep alive"), "{ends:?}");
    assert_eq!(ends.len(), 6, "{ends:?}");
    assert_eq!(of("connection refused").len(), 1);
}

/// Rotation: the file is renamed, SIGHUP opens a new one, and no line is lost.
#[test]
fn the_log_file_is_opened_anew_on_sighup() {
    let broker = Broker::start_with(|directory| {
        vec!["--log-file".to_owned(), directory.join("broker.log").display().to_string()]
    });
    let s = broker.stage(Version::V5);
    let (file, rotated) =
        (broker.directory().join("broker.log"), broker.directory().join("broker.log.1"));
    let holds = |path: &std::path::Path, text: &str| {
        fs::read_to_string(path).is_ok_and(|log| log.contains(text))
    };
    s.client("before").unwrap().leave().unwrap();
    fs::rename(&file, &rotated).unwrap();
    s.client("meanwhile").unwrap().leave().unwrap();
    broker.wait_until("the old file has it", |_| holds(&rotated, "\"meanwhile"));
    broker.signal(Signal::HUP);
    broker.wait_until("the new file is open", |_| holds(&file, "reloaded"));
    s.client("after").unwrap().leave().unwrap();
    broker.wait_until("the new file has it", |_| holds(&file, "\"after"));
    assert!(holds(&rotated, "\"before") && !holds(&rotated, "\"after"));
    assert!(!holds(&file, "\"meanwhile"));
    assert_eq!(broker.log(), "", "nothing goes to standard error beside");
}
