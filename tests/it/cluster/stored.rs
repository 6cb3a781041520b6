//! Sessions in PostgreSQL: brokers die, stand still, and lose clients to each other, and who had a
//! Session there gets every message that was acknowledged, once and in order. What is retained is there,
//! too, when all brokers were gone at once.

use std::time::{Duration, Instant};

use super::checker::{Arrival, Receiver};
use super::late::{first_messages, texts};
use super::load::{Publisher, PublisherPlan, all_go_on, finish_all};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Connect, Event, Publish, Version, ack, kind};
use crate::harness::Postgres;

const SLEEPER: Receiver = Receiver::Client("sleeper");

/// How long a client is let in again and again refused, until the cluster has found its balance.
const PATIENCE: Duration = Duration::from_secs(40);

/// Three brokers over one database. Nothing where it, or ZooKeeper, is not installed.
fn start() -> Option<ClusterUnderTest> {
    let server = Postgres::shared()?;
    let stored = "--cluster-sessions=database".to_owned();
    let arguments = vec!["--db".to_owned(), server.fresh_database(), stored];
    ClusterUnderTest::start_as(Plan { arguments, ..Plan::mortal(3) })
}

/// The client whose Session is kept, at a broker. It may be told to try again.
#[track_caller]
fn enter(cluster: &ClusterUnderTest, broker: usize) -> Client {
    let stage = cluster.stage(broker, Version::V5);
    let connect = Connect::new(Version::V5, "sleeper").kept();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match stage.enter(&connect) {
            Ok(client) => return client,
            Err(refusal) => assert!(Instant::now() < deadline, "{refusal:?}"),
        }
    }
}

/// The same for the first time.
#[track_caller]
fn enter_first(cluster: &ClusterUnderTest, broker: usize) -> Client {
    let mut sleeper = enter(cluster, broker);
    assert!(!sleeper.connack.session_present);
    sleeper.subscribe("load/#", 1).unwrap();
    cluster.checker().with(|books| books.note_subscribed(SLEEPER, "load/#"));
    sleeper
}

/// Two publishers, at the first and the second broker, until they are told to finish.
fn publishers(cluster: &ClusterUnderTest) -> [Publisher; 2] {
    [1, 2].map(|id| cluster.publish(PublisherPlan::endless(id, &[id as usize])))
}

fn note(cluster: &ClusterUnderTest, message: &Publish) {
    let arrival = Arrival {
        receiver: SLEEPER,
        topic: std::str::from_utf8(&message.topic).unwrap(),
        payload: &message.payload,
        qos: message.qos,
        dup: message.dup,
    };
    cluster.checker().with(|books| books.note_arrival(arrival));
}

/// Takes so many messages and acknowledges them.
#[track_caller]
fn take(cluster: &ClusterUnderTest, sleeper: &mut Client, count: u64) {
    for _ in 0..count {
        let message = sleeper.message().unwrap();
        note(cluster, &message);
        sleeper.send(&ack(kind::PUBACK, message.id));
    }
}

/// Takes what there is, until nothing is missing.
#[track_caller]
fn take_all(cluster: &ClusterUnderTest, sleeper: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.checker().with(|books| books.missing().is_empty()) {
        assert!(Instant::now() < deadline, "messages are missing");
        match sleeper.event() {
            Ok(Event::Packet(packet)) if packet.kind() == kind::PUBLISH => {
                let message = packet.publish().unwrap();
                note(cluster, &message);
                sleeper.send(&ack(kind::PUBACK, message.id));
            }
            Ok(Event::Packet(packet)) => panic!("{}", packet.shown()),
            Ok(Event::Closed) => panic!("the connection was closed"),
            Err(_nothing_yet) => {}
        }
    }
    sleeper.ping().unwrap();
    cluster.settle();
}

#[test]
fn a_session_whose_broker_was_killed_is_taken_from_the_store() {
    let Some(mut cluster) = start() else { return };
    let mut sleeper = enter_first(&cluster, 3);
    let publishers = publishers(&cluster);
    all_go_on(&publishers, 50);
    take(&cluster, &mut sleeper, 60);
    sleeper.leave().unwrap();
    all_go_on(&publishers, 50);
    assert!(finish_all(publishers).iter().all(|count| *count > 100));
    cluster.kill(3);
    let mut sleeper = enter(&cluster, 1);
    assert!(sleeper.connack.session_present);
    take_all(&cluster, &mut sleeper);
    // What is published from now on comes as well.
    cluster.client(2, "publisher").publish("load/9", "9 1", 1).unwrap();
    sleeper.receive("load/9", "9 1", 1).unwrap();
}

/// It is connected, and messages are on their way to it, when its broker dies; others go on
/// publishing.
#[test]
fn what_is_published_while_a_broker_dies_comes_to_its_sleeper() {
    let Some(mut cluster) = start() else { return };
    let mut sleeper = enter_first(&cluster, 3);
    let publishers = publishers(&cluster);
    all_go_on(&publishers, 50);
    take(&cluster, &mut sleeper, 60);
    cluster.kill(3);
    all_go_on(&publishers, 50);
    let mut sleeper = enter(&cluster, 1);
    assert!(sleeper.connack.session_present);
    all_go_on(&publishers, 50);
    assert!(finish_all(publishers).iter().all(|count| *count > 150));
    take_all(&cluster, &mut sleeper);
}

/// A Session moves from broker to broker, and all of it is there, wherever it was published.
#[test]
fn a_stored_session_moves_between_brokers_that_live() {
    let Some(cluster) = start() else { return };
    let mut sleeper = enter_first(&cluster, 3);
    let publishers = publishers(&cluster);
    for broker in [1, 2, 3, 1] {
        all_go_on(&publishers, 20);
        take(&cluster, &mut sleeper, 20);
        sleeper = enter(&cluster, broker);
        assert!(sleeper.connack.session_present, "at {broker}");
    }
    finish_all(publishers);
    take_all(&cluster, &mut sleeper);
}

/// It stands still, and its Session is taken. When it wakes up it goes on with what it had in hand: the
/// store takes nothing of that, and its client is let go.
#[test]
fn a_broker_that_wakes_up_too_late_writes_nothing() {
    let Some(cluster) = start() else { return };
    let mut old = enter_first(&cluster, 3);
    let publishers = publishers(&cluster);
    all_go_on(&publishers, 50);
    take(&cluster, &mut old, 60);
    cluster.pause(3);
    for survivor in [1, 2] {
        cluster.wait_until_declared_dead(3, survivor);
    }
    // This is waiting when it wakes up.
    let stage = cluster.stage(3, Version::V5);
    old.send(&stage.message("load/8", "8 1").qos(1, 77).bytes());
    finish_all(publishers);
    let mut sleeper = enter(&cluster, 1);
    assert!(sleeper.connack.session_present);
    take_all(&cluster, &mut sleeper);
    cluster.resume(3);
    loop {
        match old.event().unwrap() {
            Event::Packet(packet) if packet.kind() == kind::DISCONNECT => {
                let code = packet.reason().unwrap().code;
                assert!(code >= 0x80, "{code:#04x}");
            }
            Event::Packet(packet) => assert_ne!(packet.kind(), kind::PUBACK, "it may not"),
            Event::Closed => break,
        }
    }
    cluster.wait_until_joined(3, 2);
    // Nothing came of it here, and the third broker keeps Sessions again.
    cluster.client(2, "publisher").publish("load/9", "9 1", 1).unwrap();
    sleeper.receive("load/9", "9 1", 1).unwrap();
    let mut sleeper = enter(&cluster, 3);
    assert!(sleeper.connack.session_present);
    cluster.client(2, "publisher").publish("load/9", "9 2", 1).unwrap();
    assert!(sleeper.message().is_ok());
}

/// One broker after the other is asked to end and started again, as when pods roll: what it has of the
/// Session goes to whoever has it next.
#[test]
fn a_session_outlives_brokers_that_are_asked_to_end() {
    let Some(mut cluster) = start() else { return };
    let mut sleeper = enter_first(&cluster, 3);
    let publisher = cluster.publish(PublisherPlan::endless(2, &[2]));
    let publishers = [publisher];
    for (ends, next) in [(3, 1), (1, 3)] {
        all_go_on(&publishers, 50);
        take(&cluster, &mut sleeper, 20);
        cluster.terminate(ends);
        all_go_on(&publishers, 20);
        sleeper = enter(&cluster, next);
        assert!(sleeper.connack.session_present, "at {next}");
        cluster.restart(ends);
    }
    finish_all(publishers);
    take_all(&cluster, &mut sleeper);
}

/// Retained messages were in the memory of the brokers, and small ones in znodes: with the last broker the
/// large ones were gone.
#[test]
fn what_is_retained_outlives_all_brokers() {
    let Some(mut cluster) = start() else { return };
    let mut publishers = [1, 2].map(|broker| cluster.client(broker, "publisher"));
    let large = "x".repeat(100_000);
    publishers[0].retain("r/large", &large).unwrap();
    publishers[0].retain("r/large and gone", &large).unwrap();
    publishers[0].retain("r/small", "the first").unwrap();
    publishers[0].retain("r/small and gone", "small").unwrap();
    publishers[1].retain("r/small", "the second").unwrap();
    publishers[1].retain("r/large and gone", "").unwrap();
    publishers[0].retain("r/small and gone", "").unwrap();
    // Nobody has the time to write the last ones into the tree of znodes.
    (1..=3).for_each(|broker| cluster.kill(broker));
    cluster.restart_all();
    let expected = [("r/large".to_owned(), large), ("r/small".to_owned(), "the second".to_owned())];
    for broker in 1..=3 {
        let mut reader = cluster.client(broker, "reader");
        assert_eq!(texts(&first_messages(&mut reader, "r/#")), expected, "at {broker}");
    }
    // And what is published from now on is later.
    cluster.client(3, "publisher").retain("r/large", "small now").unwrap();
    let mut reader = cluster.client(1, "reader");
    let found = texts(&first_messages(&mut reader, "r/large"));
    assert_eq!(found, [("r/large".to_owned(), "small now".to_owned())]);
}

/// One broker of three was given no database. It speaks an earlier version of the wire, of which the others
/// tell their operator, and nobody waits for what it cannot say.
#[test]
fn a_broker_without_the_database_is_named_by_the_others_and_not_waited_for() {
    const DIFFERS: &str = "a broker keeps Sessions in memory";
    let Some(server) = Postgres::shared() else { return };
    let arguments = vec!["--db".to_owned(), server.fresh_database()];
    let plan = Plan { arguments, ..Plan::mortal(2) };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    cluster.add_told(Vec::new(), 1);
    for broker in [1, 2] {
        let log = cluster.broker(broker).wait_for_log(DIFFERS);
        let named: Vec<_> = log.lines().filter(|line| line.contains(DIFFERS)).collect();
        assert!(matches!(named[..], [line] if line.contains("broker-3")), "{named:?}");
    }
    assert_eq!(cluster.broker(3).count_in_log(DIFFERS), 0, "it has none to compare with");
    let sleeper = enter_first(&cluster, 2);
    sleeper.leave().unwrap();
    let mut publisher = cluster.client(1, "publisher");
    publisher.publish("load/1", "1 1", 1).unwrap();
    cluster.kill(2);
    cluster.wait_until_declared_dead(2, 1);
    // It is held for the Session, and would be until broker 3 says whose it has taken.
    publisher.publish("load/1", "1 2", 1).unwrap();
    let mut sleeper = enter(&cluster, 1);
    assert!(sleeper.connack.session_present);
    sleeper.receive("load/1", "1 1", 1).unwrap();
}
