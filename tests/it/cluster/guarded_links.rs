//! Links that only who belongs to the cluster can make: with a secret, with certificates.

use std::path::PathBuf;

use super::start_errors::joining;
use super::{ClusterUnderTest, Plan};
use crate::harness::{Authority, Broker, fresh_dir};

/// A file with a secret, in a directory of its own.
struct Secret(PathBuf);

impl Secret {
    fn new(text: &str) -> Self {
        let directory = fresh_dir("link-secret");
        std::fs::write(directory.join("secret"), text).unwrap();
        Self(directory)
    }

    fn arguments(&self) -> Vec<String> {
        vec!["--link-secret-file".to_owned(), self.0.join("secret").display().to_string()]
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// The arguments that give a broker a link certificate of this authority.
fn certificate(authority: &Authority) -> Vec<String> {
    let [cert, key, cafile] = ["server.pem", "server.key", "ca.pem"].map(|one| authority.path(one));
    ["--link-cert", &cert, "--link-key", &key, "--link-cafile", &cafile].map(str::to_owned).to_vec()
}

/// Messages cross both ways.
#[track_caller]
fn check_crossing(cluster: &ClusterUnderTest) {
    for (here, there) in [(1, 2), (2, 1)] {
        let mut subscriber = cluster.client(there, "subscriber");
        subscriber.subscribe("t", 1).unwrap();
        cluster.client(here, "publisher").publish("t", "guarded", 1).unwrap();
        subscriber.receive("t", "guarded", 1).unwrap();
    }
}

/// A broker with other arguments joins nothing, says why in clear words, and costs the others nothing
/// once it has gone.
#[track_caller]
fn check_stranger(cluster: &ClusterUnderTest, arguments: &[String], says: &str) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut stranger: Broker = joining(cluster.zookeeper(), "stranger", &arguments);
    stranger.wait_for_log(says);
    assert_eq!(stranger.ask_admin("GET", "/readyz").unwrap().0, 503);
    let log = stranger.log();
    let lines = log.lines().filter(|line| line.contains(says)).count();
    assert!(lines <= 4, "a line for each broker it has met, and each that met it: {log}");
    assert!(!log.contains("this broker is part of the cluster"), "{log}");
    assert!(stranger.terminate().success());
    check_crossing(cluster);
}

#[test]
fn brokers_with_the_same_secret_are_one_and_another_secret_is_refused() {
    let (ours, other) =
        (Secret::new("squeamish ossifrage"), Secret::new("sixteen characters and more"));
    let plan = Plan { brokers: 2, arguments: ours.arguments(), ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    check_crossing(&cluster);
    check_stranger(&cluster, &other.arguments(), "the link secrets differ");
    // Nor does one come in that has none.
    check_stranger(&cluster, &[], "the link secrets differ");
}

#[test]
fn brokers_with_certificates_of_one_authority_are_one_and_others_are_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let plan = Plan { brokers: 2, arguments: certificate(&ours), ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    check_crossing(&cluster);
    check_stranger(&cluster, &certificate(&other), "certificates of the same CA?");
}
