//! Slot maps that brokers tell each other while nobody can read the tree of znodes.

use std::task::Waker;

use super::*;
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::slot_record::{Home, SlotRecord};

fn record(mzxid: i64) -> SlotRecord {
    let home = Home { czxid: 3, ctime_millis: 1_000 };
    SlotRecord { home, mzxid, content: bytes::Bytes::from_static(b"map") }
}

/// Broker `node` goes by the map of this epoch.
fn follow(cluster: &mut Cluster, node: usize, epoch: i64) {
    cluster.at(node, |_, peers| peers.slot_news().set_own(epoch, record(epoch)));
}

/// Broker `node` cannot read the tree, and asks the others.
fn ask(cluster: &mut Cluster, node: usize) {
    cluster.at(node, |turn, peers| {
        turn.ask_for_slots(peers);
    });
}

fn told(cluster: &mut Cluster, node: usize) -> Vec<i64> {
    let take = |peers: &crate::broker::peers::Peers| {
        peers.slot_news().take_told(Waker::noop()).map(|record| record.mzxid).collect()
    };
    cluster.at(node, |_, peers| take(peers))
}

#[test]
fn whoever_has_a_later_map_tells_it_and_nobody_else() {
    let mut cluster = Cluster::new(3);
    for (node, epoch) in [(0, 7), (1, 9), (2, 7)] {
        follow(&mut cluster, node, epoch);
    }
    for node in 0..3 {
        ask(&mut cluster, node);
    }
    cluster.pump();
    assert_eq!(told(&mut cluster, 0), [9]);
    assert_eq!(told(&mut cluster, 1), [0; 0]);
    assert_eq!(told(&mut cluster, 2), [9]);
    assert_eq!(told(&mut cluster, 0), [0; 0], "it is told once");
}

#[test]
fn who_has_read_no_map_asks_nobody() {
    let mut cluster = Cluster::new(2);
    follow(&mut cluster, 1, 9);
    ask(&mut cluster, 0);
    cluster.pump();
    assert_eq!(told(&mut cluster, 0), [0; 0]);
}

/// It would take the frame for a fault, and the link to it would never stand again.
#[test]
fn a_broker_of_an_earlier_wire_is_not_asked() {
    let mut cluster = Cluster::new(1);
    follow(&mut cluster, 0, 7);
    let mut lane_of = |boot_id, newest| {
        let member = Member {
            name: "other".into(),
            boot_id: BootId(boot_id),
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions { oldest: 1, newest },
            state: MemberState::Up,
        };
        cluster.at(0, |turn, peers| turn.add_peer(peers, &member))
    };
    let (earlier, later) = (lane_of(77, 1), lane_of(78, 2));
    let offered = || [&earlier, &later].map(|lane| lane.counts().offered.control);
    let before = offered();
    ask(&mut cluster, 0);
    assert_eq!(offered(), [before[0], before[1] + 1]);
}
