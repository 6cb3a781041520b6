//! What keeps a broker out of its cluster is said in one line, with what to do.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{ClusterUnderTest, cluster_arguments};
use crate::harness::{Broker, Ensemble, Ttl, free_port, fresh_dir};

/// A broker that means to join, with the port of its links free to choose.
pub(crate) fn joining(zookeeper: &str, name: &str, further: &[&str]) -> Broker {
    let mut arguments = cluster_arguments(zookeeper, name);
    arguments.extend(["--link-port", "0", "--zookeeper-timeout-secs", "2"].map(str::to_owned));
    arguments.extend(further.iter().map(|&argument| argument.to_owned()));
    Broker::start_with(|_directory| arguments)
}

/// It keeps trying, takes no clients, says why, and goes on as soon as there is an ensemble.
#[test]
fn without_an_ensemble_it_keeps_trying_and_is_not_ready() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut broker = joining(&nobody, "early", &[]);
    broker.wait_for_log("ZooKeeper");
    broker.wait_until("it says why it is not ready", |broker| {
        let (status, body) = broker.ask_admin("GET", "/readyz").unwrap();
        assert_eq!(status, 503, "{body}");
        body.contains("ZooKeeper")
    });
    // Neither of these may end a process that waits for its ensemble.
    for path in ["/livez", "/startupz"] {
        assert_eq!(broker.ask_admin("GET", path).unwrap().0, 200, "{path}");
    }
    let log = broker.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&nobody)).collect();
    assert_eq!(lines.len(), 1, "one line says it: {log}");
    assert!(!log.contains("accepts connections"), "{log}");
    assert!(broker.terminate().success());
}

#[test]
fn a_server_without_ttl_nodes_is_told_what_it_lacks() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Disabled) else { return };
    let broker = joining(&ensemble.with_fresh_chroot(), "first", &[]);
    let log = broker.wait_for_log("extendedTypesEnabled=true");
    assert_eq!(broker.count_in_log("extendedTypesEnabled"), 1, "{log}");
    assert!(log.contains("zoo.cfg"), "{log}");
}

/// In a new installation names of servers may not resolve for a while: no reason to give up.
#[test]
fn names_that_do_not_resolve_are_tried_again() {
    let mut broker = joining("zookeeper-0.invalid:2181,zookeeper-1.invalid:2181", "early", &[]);
    broker.wait_for_log("no ZooKeeper session can be made: keeps trying");
    assert_eq!(broker.ask_admin("GET", "/readyz").unwrap().0, 503);
    assert_eq!(broker.ask_admin("GET", "/livez").unwrap().0, 200);
    assert!(broker.terminate().success());
}

/// The name is taken by a broker that lives and answers: the newcomer ends with one line.
#[test]
fn a_name_that_a_live_broker_has_is_refused() {
    let Some(cluster) = ClusterUnderTest::start(1) else { return };
    let mut second = joining(cluster.zookeeper(), "broker-1", &[]);
    let status = second.wait(Duration::from_secs(20)).expect("it does not stay");
    assert_eq!(status.code(), Some(1));
    let log = second.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("mqtt_broker: "), "{log}");
    assert!(last.contains("broker-1") && last.contains("--name"), "{log}");
    assert!(cluster.is_ready(1));
    cluster.client(1, "untouched").ping().unwrap();
}

/// *A pod ended, and another got its address before it came back elsewhere.* Whoever answered there was
/// taken for its namesake, and it did not start.
#[test]
fn a_name_whose_holder_has_ended_is_had_although_somebody_answers_at_its_address() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let (zookeeper, port) = (ensemble.with_fresh_chroot(), free_port().to_string());
    let start = |name, port: &str| {
        let mut arguments = cluster_arguments(&zookeeper, name);
        let further = ["--link-port", port, "--zookeeper-timeout-secs", "4"];
        arguments.extend(further.map(str::to_owned));
        Broker::start_with(|_directory| arguments)
    };
    let mut first = start("moved", &port);
    first.wait_for_log("accepts connections");
    first.kill();
    // It listens for other brokers before it says which ports it has.
    let _heir = start("heir", &port);
    let again = start("moved", "0");
    again.wait_for_log("waiting for its znode to end");
    again.wait_for_log("accepts connections");
}

/// Starts a broker of a cluster that ends at once; what it says on standard error.
#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    refusal_with(arguments, &[["--zookeeper", "127.0.0.1:1"], ["--name", "x"]])
}

/// The same, of a broker that is told this where `arguments` do not say otherwise.
#[track_caller]
fn refusal_with(arguments: &[&str], otherwise: &[[&str; 2]]) -> String {
    let directory = fresh_dir("cluster-start-errors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt_broker"));
    command.args(["--port", "0"]).args(arguments);
    // What is not what the test is about.
    for [flag, value] in otherwise {
        if !arguments.contains(flag) {
            command.args([flag, value]);
        }
    }
    command.env_clear().env("MQTTZOO_DATA_DIR", directory.join("data")).stdin(Stdio::null());
    let output = command.output().unwrap();
    let _gone = std::fs::remove_dir_all(&directory);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Whoever reaches the port of the links could speak for a broker.
#[test]
fn a_link_port_that_others_reach_needs_a_secret() {
    for further in [&["--link-bind", "0.0.0.0"][..], &["--link-host", "broker.example.com"]] {
        let said = refusal(&[&["--link-port", "0"], further].concat());
        assert!(said.contains("give link_secret_file"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_list_of_servers_that_is_none_is_refused() {
    for list in ["", "127.0.0.1:notaport", "host:2181,,"] {
        let said = refusal(&["--zookeeper", list]);
        assert!(said.contains("--zookeeper"), "{list}: {said}");
        assert!(!said.contains("multiple times"), "{list}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// They went on with a name that is no name of a znode, and waited for ever without a word; and with
/// an address that nobody can dial.
#[test]
fn a_name_and_an_address_that_are_none_are_refused() {
    for name in ["a/b", "n\u{1}", ".."] {
        let said = refusal(&["--name", name]);
        assert!(said.contains("cannot be the name of a broker in a cluster"), "{said}");
    }
    for address in ["foo", ":1887", "foo:0"] {
        let said = refusal(&["--link-advertise", address]);
        assert!(said.contains("is no HOST:PORT"), "{said}");
    }
}

#[test]
fn a_secret_that_is_none_is_refused_on_every_line() {
    let directory = fresh_dir("cluster-secret");
    let path = directory.join("secret");
    for text in ["", "short\n", "long enough for one\nshort\n", &"long enough for one\n".repeat(5)]
    {
        std::fs::write(&path, text).unwrap();
        let said = refusal(&["--link-secret-file", path.to_str().unwrap()]);
        assert!(said.contains("shorter than 16 characters"), "{text:?}: {said}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A broker that was alone did not look at the file: what was wrong with it came out when the cluster was
/// switched on.
#[test]
fn a_secret_is_checked_also_where_it_has_no_effect_and_that_is_said() {
    let directory = fresh_dir("cluster-secret-alone");
    let path = directory.join("secret");
    let file = path.to_str().unwrap();
    let said = refusal_with(&["--link-secret-file", file], &[]);
    assert!(said.contains("cannot read") && said.contains(file), "{said}");
    std::fs::write(&path, "short\n").unwrap();
    for further in [&[][..], &["--zookeeper", "127.0.0.1:1", "--propagation", "znodes"]] {
        let said = refusal_with(&[&["--link-secret-file", file], further].concat(), &[]);
        assert!(said.contains("shorter than 16 characters"), "{said}");
    }
    std::fs::write(&path, "squeamish ossifrage\n").unwrap();
    let alone = Broker::start(&["--link-secret-file", file]);
    let log = alone.wait_for_log("accepts connections");
    assert_eq!(log.matches("link_secret_file has no effect: this broker is alone").count(), 1);
    std::fs::remove_dir_all(&directory).unwrap();
}
