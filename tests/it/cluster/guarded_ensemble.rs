//! Ensembles that brokers have to show themselves to, or that show themselves to the brokers: a user
//! whose znodes are closed to strangers, and TLS.

use mqttzoo::ports::coordination::{Change, CoordinationError, Reply, Request};

use super::guarded_links::check_crossing;
use super::start_errors::joining;
use super::{ClusterUnderTest, Plan};
use crate::conformance::Version;
use crate::coordination::client::Client as Tree;
use crate::coordination::contract::Tree as _;
use crate::harness::{Authority, Broker, Ensemble, fresh_dir};

const PASSWORD: &str = "squeamish ossifrage";

/// All znodes from here on, as somebody sees them who may.
fn walk(tree: &mut Tree, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    // It may have gone meanwhile.
    let Ok(Reply::Children(names)) = tree.ask(Request::List(path.to_owned())) else { return };
    for name in names {
        walk(tree, &format!("{}/{name}", path.trim_end_matches('/')), found);
    }
}

/// There is no znode of a cluster that a stranger may read, and none that it may change.
#[test]
fn znodes_of_brokers_with_a_user_are_closed_to_strangers() {
    let directory = fresh_dir("zookeeper-user");
    let file = directory.join("user");
    std::fs::write(&file, format!("broker:{PASSWORD}\n")).unwrap();
    let arguments = vec!["--zookeeper-auth-file".to_owned(), file.display().to_string()];
    let plan = Plan { arguments, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    check_crossing(&cluster);
    cluster.client(1, "publisher").retain("kept", "a value").unwrap();

    let mut ours = Tree::connect_as(cluster.zookeeper(), "broker", PASSWORD);
    let mut paths = Vec::new();
    walk(&mut ours, "/", &mut paths);
    for path in ["/slots", "/brokers/broker-1", "/brokers/broker-3", "/topics", "/bank", "/clock"] {
        assert!(paths.iter().any(|one| one == path), "no {path} among {paths:?}");
        assert!(ours.ask(Request::Get(path.to_owned())).is_ok(), "{path}");
    }
    let servers = cluster.zookeeper();
    let strangers =
        [Tree::connect(servers), Tree::connect_as(servers, "broker", "sixteen characters")];
    for mut stranger in strangers {
        for path in &paths {
            let data = "".into();
            let asked = [
                Request::Get(path.clone()),
                Request::List(path.clone()),
                Request::Change(Change::Set { path: path.clone(), data, version: None }),
            ];
            for request in asked {
                let outcome = stranger.ask(request.clone());
                let mut has_gone = || ours.ask(Request::Get(path.clone())).is_err();
                let is_refused = outcome == Err(CoordinationError::NoAuth);
                assert!(is_refused || has_gone(), "{request:?}: {outcome:?}");
            }
        }
    }
    // And nothing of that has done any harm.
    check_crossing(&cluster);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn is_ready(broker: &Broker) -> bool {
    broker.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// Who does not trust the authority of the ensemble stays outside.
#[test]
fn brokers_join_over_tls_where_they_trust_the_authority_of_the_ensemble() {
    let authority = Authority::new();
    let Some((_ensemble, secure)) = Ensemble::start_tls_for_anybody(&authority) else { return };
    let zookeeper = format!("{secure}/over-tls");
    let (ours, other) = (authority.path("ca.pem"), Authority::new());
    let brokers =
        ["one", "other"].map(|name| joining(&zookeeper, name, &["--zookeeper-cafile", &ours]));
    for broker in &brokers {
        broker.wait_until("it is ready", is_ready);
    }
    let [mut publisher, mut subscriber] =
        [0, 1].map(|which| brokers[which].stage(Version::V5).client("client").unwrap());
    subscriber.subscribe("t", 1).unwrap();
    publisher.publish("t", "over TLS", 1).unwrap();
    subscriber.receive("t", "over TLS", 1).unwrap();

    let stranger = joining(&zookeeper, "stranger", &["--zookeeper-cafile", &other.path("ca.pem")]);
    stranger.wait_for_log("no ZooKeeper session can be made: keeps trying");
    assert!(!is_ready(&stranger));
}

/// The ensemble has `ssl.clientAuth=need`, as it has where nothing is said: who shows no certificate, or
/// one of another authority, stays outside.
#[test]
fn brokers_show_their_certificate_to_an_ensemble_that_wants_to_see_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    for signing in [&authority, &other] {
        signing.sign("broker");
    }
    let Some((_ensemble, secure)) = Ensemble::start_tls(&authority) else { return };
    let zookeeper = format!("{secure}/over-mutual-tls");
    let ca = authority.path("ca.pem");
    let trusting = ["--zookeeper-cafile", &ca];
    let showing = |name: &str, signing: &Authority| {
        let (cert, key) = (signing.path("broker.pem"), signing.path("broker.key"));
        let shown = ["--zookeeper-cert", &cert, "--zookeeper-key", &key];
        joining(&zookeeper, name, &[&trusting[..], &shown].concat())
    };
    let outside = [joining(&zookeeper, "silent", &trusting), showing("stranger", &other)];
    let inside = showing("known", &authority);
    inside.wait_until("it is ready", is_ready);
    for broker in &outside {
        broker.wait_for_log("no ZooKeeper session can be made: keeps trying");
        assert!(!is_ready(broker));
    }
}
