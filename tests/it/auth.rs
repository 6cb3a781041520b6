//! Who may come in and what they may do: every refusal is said, and the files are read again.

use std::fs;
use std::path::PathBuf;

use mqttzoo::auth::passwd::{remove_user, set_password};
use rustix::process::Signal;

use crate::cli::{PUB, SUB, run};
use crate::conformance::bytes::Will;
use crate::conformance::{Client, Connect, Stage, Version, kind};
use crate::harness::{Authority, Broker};

const RULES: &str = "\
topic read news/#

user alice
topic readwrite home/#
topic deny home/safe

pattern readwrite mine/%u/#
pattern write devices/%c/state
";

/// A broker that knows alice and what she may do.
fn guarded(further: &[&str]) -> Broker {
    Broker::start_with(|directory| {
        let (users, rules) = (directory.join("users"), directory.join("rules"));
        set_password(&users, "alice", b"wonder").unwrap();
        fs::write(&rules, RULES).unwrap();
        let files = ["--password-file", users.to_str().unwrap(), "--acl-file"];
        let files = [&files[..], &[rules.to_str().unwrap(), "--admin-port", "0"], further];
        files.concat().into_iter().map(str::to_owned).collect()
    })
}

fn file(broker: &Broker, name: &str) -> PathBuf {
    broker.directory().join(name)
}

fn with_password(connect: Connect, user_name: &str, password: &str) -> Connect {
    Connect { user_name: Some(user_name.into()), password: Some(password.into()), ..connect }
}

/// What CONNECT is answered with.
#[track_caller]
fn code(s: &Stage, connect: &Connect) -> u8 {
    let mut client = s.open().unwrap();
    client.send(&connect.bytes());
    let code = client.expect(kind::CONNACK).unwrap().reason().unwrap().code;
    if code != 0 {
        client.closed().unwrap();
    }
    code
}

#[track_caller]
fn alice(s: &Stage, name: &str) -> Client {
    s.enter(&with_password(s.connect(name), "alice", "wonder")).unwrap()
}

#[test]
fn who_is_not_known_is_refused_in_the_words_of_the_version() {
    let broker = guarded(&[]);
    for (version, wrong, not_welcome) in [(Version::V4, 4, 5), (Version::V5, 0x86, 0x87)] {
        let s = broker.stage(version);
        for (user_name, password, expected) in [
            ("alice", "wonder", 0),
            ("alice", "wonde", wrong),
            ("alice", "", wrong),
            ("mallory", "wonder", wrong),
            ("", "wonder", wrong),
        ] {
            let connect = with_password(s.connect("a"), user_name, password);
            assert_eq!(code(&s, &connect), expected, "{version:?} {user_name} {password}");
        }
        let without = Connect { password: None, ..with_password(s.connect("a"), "alice", "") };
        assert_eq!(code(&s, &without), wrong, "{version:?}: no password");
        assert_eq!(code(&s, &s.connect("a")), not_welcome, "{version:?}: nobody");
    }
    let log = broker.log();
    assert!(log.contains("user name or password is wrong") && log.contains("not authorized"));
    assert!(!log.contains("wonder"), "a password is in the log");
    assert_eq!(broker.metrics().value("connects_refused_total"), 12);
}

/// Whether a reason is given in words, too.
#[test]
fn what_is_not_allowed_is_refused_with_0x87() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V5);
    let mut client = alice(&s, "a");
    for (qos, kind) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        for (topic, expected) in [("home/safe", 0x87), ("news/x", 0x87), ("home/x", 0x10)] {
            let id = client.fresh_id();
            client.send(&s.message(topic, "x").qos(qos, id).bytes());
            let answer = client.expect_ack(kind, id).unwrap();
            assert_eq!(answer.code, expected, "{topic} at QoS {qos}");
            assert_eq!(answer.properties.string(0x1F).is_some(), expected == 0x87, "{topic}");
        }
    }
    // Of QoS 0 nobody can be told; it reaches nobody, and the connection stands.
    let pairs = [
        ("home/#", 1),
        ("home/x", 1),
        ("home/safe", 1),
        ("#", 1),
        ("news/#", 1),
        ("mine/alice/a", 1),
        ("mine/bob/a", 1),
        ("$share/g/home/x", 1),
        ("$share/g/home/safe", 1),
        ("devices/+/state", 1),
    ];
    let codes = client.subscribe_all(&[], &pairs).unwrap().codes;
    assert_eq!(codes, [0x87, 1, 0x87, 0x87, 0x87, 1, 0x87, 1, 0x87, 0x87]);
    client.publish("home/safe", "x", 0).unwrap();
    client.publish("home/x", "y", 0).unwrap();
    assert_eq!(client.message().unwrap().text(), "y");
    assert!(broker.metrics().value("publishes_denied_total") >= 5);
}

/// Every refusal was a line: a client that does not stop filled the disk.
#[test]
fn refusals_are_a_line_a_second_and_all_are_counted() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V5);
    let mut client = alice(&s, "a");
    for id in 1..=200 {
        client.send(&s.message("home/safe", "x").qos(1, id).bytes());
        assert_eq!(client.expect_ack(kind::PUBACK, id).unwrap().code, 0x87);
    }
    assert_eq!(broker.metrics().value("publishes_denied_total"), 200);
    let suppressed_then = |broker: &Broker| {
        let log = broker.log();
        let mut lines = log.lines().filter(|line| line.contains("home/safe"));
        lines.next_back().is_some_and(|line| line.contains("suppressed="))
    };
    // The next line tells of those that were none.
    let mut id = 200;
    broker.wait_until("a line about the others", |broker| {
        id += 1;
        client.send(&s.message("home/safe", "x").qos(1, id).bytes());
        client.expect_ack(kind::PUBACK, id).unwrap();
        suppressed_then(broker)
    });
    let lines = broker.count_in_log("home/safe");
    assert!(lines < usize::from(id) / 10, "{lines} lines for {id} refusals");
}

#[test]
fn a_will_that_is_not_allowed_is_refused_with_0x87() {
    let broker = guarded(&[]);
    for (version, expected) in [(Version::V4, 5), (Version::V5, 0x87)] {
        let s = broker.stage(version);
        let connect =
            |topic| with_password(s.connect("a"), "alice", "wonder").will(Will::new(topic, "gone"));
        assert_eq!(code(&s, &connect("home/safe")), expected, "{version:?}");
        assert_eq!(code(&s, &connect("home/x")), 0, "{version:?}");
        let own = format!("devices/{}/state", s.client_id("a"));
        assert_eq!(code(&s, &connect(&own)), 0, "{version:?}");
    }
}

/// A client of 3.1.1 hears 0x80, and of a PUBLISH a close.
#[test]
fn what_is_not_allowed_is_refused_in_the_words_of_3_1_1() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V4);
    let mut client = alice(&s, "a");
    let codes = client.subscribe_all(&[], &[("home/safe", 1), ("home/x", 1)]).unwrap().codes;
    assert_eq!(codes, [0x80, 1]);
    let mut other = alice(&s, "b");
    other.send(&s.message("home/safe", "x").qos(1, 1).bytes());
    other.closed().unwrap();
    client.publish("home/x", "y", 1).unwrap();
    client.receive("home/x", "y", 1).unwrap();
}

/// Where anonymous clients may come in beside others, the rules for nobody apply to them.
#[test]
fn anonymous_clients_have_rules_of_their_own() {
    let broker = guarded(&["--allow-anonymous"]);
    let s = broker.stage(Version::V5);
    let mut nobody = s.client("nobody").unwrap();
    let pairs = [("news/x", 0), ("home/x", 0), ("mine/alice/a", 0)];
    assert_eq!(nobody.subscribe_all(&[], &pairs).unwrap().codes, [0, 0x87, 0x87]);
    nobody.send(&s.message("news/x", "x").qos(1, 7).bytes());
    assert_eq!(nobody.expect_ack(kind::PUBACK, 7).unwrap().code, 0x87);
    assert_eq!(code(&s, &with_password(s.connect("a"), "alice", "wrong")), 0x86);
}

#[test]
fn both_files_are_read_again_on_sighup() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V5);
    let mut client = alice(&s, "a");
    let bob = |password| with_password(s.connect("b"), "bob", password);
    assert_eq!(code(&s, &bob("builder")), 0x86);
    client.subscribe("home/x", 1).unwrap();

    set_password(&file(&broker, "users"), "bob", b"builder").unwrap();
    fs::write(file(&broker, "rules"), "user alice\ntopic write only/this\n").unwrap();
    let told = client.subscribe_all(&[], &[("home/y", 1)]).unwrap().codes;
    assert_eq!(told, [1], "nothing changes before it is asked for");
    reload(&broker, 1);
    assert_eq!(code(&s, &bob("builder")), 0);
    // What the connected client may do has changed with it.
    assert_eq!(client.subscribe_all(&[], &[("home/z", 1)]).unwrap().codes, [0x87]);
    client.send(&s.message("home/x", "x").qos(1, 7).bytes());
    assert_eq!(client.expect_ack(kind::PUBACK, 7).unwrap().code, 0x87);
    client.publish("only/this", "x", 1).unwrap();

    remove_user(&file(&broker, "users"), "bob").unwrap();
    reload(&broker, 2);
    assert_eq!(code(&s, &bob("builder")), 0x86);
}

/// A file with a fault changes nothing, and says where the fault is.
#[test]
fn a_file_with_a_fault_leaves_everything_as_it_was() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V5);
    let mut client = alice(&s, "a");
    fs::write(file(&broker, "users"), "nonsense\n").unwrap();
    fs::write(file(&broker, "rules"), "\ntopci x\n").unwrap();
    reload(&broker, 1);
    let log = broker.log();
    assert!(log.contains("users:1: ") && log.contains("passwords stay as they were"), "{log}");
    assert!(log.contains("rules:2: ") && log.contains("access rules stay as they were"), "{log}");
    client.publish("home/x", "x", 1).unwrap();
    alice(&s, "b").ping().unwrap();
}

/// Sends SIGHUP and waits until the broker has read its files for the `count`th time.
#[track_caller]
fn reload(broker: &Broker, count: usize) {
    broker.signal(Signal::HUP);
    broker.wait_until("it is reloaded", |broker| broker.count_in_log("reloaded") >= count);
}

/// Mutual TLS: the common name is the user name, for the rules too.
#[test]
fn a_certificate_is_as_good_as_a_password() {
    let authority = Authority::new();
    authority.sign("alice");
    let (ca, [cert, cert_file, key, key_file]) =
        (authority.path("ca.pem"), authority.server_arguments());
    let broker = guarded(&["--tls-port", "0", &cert, &cert_file, &key, &key_file, "--cafile", &ca]);
    let port = broker.ports().tls[0].to_string();
    let (own, own_key) = (authority.path("alice.pem"), authority.path("alice.key"));
    let way = ["-p", &port, "--cafile", &ca, "--cert", &own, "--key", &own_key];
    let ran =
        run(PUB, &[&way[..], &["-t", "mine/alice/x", "-m", "hello", "-q", "1", "-r"]].concat());
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let ran = run(SUB, &[&way[..], &["-t", "mine/alice/x", "-C", "1"]].concat());
    assert_eq!(ran.text(), "hello\n", "{}", ran.stderr);
    let ran = run(PUB, &[&way[..], &["-t", "mine/bob/x", "-m", "hello", "-q", "1"]].concat());
    assert_ne!(ran.code(), 0, "{}", ran.stderr);
    assert!(broker.log().contains("user_name=\"alice\""), "{}", broker.log());
}
