//! One body for the queues of two brokers, of which each knows only what the other has committed.
//!
//! PostgreSQL has no foreign keys to hold on to a body that somebody is about to point to: they cost
//! half of what a message did. What holds it is that whoever points to a body that is there makes it a
//! new version of itself, and that nobody removes a version which he has not looked at.

use std::time::{Duration, Instant};

use mqttzoo::ports::store::Operation;
use mqttzoo::runtime::Background;

use super::client::Client;
use super::contract::postgres;
use super::words::{acknowledge, enqueue, message, pointer, put_session, queue, retained, session};
use crate::harness::Postgres;

#[test]
fn a_body_stays_while_another_broker_is_about_to_point_to_it() {
    let Some(server) = Postgres::shared() else { return };
    let (database, background) = (server.fresh_database(), Background::start(2).unwrap());
    let name = database.rsplit_once("dbname=").expect("it is the last word").1;
    let stores = [postgres(&database, &background), postgres(&database, &background)];
    let mut one = Client::registered(&stores[0], 1);
    let mut other = Client::registered(&stores[1], 2);
    let (ours, theirs) = (session(1, 1), session(2, 1));
    one.must([put_session(ours, "c"), put_retained(1)]);
    one.must([enqueue(&message(7), vec![pointer(ours, 1)])]);
    other.must([put_session(theirs, "d")]);
    // The other broker stops before its COMMIT, where a third one has a row that it writes to.
    let held = server.hold(name, "SELECT 1 FROM mqttzoo.retained FOR UPDATE");
    let both = [enqueue(&message(7), vec![pointer(theirs, 1)]), put_retained(2)];
    other.submit(other.batch(both));
    wait_until(|| waiting(server, name) == 1);
    one.submit(one.batch([acknowledge(ours, 1, 7)]));
    wait_until(|| waiting(server, name) == 2);
    drop(held);
    assert!(other.next().outcome.is_ok());
    assert!(one.next().outcome.is_ok());
    let [there] = &queue(&mut other, 2)[..] else { panic!("one message waits") };
    assert_eq!(there.message, Some(message(7)), "its body is there");
    other.must([acknowledge(theirs, 1, 7)]);
    assert_eq!(server.query(name, "SELECT count(*) FROM mqttzoo.message"), "0");
}

fn put_retained(time: u64) -> Operation {
    Operation::PutRetained(retained("held", time, Some(message(9))))
}

/// How many wait for a row or a transaction of somebody else.
fn waiting(server: &Postgres, database: &str) -> u32 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    );
    server.query("postgres", &sql).parse().expect("a number")
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come");
    }
}
