//! The same as `crash` over PostgreSQL: the broker, and then the server, are killed behind every message
//! upon which the server does something, and what is in the database afterwards is what was answered and
//! perhaps a little more.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mqttzoo::runtime::Background;
use mqttzoo::store::{PostgresOptions, PostgresStore};
use parking_lot::Mutex;

use super::client::Client;
use super::contract::postgres;
use super::crash::{story, tell, verify_in};
use super::cut::Relay;
use crate::harness::Postgres;

/// Where the child stores.
const DATABASE: &str = "MQTTZOO_TEST_STORE_DATABASE";
/// The name by which the test binary is asked to be the child.
const CHILD: &str = "store::server_crash::a_broker_that_is_killed";

#[test]
fn a_broker_killed_at_any_message_to_the_server_loses_nothing_that_was_answered() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let name = database.rsplit_once("dbname=").unwrap().1;
    let background = Background::start(1).unwrap();
    let mut kills = 0;
    for at in 1.. {
        server.query(name, FRESH);
        let (answered, was_killed) = run_child(server, name, at);
        // What its last transaction comes to is up to the server alone.
        wait_until("the server is done with it", || {
            let left = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
            server.query("postgres", &left) == "0"
        });
        verify_in(&postgres(&database, &background), answered);
        if !was_killed {
            assert_eq!(answered, story().len());
            break;
        }
        kills += 1;
    }
    assert!(kills > 40, "{kills} messages: were they seen?");
}

/// The child; by itself it is a broker that nobody kills.
#[test]
fn a_broker_that_is_killed() {
    let background = Background::start(1).unwrap();
    if let Ok(database) = std::env::var(DATABASE) {
        tell(&postgres(&database, &background));
        return;
    }
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    tell(&postgres(&database, &background));
    verify_in(&postgres(&database, &background), story().len());
}

/// How many batches were answered before it was killed, if it was.
fn run_child(server: &Postgres, name: &str, at: u64) -> (usize, bool) {
    let child: Arc<Mutex<Option<Child>>> = Arc::default();
    let victim = Arc::clone(&child);
    let relay = Relay::start(server.port(), at, move || {
        victim.lock().as_mut().expect("it was started").kill().unwrap();
    });
    let mut running = child.lock();
    let mut started = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(DATABASE, format!("host=127.0.0.1 port={} user=mqtt dbname={name}", relay.port))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(started.stdout.take().unwrap());
    *running = Some(started);
    drop(running);
    let lines = said.lines().map_while(Result::ok);
    let answered = lines.filter(|line| line.contains("answered ")).count();
    let status = child.lock().as_mut().expect("it was started").wait().unwrap();
    (answered, !status.success())
}

/// Some of the messages; all of them with `MQTTZOO_STORE_CUTS=all`.
#[test]
fn a_server_killed_at_any_message_loses_nothing_that_was_answered() {
    let Some(mut server) = Postgres::start() else { return };
    let stride =
        if std::env::var("MQTTZOO_STORE_CUTS").is_ok_and(|it| it == "all") { 1 } else { 20 };
    let mut kills = 0;
    for at in (1..).step_by(stride) {
        server.query("postgres", FRESH);
        let was_killed = tell_over(&mut server, at);
        let background = Background::start(1).unwrap();
        verify_in(&postgres(&server.database("postgres"), &background), story().len());
        if !was_killed {
            break;
        }
        kills += 1;
    }
    assert!(kills * stride > 40, "{kills} kills: were messages seen?");
}

/// Tells the story to a server that is killed on the way, and started again.
fn tell_over(server: &mut Postgres, at: u64) -> bool {
    let (kill, is_asked_to) = mpsc::channel();
    let relay = Relay::start(server.port(), at, move || kill.send(()).unwrap());
    let background = Background::start(1).unwrap();
    let place = format!("host=127.0.0.1 port={} user=mqtt dbname=postgres", relay.port);
    let mut options = PostgresOptions::parse(&place).unwrap();
    options.patience = Duration::from_secs(60);
    let store = PostgresStore::start(options, &background.handle());
    let mut was_killed = false;
    thread::scope(|scope| {
        let teller = scope.spawn(|| {
            let mut broker = Client::new(&store, 1);
            for batch in story() {
                broker.submit(batch);
                let completion = broker.next();
                assert!(completion.outcome.is_ok(), "message {at}: {completion:?}");
            }
        });
        while !teller.is_finished() {
            if is_asked_to.recv_timeout(Duration::from_millis(10)).is_ok() {
                server.kill_hard();
                server.start_again();
                was_killed = true;
            }
        }
        teller.join().unwrap();
    });
    was_killed
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come to: {what}");
        thread::yield_now();
    }
}

/// As if nobody had ever been there.
const FRESH: &str = "SET client_min_messages TO error; DROP SCHEMA IF EXISTS mqttzoo CASCADE";
