//! Sessions that are taken from the database, and who waits for that.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::moves::session_present;
use super::parting::{client_id_in, reads, sleeper, takes};
use super::*;
use crate::broker::options::BrokerOptions;
use crate::broker::peers::testing::Closed;
use crate::cluster::frame::STORED_WIRE_MIN;
use crate::cluster::identity::WireVersions;
use crate::ports::store::Operation;
use crate::session::mailbox::{MailboxOptions, Overflow};

/// A connection was gone when the store had answered. The Session was this broker's by then, and what was
/// published for it came to nobody before its client came again.
#[test]
fn a_session_that_nobody_waits_for_any_more_is_here_all_the_same() {
    for closed in [Closed::Unreached, Closed::Unheard, Closed::Failing] {
        let (mut cluster, ways) = Cluster::over_database(2);
        ways[0].leave_session("sleeper", "t", 900_000);
        ways[0].close(closed, takes);
        let line = cluster.connect_as(0, Some("alice"), &connect("sleeper", 600));
        if closed == Closed::Failing {
            cluster.pump();
            assert!(cluster.is_closed(line), "it is refused, and the store asked again");
        } else {
            cluster.pump();
            cluster.lose(line);
        }
        cluster.pump();
        let writer = open(&mut cluster, 1, "writer", 0);
        ways[0].open();
        cluster.pump();
        assert_eq!(cluster.broker(0).registry().len(), 1);
        cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
        cluster.pump();
        let line = cluster.connect_as(1, Some("alice"), &connect("sleeper", 600));
        cluster.pump();
        let got = cluster.received(line);
        assert!(session_present(&got));
        assert_eq!(payloads(&got), ["one"]);
    }
}

/// Whoever came in vain to a Session that nobody had, prolonged it: by as long as it lasts, each time.
#[test]
fn who_may_not_have_a_session_that_was_stored_does_not_prolong_it() {
    let (mut cluster, ways) = Cluster::over_database(2);
    ways[0].leave_session("sleeper", "t", 300_000);
    let line = cluster.connect_as(0, Some("bob"), &connect("sleeper", 600));
    cluster.pump();
    let answers = cluster.received(line);
    let [Packet::Connack(connack)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(connack.reason_code, ReasonCode::NotAuthorized);
    cluster.elapse(298_000);
    assert_eq!(cluster.broker(0).registry().len(), 1, "it stays here for alice");
    cluster.elapse(1_000);
    assert_eq!(cluster.broker(0).registry().len(), 0);
}

/// The same of one that moves, and whose client is gone before it is there.
#[test]
fn a_stored_session_that_moves_in_vain_ends_when_it_was_to_end() {
    let (mut cluster, ways) = Cluster::over_database(3);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    cluster.elapse(500_000);
    ways[2].close(Closed::Unreached, takes);
    let line = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    cluster.lose(line);
    ways[2].open();
    cluster.pump();
    cluster.elapse(99_000);
    assert_eq!([0, 2].map(|node| cluster.broker(node).registry().len()), [0, 1]);
    cluster.elapse(1_000);
    assert_eq!(cluster.broker(2).registry().len(), 0);
}

/// A broker had asked for a Session of a dead one on behalf of a client, and the store's answer was on its
/// way. It said that it had all there was of the dead; what was held for these was offered, and that
/// Session did not get it.
#[test]
fn what_is_held_for_the_dead_waits_for_sessions_that_are_on_their_way_from_the_store() {
    fn takes_any(operation: &Operation) -> bool {
        matches!(operation, Operation::TakeSessions { .. }) || takes(operation)
    }
    let (mut cluster, ways) = Cluster::over_database(3);
    // It coordinates the Session once broker 0 is dead, and grants it at once: it takes none itself.
    let granter = cluster.join_speaking(WireVersions::OURS.in_memory());
    cluster.assign_slots();
    cluster.pump();
    let id = client_id_in(|slot| slot % 4 == 1 && slot % 3 == granter - 1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.hold(1, 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    ways[2].close(Closed::Unheard, takes_any);
    cluster.kill(0);
    cluster.pump();
    let line = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    ways[2].close(Closed::Unheard, takes);
    cluster.pump();
    assert_eq!(cluster.received(writer), [], "broker 2 may have the session that it is for");
    ways[2].open();
    cluster.pump();
    // It looks now and then whether all is here.
    cluster.elapse(1);
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["one"]);
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
}

/// What gave way in a full queue was published in between, and stored: it took with it who waits for what
/// is collected for a Session, and the publisher was told that it was there.
#[test]
fn what_is_collected_is_waited_for_also_when_a_queue_overflows() {
    let mut options = BrokerOptions::default();
    let overflow = Overflow::DeadLetter;
    let unbounded = MailboxOptions::clone(&options.clean_queue);
    let bounded = MailboxOptions { messages_max: 2, overflow, ..unbounded };
    options.clean_queue = Arc::new(bounded);
    let (mut cluster, _ways) = Cluster::over_database_with(4, &options);
    let id = cluster.client_id_at(1);
    sleeper(&mut cluster, &id);
    let letters = open(&mut cluster, 2, "letters", 600);
    subscribed(&mut cluster, letters, "$dead-letter/#", QoS::AtLeastOnce);
    let mut slow = connect("slow", 0);
    slow.properties.receive_maximum = NonZeroU16::new(1);
    let slow = cluster.connect(2, &slow);
    cluster.pump();
    let _connack = cluster.received(slow);
    subscribed(&mut cluster, slow, "t", QoS::AtLeastOnce);
    // So that nothing is frozen.
    cluster.hold(0, 3);
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    let writers = [1, 2, 3].map(|number| open(&mut cluster, 1, &format!("writer-{number}"), 0));
    for (writer, payload) in writers.into_iter().zip(["one", "two", "three"]) {
        cluster.send(writer, &publish("t", payload, QoS::AtLeastOnce, 1));
        cluster.pump();
    }
    assert_eq!(payloads(&cluster.received(letters)), ["two"]);
    for writer in writers {
        assert_eq!(cluster.received(writer), [], "the session is on its way");
    }
    cluster.release(0, 3);
    cluster.pump();
    for writer in writers {
        assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
    }
}

/// It has no database, and nothing to say of who has taken what from there: it was waited for until it
/// was dead as well.
#[test]
fn nobody_waits_for_what_a_broker_without_the_database_does_not_say() {
    let (mut cluster, _ways) = Cluster::over_database(2);
    let _other = cluster.join_speaking(WireVersions::OURS.in_memory());
    cluster.assign_slots();
    cluster.pump();
    // Broker 1, which has a database, coordinates it, with and without broker 0.
    let id = client_id_in(|slot| slot % 3 == 1 && slot % 2 == 0);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    cluster.kill(0);
    cluster.send(writer, &publish("t", "two", QoS::AtLeastOnce, 2));
    cluster.pump();
    assert_eq!(cluster.received(writer).len(), 2);
    let line = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["one", "two"]);
    assert!(WireVersions::OURS.in_memory().newest < STORED_WIRE_MIN);
}

/// What the store leaves out, since somebody else has the Session, is found by its name: each time all that
/// the broker has were looked through.
#[test]
fn sessions_that_somebody_else_has_are_let_go_and_no_others() {
    let (mut cluster, ways) = Cluster::over_database(2);
    let ids = cluster.client_ids_at(1, 4);
    // New, restored, moved, and one that stays; of the third there is a connection.
    ways[0].leave_session(&ids[1], "t", 900_000);
    let places =
        [(&ids[0], 0, None), (&ids[1], 0, Some("alice")), (&ids[2], 1, None), (&ids[3], 0, None)];
    let lines = places.map(|(id, node, user)| {
        let line = cluster.connect_as(node, user, &connect(id, 600));
        cluster.pump();
        let _connack = cluster.received(line);
        subscribed(&mut cluster, line, "t", QoS::AtLeastOnce);
        line
    });
    for line in [lines[0], lines[1], lines[3]] {
        cluster.lose(line);
    }
    let third = cluster.connect(0, &connect(&ids[2], 600));
    cluster.pump();
    assert_eq!(cluster.broker(0).registry().len(), 4);
    ids.iter().take(3).for_each(|id| ways[0].take_away(id));
    let writer = open(&mut cluster, 1, "writer", 0);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(cluster.broker(0).counters().totals().sessions_fenced, 3);
    assert!(cluster.is_closed(third));
    assert!(cluster.broker(0).registry().contains(&ids[3]));
    assert_eq!(cluster.broker(0).registry().len(), 1);
}

/// A Session had gone elsewhere and come back. The store heard late what was said of it the time before, and
/// left that out; it was taken for what somebody else has, its client was let go, and what was published until
/// that came again matched nobody (seed 1571 of the simulation).
#[test]
fn a_session_that_has_come_back_stays_whatever_was_said_of_it_before_it_left() {
    fn acknowledges(operation: &Operation) -> bool {
        matches!(operation, Operation::Acknowledge { .. })
    }
    let (mut cluster, ways) = Cluster::over_database(3);
    let id = cluster.client_id_at(1);
    let writer = open(&mut cluster, 1, "writer", 0);
    let first = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, first, "t", QoS::AtLeastOnce);
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    let got = cluster.received(first);
    let [Packet::Publish(one)] = &got[..] else { panic!("{got:?}") };
    ways[0].close(Closed::Failing, acknowledges);
    cluster.send(first, &puback(one.packet_id.unwrap().get()));
    cluster.pump();
    let elsewhere = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    assert!(session_present(&cluster.received(elsewhere)));
    let back = cluster.connect(0, &connect(&id, 600));
    cluster.pump();
    assert!(session_present(&cluster.received(back)));
    ways[0].open();
    // Each brings along what the store has missed.
    for (number, payload) in [(2, "two"), (3, "three")] {
        cluster.send(writer, &publish("t", payload, QoS::AtLeastOnce, number));
        cluster.pump();
    }
    assert!(!cluster.is_closed(back));
    assert_eq!(payloads(&cluster.received(back)), ["two", "three"]);
    assert_eq!(cluster.broker(0).counters().totals().sessions_fenced, 0);
}

/// It let its Sessions go when the store said that it is dead, and told others, which had not heard of that yet,
/// that nobody wanted what they published: that was acknowledged, and lost.
#[test]
fn who_hears_from_the_store_that_it_is_dead_answers_for_nobody_any_more() {
    let (mut cluster, ways) = Cluster::over_database(3);
    let id = client_id_in(|slot| slot % 3 == 1 && slot % 2 == 0);
    let reader = open(&mut cluster, 0, &id, 600);
    subscribed(&mut cluster, reader, "t", QoS::AtLeastOnce);
    cluster.lose(reader);
    let [first, second] = ["first", "second"].map(|id| open(&mut cluster, 2, id, 0));
    ways[1].declare_dead(cluster.broker(0).durable().unwrap().owner());
    cluster.send(first, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert!(!cluster.is_open(first), "it was not stored");
    cluster.send(second, &publish("t", "two", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(cluster.received(second), [], "nobody has it yet");
    cluster.kill(0);
    cluster.pump();
    let answers = cluster.received(second);
    let [Packet::Puback(puback)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(puback.reason_code, ReasonCode::Success);
    let reader = cluster.connect(1, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(reader);
    assert!(session_present(&got));
    assert_eq!(payloads(&got), ["two"]);
}

/// Each coordinator counts its own tokens. A broker read what it had taken from a dead one under a token that
/// was also that of a Session which another coordinator had granted it, and which had been handed over by then: it
/// took that for one of the dead, and two brokers had it.
#[test]
fn a_session_that_somebody_else_granted_under_the_same_token_is_not_taken_for_one_of_the_dead() {
    let (mut cluster, ways) = Cluster::over_database(4);
    // The token that broker 2 draws is one that broker 1 has not come to.
    for id in cluster.client_ids_at(2, 4) {
        let line = open(&mut cluster, 2, &id, 0);
        cluster.lose(line);
    }
    ways[2].close(Closed::Unreached, reads);
    cluster.kill(0);
    cluster.pump();
    let ids = cluster.client_ids_at(1, 16);
    for id in &ids {
        let line = open(&mut cluster, 2, id, 600);
        subscribed(&mut cluster, line, "t", QoS::AtLeastOnce);
        cluster.lose(line);
    }
    ways[3].close(Closed::Unreached, takes);
    let lines: Vec<_> = ids.iter().map(|id| cluster.connect(3, &connect(id, 600))).collect();
    cluster.pump();
    assert_eq!((cluster.broker(2).registry().len(), cluster.ownership(2).exports), (0, ids.len()));
    ways[2].open();
    cluster.pump();
    assert_eq!(cluster.broker(2).registry().len(), 0, "all of them were handed over");
    ways[3].open();
    cluster.pump();
    for line in lines {
        assert!(session_present(&cluster.received(line)));
    }
    assert_eq!([2, 3].map(|node| cluster.broker(node).registry().len()), [0, ids.len()]);
}

/// A client waited here for its Session, under the token by which that was to move, when its former broker was dead and
/// this one took it from the store under a later token. It could not be parked, since the client was there, and
/// the client's question was answered by *somebody has it*: nobody had, and what was published was lost.
#[test]
fn a_session_of_the_dead_that_a_client_waits_for_here_is_taken_under_the_later_token() {
    let (mut cluster, ways) = Cluster::over_database(4);
    // Broker 2 coordinates it when the slots are given to 1, 2 and 3.
    let id = client_id_in(|slot| slot % 4 == 1 && slot % 3 == 1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 1, "writer", 0);
    ways[2].close(Closed::Unreached, takes);
    cluster.hold(0, 2);
    cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    cluster.declare_dead(0);
    cluster.pump();
    cluster.assign_slots();
    cluster.pump();
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(cluster.received(writer), [], "others are to have the session first");
    ways[2].open();
    cluster.pump();
    cluster.elapse(1);
    cluster.pump();
    let line = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got), "{got:?}");
    assert_eq!(payloads(&got), ["one"]);
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
}

/// A slot went to another broker while the one that had coordinated it took the Sessions of a dead one. The new
/// coordinator found none left, and granted a client what the former one was about to read. That one gave the Session
/// up as soon as it had it, before anybody had taken it from the store: what had been held for it matched nobody, and
/// was acknowledged.
#[test]
fn a_session_of_the_dead_that_a_former_coordinator_has_taken_is_granted_to_nobody_before_that_says_so()
 {
    let (mut cluster, ways) = Cluster::over_database(4);
    // Broker 1 coordinates it once broker 0 is dead, and broker 2 when there is one more.
    let id = client_id_in(|slot| slot % 3 == 0 && slot % 4 == 1);
    sleeper(&mut cluster, &id);
    let writer = open(&mut cluster, 3, "writer", 0);
    ways[1].close(Closed::Unreached, reads);
    cluster.kill(0);
    cluster.pump();
    cluster.send(writer, &publish("t", "one", QoS::AtLeastOnce, 1));
    let _more = cluster.join_speaking(WireVersions::OURS.in_memory());
    cluster.assign_slots();
    cluster.pump();
    ways[3].close(Closed::Unreached, takes);
    let line = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    assert_eq!(cluster.received(writer), [], "it is held");
    cluster.hold(1, 3);
    ways[1].open();
    cluster.pump();
    cluster.release(1, 3);
    cluster.pump();
    cluster.elapse(1);
    cluster.pump();
    ways[3].open();
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got), "{got:?}");
    assert_eq!(payloads(&got), ["one"]);
    assert!(matches!(&cluster.received(writer)[..], [Packet::Puback(_)]));
}

/// A client had been granted what its coordinator was about to read as a Session of the dead, which kept it until the
/// client's broker would have taken it. Nobody told it of that: nothing was published, and two brokers had the
/// Session ever after (seed 1059 of the simulation).
#[test]
fn a_session_of_the_dead_that_another_broker_was_granted_is_let_go_when_that_has_it() {
    let (mut cluster, ways) = Cluster::over_database(4);
    // Broker 1 coordinates it, before and after.
    let id = client_id_in(|slot| slot % 4 == 1 && slot % 3 == 0);
    sleeper(&mut cluster, &id);
    for (way, kind) in [(1, reads as fn(&Operation) -> bool), (2, takes), (3, takes)] {
        ways[way].close(Closed::Unreached, kind);
    }
    // It has begun to come to broker 2 when broker 0 dies.
    cluster.hold(2, 0);
    let former = cluster.connect(2, &connect(&id, 600));
    cluster.pump();
    cluster.kill(0);
    cluster.pump();
    let line = cluster.connect(3, &connect(&id, 600));
    cluster.pump();
    cluster.lose(former);
    cluster.pump();
    ways[1].open();
    cluster.pump();
    assert_eq!(cluster.broker(1).registry().len(), 1, "what is published comes to it here");
    ways[2].open();
    ways[3].open();
    cluster.pump();
    let got = cluster.received(line);
    assert!(session_present(&got), "{got:?}");
    cluster.elapse(PAUSE_MILLIS);
    cluster.pump();
    assert_eq!([1, 2, 3].map(|node| cluster.broker(node).registry().len()), [0, 0, 1]);
    assert!(cluster.is_open(line));
}

/// How long a broker waits before it asks the store once more whose a Session is.
const PAUSE_MILLIS: u64 = 500;
