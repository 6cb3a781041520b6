//! Stored Sessions that move: what their former holder does until the new one has them, and what it
//! leaves behind.

use super::moves::session_present;
use super::*;
use crate::broker::peers::testing::Closed;
use crate::cluster::slots::Slot;
use crate::ports::store::Operation;

pub(super) fn takes(operation: &Operation) -> bool {
    matches!(operation, Operation::TakeSession { .. })
}

pub(super) fn reads(operation: &Operation) -> bool {
    matches!(operation, Operation::ListSessions { .. })
}

fn enqueues(operation: &Operation) -> bool {
    matches!(operation, Operation::Enqueue { .. })
}

/// A Client Identifier of such a slot.
pub(super) fn client_id_in(fits: impl Fn(usize) -> bool) -> String {
    let mut ids = (0..).map(|number| format!("sleeper-{number}"));
    ids.find(|id| fits(Slot::of(id).index())).unwrap()
}

/// A client whose Session is kept at broker 0, subscribed to `t`, and away.
pub(super) fn sleeper(cluster: &mut Cluster, id: &str) {
    let line = open(cluster, 0, id, 600);
    subscribed(cluster, line, "t", QoS::AtLeastOnce);
    cluster.lose(line);
    cluster.pump();
}

fn pubacks(packets: &[Packet]) -> usize {
    count(packets, |packet| matches!(packet, Packet::Puback(_)))
}

fn publish_one(cluster: &mut Cluster, writer: LineId, payload: &str, id: u16) {
    cluster.send(writer, &publish("t", payload, QoS::AtLeastOnce, id));
    cluster.pump();
}

/// Nobody had a Session that was handed over when the broker died that was to take it from the store.
#[test]
fn who_was_to_take_a_session_dies_and_its_former_holder_has_it_again() {
    let (mut cluster, ways) = Cluster::over_database(4);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 3, "writer", 0);
    publish_one(&mut cluster, writer, "one", 1);
    ways[2].close(Closed::Unreached, takes);
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    assert_eq!(cluster.broker(0).registry().len(), 0, "it has been handed over");
    assert_eq!(cluster.ownership(0).exports, 1, "and is not let go of");
    publish_one(&mut cluster, writer, "two", 2);
    assert_eq!(pubacks(&cluster.received(writer)), 1, "the second one waits for the store");
    cluster.kill(2);
    cluster.pump();
    assert_eq!(pubacks(&cluster.received(writer)), 1);
    assert_eq!((cluster.broker(0).registry().len(), cluster.ownership(0).exports), (1, 0));
    let line = cluster.connect(1, &connect(&id, 600));
    publish_one(&mut cluster, writer, "three", 3);
    let got = cluster.received(line);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["one", "two", "three"]);
}

/// Who coordinated a Session next did not know that its former holder asks the store for it, promised it to a
/// third broker, and had the former one end what it got: it ended the Session in the store, before the third
/// had taken it.
#[test]
fn a_session_that_another_broker_is_about_to_take_is_not_ended_in_the_store() {
    let (mut cluster, ways) = Cluster::over_database(4);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 3, "writer", 0);
    ways[2].close(Closed::Unreached, takes);
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    ways[0].close(Closed::Unreached, takes);
    cluster.kill(2);
    cluster.pump();
    ways[3].close(Closed::Unreached, takes);
    let line = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    assert_eq!((cluster.broker(0).registry().len(), cluster.ownership(0).exports), (0, 1));
    publish_one(&mut cluster, writer, "one", 1);
    assert_eq!(cluster.received(writer), [], "somebody may want it");
    ways[0].open();
    cluster.pump();
    ways[3].open();
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got), "{got:?}");
    assert_eq!(payloads(&got), ["one"]);
    assert_eq!(pubacks(&cluster.received(writer)), 1);
    assert_eq!((cluster.broker(0).registry().len(), cluster.ownership(0).exports), (0, 0));
}

/// A third broker was promised the Session when the one that was to take it was dead. Its former holder, which
/// asked the store for it just then, forgot what it wants, and so did the store's answer: what was published
/// before somebody came for it was for nobody, and was acknowledged.
#[test]
fn what_a_session_wants_is_known_also_when_a_third_broker_was_promised_it() {
    let (mut cluster, ways) = Cluster::over_database(4);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 1, "writer", 0);
    for node in [0, 2] {
        ways[node].close(Closed::Unreached, takes);
    }
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    let waiting = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    cluster.lose(waiting);
    cluster.declare_dead(2);
    cluster.pump();
    ways[0].open();
    cluster.assign_slots();
    cluster.pump();
    publish_one(&mut cluster, writer, "one", 1);
    assert_eq!(pubacks(&cluster.received(writer)), 1);
    let line = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got), "{got:?}");
    assert_eq!(payloads(&got), ["one"]);
    assert_eq!((cluster.broker(0).registry().len(), cluster.ownership(0).exports), (0, 0));
}

/// The former holder had forgotten what the Session wants as soon as it was handed over. It died, and the
/// Session was not where it was to be: what was published before others had it was for nobody.
#[test]
fn what_is_published_for_a_session_whose_former_holder_dies_waits_until_others_have_it() {
    let (mut cluster, ways) = Cluster::over_database(4);
    // Broker 1 coordinates it, and does so when the slots are given to 1, 2 and 3.
    let id = client_id_in(|slot| slot % 4 == 1 && slot % 3 == 0);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 3, "writer", 0);
    ways[2].close(Closed::Unreached, takes);
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    assert_eq!(cluster.ownership(0).exports, 1);
    ways[1].close(Closed::Unreached, reads);
    cluster.kill(0);
    cluster.pump();
    // Broker 1 has it, and has not read it; broker 2 comes too late.
    ways[2].open();
    cluster.pump();
    publish_one(&mut cluster, writer, "one", 1);
    assert_eq!(cluster.received(writer), [], "others are to have the session first");
    ways[1].open();
    cluster.pump();
    assert_eq!(pubacks(&cluster.received(writer)), 1);
    let line = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(line)), ["one"]);
}

/// A client was away whose message another broker had not stored. Its Session did not move before that
/// was done, which may wait for just that.
#[test]
fn a_stored_session_moves_before_others_have_answered_for_what_its_client_published() {
    let (mut cluster, ways) = Cluster::over_database(3);
    let id = cluster.client_id_at(1);
    let reader = open(&mut cluster, 1, "reader", 600);
    subscribed(&mut cluster, reader, "t", QoS::ExactlyOnce);
    let first = open(&mut cluster, 0, &id, 600);
    ways[1].close(Closed::Unreached, enqueues);
    let message = publish("t", "one", QoS::ExactlyOnce, 7);
    cluster.send(first, &message);
    cluster.pump();
    assert_eq!(cluster.received(first), [], "broker 1 has not stored it");
    cluster.lose(first);
    let second = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    assert!(session_present(&cluster.received(second)), "it is here all the same");
    // It is sent again, to whoever has not answered, and comes once.
    cluster.send(second, &message);
    ways[1].open();
    cluster.pump();
    assert!(matches!(&cluster.received(second)[..], [Packet::Pubrec(_)]));
    assert_eq!(payloads(&cluster.received(reader)), ["one"]);
}

/// The store refused the former holder a message, and took the next one. The new holder, which had both
/// in memory, put the first behind the second.
#[test]
fn what_the_store_refused_its_former_holder_does_not_come_behind_later_ones() {
    let (mut cluster, ways) = Cluster::over_database(4);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    let writers = [1, 2].map(|number| open(&mut cluster, 1, &format!("writer-{number}"), 0));
    // So that nothing is frozen: broker 3 does not say that all it has sent has come.
    cluster.hold(0, 3);
    let second = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    ways[0].close(Closed::Failing, enqueues);
    publish_one(&mut cluster, writers[0], "one", 1);
    ways[0].open();
    publish_one(&mut cluster, writers[1], "two", 1);
    cluster.release(0, 3);
    cluster.pump();
    let got = cluster.received(second);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["two"]);
    assert_eq!(pubacks(&cluster.received(writers[1])), 1);
    assert_eq!(pubacks(&cluster.received(writers[0])), 0, "it is not said to be there");
    assert!(cluster.is_closed(writers[0]));
    // Its publisher sends it again.
    let writer = open(&mut cluster, 1, "writer-1", 0);
    publish_one(&mut cluster, writer, "one", 1);
    assert_eq!(payloads(&cluster.received(second)), ["one"]);
}
