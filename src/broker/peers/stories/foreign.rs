//! Whose a Session is, among several brokers: it moves with its user, and for nobody else.

use super::moves::session_present;
use super::*;
use crate::cluster::frame::{Adopted, Claim, ControlFrame};
use crate::cluster::identity::BootId;
use crate::ports::auth::SessionUser;

fn code(packets: &[Packet]) -> Option<ReasonCode> {
    match packets {
        [Packet::Connack(connack), ..] => Some(connack.reason_code),
        _ => None,
    }
}

fn open_as(cluster: &mut Cluster, node: usize, user: Option<&str>, id: &str) -> LineId {
    let line = cluster.connect_as(node, user, &connect(id, 600));
    cluster.pump();
    assert_eq!(code(&cluster.received(line)), Some(ReasonCode::Success));
    line
}

#[track_caller]
fn check_refused(cluster: &mut Cluster, node: usize, user: Option<&str>, connect: &Connect) {
    let line = cluster.connect_as(node, user, connect);
    cluster.pump();
    assert_eq!(code(&cluster.received(line)), Some(ReasonCode::NotAuthorized), "at {node}");
    assert!(cluster.is_closed(line));
}

/// The story: the Session left its connection and its broker for whoever asked for it.
#[test]
fn a_session_does_not_move_for_another_user() {
    for coordinator in 0..3 {
        for is_connected in [true, false] {
            let mut cluster = Cluster::new(3);
            let id = cluster.client_id_at(coordinator);
            let alice = Some("alice");
            let mut device = open_as(&mut cluster, 0, alice, &id);
            subscribed(&mut cluster, device, "secret", QoS::AtLeastOnce);
            if !is_connected {
                cluster.lose(device);
            }
            // With Clean Start it would have ended.
            for (user, expiry_secs) in [(Some("bob"), 600), (Some("bob"), 0), (None, 600)] {
                for node in [0, 1, 2] {
                    check_refused(&mut cluster, node, user, &connect(&id, expiry_secs));
                }
            }
            let writer = open(&mut cluster, 2, "writer", 0);
            cluster.send(writer, &publish("secret", "one", QoS::AtLeastOnce, 1));
            cluster.pump();
            if is_connected {
                assert!(cluster.is_open(device), "it has noticed");
                assert_eq!(payloads(&cluster.received(device)), ["one"]);
                cluster.send(device, &puback(1));
                cluster.lose(device);
            }
            cluster.send(writer, &publish("secret", "two", QoS::AtLeastOnce, 2));
            cluster.pump();
            // It moves with its user, twice, and is refused to others on its way.
            for node in [1, 2] {
                device = cluster.connect_as(node, alice, &connect(&id, 600));
                cluster.pump();
                let answers = cluster.received(device);
                assert!(session_present(&answers), "{answers:?}");
                let waited: &[&str] = if is_connected { &["two"] } else { &["one", "two"] };
                assert_eq!(payloads(&answers), waited);
                check_refused(&mut cluster, node, Some("bob"), &connect(&id, 600));
                check_refused(&mut cluster, 0, Some("bob"), &connect(&id, 600));
                assert!(cluster.is_open(device));
            }
            // One that has ended is anybody's.
            cluster.lose(device);
            for (user, expiry_secs) in [(alice, 0), (Some("bob"), 600)] {
                let line = cluster.connect_as(0, user, &connect(&id, expiry_secs));
                cluster.pump();
                assert_eq!(code(&cluster.received(line)), Some(ReasonCode::Success));
                cluster.lose(line);
                cluster.pump();
            }
            for node in 0..3 {
                let counts = cluster.ownership(node);
                assert_eq!((counts.pending, counts.imports, counts.exports), (0, 0, 0));
            }
        }
    }
}

/// Two users ask at two brokers, in one instant, for what is one of theirs.
#[test]
fn of_two_users_at_two_brokers_its_own_gets_the_session() {
    for seed in 0..200 {
        let mut cluster = Cluster::seeded(3, seed);
        let device = open_as(&mut cluster, 0, Some("alice"), "a");
        subscribed(&mut cluster, device, "secret", QoS::AtLeastOnce);
        cluster.lose(device);
        let foreign = cluster.connect_as(1, Some("bob"), &connect("a", 600));
        let mut own = cluster.connect_as(2, Some("alice"), &connect("a", 600));
        cluster.pump();
        let refused = code(&cluster.received(foreign)).expect("there is an answer");
        assert!(refused.is_error(), "seed {seed}: {refused:?}");
        let answers = cluster.received(own);
        if code(&answers) == Some(ReasonCode::ServerBusy) {
            // It was the earlier of two who waited, and comes again.
            own = cluster.connect_as(2, Some("alice"), &connect("a", 600));
            cluster.pump();
            assert!(session_present(&cluster.received(own)), "seed {seed}");
        } else {
            assert!(session_present(&answers), "seed {seed}: {answers:?}");
        }
        assert!(cluster.is_open(own), "seed {seed}");
    }
}

/// A broker of an earlier version does not say who asks: what it says is read as it is.
#[test]
fn what_is_told_to_earlier_versions_is_in_their_words() {
    let user = SessionUser::Known(Some("alice".into()));
    let claim = Claim { claim: 1, client_id: "c".to_owned(), wants_session: true, user };
    let told = ControlFrame::Claim(claim.clone()).told_in(3);
    let unsaid = Claim { user: SessionUser::Unknown, ..claim.clone() };
    assert_eq!(told, Some(ControlFrame::Claim(unsaid)));
    let frame = ControlFrame::Claim(claim);
    assert_eq!(frame.clone().told_in(4), Some(frame));
    let foreign = ControlFrame::Foreign { claim: 1, holder: SessionUser::Known(None) };
    assert_eq!(foreign.told_in(3), None);
    let adopted = ControlFrame::Adopted(Adopted { dead: BootId(1), epoch: 1, version: 1 });
    let mourned = ControlFrame::Mourned { dead: BootId(1), data: 1 };
    for frame in [adopted, mourned] {
        assert_eq!(frame.clone().told_in(4), None);
        assert_eq!(frame.clone().told_in(5), Some(frame));
    }
}
