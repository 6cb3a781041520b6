//! Brokers that are started one by one, to join what is there.

use super::cluster_arguments;
use crate::conformance::Version;
use crate::harness::Broker;

/// A broker that means to join.
pub(super) fn start(zookeeper: &str, name: &str, further: &[&str]) -> Broker {
    let mut arguments = cluster_arguments(zookeeper, name);
    arguments.extend(["--link-port", "0", "--zookeeper-timeout-secs", "3"].map(str::to_owned));
    arguments.extend(further.iter().map(|&argument| argument.to_owned()));
    Broker::start_with(|_directory| arguments)
}

pub(super) fn wait_until_ready(broker: &Broker) {
    broker.wait_until("it is ready", |broker| {
        broker.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 200)
    });
}

/// What is published on one reaches a subscriber of the other.
#[track_caller]
pub(super) fn check_conversation(one: &Broker, other: &Broker) {
    let mut subscriber = other.stage(Version::V5).client("subscriber").unwrap();
    subscriber.subscribe("t", 1).unwrap();
    let mut publisher = one.stage(Version::V5).client("publisher").unwrap();
    publisher.publish("t", "at last", 1).unwrap();
    subscriber.receive("t", "at last", 1).unwrap();
}
