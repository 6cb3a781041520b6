//! A Client Identifier that connects on another broker: the newest connection has the Session.

use std::sync::{Arc, Barrier};
use std::thread;

use super::ClusterUnderTest;
use crate::conformance::{Client, Connect, Event, Version, kind};

/// The CONNECT of a client that is the same on every broker.
fn connect(version: Version, client_id: &str) -> Connect {
    Connect::new(version, client_id)
}

/// The old socket is told 0x8E (3.1.1: closed), and the newcomer is alive.
#[track_caller]
pub(super) fn check_taken_over(mut old: Client, new: &mut Client, version: Version) {
    match version {
        Version::V5 => {
            let reason = old.refused(&[0x8E]).unwrap();
            assert_eq!(reason.expect("a client of 5.0 is told").code, 0x8E);
        }
        Version::V4 => old.closed().unwrap(),
    }
    new.ping().unwrap();
}

#[test]
fn a_client_that_connects_on_another_broker_takes_its_session_over() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    for version in [Version::V4, Version::V5] {
        let client_id = format!("roaming{version:?}");
        let mut old = cluster.stage(1, version).enter(&connect(version, &client_id)).unwrap();
        for broker in [2, 3, 1, 3, 2] {
            let s = cluster.stage(broker, version);
            let mut new = s.enter(&connect(version, &client_id)).unwrap();
            check_taken_over(old, &mut new, version);
            old = new;
        }
    }
}

/// Subscriptions and the queue move with a Session that is kept.
#[test]
fn subscriptions_and_queue_move_with_a_kept_session() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let connect = connect(Version::V5, "kept").kept();
    let mut old = cluster.stage(1, Version::V5).enter(&connect).unwrap();
    old.subscribe("t/#", 1).unwrap();
    let mut publisher = cluster.client(3, "publisher");
    publisher.publish("t/1", "first", 1).unwrap();
    // Delivered and not acknowledged: it is still owed.
    assert_eq!(old.message().unwrap().text(), "first");
    let mut new = cluster.stage(2, Version::V5).enter(&connect).unwrap();
    assert!(new.connack.session_present);
    let again = new.receive("t/1", "first", 1).unwrap();
    assert!(again.dup);
    check_taken_over(old, &mut new, Version::V5);
    publisher.publish("t/2", "second", 1).unwrap();
    new.receive("t/2", "second", 1).unwrap();
    new.quiet().unwrap();
}

/// The CONNECT of one Client Identifier comes to all three brokers in the same millisecond, again and
/// again: exactly one connection is alive in the end.
#[test]
fn connects_at_once_on_three_brokers_leave_exactly_one() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    for round in 0..20 {
        let at_once = Arc::new(Barrier::new(3));
        let competitors = [1, 2, 3].map(|broker| {
            let s = cluster.stage(broker, Version::V5);
            let at_once = Arc::clone(&at_once);
            thread::spawn(move || {
                let mut client = s.open().unwrap();
                at_once.wait();
                client.send(&connect(Version::V5, "contended").bytes());
                match client.event().unwrap() {
                    Event::Packet(packet) if packet.kind() == kind::CONNACK => {
                        (packet.reason().unwrap().code == 0).then_some(client)
                    }
                    Event::Packet(packet) => panic!("{}", packet.shown()),
                    Event::Closed => None,
                }
            })
        });
        let mut inside: Vec<Client> =
            competitors.into_iter().filter_map(|one| one.join().unwrap()).collect();
        // All but one are told, in whatever order: read each until it answers or is closed.
        let alive = inside.iter_mut().filter_map(|client| is_alive(client).then_some(())).count();
        assert_eq!(alive, 1, "round {round}");
    }
}

fn is_alive(client: &mut Client) -> bool {
    client.send(&[0xC0, 0]);
    loop {
        match client.event().unwrap() {
            Event::Packet(packet) if packet.kind() == kind::PINGRESP => return true,
            Event::Packet(packet) => assert_eq!(packet.reason().unwrap().code, 0x8E),
            Event::Closed => return false,
        }
    }
}
