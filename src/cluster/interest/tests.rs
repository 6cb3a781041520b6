//! Both ends of interest.

use super::*;

fn filter(text: &'static str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn entry(text: &'static str, qos: QoS, weight: u8) -> InterestEntry {
    InterestEntry { filter: filter(text), qos, weight }
}

#[test]
fn peers_hear_of_distinct_filters_and_of_the_highest_qos() {
    let mut interest = LocalInterest::new(1);
    let added = |text, qos| InterestChange::Added(entry(text, qos, 1));
    assert_eq!(interest.add(&filter("a/+"), QoS::AtMostOnce), (added("a/+", QoS::AtMostOnce), 1));
    assert_eq!(interest.add(&filter("a/+"), QoS::AtMostOnce), (InterestChange::Nothing, 1));
    assert_eq!(interest.add(&filter("a/+"), QoS::ExactlyOnce), (added("a/+", QoS::ExactlyOnce), 2));
    assert_eq!(interest.remove(&filter("a/+"), QoS::ExactlyOnce), added("a/+", QoS::AtMostOnce));
    assert_eq!(interest.remove(&filter("a/+"), QoS::AtMostOnce), InterestChange::Nothing);
    assert_eq!(interest.remove(&filter("a/+"), QoS::AtMostOnce), InterestChange::Removed);
    assert_eq!((interest.len(), interest.checksum(), interest.version()), (0, 0, 4));
}

#[test]
fn a_second_subscriber_waits_for_what_the_first_one_caused() {
    let mut interest = LocalInterest::new(1);
    let (_, first) = interest.add(&filter("a"), QoS::AtLeastOnce);
    let (_, other) = interest.add(&filter("b"), QoS::AtLeastOnce);
    let (change, second) = interest.add(&filter("a"), QoS::AtMostOnce);
    assert_eq!(change, InterestChange::Nothing);
    assert_eq!(second, first, "not what came since");
    assert!(other > first);
}

#[test]
fn a_shared_subscription_weighs_as_many_as_there_are_members() {
    let mut interest = LocalInterest::new(1);
    let shared = "$share/g/a";
    let (_, first) = interest.add(&filter(shared), QoS::AtLeastOnce);
    let (change, second) = interest.add(&filter(shared), QoS::AtLeastOnce);
    assert_eq!(change, InterestChange::Added(entry(shared, QoS::AtLeastOnce, 2)));
    assert_eq!(second, first, "its peers send what the group is to get already");
}

#[test]
fn members_that_can_take_nothing_do_not_weigh() {
    let mut interest = LocalInterest::new(1);
    let shared = filter("$share/g/a");
    for _ in 0..2 {
        let _announced = interest.add(&shared, QoS::AtLeastOnce);
    }
    let weighs = |weight| InterestChange::Added(entry("$share/g/a", QoS::AtLeastOnce, weight));
    assert_eq!(interest.set_short(&shared, 1), weighs(1));
    assert_eq!(interest.set_short(&shared, 1), InterestChange::Nothing);
    assert_eq!(interest.set_short(&shared, 2), weighs(0));
    assert_eq!(interest.remove(&shared, QoS::AtLeastOnce), InterestChange::Nothing);
    assert_eq!(interest.set_short(&shared, 0), weighs(1));
    assert_eq!(interest.shared_filters().count(), 1);
    assert_eq!(interest.remove(&shared, QoS::AtLeastOnce), InterestChange::Removed);
    assert_eq!((interest.shared_filters().count(), interest.checksum()), (0, 0));
    assert_eq!(interest.set_short(&shared, 1), InterestChange::Nothing, "it is gone");
}

#[test]
fn both_ends_agree_after_deltas_and_after_a_snapshot() {
    let mut local = LocalInterest::new(1);
    let mut remote = RemoteInterest::new(2);
    for (text, qos) in [("a", QoS::AtMostOnce), ("b/#", QoS::ExactlyOnce)] {
        if let (InterestChange::Added(entry), _) = local.add(&filter(text), qos) {
            let changes = remote.add(local.version(), vec![entry]);
            assert_eq!(changes.added.len(), 1);
        }
    }
    assert_eq!((remote.version(), remote.checksum()), (local.version(), local.checksum()));
    let _announced_by_the_snapshot = local.add(&filter("c"), QoS::AtMostOnce);
    assert_eq!(local.remove(&filter("a"), QoS::AtMostOnce), InterestChange::Removed);
    remote.begin_snapshot();
    let _part = remote.add(local.version(), local.entries().collect());
    assert_eq!(remote.len(), 2, "nothing changes before it is whole");
    let changes = remote.complete_snapshot(local.version(), local.checksum()).unwrap();
    assert_eq!(changes.added, [entry("c", QoS::AtMostOnce, 1)]);
    assert_eq!(changes.removed, [filter("a")]);
    assert_eq!((remote.version(), remote.checksum()), (local.version(), local.checksum()));
}

/// The sum that ends a snapshot was never looked at: half of one counted as all there is.
#[test]
fn a_snapshot_that_is_not_whole_changes_nothing_and_is_asked_for_again() {
    let mut local = LocalInterest::new(1);
    for text in ["a", "b", "$share/g/c"] {
        let _announced = local.add(&filter(text), QoS::AtLeastOnce);
    }
    let (version, checksum) = (local.version(), local.checksum());
    let mut remote = RemoteInterest::new(2);
    remote.begin_snapshot();
    let _part = remote.add(version, local.entries().take(2).collect());
    assert_eq!(remote.complete_snapshot(version, checksum), Err(SnapshotMismatch));
    assert!(remote.awaits_snapshot() && remote.is_in_snapshot());
    assert_eq!((remote.len(), remote.version()), (0, 0));
    // Nor does the end of one whose beginning has not come.
    remote.begin_snapshot();
    let _part = remote.add(version, local.entries().collect());
    assert_eq!(remote.complete_snapshot(version, checksum).unwrap().added.len(), 3);
    assert!(!remote.awaits_snapshot());
    assert_eq!(remote.complete_snapshot(version, checksum), Err(SnapshotMismatch));
    assert!(remote.awaits_snapshot());
}
