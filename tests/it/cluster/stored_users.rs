//! A Session in PostgreSQL is its user's, also while no broker has it.
//!
//! Its story: who came with a Clean Start ended it, and nobody had asked who that was.

use std::fs;

use mqttzoo::auth::passwd::set_password;

use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Connect, Version, kind};
use crate::harness::{Postgres, fresh_dir};

fn of(user: &str, connect: Connect) -> Connect {
    Connect { user_name: Some(user.into()), password: Some(user.into()), ..connect }
}

#[track_caller]
fn check_refused(cluster: &ClusterUnderTest, broker: usize, connect: &Connect) {
    let mut client = cluster.stage(broker, Version::V5).open().unwrap();
    client.send(&connect.bytes());
    let reason = client.expect(kind::CONNACK).unwrap().reason().unwrap();
    assert_eq!((reason.code, reason.session_present), (0x87, false));
    client.closed().unwrap();
}

#[track_caller]
fn enter(cluster: &ClusterUnderTest, broker: usize, connect: Connect) -> Client {
    cluster.stage(broker, Version::V5).enter(&of("alice", connect)).unwrap()
}

#[test]
fn a_session_that_no_broker_has_is_given_to_its_user_alone_and_ended_by_nobody_else() {
    let Some(server) = Postgres::shared() else { return };
    let directory = fresh_dir("users");
    let users = directory.join("users");
    for user in ["alice", "bob"] {
        set_password(&users, user, user.as_bytes()).unwrap();
    }
    let users = users.to_str().unwrap().to_owned();
    let stored = "--cluster-sessions=database".to_owned();
    let words = ["--db".to_owned(), server.fresh_database(), stored, "--password-file".to_owned()];
    let arguments = words.into_iter().chain([users]).collect();
    let started = ClusterUnderTest::start_as(Plan { arguments, ..Plan::default() });
    let Some(mut cluster) = started else { return };
    let clean = Connect::new(Version::V5, "sleeper");
    let kept = clean.clone().kept();
    let mut sleeper = enter(&cluster, 3, kept.clone());
    sleeper.subscribe("load/#", 1).unwrap();
    sleeper.leave().unwrap();
    let mut publisher = enter(&cluster, 1, Connect::new(Version::V5, "publisher"));
    publisher.publish("load/1", "1 1", 1).unwrap();
    cluster.terminate(3);
    for connect in [&clean, &kept] {
        let fresh = Connect { clean: true, ..connect.clone() };
        for broker in [1, 2] {
            check_refused(&cluster, broker, &of("bob", fresh.clone()));
            check_refused(&cluster, broker, &of("bob", connect.clone()));
        }
    }
    let mut sleeper = enter(&cluster, 2, kept.clone());
    assert!(sleeper.connack.session_present);
    sleeper.receive("load/1", "1 1", 1).unwrap();
    sleeper.leave().unwrap();
    cluster.terminate(2);
    // Its own user may end it, and then it is anybody's.
    let sleeper = enter(&cluster, 1, clean.clone());
    assert!(!sleeper.connack.session_present);
    sleeper.leave().unwrap();
    let bobs = cluster.stage(1, Version::V5).enter(&of("bob", kept)).unwrap();
    assert!(!bobs.connack.session_present);
    fs::remove_dir_all(directory).unwrap();
}
