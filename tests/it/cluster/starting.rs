//! Starts as an orchestrator makes them: in any order, and with secrets that change.

use std::fs;
use std::path::Path;

use super::one_by_one::{check_conversation, start, wait_until_ready};
use crate::harness::{Ensemble, Ttl, fresh_dir};

/// Everything is started at once, and ZooKeeper is the last to be there.
#[test]
fn brokers_that_are_there_before_their_ensemble_join_when_it_comes() {
    let Some(mut ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    ensemble.kill_all();
    let brokers = ["mqttzoo-0", "mqttzoo-1"].map(|name| start(&zookeeper, name, &[]));
    for broker in &brokers {
        broker.wait_for_log("no ZooKeeper session can be made: keeps trying");
        assert_eq!(broker.ask_admin("GET", "/startupz").unwrap().0, 200);
        assert_eq!(broker.ask_admin("GET", "/readyz").unwrap().0, 503);
    }
    ensemble.start_again(0);
    brokers.iter().for_each(wait_until_ready);
    check_conversation(&brokers[0], &brokers[1]);
}

/// A path with a slip of the pen in it was a cluster of its own, of which no line told; and so was one with
/// a slash at its end.
#[test]
fn a_path_that_was_not_there_is_told_of_and_slashes_at_its_end_mean_nothing() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    let first = start(&zookeeper, "mqttzoo-0", &[]);
    wait_until_ready(&first);
    let second = start(&format!("{zookeeper}//"), "mqttzoo-1", &[]);
    wait_until_ready(&second);
    check_conversation(&first, &second);
    let told = [&first, &second].map(|one| one.count_in_log("there was no such path"));
    assert_eq!(told, [1, 0]);
}

/// A broker without links joined brokers with links, and no line told of the mixture.
#[test]
fn a_broker_that_propagates_otherwise_than_those_there_says_so() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    let first = start(&zookeeper, "mqttzoo-0", &[]);
    wait_until_ready(&first);
    let second = start(&zookeeper, "mqttzoo-1", &["--propagation", "znodes"]);
    wait_until_ready(&second);
    let log = second.log();
    let line = log.lines().find(|line| line.contains("broker mqttzoo-0 has --propagation links"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("this one znodes"), "{line}");
    assert_eq!(second.count_in_log("--propagation"), 1, "{log}");
    check_conversation(&first, &second);
    check_conversation(&second, &first);
}

/// The secret of the links is changed pod by pod: old ones and new ones believe each other as long as
/// they know both secrets, and no longer.
#[test]
fn a_secret_of_the_links_is_changed_one_broker_at_a_time() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    let directory = fresh_dir("cluster-secrets");
    let file = |name: &str, lines: &str| write(&directory.join(name), lines);
    let (old, new) = ("squeamish ossifrage\n", "correct horse battery\n");
    let both = file("both", &format!("{old}{new}"));
    let turned = file("turned", &format!("{new}{old}"));
    let last = file("last", new);
    let first = start(&zookeeper, "mqttzoo-0", &["--link-secret-file", &both]);
    wait_until_ready(&first);
    let second = start(&zookeeper, "mqttzoo-1", &["--link-secret-file", &turned]);
    wait_until_ready(&second);
    check_conversation(&first, &second);
    check_conversation(&second, &first);
    drop(first);
    let first = start(&zookeeper, "mqttzoo-0", &["--link-secret-file", &last]);
    wait_until_ready(&first);
    check_conversation(&first, &second);
    fs::remove_dir_all(&directory).unwrap();
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.display().to_string()
}
