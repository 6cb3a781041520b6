//! Links that only who belongs to the cluster can make: with a secret, with certificates.

use std::path::PathBuf;

use serde_json::Value;

use super::start_errors::joining;
use super::{ClusterUnderTest, Plan};
use crate::conformance::Version;
use crate::harness::{Authority, Broker, Ensemble, Ttl, free_port, fresh_dir};

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
pub(super) fn check_crossing(cluster: &ClusterUnderTest) {
    for (here, there) in [(1, 2), (2, 1)] {
        let mut subscriber = cluster.client(there, "subscriber");
        subscriber.subscribe("t", 1).unwrap();
        cluster.client(here, "publisher").publish("t", "guarded", 1).unwrap();
        subscriber.receive("t", "guarded", 1).unwrap();
    }
}

/// A broker with other arguments joins nothing, and says why in clear words.
#[track_caller]
fn stranger(cluster: &ClusterUnderTest, arguments: &[String], says: &str) -> Broker {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let stranger: Broker = joining(cluster.zookeeper(), "stranger", &arguments);
    stranger.wait_for_log(says);
    assert_eq!(stranger.ask_admin("GET", "/readyz").unwrap().0, 503);
    let log = stranger.log();
    let lines = log.lines().filter(|line| line.contains(says)).count();
    assert!(lines <= 4, "a line for each broker it has met, and each that met it: {log}");
    assert!(!log.contains("this broker is part of the cluster"), "{log}");
    stranger
}

/// It costs the others nothing while it is there: SUBACKs come, and who is started again is one of them.
#[track_caller]
fn check_outsider(cluster: &mut ClusterUnderTest, arguments: &[String], says: &str) {
    let mut outsider = stranger(cluster, arguments, says);
    check_crossing(cluster);
    cluster.terminate(2);
    cluster.restart(2);
    check_crossing(cluster);
    assert_eq!(outsider.ask_admin("GET", "/readyz").unwrap().0, 503);
    assert!(outsider.terminate().success());
}

#[test]
fn brokers_with_the_same_secret_are_one_and_another_secret_is_refused() {
    let (ours, other) =
        (Secret::new("squeamish ossifrage"), Secret::new("sixteen characters and more"));
    let plan = Plan { brokers: 2, arguments: ours.arguments(), ..Plan::default() };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    check_crossing(&cluster);
    check_outsider(&mut cluster, &other.arguments(), "the link secrets differ");
    // Nor does one come in that has none.
    check_outsider(&mut cluster, &[], "the link secrets differ");
    let elsewhere = [ours.arguments(), ["--cluster", "another"].map(str::to_owned).to_vec()];
    check_outsider(&mut cluster, &elsewhere.concat(), "give both the same --cluster");
    // Nobody could read its znode.
    let user = Secret::new("somebody:else");
    let user = ["--zookeeper-auth-file".to_owned(), user.0.join("secret").display().to_string()];
    let unreadable = [ours.arguments(), user.to_vec()].concat();
    check_outsider(&mut cluster, &unreadable, "the ZooKeeper users differ");
}

#[test]
fn brokers_with_certificates_of_one_authority_are_one_and_others_are_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let plan = Plan { brokers: 2, arguments: certificate(&ours), ..Plan::default() };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    check_crossing(&cluster);
    let says = "the authorities of the link certificates differ";
    check_outsider(&mut cluster, &certificate(&other), says);
    // Nor does one come in that has no TLS.
    check_outsider(&mut cluster, &[], says);
}

/// The authority is changed with files that are read again, of which a broker knows the old one and
/// the new one for a while. Its znode went on telling of the old one alone, and kept who has the
/// new one outside.
#[test]
fn an_authority_is_changed_while_brokers_run() {
    let (old, new) = (Authority::new(), Authority::new());
    let directory = fresh_dir("link-authorities");
    let path = |name: &str| directory.join(name).display().to_string();
    let both = old.pem().to_owned() + new.pem();
    std::fs::write(path("ca.pem"), old.pem()).unwrap();
    for (name, file) in [("cert.pem", "server.pem"), ("key.pem", "server.key")] {
        std::fs::copy(old.path(file), path(name)).unwrap();
    }
    let arguments =
        [("--link-cert", "cert.pem"), ("--link-key", "key.pem"), ("--link-cafile", "ca.pem")]
            .map(|(flag, name)| [flag.to_owned(), path(name)]);
    let plan = Plan { brokers: 1, arguments: arguments.concat(), ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let newcomer = joining(
        cluster.zookeeper(),
        "newcomer",
        &certificate(&new).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    newcomer.wait_for_log("the authorities of the link certificates differ");
    std::fs::write(path("ca.pem"), both).unwrap();
    for (name, file) in [("cert.pem", "server.pem"), ("key.pem", "server.key")] {
        std::fs::copy(new.path(file), path(name)).unwrap();
    }
    cluster.broker(1).signal(rustix::process::Signal::HUP);
    newcomer.wait_for_log("this broker is part of the cluster");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// By which lane a broker sends to the one of this name, as `/cluster` says.
fn lane(broker: &Broker, name: &str) -> Option<String> {
    let report: Value = serde_json::from_str(&broker.admin("GET", "/cluster")).unwrap();
    let members = report["members"].as_array()?;
    let member = members.iter().find(|member| member["name"] == name)?;
    member["lane"].as_str().map(ToOwned::to_owned)
}

/// Two brokers do not trust each other, and both reach ZooKeeper: what has no link does not go through the
/// relay either, as it does to a broker of ours that cannot be dialled.
#[test]
fn what_another_authority_keeps_from_the_link_does_not_go_by_relay() {
    let (ours, other) = (Authority::new(), Authority::new());
    let plan = Plan { brokers: 1, arguments: certificate(&ours), ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let start = |name, authority: &Authority, further: &[&str]| {
        let arguments = certificate(authority);
        let is_told = |flag: &str| further.contains(&flag);
        let own = arguments.chunks(2).filter(|pair| !is_told(&pair[0])).flatten();
        let arguments = own.map(String::as_str).chain(further.iter().copied());
        joining(cluster.zookeeper(), name, &arguments.collect::<Vec<_>>())
    };
    // It trusts both, and shows a certificate that nobody else trusts: its authorities do not tell.
    let both = other.path("both.pem");
    std::fs::write(&both, ours.pem().to_owned() + other.pem()).unwrap();
    let (first, stranger) =
        (cluster.broker(1), start("stranger", &other, &["--link-cafile", &both]));
    let says = "certificates of the same CA?";
    for broker in [first, &stranger] {
        broker.wait_for_log(says);
    }
    // What keeps the stranger from its link is known by the time at which this one goes by relay.
    let nowhere = format!("127.0.0.1:{}", free_port());
    let _remote = start("remote", &ours, &["--link-advertise", &nowhere]);
    first.wait_until("it has a relay", |first| lane(first, "remote").as_deref() == Some("relay"));
    assert_ne!(lane(first, "stranger").as_deref(), Some("relay"));
    assert_ne!(lane(&stranger, "broker-1").as_deref(), Some("relay"));
    let report: Value = serde_json::from_str(&stranger.admin("GET", "/cluster")).unwrap();
    assert_eq!(report["relay"]["received_frames"], 0, "{}", report["relay"]);
    assert_eq!(stranger.ask_admin("GET", "/readyz").unwrap().0, 503);
    for (broker, peer) in [(first, "peer=stranger"), (&stranger, "peer=broker-1")] {
        let log = broker.log();
        let lines = log.lines().filter(|line| line.contains(says) && line.contains(peer));
        assert_eq!(lines.count(), 1, "{log}");
    }
}

/// Both may find nobody at the door; they waited for each other with every SUBACK then, and were
/// ready. Later the one that withdrew stayed the first in the line of those who want to lead.
#[test]
fn of_two_strangers_that_start_at_once_one_serves_and_the_other_waits() {
    let Some(ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    for _ in 0..3 {
        let zookeeper = ensemble.with_fresh_chroot();
        let secrets = ["squeamish ossifrage", "sixteen characters and more"].map(Secret::new);
        let brokers = std::thread::scope(|scope| {
            let starting = ["one", "other"].into_iter().zip(&secrets).map(|(name, secret)| {
                let zookeeper = &zookeeper;
                scope.spawn(move || {
                    let arguments = secret.arguments();
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    joining(zookeeper, name, &arguments)
                })
            });
            let starting: Vec<_> = starting.collect();
            starting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let serves =
            |broker: &&Broker| broker.ask_admin("GET", "/readyz").is_ok_and(|it| it.0 == 200);
        // Each of them may have tried a link to the other by then.
        brokers[0].wait_until("one serves, and the other knows why it does not", |_| {
            let (inside, outside): (Vec<_>, Vec<_>) = brokers.iter().partition(serves);
            inside.len() == 1 && outside[0].log().contains("the link secrets differ")
        });
        let (inside, outside): (Vec<_>, Vec<_>) = brokers.iter().partition(serves);
        let mut client = inside[0].stage(Version::V5).client("subscriber").unwrap();
        client.subscribe("t", 1).unwrap();
        assert_eq!(outside[0].ask_admin("GET", "/readyz").unwrap().0, 503);
    }
}
