//! What a broker had retained that died before it had told everybody.

use super::retained::{seen, value};
use super::*;
use crate::cluster::frame::ControlFrame;
use crate::cluster::lane::LaneOptions;
use crate::cluster::version::Version;

/// All brokers that live do what they do now and then.
fn ping_all(cluster: &mut Cluster, nodes: &[usize]) {
    for node in nodes {
        cluster.ping(*node);
    }
    cluster.pump();
}

/// A broker told one of the two others of a retained message, and one of a deletion, and was killed: they
/// had different ones from then on, and what a new subscriber was sent depended on where it came.
#[test]
fn what_a_dead_broker_told_one_of_the_others_all_of_them_have() {
    let mut cluster = Cluster::new(3);
    let writer = open(&mut cluster, 0, "writer", 0);
    for (number, topic) in (1..).zip(["changed", "deleted", "former"]) {
        cluster.send(writer, &retained(topic, topic, QoS::AtLeastOnce, number));
    }
    cluster.pump();
    cluster.hold(0, 2);
    cluster.send(writer, &retained("changed", "new", QoS::AtLeastOnce, 4));
    cluster.send(writer, &retained("deleted", "", QoS::AtLeastOnce, 5));
    cluster.pump();
    assert_eq!(seen(&mut cluster, 1), ["new", "former"]);
    cluster.kill(0);
    cluster.pump();
    assert_eq!(seen(&mut cluster, 2), ["changed", "deleted", "former"], "nobody has told it yet");
    ping_all(&mut cluster, &[1, 2]);
    for node in [1, 2] {
        assert_eq!(seen(&mut cluster, node), ["new", "former"], "broker {node}");
        cluster.ping(node);
        let has_legacies = cluster.at(node, |_, peers| peers.has_legacies());
        assert!(!has_legacies, "broker {node} has told all");
    }
}

/// A broker told one of two others of a retained message and was gone. The one that knew of it told a broker that
/// joined, and was killed. Then the first one was declared dead, which the newcomer had never met: it told
/// nobody, and nobody else knew of it.
#[test]
fn what_a_newcomer_was_told_of_one_that_died_before_it_came_all_have() {
    let mut cluster = Cluster::new(3);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.hold(0, 2);
    cluster.send(writer, &retained("t", "new", QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.vanish(0);
    let newcomer = cluster.join();
    cluster.hold(1, newcomer);
    cluster.pump();
    cluster.release(1, newcomer);
    cluster.pump();
    for dead in [1, 0] {
        cluster.kill(dead);
        cluster.pump();
        ping_all(&mut cluster, &[2, newcomer]);
    }
    for node in [newcomer, 2] {
        assert_eq!(seen(&mut cluster, node), ["new"], "broker {node}");
    }
}

/// What somebody who lives has published since then is later than what is told of the dead one.
#[test]
fn what_is_told_of_a_dead_broker_does_not_replace_what_is_later() {
    let mut cluster = Cluster::new(3);
    let first = open(&mut cluster, 0, "first", 0);
    let second = open(&mut cluster, 2, "second", 0);
    cluster.hold(0, 2);
    cluster.send(first, &retained("t", "old", QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.elapse(10);
    cluster.hold(2, 1);
    cluster.send(second, &retained("t", "new", QoS::AtLeastOnce, 1));
    cluster.kill(0);
    cluster.pump();
    ping_all(&mut cluster, &[1, 2]);
    cluster.release(2, 1);
    cluster.pump();
    for node in [1, 2] {
        assert_eq!(seen(&mut cluster, node), ["new"], "broker {node}");
    }
}

/// Who does not take what it is told is told the rest when it does again, and nothing is cut.
#[test]
fn a_broker_that_does_not_keep_up_is_told_of_the_dead_later() {
    let lanes = LaneOptions { control_bytes_max: 4 * 1_024, ..LaneOptions::default() };
    let mut cluster = Cluster::with_lanes(3, lanes);
    let writer = open(&mut cluster, 0, "writer", 0);
    let large = "x".repeat(20_000);
    cluster.hold(0, 2);
    cluster.send(writer, &retained("t", &large, QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.hold(1, 2);
    while cluster.lane(1, 2).control_bytes <= 1_024 {
        cluster.ping(1);
    }
    cluster.kill(0);
    cluster.pump();
    ping_all(&mut cluster, &[1, 2]);
    assert!(cluster.lane(1, 2).control_bytes < large.len());
    cluster.release(1, 2);
    cluster.pump();
    ping_all(&mut cluster, &[1, 2]);
    assert_eq!(seen(&mut cluster, 2), [large]);
    assert_eq!(cluster.lane(1, 2).cuts, 0);
}

/// What a broker was told is given up when it takes nothing for long, and what the dead had retained with
/// that: it is told again.
#[test]
fn what_was_given_up_is_told_again() {
    let lanes = LaneOptions { control_bytes_max: 4 * 1_024, ..LaneOptions::default() };
    let mut cluster = Cluster::with_lanes(3, lanes);
    let writer = open(&mut cluster, 0, "writer", 0);
    cluster.hold(0, 2);
    cluster.send(writer, &retained("t", "new", QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.hold(1, 2);
    cluster.kill(0);
    cluster.pump();
    cluster.ping(1);
    while cluster.lane(1, 2).cuts == 0 {
        cluster.at(1, |turn, peers| turn.tell(&peers.live()[0], &ControlFrame::RetainedComplete));
    }
    cluster.cut(1, 2);
    cluster.heal(1, 2);
    cluster.pump();
    ping_all(&mut cluster, &[1, 2]);
    ping_all(&mut cluster, &[1, 2]);
    assert_eq!(seen(&mut cluster, 2), ["new"]);
}

/// A broker was killed together with all that it had told, and one that came later found in the tree of znodes
/// what it had written there. Another one had come as well and was cut off from the tree, until the ensemble
/// had collected that: it never had it.
#[test]
fn what_only_the_tree_knew_of_a_dead_broker_is_told_to_all() {
    let mut cluster = Cluster::new(3);
    let dead = cluster.at(0, |_, peers| peers.boot_id());
    cluster.kill(0);
    cluster.pump();
    ping_all(&mut cluster, &[1, 2]);
    for topic in ["first", "second"] {
        let mut found = value(topic, Some(topic), 1);
        found.version.boot_id = dead;
        cluster.at(1, |turn, peers| turn.merge_found(peers, found));
    }
    ping_all(&mut cluster, &[1, 2]);
    assert_eq!(seen(&mut cluster, 2), ["first", "second"]);
    cluster.ping(1);
    assert!(!cluster.at(1, |_, peers| peers.has_legacies()));
    // What is known is nobody's legacy, nor is what somebody who lives has written.
    let mut known = value("first", Some("first"), 1);
    known.version.boot_id = dead;
    let mut living = value("third", Some("third"), 1);
    living.version.boot_id = cluster.at(2, |_, peers| peers.boot_id());
    cluster.at(1, |turn, peers| {
        turn.merge_found(peers, known);
        turn.merge_found(peers, living);
        assert!(!peers.has_legacies());
    });
}

/// Of more than others are told it is the latest changes, a part at a time.
#[test]
fn of_too_many_changes_the_latest_are_told() {
    let mut cluster = Cluster::new(3);
    let dead = cluster.at(0, |_, peers| peers.boot_id());
    let untold = 100;
    cluster.at(1, |turn, peers| {
        for number in 1..=16_384 + untold {
            let mut deletion = value(&format!("{number:05}"), None, 1);
            deletion.version = Version { time: number, boot_id: dead };
            turn.merge_value(peers, deletion);
        }
    });
    cluster.kill(0);
    cluster.pump();
    let is_telling = |cluster: &mut Cluster| cluster.at(1, |_, peers| peers.has_legacies());
    let mut pings = 0;
    while is_telling(&mut cluster) {
        cluster.ping(1);
        cluster.pump();
        pings += 1;
    }
    assert!(pings > 4, "not all at once, but within {pings}");
    assert_eq!(cluster.broker(1).counters().totals().retained_untold, untold);
    for number in [untold, untold + 1] {
        let mut older = value(&format!("{number:05}"), Some(&number.to_string()), 0);
        older.version = Version { time: 0, boot_id: dead };
        cluster.merge_value(2, older);
    }
    assert_eq!(seen(&mut cluster, 2), [untold.to_string()], "the other one is known to be deleted");
}
