//! What only our programs print: `--format`, `--stats`, `--message-rate`, shared subscriptions.

use serde_json::{Value, json};

use super::{PUB, Running, SUB, run, run_with};
use crate::harness::Broker;

#[test]
fn json_has_stable_keys_and_survives_any_bytes() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let publish = ["-p", &port, "-t", "a", "-r", "-q", "1", "-Y", "k=v", "--content-type", "t"];
    run_with(PUB, &[&publish[..], &["-s", "--correlation", "c"]].concat(), b"\xff\x00");
    let ran = run(SUB, &["-p", &port, "-t", "a", "-C", "1", "-q", "1", "--format", "json"]);
    let text = ran.text();
    let keys: Vec<_> =
        ["ts", "topic", "qos", "retain", "dup", "mid", "len", "payload_b64", "props"]
            .map(|key| text.find(&format!("\"{key}\":")).unwrap())
            .to_vec();
    assert!(keys.is_sorted(), "{text}");
    let mut object: Value = serde_json::from_str(&text).unwrap();
    object.as_object_mut().unwrap().remove("ts");
    assert_eq!(
        object,
        json!({
            "topic": "a", "qos": 1, "retain": true, "dup": false, "mid": 1, "len": 2,
            "payload_b64": "/wA=",
            "props": {
                "content-type": "t", "correlation-data": "c", "user-properties": [["k", "v"]]
            },
        })
    );
}

#[test]
fn what_sub_prints_as_json_pub_sends_again() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let lines = b"{\"topic\":\"x/1\",\"payload\":\"hi\",\"retain\":true}\n\
                  {\"topic\":\"x/2\",\"payload_b64\":\"/w==\",\"retain\":true,\"qos\":2}\n";
    assert_eq!(run_with(PUB, &["-p", &port, "--json-lines"], lines).code(), 0);
    for (topic, payload) in [("x/1", &b"hi"[..]), ("x/2", b"\xff")] {
        let ran = run(SUB, &["-p", &port, "-t", topic, "-C", "1", "--format", "raw"]);
        assert_eq!(ran.stdout, payload);
    }
}

#[test]
fn without_a_topic_both_meet_at_the_same_one() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    assert_eq!(run(PUB, &["-p", &port, "-m", "hello", "-r"]).code(), 0);
    assert_eq!(run(SUB, &["-p", &port, "-C", "1", "-v"]).text(), "/Testing hello\n");
}

#[test]
fn retained_messages_can_be_listed_and_deleted() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    for topic in ["x/a", "x/b", "x/c"] {
        run(PUB, &["-p", &port, "-t", topic, "-m", "old", "-r", "-q", "1"]);
    }
    // The deletions come back as messages that are not retained: the first one is the end.
    let args =
        ["-p", &port, "-t", "x/#", "-T", "x/c", "--remove-retained", "--retained-only", "-v"];
    let ran = run(SUB, &args);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let printed = ran.text();
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["x/a old", "x/b old"]);
    let left = run(SUB, &["-p", &port, "-t", "x/#", "-W", "0.3", "-v"]);
    assert_eq!((left.code(), left.text().as_str()), (5, "x/c old\n"));
}

#[test]
fn an_infinite_session_may_be_asked_for_by_its_sign() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let args = ["-p", &port, "-t", "a", "-q", "1", "-i", "me", "-c", "-x"];
    for forever in ["-1", "\u{221e}", "4294967295"] {
        let ran = run(SUB, &[&args[..], &[forever, "-E"]].concat());
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
    }
    assert_eq!(run(SUB, &[&args[..], &["soon"]].concat()).code(), 1);
}

#[test]
fn payloads_print_as_hex_and_base64() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    run(PUB, &["-p", &port, "-t", "a", "-m", "hi?", "-r"]);
    for (format, printed) in [("hex", "a 68693f\n"), ("base64", "a aGk/\n"), ("plain", "a hi?\n")] {
        let ran = run(SUB, &["-p", &port, "-t", "a", "-C", "1", "-v", "--format", format]);
        assert_eq!(ran.text(), printed);
    }
}

#[test]
fn figures_come_in_one_line_of_json_on_stderr() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let args =
        ["-p", &port, "-t", "a", "--size", "10", "--repeat", "50", "-q", "1", "--stats", "json"];
    let ran = run(PUB, &args);
    let figures: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((figures["messages"].as_u64(), figures["bytes"].as_u64()), (Some(50), Some(500)));
    let (p50, p99) = (&figures["acknowledged_p50_micros"], &figures["acknowledged_p99_micros"]);
    assert!(p50.as_u64().unwrap() > 0 && p99.as_u64() >= p50.as_u64(), "{figures}");
}

#[test]
fn a_rate_paces_the_messages() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let args =
        ["-p", &port, "-t", "a", "-m", "x", "--repeat", "11", "--rate", "50", "--stats", "json"];
    let figures: Value = serde_json::from_str(&run(PUB, &args).stderr).unwrap();
    // Ten intervals of 20 ms lie between eleven messages.
    assert!(figures["seconds"].as_f64().unwrap() >= 0.2, "{figures}");
}

#[test]
fn members_of_a_group_share_the_messages() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let args = ["-p", &port, "-t", "jobs", "-q", "1", "--share", "workers", "-d"];
    let mut members = [Running::start(SUB, &args), Running::start(SUB, &args)];
    for member in &mut members {
        member.read_error_until("received SUBACK");
    }
    run_with(PUB, &["-p", &port, "-t", "jobs", "-q", "1", "-l"], b"1\n2\n3\n4\n5\n6\n");
    // A member's output is complete once the broker has its acknowledgement of the last message.
    let printed: Vec<String> = members
        .into_iter()
        .map(|member| {
            run(PUB, &["-p", &port, "-t", "unrelated", "-m", "x", "-q", "1"]);
            member.signal(rustix::process::Signal::INT);
            member.finish().text()
        })
        .collect();
    let mut lines: Vec<_> = printed.iter().flat_map(|text| text.lines()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1", "2", "3", "4", "5", "6"], "{printed:?}");
}

#[test]
fn the_message_rate_counts_every_second() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut running = Running::start(SUB, &["-p", &port, "-t", "a", "-d", "--message-rate"]);
    running.read_error_until("received SUBACK");
    run(PUB, &["-p", &port, "-t", "a", "-m", "x", "--repeat", "7"]);
    let mut sum = 0;
    while sum < 7 {
        sum += running.read_until("\n").trim().parse::<u64>().unwrap();
    }
    assert_eq!(sum, 7);
}
