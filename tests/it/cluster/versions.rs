//! Programs that are too far apart for a link: who is there goes on, who comes waits outside and says
//! why, and is in as soon as the other has gone.
//!
//! The broker of another version is its record in a real ensemble, held by a session of its own: that
//! is all of it that a broker may look at before the two can talk.

use mqttzoo::cluster::identity::{BootId, Member, MemberState, WireVersions};
use mqttzoo::cluster::member_record;
use mqttzoo::cluster::paths::{BROKERS, below};
use mqttzoo::ports::coordination::{Change, CreateMode, Reply, Request};

use super::ClusterUnderTest;
use super::guarded_links::check_crossing;
use super::start_errors::joining;
use crate::conformance::Version;
use crate::coordination::client::Client as Tree;
use crate::coordination::contract::Tree as _;
use crate::harness::free_port;

/// Its znode, as any broker makes it that joins. It ends with its session.
fn register(zookeeper: &str, name: &str, wire: WireVersions) -> Tree {
    let member = Member {
        name: name.into(),
        boot_id: BootId(0xFA12),
        link_address: format!("127.0.0.1:{}", free_port()),
        zone: String::new(),
        wire,
        state: MemberState::Joining,
    };
    let (path, data) = (below(BROKERS, name), member_record::encode(&member, None));
    let mut tree = Tree::connect(zookeeper);
    let count = Change::Set { path: BROKERS.to_owned(), data: "".into(), version: None };
    let create = Change::Create { path, data, mode: CreateMode::Ephemeral };
    assert_eq!(tree.ask(Request::All(vec![count, create])), Ok(Reply::Done));
    tree
}

/// Those of a program that is too far ahead of this one.
fn later() -> WireVersions {
    let oldest = WireVersions::OURS.newest + 1;
    WireVersions { oldest, newest: oldest + 1 }
}

/// The line that says so of the stranger.
fn words() -> String {
    // Those of a broker without a database.
    let (ours, theirs) = (WireVersions::OURS.in_memory(), later());
    format!(
        "broker stranger speaks versions {} to {} of the link protocol and this one {} to {}: upgrade by way \
         of a program",
        theirs.oldest, theirs.newest, ours.oldest, ours.newest
    )
}

/// Everything that waits for other brokers goes through: a CONNECT, a SUBACK, the acknowledgements of
/// messages, retained ones too.
#[track_caller]
fn check_serving(cluster: &ClusterUnderTest, at: usize) {
    let mut subscriber = cluster.client(at, "subscriber");
    subscriber.subscribe("t", 2).unwrap();
    let mut publisher = cluster.client(at, "publisher");
    for qos in 0..=2 {
        publisher.publish("t", "served", qos).unwrap();
        subscriber.receive("t", "served", qos).unwrap();
    }
    publisher.retain("kept", "by all").unwrap();
    assert!(cluster.is_ready(at));
}

/// A program of before the rule that such a broker stays outside registers all the same, and waits for
/// what nobody can tell it. Each SUBACK waited for it as long as it was there.
#[test]
fn a_broker_that_is_there_does_not_wait_for_one_of_another_version() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let stranger = register(cluster.zookeeper(), "stranger", later());
    for number in 1..=2 {
        cluster.broker(number).wait_for_log(&words());
        check_serving(&cluster, number);
    }
    check_crossing(&cluster);
    stranger.close();
    // The next one of its name speaks as we do, and is one of us.
    let replaced = joining(cluster.zookeeper(), "stranger", &[]);
    replaced.wait_for_log("this broker is part of the cluster");
    let mut subscriber = replaced.stage(Version::V5).client("newcomer").unwrap();
    subscriber.subscribe("n", 1).unwrap();
    cluster.client(1, "publisher").publish("n", "to all", 1).unwrap();
    subscriber.receive("n", "to all", 1).unwrap();
    for number in 1..=2 {
        assert_eq!(cluster.broker(number).count_in_log(&words()), 1, "one line says it");
    }
}

/// It must not become ready, says what is wrong, where, and what to do, and is in when it can be.
#[test]
fn a_broker_that_comes_waits_outside_until_the_one_of_another_version_has_gone() {
    let Some(mut cluster) = ClusterUnderTest::start(1) else { return };
    let stranger = register(cluster.zookeeper(), "stranger", later());
    let newcomer = joining(cluster.zookeeper(), "newcomer", &[]);
    newcomer.wait_for_log(&format!("this broker stays outside: {}", words()));
    let (status, body) = newcomer.ask_admin("GET", "/readyz").unwrap();
    assert_eq!(status, 503, "{body}");
    assert_eq!(newcomer.ask_admin("GET", "/livez").unwrap().0, 200, "it keeps trying");
    // Who is there serves, and may come and go.
    check_serving(&cluster, 1);
    cluster.terminate(1);
    let log = newcomer.log();
    assert_eq!(newcomer.count_in_log(&words()), 1, "{log}");
    assert!(!log.contains("this broker is part of the cluster"), "{log}");
    stranger.close();
    newcomer.wait_for_log("this broker is part of the cluster");
    newcomer.wait_until("it is ready", |it| {
        it.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 200)
    });
    newcomer.stage(Version::V5).client("client").unwrap().subscribe("t", 1).unwrap();
}
