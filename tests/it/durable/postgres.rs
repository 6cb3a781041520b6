//! The same with a real PostgreSQL behind the broker, which is itself stopped, killed, and not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::killed_under_load::{
    nothing_acknowledged_is_lost_and_qos_2_comes_once, publish_through,
};
use super::{DATABASE, Mortal, overflow, repeats, replays, sessions, shared, take, wills};
use crate::conformance::kind;
use crate::harness::{Broker, Postgres, free_port};

/// Runs a story that knows nothing of databases with one behind its brokers.
fn tell(story: fn()) {
    let Some(server) = Postgres::shared() else { return };
    DATABASE.set(Some(server.fresh_database()));
    story();
    DATABASE.set(None);
}

#[test]
fn every_part_of_a_session_comes_back() {
    for story in [
        sessions::a_queue_comes_back_whole_and_in_order,
        sessions::what_was_acknowledged_does_not_come_again,
        sessions::a_message_half_released_is_released_and_not_sent,
        sessions::a_message_received_once_is_received_once_over_a_death,
        sessions::subscriptions_come_back_as_they_were_left,
        sessions::a_session_that_ended_does_not_come_back,
        sessions::retained_messages_come_back_and_deleted_ones_do_not,
    ] {
        tell(story);
    }
}

#[test]
fn what_was_sent_before_is_marked_and_nothing_else() {
    for story in [
        repeats::what_was_not_sent_before_a_stop_is_not_marked,
        repeats::what_came_for_a_client_that_was_away_is_not_marked_after_a_death,
        repeats::what_may_have_been_sent_before_a_death_is_marked,
    ] {
        tell(story);
    }
}

#[test]
fn a_queue_longer_than_memory_comes_in_order() {
    tell(sessions::a_queue_longer_than_memory_comes_in_order_with_what_is_published_meanwhile);
}

#[test]
fn what_is_replayed_is_stored() {
    for story in [
        replays::what_is_replayed_and_what_comes_after_a_death_are_told_apart,
        replays::what_was_replayed_is_sent_again_as_it_was,
    ] {
        tell(story);
    }
}

#[test]
fn wills_are_published_when_they_are_due() {
    for story in [
        wills::the_will_of_a_client_that_was_there_is_published_once,
        wills::a_client_that_is_back_in_time_takes_its_will_back,
        wills::the_end_of_a_session_publishes_its_will,
        wills::a_session_that_was_not_to_outlive_its_connection_leaves_its_will,
    ] {
        tell(story);
    }
}

#[test]
fn a_full_queue_keeps_the_newest() {
    tell(overflow::a_queue_that_drops_its_oldest_keeps_the_newest);
}

#[test]
fn what_is_stored_for_a_member_that_is_full_goes_to_another() {
    tell(shared::what_is_stored_for_a_member_that_is_full_goes_to_another);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load() {
    tell(nothing_acknowledged_is_lost_and_qos_2_comes_once);
}

/// A broker over a server of its own, and `sleeper`, which wants `t/#`.
fn with_sleeper(server: &Postgres) -> Mortal {
    DATABASE.set(Some(server.database("postgres")));
    let mortal = Mortal::start(&["--admin-port", "0"]);
    DATABASE.set(None);
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t/#", 2).unwrap();
    sleeper.leave().unwrap();
    mortal
}

#[test]
fn a_stopped_server_holds_up_what_is_kept_and_nothing_else() {
    let Some(server) = Postgres::start() else { return };
    let mut mortal = with_sleeper(&server);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.publish("t/n", "0", 1).unwrap();
    let mut reader = mortal.stage.client("reader").unwrap();
    reader.subscribe("fast", 1).unwrap();

    server.freeze();
    for number in 1..=100 {
        let id = u16::try_from(number).unwrap();
        publisher.send(&mortal.stage.message("t/n", number.to_string()).qos(1, id).bytes());
    }
    // Who has nothing to do with the store does not notice.
    let mut other = mortal.stage.client("other").unwrap();
    for qos in [0, 1] {
        other.publish("fast", "on", qos).unwrap();
        let message = reader.receive("fast", "on", qos).unwrap();
        reader.settle(&message).unwrap();
    }
    // Had anything been acknowledged, it would be here before the answer to this.
    publisher.ping().unwrap();
    server.thaw();
    for id in 1..=100 {
        publisher.expect_ack(kind::PUBACK, id).unwrap();
    }

    mortal.die_and_rise();
    let mut sleeper = mortal.keeper("sleeper");
    for (number, message) in (0..).zip(take(&mut sleeper, 101)) {
        assert_eq!(message.payload, i32::to_string(&number).as_bytes());
    }
    sleeper.quiet().unwrap();
}

#[test]
fn a_server_that_is_killed_under_load_loses_nothing_acknowledged() {
    let Some(mut server) = Postgres::start() else { return };
    let mut mortal = with_sleeper(&server);
    let is_over = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let publisher = thread::spawn({
        let (target, unique) = (mortal.stage.target.clone(), mortal.stage.unique.clone());
        let (is_over, acked) = (Arc::clone(&is_over), Arc::clone(&acked));
        move || publish_through(&target, &unique, &is_over, &acked)
    });
    for death in 1..=3 {
        while acked.load(Ordering::Relaxed) < death * 100 {
            thread::yield_now();
        }
        server.kill();
        server.start_again();
    }
    let enough = acked.load(Ordering::Relaxed) + 100;
    while acked.load(Ordering::Relaxed) < enough {
        thread::yield_now();
    }
    is_over.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    let acked = acked.load(Ordering::Relaxed);

    mortal.die_and_rise();
    let mut sleeper = mortal.keeper("sleeper");
    let messages = take(&mut sleeper, usize::try_from(acked).unwrap());
    for (number, message) in (0..acked).zip(messages) {
        assert_eq!(message.payload, number.to_string().as_bytes(), "of {acked}");
    }
}

#[test]
fn a_broker_waits_for_a_database_that_is_not_there_yet() {
    let Some(mut server) = Postgres::start() else { return };
    let database = server.database("postgres");
    server.kill();
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--admin-port", "0", "--db", &database];
    let mut broker = Broker::start(&arguments);
    broker.wait_for_log("the store is degraded");
    broker.wait_until("bound, and not ready", |broker| {
        let ask = |path| broker.ask_admin("GET", path).unwrap();
        ask("/startupz").0 == 200 && ask("/readyz").1.contains("waits for the database")
    });
    assert_eq!(broker.count_in_log("accepts connections"), 0);
    server.start_again();
    broker.wait_for_log("keeps Sessions in PostgreSQL at 127.0.0.1/postgres");
    broker.wait_for_log("outlive this process");
    broker.wait_for_log("and not a failover: there is no synchronous standby");
    broker.wait_until("ready", |broker| broker.ask_admin("GET", "/readyz").unwrap().0 == 200);
    assert_eq!(broker.count_in_log("accepts connections"), 1);

    // One that does not find it either ends when it is asked to.
    server.kill();
    let mut other = Broker::start(&["--db", &database]);
    other.wait_for_log("the store is degraded");
    assert!(other.terminate().success());
    assert!(broker.terminate().success());
}

#[test]
fn a_database_is_for_one_broker() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let mut first = Broker::start(&["--db", &database]);
    first.wait_for_log("accepts connections");
    let second = Broker::start(&["--db", &database]);
    second.wait_for_log("another broker keeps its Sessions in this database");
    assert_eq!(second.count_in_log("accepts connections"), 0);
    first.kill();
    second.wait_for_log("accepts connections");
}

/// A broker was killed while a statement of it waited in the server, which did not look whether anybody
/// was there still: who came next was kept out until the statement had come to its end.
#[test]
fn a_place_is_free_when_its_broker_was_killed_in_the_middle_of_a_statement() {
    let Some(server) = Postgres::start() else { return };
    let mut mortal = with_sleeper(&server);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    let held = "SELECT count(*) FROM pg_locks
        WHERE granted AND mode = 'ExclusiveLock' AND relation = 'mqttzoo.message'::regclass";
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let is_one = |sql| server.query("postgres", sql) == "1";
    thread::scope(|scope| {
        scope.spawn(|| server.query("postgres", HOLD_MESSAGES));
        mortal.broker.wait_until("the table is held", |_| is_one(held));
        publisher.send(&mortal.stage.message("t/n", "0").qos(1, 1).bytes());
        mortal.broker.wait_until("the broker waits for it", |_| is_one(waiting));
        mortal.die_and_rise();
        mortal.broker.wait_until("the next one has the place", |broker| {
            broker.count_in_log("accepts connections") == 2
        });
        server.query("postgres", "CREATE TABLE let_go ()");
    });
}

/// Until there is a table `let_go`, or for a minute.
const HOLD_MESSAGES: &str = "BEGIN; LOCK TABLE mqttzoo.message IN EXCLUSIVE MODE;
    DO $$ BEGIN FOR turn IN 1..1200 LOOP
        EXIT WHEN EXISTS (SELECT 1 FROM pg_class WHERE relname = 'let_go');
        PERFORM pg_sleep(0.05);
    END LOOP; END $$; ROLLBACK";

#[test]
fn a_broker_of_a_cluster_says_what_it_keeps() {
    let (ensemble, port) = (format!("127.0.0.1:{}", free_port()), free_port().to_string());
    let cluster = ["--zookeeper", &ensemble, "--link-port", "0"];
    let database = ["--db-host", "127.0.0.1", "--db-port", &port];
    let memory = "are in memory, as cluster_sessions says: PostgreSQL at 127.0.0.1/mqttzoo keeps";
    let stored = "127.0.0.1/mqttzoo keeps Sessions, queues and retained messages of this cluster";
    for (place, words) in [(Some("memory"), memory), (Some("database"), stored), (None, stored)] {
        let place: Vec<_> = place.iter().flat_map(|place| ["--cluster-sessions", *place]).collect();
        let arguments = [&cluster[..], &database, &place].concat();
        let mut broker = Broker::start(&arguments);
        broker.wait_for_log(words);
        broker.wait_for_log("the activity log is not written");
        assert!(broker.terminate().success());
    }
}
