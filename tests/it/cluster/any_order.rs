//! An orchestrator starts everything at once, and what is there first is chance: whatever it is, all ends
//! ready, nobody says so too early, and nothing is missing in the activity log.

use super::one_by_one::{check_conversation, start, wait_until_ready};
use super::watcher::Watcher;
use crate::harness::{Broker, Ensemble, Postgres, Ttl};

use Part::{Database, First, Second, ZooKeeper};
use Sessions::{InDatabase, InMemory};

/// Where the Sessions of the cluster are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sessions {
    InMemory,
    InDatabase,
}

/// What is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    ZooKeeper,
    Database,
    First,
    Second,
}

fn status(broker: &Broker, path: &str) -> u16 {
    broker.ask_admin("GET", path).expect("the port is open").0
}

/// A broker that has been started is alive; it is ready where there is an ensemble, without the database
/// only if that has no Sessions.
#[track_caller]
fn check_start(broker: &Broker, sessions: Sessions, there: &[Part]) {
    let has_ensemble = there.contains(&ZooKeeper);
    if !has_ensemble {
        broker.wait_for_log("no ZooKeeper session can be made: keeps trying");
    }
    if !there.contains(&Database) {
        broker.wait_for_log("the activity log is not written");
    }
    if has_ensemble && (sessions == InMemory || there.contains(&Database)) {
        return wait_until_ready(broker);
    }
    let seen = ["/startupz", "/livez", "/readyz"].map(|path| status(broker, path));
    assert_eq!(seen, [200, 200, 503]);
}

#[track_caller]
fn check_order(order: [Part; 4]) {
    check_order_with(InMemory, order);
}

#[track_caller]
fn check_order_with(sessions: Sessions, order: [Part; 4]) {
    let Some(mut ensemble) = Ensemble::start_one(Ttl::Enabled) else { return };
    let Some(mut server) = Postgres::start() else { return };
    let (zookeeper, connection) = (ensemble.with_fresh_chroot(), server.fresh_database());
    ensemble.kill_all();
    server.kill();
    let (mut brokers, mut watchers) = (Vec::new(), Vec::new());
    for (place, part) in order.into_iter().enumerate() {
        let name = match part {
            ZooKeeper => {
                ensemble.start_again(0);
                continue;
            }
            Database => {
                server.start_again();
                continue;
            }
            First => "mqttzoo-0",
            Second => "mqttzoo-1",
        };
        let kept_in = match sessions {
            InMemory => "--cluster-sessions=memory",
            InDatabase => "--cluster-sessions=database",
        };
        let broker = start(&zookeeper, name, &["--db", &connection, kept_in]);
        watchers.push(Watcher::of(&broker));
        check_start(&broker, sessions, &order[..place]);
        brokers.push(broker);
    }
    brokers.iter().for_each(wait_until_ready);
    check_conversation(&brokers[0], &brokers[1]);
    check_conversation(&brokers[1], &brokers[0]);
    for watcher in watchers {
        assert_eq!(watcher.finish().relapses, 0);
    }
    check_log(&server, &connection, &brokers[0]);
}

/// Starts and clients of both brokers are written down, those of before the database as well.
#[track_caller]
fn check_log(server: &Postgres, connection: &str, broker: &Broker) {
    let database = connection.rsplit_once("dbname=").expect("it names a database").1;
    let written = "SELECT string_agg(DISTINCT broker, ' ' ORDER BY broker) FROM mqtt_log.event
        WHERE kind = ";
    for kind in ["'started'", "'subscribed'"] {
        broker.wait_until("both are written down", |_| {
            has_schema(server, database)
                && server.query(database, &format!("{written}{kind}")) == "mqttzoo-0 mqttzoo-1"
        });
    }
    assert_eq!(server.query(database, "SELECT count(*) FROM mqtt_log.gap"), "0");
}

fn has_schema(server: &Postgres, database: &str) -> bool {
    server.query(database, "SELECT to_regclass('mqtt_log.gap') IS NOT NULL") == "t"
}

#[test]
fn brokers_then_zookeeper_then_postgresql() {
    check_order([First, Second, ZooKeeper, Database]);
}

#[test]
fn brokers_then_postgresql_then_zookeeper() {
    check_order([First, Second, Database, ZooKeeper]);
}

#[test]
fn zookeeper_then_brokers_then_postgresql() {
    check_order([ZooKeeper, First, Second, Database]);
}

#[test]
fn postgresql_then_brokers_then_zookeeper() {
    check_order([Database, First, Second, ZooKeeper]);
}

#[test]
fn zookeeper_between_two_brokers_and_postgresql_last() {
    check_order([First, ZooKeeper, Second, Database]);
}

#[test]
fn postgresql_between_two_brokers_and_zookeeper_last() {
    check_order([First, Database, Second, ZooKeeper]);
}

#[test]
fn zookeeper_then_brokers_then_the_postgresql_that_has_their_sessions() {
    check_order_with(InDatabase, [ZooKeeper, First, Second, Database]);
}

#[test]
fn the_postgresql_that_has_the_sessions_between_two_brokers_and_zookeeper_last() {
    check_order_with(InDatabase, [First, Database, Second, ZooKeeper]);
}

/// Its servers are replaced one by one, as by an update, while brokers start.
#[test]
fn brokers_join_while_the_servers_of_their_ensemble_are_replaced() {
    let Some(mut ensemble) = Ensemble::start() else { return };
    let zookeeper = ensemble.with_fresh_chroot();
    let (mut brokers, mut watchers) = (Vec::new(), Vec::new());
    for server in 0..ensemble.len() {
        ensemble.kill(server);
        let broker = start(&zookeeper, &format!("mqttzoo-{server}"), &[]);
        watchers.push(Watcher::of(&broker));
        brokers.push(broker);
        ensemble.start_again(server);
    }
    brokers.iter().for_each(wait_until_ready);
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        check_conversation(&brokers[one], &brokers[other]);
    }
    for watcher in watchers {
        watcher.finish();
    }
}
