//! A link between two brokers that does not stand is told of: by who dials, once and with what to
//! do, and by the broker that nobody reaches.

use serde_json::Value;

use super::proxy::Cut;
use super::start_errors::joining;
use super::{ClusterUnderTest, Plan};
use crate::harness::{Broker, free_port};

const FAILED: &str = "no link to a peer: ";
const STANDS_AGAIN: &str = "the link to a peer stands again";
const UNREACHED: &str = "no other broker reaches this one";

/// Lines of a log with both of these.
fn lines(broker: &Broker, text: &str, peer: &str) -> Vec<String> {
    let peer = format!("peer={peer} ");
    let log = broker.log();
    let lines = log.lines().filter(|line| line.contains(text) && line.contains(&peer));
    lines.filter(|line| !line.contains("DEBUG")).map(ToOwned::to_owned).collect()
}

#[track_caller]
fn wait_for_readiness(broker: &Broker, is_so: impl Fn(&str) -> bool) {
    broker.wait_until("/readyz says so", |broker| {
        let (status, body) = broker.ask_admin("GET", "/readyz").unwrap();
        assert_eq!(status, 200, "{body}");
        is_so(&body)
    });
}

/// What `/cluster` says of the broker with this name.
fn member(broker: &Broker, name: &str) -> Value {
    let report: Value = serde_json::from_str(&broker.admin("GET", "/cluster")).unwrap();
    let members = report["members"].as_array().unwrap();
    members.iter().find(|member| member["name"] == name).cloned().unwrap_or_default()
}

/// Packets between two brokers were dropped, and nobody said so: one line at INFO told of another
/// lane.
#[track_caller]
fn check_cut(cut: Cut) {
    let plan = Plan { has_network: true, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let both = [(cluster.broker(1), "broker-2"), (cluster.broker(2), "broker-1")];
    for round in 1..=2 {
        cluster.cut(1, 2, cut);
        for (broker, peer) in both {
            broker.wait_until("it says that there is no link", |broker| {
                lines(broker, FAILED, peer).len() == round
            });
            wait_for_readiness(broker, |body| body.contains(&format!("no link to {peer}")));
            let link = &member(broker, peer)["link"];
            assert!(link["up_millis"].is_null() && link["troubled"] == true, "{link}");
            let up = broker.metrics().value(&format!("peer_link_up{{peer=\"{peer}\"}}"));
            assert_eq!(up, 0);
        }
        cluster.heal(1, 2);
        for (broker, peer) in both {
            broker.wait_until("it says that the link stands", |broker| {
                lines(broker, STANDS_AGAIN, peer).len() == round
            });
            wait_for_readiness(broker, |body| !body.contains("no link"));
            assert_eq!(member(broker, peer)["link"]["troubled"], false);
        }
    }
    for (broker, peer) in both {
        let said = lines(broker, FAILED, peer);
        assert_eq!(said.len(), 2, "once for each cut: {said:?}");
        assert!(said.iter().all(|line| line.contains("WARN") && line.contains("address=")));
        assert!(
            said.iter().all(|line| line.contains("check ") || line.contains("between the two"))
        );
        assert_eq!(broker.count_in_log(UNREACHED), 0, "the third one reaches both");
    }
    for untouched in ["broker-1", "broker-2"] {
        assert!(lines(cluster.broker(3), FAILED, untouched).is_empty());
    }
}

#[test]
fn a_link_that_is_cut_is_told_of_once_and_so_is_its_end() {
    check_cut(Cut::Closed);
}

#[test]
fn a_link_that_falls_silent_is_told_of_once_and_so_is_its_end() {
    check_cut(Cut::Silent);
}

/// A broker with a wrong `--link-advertise` ran by relay for ever, with a line at the others and
/// none at itself.
#[test]
fn a_broker_whose_address_leads_nowhere_says_so_itself() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let nowhere = format!("127.0.0.1:{}", free_port());
    let astray = joining(cluster.zookeeper(), "astray", &["--link-advertise", &nowhere]);
    let log = astray.wait_for_log(UNREACHED);
    let line = log.lines().find(|line| line.contains(UNREACHED)).unwrap();
    assert!(line.contains("WARN") && line.contains(&nowhere), "{line}");
    assert!(line.contains("--link-advertise"), "{line}");
    // It may say so before it has joined by relay.
    astray.wait_until("it is ready", |broker| broker.ask_admin("GET", "/readyz").unwrap().0 == 200);
    wait_for_readiness(&astray, |body| body.contains(UNREACHED));
    assert_eq!(astray.metrics().value("link_unreached"), 1);
    let report: Value = serde_json::from_str(&astray.admin("GET", "/cluster")).unwrap();
    assert_eq!(report["links"]["unreached"], true, "{}", report["links"]);
    for number in [1, 2] {
        let broker = cluster.broker(number);
        let said = lines(broker, FAILED, "astray");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&nowhere) && said[0].contains("--link-advertise"), "{said:?}");
        wait_for_readiness(broker, |body| body.contains("no link to astray"));
        assert_eq!(member(broker, "astray")["link"]["troubled"], true);
        assert_eq!(broker.count_in_log(UNREACHED), 0);
        assert_eq!(broker.metrics().value("link_unreached"), 0);
    }
    assert_eq!(astray.count_in_log(UNREACHED), 1);
}
