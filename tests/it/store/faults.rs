//! What goes wrong around a store, and what it does about it.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mqttzoo::ports::store::{Operation, Reply, Store, StoreError, StoreHealth};
use mqttzoo::runtime::Background;
use mqttzoo::store::{
    Hook, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Step, StoreCounters,
};
use rusqlite::Connection;

use super::client::Client;
use super::contract::{postgres, sqlite};
use super::words::{
    enqueue, message, message_of, pointer, put_session, sequences, session, sessions,
};
use crate::harness::{Postgres, fresh_dir};

#[test]
fn a_locked_file_is_waited_for() {
    let directory = fresh_dir("store-locked");
    let store = sqlite(&directory);
    let mut broker = Client::registered(&store, 1);
    let other = Connection::open(directory.join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let batch = broker.batch([put_session(session(1, 1), "c")]);
    broker.submit(batch);
    let counters = store.counters();
    wait_until(|| counters.retries() >= 1);
    let StoreHealth::Degraded(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("locked"), "{why}");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(broker.next().outcome.is_ok());
    assert_eq!(store.health(), StoreHealth::Good);
    assert_eq!(sessions(&mut broker).len(), 1);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// Nobody waits for a timer: what came while a transaction lasted is the next one.
#[test]
fn what_waits_together_is_stored_together() {
    let directory = fresh_dir("store-group");
    let store = sqlite(&directory);
    let other = Connection::open(directory.join("store.sqlite")).unwrap();
    let begin = || other.execute_batch("BEGIN IMMEDIATE").unwrap();
    expect_groups(&store, &store.counters(), begin, || other.execute_batch("ROLLBACK").unwrap());
    drop(store);
    fs::remove_dir_all(directory).unwrap();
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let name = database.rsplit_once("dbname=").unwrap().1;
    let background = Background::start(1).unwrap();
    let store = postgres(&database, &background);
    let held = std::cell::RefCell::new(None);
    let begin = || {
        *held.borrow_mut() = Some(server.hold(name, "LOCK TABLE mqttzoo.session"));
    };
    expect_groups(&store, &store.counters(), begin, || drop(held.take()));
}

fn expect_groups(store: &dyn Store, counters: &StoreCounters, begin: impl Fn(), let_go: impl Fn()) {
    let mut broker = Client::registered(store, 1);
    begin();
    let before = counters.groups();
    for id in 1..=300 {
        let batch = broker.batch([put_session(session(id, 1), &id.to_string())]);
        broker.submit(batch);
    }
    assert_eq!(counters.groups(), before);
    let_go();
    for _ in 1..=300 {
        assert!(broker.next().outcome.is_ok());
    }
    let groups = counters.groups() - before;
    assert!((1..=4).contains(&groups), "{groups} transactions for 300 batches");
    assert_eq!(sessions(&mut broker).len(), 300);
}

#[test]
fn patience_has_an_end_and_the_store_goes_on() {
    let directory = fresh_dir("store-impatient");
    let patience = Duration::from_millis(1);
    let options = SqliteOptions { directory: directory.clone(), patience, hook: None };
    let store = SqliteStore::start(options).unwrap();
    let mut broker = Client::registered(&store, 1);
    let other = Connection::open(directory.join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = broker.run([put_session(session(1, 1), "c")]);
    assert!(matches!(refused, Err(StoreError::Transient(_))), "{refused:?}");
    assert!(matches!(store.health(), StoreHealth::Degraded(_)));
    other.execute_batch("ROLLBACK").unwrap();
    broker.must([put_session(session(1, 1), "c")]);
    assert_eq!(store.health(), StoreHealth::Good);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// Health said *degraded* until somebody had something to store, and nobody had.
#[test]
fn a_store_finds_out_by_itself_that_trouble_is_over() {
    let directory = fresh_dir("store-probe");
    let patience = Duration::from_millis(1);
    let options = SqliteOptions { directory: directory.clone(), patience, hook: None };
    let store = SqliteStore::start(options).unwrap();
    let mut broker = Client::registered(&store, 1);
    let other = Connection::open(directory.join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(broker.run([put_session(session(1, 1), "c")]).is_err());
    assert!(matches!(store.health(), StoreHealth::Degraded(_)));
    other.execute_batch("ROLLBACK").unwrap();
    wait_until(|| store.health() == StoreHealth::Good);
    assert_eq!(store.counters().degraded(), 1);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// A disk that hangs reports no error: nothing comes back at all.
#[test]
fn a_store_that_hangs_says_so() {
    let directory = fresh_dir("store-hangs");
    let (go_on, wait) = mpsc::channel::<()>();
    let mut transactions = 0;
    let hook = move |step: Step| {
        transactions += u32::from(step == Step::Begun);
        if step == Step::Begun && transactions == 2 {
            let _gone = wait.recv();
        }
    };
    let (patience, hook) = (Duration::from_secs(30), Some(Box::new(hook) as Hook));
    let options = SqliteOptions { directory: directory.clone(), patience, hook };
    let store = SqliteStore::start(options).unwrap();
    let mut broker = Client::registered(&store, 1);
    let batch = broker.batch([put_session(session(1, 1), "c")]);
    broker.submit(batch);
    wait_until(|| store.health() != StoreHealth::Good);
    let StoreHealth::Degraded(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("not answered"), "{why}");
    go_on.send(()).unwrap();
    assert!(broker.next().outcome.is_ok());
    wait_until(|| store.health() == StoreHealth::Good && store.counters().stalls() == 1);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// It was *good* for ten seconds, and then nobody asked whether it was again.
#[test]
fn a_server_that_hangs_is_noticed_and_found_again_by_itself() {
    let Some(server) = Postgres::start() else { return };
    let background = Background::start(1).unwrap();
    let mut options = PostgresOptions::parse(&server.database("postgres")).unwrap();
    options.patience = Duration::from_secs(4);
    let store = PostgresStore::start(options, &background.handle());
    let mut broker = Client::registered(&store, 1);
    broker.must([put_session(session(1, 1), "c")]);
    server.freeze();
    let batch = broker.batch([put_session(session(2, 1), "d")]);
    broker.submit(batch);
    wait_until(|| store.health() != StoreHealth::Good);
    let StoreHealth::Degraded(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("it has not answered for"), "{why}");
    let refused = broker.next().outcome;
    assert!(matches!(refused, Err(StoreError::Transient(_))), "{refused:?}");
    let StoreHealth::Degraded(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("has not answered in time"), "{why}");
    assert_eq!(store.counters().retries(), 0, "one try takes the time there is, and no more");
    server.thaw();
    wait_until(|| store.health() == StoreHealth::Good);
    let counters = store.counters();
    assert_eq!((counters.degraded(), counters.stalls() >= 1), (1, true));
    broker.must([put_session(session(3, 1), "e")]);
}

/// After a failover the server that answers may not be written to yet.
#[test]
fn a_server_that_may_not_be_written_to_is_no_good_one() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let name = database.rsplit_once("dbname=").unwrap().1;
    let set = |word: &str| {
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {word}");
        server.query("postgres", &sql);
    };
    let background = Background::start(1).unwrap();
    Client::registered(&postgres(&database, &background), 1);
    set("on");
    let store = postgres(&database, &background);
    wait_until(|| store.health() != StoreHealth::Good);
    let StoreHealth::Degraded(why) = store.health() else { panic!("{:?}", store.health()) };
    assert!(why.contains("25006"), "{why}");
    set("off");
    wait_until(|| store.health() == StoreHealth::Good);
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let directory = fresh_dir("store-restart");
    fill(&sqlite(&directory), 100);
    let store = sqlite(&directory);
    let mut broker = Client::new(&store, 1);
    assert_eq!(sessions(&mut broker).len(), 100);
    assert_eq!(sequences(&mut broker, 100), (1..=10).collect::<Vec<_>>());
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// A page of zeroes in the middle of a file kept a broker from starting; now what lies around it is
/// taken over, and the file stays for whoever wants to look at it.
#[test]
fn a_damaged_page_costs_what_is_on_it() {
    let directory = fresh_dir("store-damaged");
    fill(&sqlite(&directory), 2_000);
    let file = directory.join("store.sqlite");
    let mut bytes = fs::read(&file).unwrap();
    let (pages, middle) = (bytes.len() / 4_096, bytes.len() / 4_096 / 2);
    assert!(pages > 100, "{pages}");
    bytes[middle * 4_096..(middle + 4) * 4_096].fill(0xff);
    fs::write(&file, bytes).unwrap();

    let store = sqlite(&directory);
    let mut broker = Client::new(&store, 1);
    let found = sessions(&mut broker).len();
    let mut whole = 0;
    for id in 1..=2_000 {
        whole += usize::from(sequences(&mut broker, id).len() == 10);
    }
    assert!(found > 1_500, "{found} Sessions");
    assert!(whole > 1_500, "{whole} whole queues of 2,000");
    assert_eq!(set_aside(&directory), 1);
    broker.must([enqueue(&message(1_000_000), vec![pointer(session(2_000, 1), 11)])]);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_file_that_is_none_is_set_aside() {
    let directory = fresh_dir("store-garbage");
    fs::write(directory.join("store.sqlite"), [b'?'; 10_000]).unwrap();
    let store = sqlite(&directory);
    let mut broker = Client::registered(&store, 1);
    broker.must([put_session(session(1, 1), "c")]);
    assert_eq!(set_aside(&directory), 1);
    assert_eq!(store.health(), StoreHealth::Good);
    drop(store);
    fs::remove_dir_all(directory).unwrap();
}

/// Everything that was answered is there after the server was killed in the middle of it, and what was
/// not is stored when it is back, once.
#[test]
fn a_killed_server_loses_nothing_that_was_answered() {
    let Some(mut server) = Postgres::start() else { return };
    let background = Background::start(1).unwrap();
    let store = postgres(&server.database("postgres"), &background);
    let mut broker = Client::registered(&store, 1);
    let ours = session(1, 1);
    broker.must([put_session(ours, "c")]);
    for id in 1..=3_000 {
        let batch = broker.batch([enqueue(&message(id), vec![pointer(ours, id)])]);
        broker.submit(batch);
        if id == 1_000 {
            assert!(broker.next().outcome.is_ok());
            server.kill();
        }
    }
    let counters = store.counters();
    wait_until(|| counters.retries() >= 1);
    assert!(matches!(store.health(), StoreHealth::Degraded(_)));
    server.start_again();
    for _ in 1..3_000 {
        assert!(broker.next().outcome.is_ok());
    }
    assert_eq!(store.health(), StoreHealth::Good);
    assert_eq!(sequences(&mut broker, 1), (1..=3_000).collect::<Vec<_>>());
    let rows = server.query("postgres", "SELECT count(*) FROM mqttzoo.message");
    assert_eq!(rows, "3000");
}

#[test]
fn brokers_that_start_together_make_one_schema() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.fresh_database();
    let background = Background::start(2).unwrap();
    let stores: Vec<_> = (0..4).map(|_| postgres(&database, &background)).collect();
    let mut numbers: Vec<_> = (1..)
        .zip(&stores)
        .map(|(owner, store)| Client::new(store, owner).register(None).number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

/// A broker whose Session is taken in the middle of its writes: each write is there for the taker, or
/// was fenced.
#[test]
fn a_takeover_sees_all_that_was_answered() {
    let Some(server) = Postgres::shared() else { return };
    let background = Background::start(2).unwrap();
    let database = server.fresh_database();
    let stores = [postgres(&database, &background), postgres(&database, &background)];
    let mut former = Client::registered(&stores[0], 1);
    let mut taker = Client::registered(&stores[1], 2);
    for round in 1..=20 {
        let ours = session(round, 2 * round);
        former.must([put_session(ours, &round.to_string())]);
        for sequence in 1..=50 {
            let id = round * 1_000 + sequence;
            let batch = former.batch([enqueue(&message(id), vec![pointer(ours, sequence)])]);
            former.submit(batch);
        }
        let taken = super::words::take(&mut taker, &round.to_string(), 2 * round + 1);
        let there = sequences(&mut taker, round);
        let answers: Vec<_> = (0..50).map(|_| former.next().outcome.unwrap()).collect();
        let stored = answers.iter().filter(|done| done.fenced.is_empty()).count();
        assert_eq!(there.len(), stored, "round {round}");
        assert_eq!(sequences(&mut taker, round), there, "nothing comes after it");
        assert_eq!(taken.unwrap().queue.map_or(0, |ends| ends.last), there.len() as u64);
    }
}

/// Sessions with ten messages each, of which two Sessions share one.
fn fill(store: &dyn Store, count: u64) {
    let mut broker = Client::registered(store, 1);
    for id in 1..=count {
        let ours = session(id, 1);
        let mut operations = vec![put_session(ours, &format!("client {id}"))];
        for sequence in 1..=10 {
            let message = message_of(id * 100 + sequence, vec![b'x'; 200]);
            operations.push(enqueue(&message, vec![pointer(ours, sequence)]));
        }
        let batch = broker.batch(operations);
        broker.submit(batch);
    }
    for _ in 0..count {
        assert!(broker.next().outcome.is_ok());
    }
    assert!(matches!(broker.ask(Operation::DueWills { limit: 1 }), Reply::Wills(_)));
}

fn set_aside(directory: &Path) -> usize {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
    files
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .count()
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come");
        std::thread::yield_now();
    }
}
