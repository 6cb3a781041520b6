//! Topics in the tree of znodes of a real ensemble: who uses one registers it, for a time.

use std::time::{Duration, Instant};

use mqttzoo::ports::coordination::{Reply, Request};

use super::ClusterUnderTest;
use crate::coordination::client::Client as Tree;
use crate::coordination::contract::Tree as _;

/// Two hours: the one class of topics, fixed when a znode is created.
const TTL_MILLIS: &str = "7200000";

/// The paths of all topics.
fn topics(tree: &mut Tree) -> Vec<String> {
    let mut paths = Vec::new();
    for part in children(tree, "/topics") {
        let parent = format!("/topics/{part}");
        let names = children(tree, &parent);
        paths.extend(names.into_iter().map(|name| format!("{parent}/{name}")));
    }
    paths
}

fn children(tree: &mut Tree, path: &str) -> Vec<String> {
    // It may not be there yet.
    let Ok(Reply::Children(names)) = tree.ask(Request::List(path.to_owned())) else {
        return Vec::new();
    };
    names
}

/// Nobody publishes: the Subscription alone makes the topic known. A filter with a wildcard names none.
#[test]
fn who_subscribes_to_a_topic_name_registers_it_with_a_time_to_live() {
    let Some(mut cluster) = ClusterUnderTest::start(2) else { return };
    let mut tree = Tree::connect(cluster.zookeeper());
    let mut subscriber = cluster.client(2, "subscriber");
    for filter in ["wild/+", "wild/#", "temperature"] {
        subscriber.subscribe(filter, 1).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let path = loop {
        match &topics(&mut tree)[..] {
            [] => assert!(Instant::now() < deadline, "it is not registered"),
            [path] => break path.clone(),
            more => panic!("{more:?}"),
        }
    };
    assert!(path.ends_with("/temperature"), "{path}");
    // The tree itself does not tell how long a znode lives. The log of its server does.
    let chroot = cluster.zookeeper().split_once('/').unwrap().1.to_owned();
    let transactions = cluster.ensemble().transactions(0);
    let created = format!("/{chroot}{path}");
    let creation = format!(" createTtl {created},");
    let [_before, creation] = transactions.split(&creation).collect::<Vec<_>>()[..] else {
        panic!("it is created once, with a time to live:\n{transactions}")
    };
    // What it holds and who may read it come first, up to the next transaction.
    let creation = creation.split(" session 0x").next().unwrap();
    assert!(creation.contains(&format!(",{TTL_MILLIS}")), "{creation}");
}
