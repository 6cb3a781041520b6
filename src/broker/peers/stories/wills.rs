//! A broker is killed, and the wills of its clients are published by another one, once.

use super::*;
use crate::mqtt::{Connect, Will};

pub(super) fn with_will(id: &str, delay_secs: u32, expiry_secs: u32) -> Connect {
    let will = Will {
        topic: crate::mqtt::TopicName::try_from("w").unwrap(),
        payload: id.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval_secs: delay_secs,
        properties: None,
    };
    Connect { will: Some(Box::new(will)), ..connect(id, expiry_secs) }
}

fn enter(cluster: &mut Cluster, node: usize, connect: &Connect) -> LineId {
    let line = cluster.connect(node, connect);
    cluster.pump();
    assert!(cluster.is_open(line));
    let _connack = cluster.received(line);
    line
}

/// Somebody at every broker who hears of wills.
fn watchers(cluster: &mut Cluster, nodes: &[usize]) -> Vec<LineId> {
    let mut lines = Vec::new();
    for node in nodes {
        let line = open(cluster, *node, &format!("watcher-{node}"), 0);
        subscribed(cluster, line, "w", QoS::AtLeastOnce);
        lines.push(line);
    }
    lines
}

/// What each watcher has heard, once all that is due now has been done.
fn heard(cluster: &mut Cluster, watchers: &[LineId]) -> Vec<Vec<String>> {
    cluster.elapse(1);
    cluster.pump();
    let each = watchers.iter().map(|watcher| {
        let mut wills = payloads(&cluster.received(*watcher));
        wills.sort();
        wills
    });
    each.collect()
}

/// Whoever coordinates the client, its own broker included, somebody else has its will.
#[test]
fn the_wills_of_a_killed_broker_are_published_once() {
    let mut cluster = Cluster::new(3);
    let watchers = watchers(&mut cluster, &[0, 2]);
    let mut ids: Vec<_> = (0..3).map(|node| cluster.client_id_at(node)).collect();
    for id in &ids {
        enter(&mut cluster, 1, &with_will(id, 0, 0));
    }
    assert!(heard(&mut cluster, &watchers).iter().all(Vec::is_empty));
    cluster.kill(1);
    cluster.pump();
    ids.sort();
    assert_eq!(heard(&mut cluster, &watchers), [ids.clone(), ids]);
    assert!(heard(&mut cluster, &watchers).iter().all(Vec::is_empty));
}

#[test]
fn a_will_that_was_withdrawn_or_published_is_not_published_again() {
    let mut cluster = Cluster::new(3);
    let watchers = watchers(&mut cluster, &[0]);
    for node in 0..3 {
        let id = cluster.client_id_at(node);
        let polite = enter(&mut cluster, 1, &with_will(&id, 0, 0));
        cluster.send(polite, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
        cluster.pump();
        let dying = enter(&mut cluster, 1, &with_will(&id, 0, 0));
        cluster.lose(dying);
        cluster.pump();
        assert_eq!(heard(&mut cluster, &watchers), [[id]]);
    }
    cluster.kill(1);
    cluster.pump();
    assert!(heard(&mut cluster, &watchers)[0].is_empty());
}

#[test]
fn the_delay_of_a_will_is_waited_for() {
    let mut cluster = Cluster::new(3);
    let watchers = watchers(&mut cluster, &[0]);
    for node in 0..3 {
        let id = cluster.client_id_at(node);
        enter(&mut cluster, 1, &with_will(&id, 10, 60));
    }
    // The Session ends with its connection, and the delay with the Session.
    enter(&mut cluster, 1, &with_will("clean", 10, 0));
    cluster.kill(1);
    cluster.pump();
    assert_eq!(heard(&mut cluster, &watchers), [["clean"]]);
    cluster.elapse(9_990);
    assert!(heard(&mut cluster, &watchers)[0].is_empty());
    cluster.elapse(10);
    assert_eq!(heard(&mut cluster, &watchers)[0].len(), 3);
}

/// [MQTT-3.1.3-9]: the client is back before its will was due. One that begins another Session has
/// ended the one before.
#[test]
fn who_comes_back_within_the_delay_has_no_will_left() {
    for comes_before_the_news in [false, true] {
        let mut cluster = Cluster::new(3);
        let watchers = watchers(&mut cluster, &[0]);
        // Coordinated by who lives: who comes before the news could not come in otherwise.
        let (back, anew) = (cluster.client_id_at(2), cluster.client_id_at(0));
        for id in [&back, &anew] {
            enter(&mut cluster, 1, &with_will(id, 10, 60));
        }
        if comes_before_the_news {
            cluster.connect(2, &connect(&back, 60));
            cluster.connect(2, &connect(&anew, 0));
            cluster.kill(1);
            cluster.pump();
        } else {
            cluster.kill(1);
            cluster.pump();
            cluster.connect(2, &connect(&back, 60));
            cluster.connect(2, &connect(&anew, 0));
            cluster.pump();
        }
        assert_eq!(heard(&mut cluster, &watchers), [[anew]], "{comes_before_the_news}");
        cluster.elapse(20_000);
        assert!(heard(&mut cluster, &watchers)[0].is_empty());
    }
}

/// Whoever kept them is gone first, or keeps them no more since slots have moved.
#[test]
fn wills_find_another_keeper() {
    let mut cluster = Cluster::new(4);
    let watchers = watchers(&mut cluster, &[0]);
    let mut ids: Vec<_> = (0..4).map(|node| cluster.client_id_at(node)).collect();
    for id in &ids {
        enter(&mut cluster, 1, &with_will(id, 0, 0));
    }
    cluster.kill(2);
    cluster.pump();
    let newcomer = cluster.join();
    cluster.pump();
    cluster.assign_slots();
    cluster.pump();
    cluster.kill(3);
    cluster.pump();
    cluster.kill(1);
    cluster.pump();
    ids.sort();
    assert_eq!(heard(&mut cluster, &watchers), [ids]);
    let kept = [0, newcomer].map(|node| cluster.will_counts(node).kept);
    assert_eq!(kept, [0, 0]);
}

#[test]
fn every_will_is_with_one_keeper() {
    let mut cluster = Cluster::new(3);
    for number in 0..50 {
        enter(&mut cluster, number % 3, &with_will(&format!("c{number}"), 0, 0));
    }
    cluster.join();
    cluster.pump();
    cluster.assign_slots();
    cluster.pump();
    let counts: Vec<_> = (0..4).map(|node| cluster.will_counts(node)).collect();
    assert!(counts.iter().all(|counts| counts.secured == counts.own), "{counts:?}");
    assert_eq!(counts.iter().map(|counts| counts.kept).sum::<usize>(), 50, "{counts:?}");
}

/// Slots moved while wills were on their way to their keepers. The former keeper had them for good: it
/// published what had been withdrawn.
#[test]
fn a_will_that_was_on_its_way_when_slots_moved_is_let_go_of() {
    for seed in 0..40 {
        let mut cluster = Cluster::seeded(3, seed);
        let watchers = watchers(&mut cluster, &[0]);
        let ids: Vec<_> = (0..6).map(|number| format!("c{number}")).collect();
        let lines: Vec<_> =
            ids.iter().map(|id| enter(&mut cluster, 1, &with_will(id, 0, 0))).collect();
        for _ in 0..3 {
            let newcomer = cluster.join();
            for _ in 0..seed {
                cluster.step();
            }
            cluster.assign_slots();
            for _ in 0..seed {
                cluster.step();
            }
            cluster.pump();
            cluster.kill(newcomer);
            for _ in 0..seed {
                cluster.step();
            }
        }
        let (polite, dying) = lines.split_at(3);
        for line in polite {
            cluster
                .send(*line, &Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
        }
        cluster.pump();
        let counts = [0, 2].map(|node| cluster.will_counts(node).kept);
        assert_eq!(counts.iter().sum::<usize>(), dying.len(), "seed {seed}");
        cluster.kill(1);
        cluster.pump();
        assert_eq!(heard(&mut cluster, &watchers), [&ids[3..]], "seed {seed}");
    }
}

/// The bytes of wills kept for others are bounded.
#[test]
fn a_will_for_which_there_is_no_room_is_counted() {
    let mut cluster = Cluster::with_will_bytes(3, 15);
    let watchers = watchers(&mut cluster, &[0]);
    // Each is of nine bytes or more, and both go to the coordinator of their clients.
    for (node, id) in cluster.client_ids_at(0, 2).iter().enumerate() {
        enter(&mut cluster, node + 1, &with_will(id, 0, 0));
    }
    let secured = [1, 2].map(|node| cluster.will_counts(node).secured);
    assert_eq!((cluster.will_counts(0).kept, secured), (1, [1, 0]));
    cluster.kill(1);
    cluster.kill(2);
    cluster.pump();
    assert_eq!(heard(&mut cluster, &watchers)[0].len(), 1);
}

/// A client left, and came to another broker that died before it let it in. Its Session stayed where it was,
/// and its will was never published there but with the end of the Session.
#[test]
fn the_will_of_a_client_whose_session_stays_after_all_comes_when_it_was_due() {
    // The broker that has the Session hears of the other one's death before it is asked for it, or after it
    // has begun to hand it over.
    for (from, to) in [(1, 0), (0, 2)] {
        let mut cluster = Cluster::new(3);
        let id = cluster.client_id_at(1);
        let watchers = watchers(&mut cluster, &[1]);
        let device = enter(&mut cluster, 0, &with_will(&id, 300, 600));
        cluster.lose(device);
        cluster.elapse(100_000);
        cluster.pump();
        cluster.hold(from, to);
        cluster.connect(2, &connect(&id, 600));
        cluster.pump();
        cluster.kill(2);
        cluster.pump();
        if to == 0 {
            cluster.release(from, to);
        }
        cluster.pump();
        assert_eq!(cluster.broker(0).registry().len(), 1);
        cluster.elapse(199_998);
        assert_eq!(heard(&mut cluster, &watchers), [[""; 0]]);
        assert_eq!(heard(&mut cluster, &watchers), [[id]]);
        cluster.elapse(300_000);
        assert_eq!(heard(&mut cluster, &watchers), [[""; 0]], "once");
        assert_eq!(cluster.broker(0).registry().len(), 0);
    }
}
