//! A Session is its user's: who knows no more than its Client Identifier gets nothing of it.
//!
//! Its story: whoever was let in at all got the Session of any Client Identifier, with what waited in
//! it and what came later, of topics the ACL file had forbidden to him; rules are looked at when a
//! client subscribes, and that another one had done.

use std::fs;

use mqttzoo::auth::passwd::set_password;

use crate::conformance::{Client, Connect, Stage, Version, kind};
use crate::harness::{Broker, free_port};

const RULES: &str = "\
topic readwrite open/#
user alice
topic readwrite secret/#
user bob
topic readwrite pub/#
";

fn guarded(further: &[&str]) -> Broker {
    Broker::start_with(|directory| {
        let (users, rules) = (directory.join("users"), directory.join("rules"));
        set_password(&users, "alice", b"a").unwrap();
        set_password(&users, "bob", b"b").unwrap();
        fs::write(&rules, RULES).unwrap();
        let files = ["--password-file", users.to_str().unwrap(), "--acl-file"];
        let files = [&files[..], &[rules.to_str().unwrap(), "--admin-port", "0"], further];
        files.concat().into_iter().map(str::to_owned).collect()
    })
}

fn of(user: Option<&str>, connect: Connect) -> Connect {
    let Some(user) = user else { return connect };
    let password = user.as_bytes()[..1].to_vec();
    Connect { user_name: Some(user.into()), password: Some(password), ..connect }
}

fn alice(connect: Connect) -> Connect {
    of(Some("alice"), connect)
}

fn bob(connect: Connect) -> Connect {
    of(Some("bob"), connect)
}

#[track_caller]
fn refused(s: &Stage, connect: &Connect) {
    let expected = if s.is_v5() { 0x87 } else { 5 };
    let mut client = s.open().unwrap();
    client.send(&connect.bytes());
    let reason = client.expect(kind::CONNACK).unwrap().reason().unwrap();
    assert_eq!((reason.code, reason.session_present), (expected, false));
    client.closed().unwrap();
}

fn check_parked(version: Version) {
    let broker = guarded(&[]);
    let s = broker.stage(version);
    let mut device = s.enter(&alice(s.connect("dev").kept())).unwrap();
    device.subscribe("secret/#", 1).unwrap();
    device.leave().unwrap();
    let mut other = s.enter(&alice(s.connect("other"))).unwrap();
    other.publish("secret/x", "queued", 1).unwrap();
    for connect in [s.connect("dev").kept(), s.connect("dev")] {
        refused(&s, &bob(connect));
    }
    let mut device = s.enter(&alice(s.connect("dev").kept())).unwrap();
    assert!(device.connack.session_present);
    device.receive("secret/x", "queued", 1).unwrap();
    assert_eq!(broker.metrics().value("connects_to_foreign_sessions_total"), 2);
    let log = broker.log();
    let line = log.lines().find(|line| line.contains("WARN") && line.contains("another user"));
    let line = line.expect("nothing in the log");
    for part in ["bob", "alice", &s.client_id("dev"), "DELETE /clients/"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_parked_session_is_refused_to_another_user_and_kept_for_its_own() {
    check_parked(Version::V4);
    check_parked(Version::V5);
}

#[test]
fn a_connection_is_not_disturbed_by_another_user() {
    let broker = guarded(&[]);
    for version in [Version::V4, Version::V5] {
        let s = broker.stage(version);
        for connect in [s.connect("live"), s.connect("live").kept()] {
            let mut device = s.enter(&alice(connect.clone())).unwrap();
            device.subscribe("secret/#", 1).unwrap();
            refused(&s, &bob(connect.clone()));
            device.publish("secret/x", "live", 1).unwrap();
            device.receive("secret/x", "live", 1).unwrap();
            // Its own user takes it over as ever.
            let mut newer = s.enter(&alice(connect)).unwrap();
            newer.ping().unwrap();
            newer.leave().unwrap();
            s.enter(&alice(s.connect("live"))).unwrap().leave().unwrap();
            broker.wait_for_metric("sessions", |sessions| sessions == 0);
        }
    }
}

/// Who says nothing is a user like any other: neither his nor theirs is for the other.
#[test]
fn nobody_in_particular_is_a_user_too() {
    let broker = guarded(&["--allow-anonymous"]);
    let s = broker.stage(Version::V5);
    for (own, other) in [(None, Some("bob")), (Some("alice"), None)] {
        let connect = |user| of(user, s.connect("mixed").kept());
        s.enter(&connect(own)).unwrap().leave().unwrap();
        refused(&s, &connect(other));
        let again: Client = s.enter(&connect(own)).unwrap();
        assert!(again.connack.session_present);
        again.leave().unwrap();
        s.enter(&of(own, s.connect("mixed"))).unwrap().leave().unwrap();
        broker.wait_for_metric("sessions", |sessions| sessions == 0);
        // It is gone, and so is the claim to it.
        s.enter(&of(other, s.connect("mixed"))).unwrap().leave().unwrap();
        broker.wait_for_metric("sessions", |sessions| sessions == 0);
    }
}

/// The operator's way out.
#[test]
fn an_ended_session_is_free_for_another_user() {
    let broker = guarded(&[]);
    let s = broker.stage(Version::V5);
    s.enter(&alice(s.connect("dev").kept())).unwrap().leave().unwrap();
    refused(&s, &bob(s.connect("dev")));
    let path = format!("/clients/{}", s.client_id("dev"));
    broker.admin("DELETE", &path);
    let bobs = s.enter(&bob(s.connect("dev").kept())).unwrap();
    assert!(!bobs.connack.session_present);
    refused(&s, &alice(s.connect("dev")));
}

/// Whose it is comes back from the store with it, be it that of nobody in particular.
#[test]
fn a_killed_broker_knows_whose_its_sessions_are() {
    let port = free_port().to_string();
    let mut broker = guarded(&["--port", &port, "--allow-anonymous"]);
    let s = broker.stage(Version::V5);
    let users = [(Some("alice"), "hers", "secret/#"), (None, "nobodys", "open/#")];
    for (user, name, filter) in users {
        let mut device = s.enter(&of(user, s.connect(name).kept())).unwrap();
        device.subscribe(filter, 1).unwrap();
        device.leave().unwrap();
    }
    let mut other = s.enter(&alice(s.connect("other"))).unwrap();
    other.publish("secret/x", "stored", 1).unwrap();
    for is_killed in [true, false] {
        if is_killed {
            broker.kill();
        } else {
            broker.terminate();
        }
        broker.start_again();
        for (user, name, _) in users {
            refused(&s, &bob(s.connect(name).kept()));
            let mut device = s.enter(&of(user, s.connect(name).kept())).unwrap();
            assert!(device.connack.session_present);
            if is_killed && user.is_some() {
                device.receive("secret/x", "stored", 1).unwrap();
            }
            device.leave().unwrap();
        }
    }
}
