//! Shared Subscriptions all of whose members were at a broker that died, with Sessions that are stored.

use std::sync::Arc;
use std::task::Waker;

use super::gone::message;
use super::moves::session_present;
use super::parting::{client_id_in, takes};
use super::*;
use crate::broker::peers::adoption::HeldFor;
use crate::broker::peers::testing::{Closed, Way};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::mqtt::TopicFilter;
use crate::ports::store::Operation;

const GROUP: &str = "$share/g/t";

fn adopts(operation: &Operation) -> bool {
    matches!(operation, Operation::TakeSessions { .. })
}

fn takes_any(operation: &Operation) -> bool {
    adopts(operation) || takes(operation)
}

/// Three brokers over a database, a writer at broker 2, and a worker whose Session is at broker 0 while it is
/// away. Broker 1 adopts it.
fn with_worker(expiry_secs: u32) -> (Cluster, Vec<Way>, LineId, String) {
    let (mut cluster, ways) = Cluster::over_database(3);
    let id = client_id_in(|slot| slot % 3 == 1 && slot % 2 == 0);
    let worker = open(&mut cluster, 0, &id, expiry_secs);
    subscribed(&mut cluster, worker, GROUP, QoS::AtLeastOnce);
    if expiry_secs > 0 {
        cluster.lose(worker);
    }
    let writer = open(&mut cluster, 2, "writer", 0);
    (cluster, ways, writer, id)
}

fn written(cluster: &mut Cluster, writer: LineId, payload: &str, id: u16) {
    cluster.send(writer, &publish("t", payload, QoS::AtLeastOnce, id));
    cluster.pump();
}

fn successes(packets: &[Packet]) -> usize {
    let is_taken = |packet: &Packet| matches!(packet, Packet::Puback(puback) if puback.reason_code == ReasonCode::Success);
    count(packets, is_taken)
}

/// What it had on its way was offered to other members, and there were none; what was published until others
/// had its Session matched nobody. All of it was acknowledged, and lost.
#[test]
fn what_is_published_to_a_group_whose_broker_died_waits_until_others_have_its_sessions() {
    let (mut cluster, ways, writer, id) = with_worker(600);
    written(&mut cluster, writer, "one", 1);
    cluster.hold(2, 0);
    written(&mut cluster, writer, "two", 2);
    ways[1].close(Closed::Unreached, adopts);
    cluster.kill(0);
    cluster.pump();
    written(&mut cluster, writer, "three", 3);
    assert_eq!(successes(&cluster.received(writer)), 1, "nobody has the others yet");
    ways[1].open();
    cluster.pump();
    assert_eq!(successes(&cluster.received(writer)), 2);
    written(&mut cluster, writer, "four", 4);
    assert_eq!(successes(&cluster.received(writer)), 1);
    let worker = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(worker);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["one", "two", "three", "four"]);
}

/// Somebody who comes meanwhile does not get what is published before what is held.
#[test]
fn who_joins_a_group_that_waits_does_not_get_later_messages_first() {
    let (mut cluster, ways, writer, id) = with_worker(600);
    ways[1].close(Closed::Unreached, adopts);
    cluster.kill(0);
    cluster.pump();
    written(&mut cluster, writer, "one", 1);
    let newcomer = open(&mut cluster, 2, "newcomer", 0);
    subscribed(&mut cluster, newcomer, GROUP, QoS::AtLeastOnce);
    written(&mut cluster, writer, "two", 2);
    assert_eq!(payloads(&cluster.received(newcomer)), [""; 0]);
    ways[1].open();
    cluster.pump();
    assert_eq!(successes(&cluster.received(writer)), 2);
    let worker = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    // They take turns.
    let got = [newcomer, worker].map(|member| payloads(&cluster.received(member)));
    assert_eq!(got, [["one"], ["two"]]);
}

/// Members that are there do not wait for those of the dead.
#[test]
fn a_group_with_members_elsewhere_waits_for_nobody() {
    let (mut cluster, ways, writer, _id) = with_worker(600);
    let other = open(&mut cluster, 1, "other", 0);
    subscribed(&mut cluster, other, GROUP, QoS::AtLeastOnce);
    ways[1].close(Closed::Unreached, adopts);
    cluster.kill(0);
    cluster.pump();
    written(&mut cluster, writer, "one", 1);
    assert_eq!(successes(&cluster.received(writer)), 1);
    assert_eq!(payloads(&cluster.received(other)), ["one"]);
}

/// Its Session ended with its broker: nobody is left who wants it, and nobody waits for ever.
#[test]
fn a_group_whose_sessions_ended_with_their_broker_is_over() {
    let (mut cluster, ways, writer, _id) = with_worker(0);
    ways[1].close(Closed::Unreached, adopts);
    cluster.kill(0);
    cluster.pump();
    written(&mut cluster, writer, "one", 1);
    ways[1].open();
    cluster.pump();
    written(&mut cluster, writer, "two", 2);
    let answers = cluster.received(writer);
    assert_eq!(count(&answers, |one| matches!(one, Packet::Puback(_))), 2, "{answers:?}");
}

/// Its Session was on its way from there to another broker, which collected for it meanwhile: that ended with
/// the move, and was for nobody.
#[test]
fn what_was_collected_for_a_session_whose_former_holder_died_goes_to_it() {
    let (mut cluster, _ways, writer, id) = with_worker(600);
    // So that nothing is frozen.
    cluster.hold(0, 2);
    let worker = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    for number in 1..=4 {
        written(&mut cluster, writer, &number.to_string(), number);
    }
    assert_eq!(successes(&cluster.received(writer)), 0, "it is to be stored first");
    cluster.kill(0);
    cluster.pump();
    cluster.elapse(1);
    cluster.pump();
    let got = cluster.received(worker);
    assert!(session_present(&got), "{got:?}");
    let mut payloads = payloads(&got);
    payloads.sort();
    // What broker 0 had stored of it comes twice (docs/design/0015).
    payloads.dedup();
    assert_eq!(payloads, ["1", "2", "3", "4"]);
    assert_eq!(count(&cluster.received(writer), |one| matches!(one, Packet::Puback(_))), 4);
}

/// It was handed on to be held for whoever has the Session next, and nobody waited for that: whoever had published it
/// heard that it was taken care of, while one broker had it in memory (seed 2099 of the simulation).
#[test]
fn what_was_collected_for_a_member_is_waited_for_until_others_have_it() {
    let (mut cluster, ways, writer, id) = with_worker(600);
    // So that nothing is frozen.
    cluster.hold(0, 2);
    let _worker = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    // What comes to broker 0 does not get there.
    cluster.hold(2, 0);
    for number in 1..=4 {
        written(&mut cluster, writer, &number.to_string(), number);
    }
    ways[1].close(Closed::Unreached, takes_any);
    cluster.kill(0);
    cluster.pump();
    assert_eq!(successes(&cluster.received(writer)), 0, "nobody has taken the session");
    // Broker 2 takes all of them when broker 1 is dead, too.
    cluster.kill(1);
    cluster.pump();
    cluster.elapse(1);
    cluster.pump();
    let worker = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(worker);
    assert!(session_present(&got), "{got:?}");
    assert_eq!(payloads(&got), ["1", "2", "3", "4"]);
    assert_eq!(successes(&cluster.received(writer)), 4);
}

/// Whoever had published it waited for it, and so did the member that had collected it for a Session that did not
/// arrive. It was offered for the first of them, and the other was told that all was well before the store had
/// answered: which did not take it, so that it was acknowledged and lost.
#[test]
fn everybody_who_waits_for_what_is_held_waits_until_it_is_stored() {
    for (closed, expected) in [
        (None, Some(RemoteOutcome::Enqueued)),
        (Some(Closed::Unreached), None),
        (Some(Closed::Failing), Some(RemoteOutcome::Refused(ReasonCode::ServerBusy))),
    ] {
        let (mut cluster, ways, ..) = with_worker(600);
        ways[1].close(Closed::Unreached, adopts);
        cluster.kill(0);
        cluster.pump();
        let message = message("t");
        let tickets = [(); 2].map(|()| Arc::new(PublishTicket::of(message.id, false)));
        for ticket in &tickets {
            let groups = vec![TopicFilter::parse(GROUP).unwrap()];
            let held_for = HeldFor { groups, ..HeldFor::default() };
            cluster.at(1, |turn, _| turn.hold_or_offer(&message, ticket, held_for));
            assert_eq!(ticket.seal(), None);
        }
        ways[1].open();
        if let Some(closed) = closed {
            ways[1].close(closed, |operation| matches!(operation, Operation::Enqueue { .. }));
        }
        cluster.pump();
        assert_eq!(tickets.map(|ticket| ticket.poll(Waker::noop())), [expected; 2]);
    }
}
