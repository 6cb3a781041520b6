//! Brokers that are asked to end: what the others, and they themselves, say of it.

use super::start_errors::joining;
use super::{ClusterUnderTest, Plan};
use crate::harness::free_port;

/// Lines that somebody is to look into.
fn alarms(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

/// A rolling restart filled the logs with doubts, deaths and broken links, as if brokers had crashed.
#[test]
fn a_broker_that_is_asked_to_end_is_one_line_at_the_others() {
    let Some(mut cluster) = ClusterUnderTest::start(3) else { return };
    for number in 1..=3 {
        cluster.wait_until(number, "its links stand", |cluster| {
            let metrics = cluster.broker(number).metrics();
            metrics.sum("peer_link_up") == 2 && metrics.value("links_accepted") == 2
        });
    }
    let _client = cluster.client(3, "somebody");
    let before = [1, 2, 3].map(|number| cluster.broker(number).log().len());
    cluster.terminate(3);
    for number in 1..=2 {
        cluster.broker(number).wait_for_log("a broker has left");
        // Whatever else there is to say is said by the time it is known to be gone.
        cluster.wait_until(number, "it is gone", |cluster| {
            let (_, report) = cluster.broker(number).ask_admin("GET", "/cluster").unwrap();
            !report.contains("broker-3")
        });
    }
    for (place, number) in [1, 2, 3].into_iter().enumerate() {
        let log = cluster.broker(number).log();
        let since = &log[before[place]..];
        assert_eq!(alarms(since), Vec::<&str>::new(), "broker-{number}: {since}");
        let goodbyes = since.lines().filter(|line| line.contains("a broker has left")).count();
        assert_eq!(goodbyes, usize::from(number != 3), "broker-{number}: {since}");
    }
}

/// One that is killed is none that has left.
#[test]
fn a_broker_that_is_killed_is_declared_dead() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(2)) else { return };
    let before = cluster.broker(1).log().len();
    cluster.kill(2);
    cluster.wait_until_declared_dead(2, 1);
    let log = cluster.broker(1).log();
    let lines = |what| log[before..].lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("a broker has left"), 0, "{log}");
    assert_eq!(lines("a broker is in doubt"), 1, "{log}");
}

/// It waited for two seconds, and then said that the others would declare it dead. There was nobody who
/// knew of it.
#[test]
fn a_broker_that_never_joined_ends_without_a_word_about_it() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut broker = joining(&nobody, "early", &[]);
    broker.wait_for_log("no ZooKeeper session can be made");
    assert!(broker.terminate().success());
    let log = broker.log();
    assert!(!log.contains("was not left in time"), "{log}");
}
