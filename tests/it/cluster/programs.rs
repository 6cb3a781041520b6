//! The programs people use, with a cluster.

use super::ClusterUnderTest;
use crate::cli::{PUB, Running, SUB, run, run_with};

/// What the README shows: `mqtt_sub` on the first broker, and `mqtt_pub` on the third, where each line
/// is a message.
#[test]
fn the_demo_of_the_readme() {
    check_conversation(SUB, PUB, &["-t", "weather"]);
}

#[test]
fn mosquitto_sub_and_mosquitto_pub_meet_across_brokers() {
    for qos in ["0", "1", "2"] {
        check_conversation("mosquitto_sub", "mosquitto_pub", &["-t", "weather", "-q", qos]);
    }
}

/// One publishes lines on the third broker, one reads them on the first. The other way round comes a
/// retained message.
#[track_caller]
fn check_conversation(subscriber: &str, publisher: &str, arguments: &[&str]) {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let ports = [1, 3].map(|broker| cluster.broker(broker).port().to_string());
    let at = |port: usize| [&["-h", "127.0.0.1", "-p", &*ports[port]], arguments].concat();
    let before = cluster.broker(1).metrics().value("subscriptions");
    let reading = Running::start(subscriber, &[&at(0)[..], &["-C", "3"]].concat());
    cluster.broker(1).wait_for_metric("subscriptions", |count| count > before);
    // That it is counted does not say that it is known everywhere: ask as another client would.
    let mut probe = cluster.client(1, "probe");
    probe.subscribe("weather", 0).unwrap();
    let lines = b"sunny\nrain\nsnow\n";
    let ran = run_with(publisher, &[&at(1)[..], &["-l"]].concat(), lines);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(reading.finish().text().as_bytes(), lines);

    let ran = run(publisher, &[&at(0)[..], &["-r", "-m", "kept", "-q", "1"]].concat());
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let ran = run(subscriber, &[&at(1)[..], &["-C", "1"]].concat());
    assert_eq!(ran.text(), "kept\n");
}
