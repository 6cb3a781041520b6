//! The store does not answer, or refuses: who needs it waits within a bound, nobody else notices, and
//! the broker says so.

use std::time::Duration;

use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Mortal, take};
use crate::conformance::bytes::Will;
use crate::conformance::{Client, Event, Version, ack, bytes, kind, prop};

/// Nobody can write as long as it lives.
pub(super) struct Lock(Connection);

impl Lock {
    pub(super) fn on(mortal: &Mortal) -> Self {
        let store = Connection::open(mortal.broker.directory().join("store.sqlite")).unwrap();
        store.busy_timeout(Duration::from_secs(20)).unwrap();
        store.execute_batch("BEGIN EXCLUSIVE").unwrap();
        Self(store)
    }

    pub(super) fn let_go(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

fn start(store_wait_secs: &str) -> Mortal {
    let mortal = Mortal::start(&["--admin-port", "0", "--store-wait-secs", store_wait_secs]);
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t/#", 1).unwrap();
    sleeper.leave().unwrap();
    mortal
}

/// What `/readyz` says, which is not a reason to send traffic elsewhere.
fn readiness(mortal: &Mortal) -> String {
    let (status, body) = mortal.broker.ask_admin("GET", "/readyz").unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

pub(super) fn wait_for_readiness(mortal: &Mortal, words: &str) {
    mortal.broker.wait_until(words, |_| readiness(mortal).contains(words));
}

pub(super) fn wait_until_good(mortal: &Mortal) {
    mortal.broker.wait_until("ready", |_| !readiness(mortal).contains("degraded"));
}

/// CONNECT of a Session that is kept; nobody waits for CONNACK yet.
pub(super) fn begin(mortal: &Mortal, name: &str, version: Version) -> Client {
    let mut stage = mortal.broker.stage(version);
    stage.unique.clone_from(&mortal.stage.unique);
    let mut client = stage.open().unwrap();
    client.send(&stage.connect(name).kept().bytes());
    client
}

pub(super) fn connack(client: &mut Client) -> (u8, bool) {
    let reason = client.expect(kind::CONNACK).unwrap().reason().unwrap();
    (reason.code, reason.session_present)
}

/// The payloads that come up to this one. Nobody was told what became of `unanswered`: it may come.
pub(super) fn take_until(client: &mut Client, last: &[u8], unanswered: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|payload| payload != last) {
        payloads.extend(take(client, 1).into_iter().map(|message| message.payload));
        payloads.retain(|payload| payload != unanswered);
    }
    client.quiet().unwrap();
    payloads
}

/// Clients that need no store do what they do.
pub(super) fn carry_on(mortal: &Mortal) {
    let mut watcher = mortal.stage.client("watcher").unwrap();
    watcher.subscribe("q/#", 2).unwrap();
    let mut publisher = mortal.stage.client("plain").unwrap();
    for qos in 0..=2 {
        publisher.publish("q/x", "as ever", qos).unwrap();
        watcher.receive("q/x", "as ever", qos).unwrap();
    }
    publisher.leave().unwrap();
    watcher.leave().unwrap();
}

#[test]
fn a_store_that_is_locked_is_told_and_keeps_only_those_who_need_it() {
    let mortal = start("1");
    let lock = Lock::on(&mortal);
    let mut returning = begin(&mortal, "sleeper", Version::V5);
    let mut newcomer = begin(&mortal, "newcomer", Version::V5);
    let mut old = begin(&mortal, "old", Version::V4);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.send(&mortal.stage.message("t/x", "unanswered").qos(1, 1).bytes());
    wait_for_readiness(&mortal, "database is locked");
    carry_on(&mortal);
    assert_eq!(connack(&mut returning), (0x88, false));
    assert_eq!(connack(&mut newcomer), (0x88, false));
    assert_eq!(connack(&mut old), (3, false));
    for client in [&mut returning, &mut newcomer, &mut old] {
        client.closed().unwrap();
    }
    publisher.refused(&[0x89]).unwrap();
    let metrics = mortal.broker.metrics();
    assert_eq!(metrics.value("store_degraded"), 1);
    assert_eq!(metrics.value("store_degradations_total"), 1);
    assert_eq!(metrics.value("connects_unstored_total"), 3);
    carry_on(&mortal);
    lock.let_go();
    // Without anybody asking for anything.
    wait_until_good(&mortal);
    assert_eq!(mortal.broker.metrics().value("store_degraded"), 0);
    mortal.stage.client("publisher").unwrap().publish("t/x", "kept", 1).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present, "it was there all the time");
    assert_eq!(take_until(&mut sleeper, b"kept", b"unanswered"), [b"kept".to_vec()]);
}

/// Clients that waited for the store were half open, and nobody else came in.
#[test]
fn who_waits_for_the_store_keeps_nobody_out() {
    let arguments = ["--admin-port", "0", "--store-wait-secs", "20", "--half-open-max", "2"];
    let mortal = Mortal::start(&arguments);
    // What was stored is read before clients are taken.
    mortal.broker.wait_for_log("accepts connections");
    let lock = Lock::on(&mortal);
    let mut waiting = Vec::new();
    for (count, name) in (1..).zip(["a", "b", "c", "d"]) {
        waiting.push(begin(&mortal, name, Version::V5));
        mortal.broker.wait_for_metric("connections", |open| open == count);
        mortal.broker.wait_for_metric("connections_half_open", |half_open| half_open == 0);
    }
    mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 0);
    carry_on(&mortal);
    lock.let_go();
    for client in &mut waiting {
        assert_eq!(connack(client), (0, false));
    }
}

#[test]
fn who_waits_for_the_store_goes_on_when_it_answers() {
    let mortal = start("20");
    let lock = Lock::on(&mortal);
    let mut publisher = mortal.stage.client("publisher").unwrap();
    publisher.send(&mortal.stage.message("t/x", "kept").qos(1, 1).bytes());
    let mut returning = begin(&mortal, "sleeper", Version::V5);
    // Nobody reads what it sends before it is let in.
    returning.send(&ack(kind::PUBACK, 9));
    mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 0);
    lock.let_go();
    publisher.expect_ack(kind::PUBACK, 1).unwrap();
    assert_eq!(connack(&mut returning), (0, true));
    returning.receive("t/x", "kept", 1).unwrap();
    wait_until_good(&mortal);
}

/// The client has gone when the store answers, and the next one with its name comes.
#[test]
fn a_client_that_does_not_wait_for_the_store_leaves_its_session_as_it_was() {
    let mortal = start("20");
    let lock = Lock::on(&mortal);
    let impatient = begin(&mortal, "sleeper", Version::V5);
    mortal.broker.wait_for_metric("store_retries_total", |retries| retries > 0);
    impatient.cut().unwrap();
    let mut patient = begin(&mortal, "sleeper", Version::V5);
    lock.let_go();
    assert_eq!(connack(&mut patient), (0, true));
    mortal.stage.client("publisher").unwrap().publish("t/x", "kept", 1).unwrap();
    patient.receive("t/x", "kept", 1).unwrap();
}

/// UNSUBSCRIBEs without end are not taken: what waits for the store has a bound.
#[test]
fn answers_that_wait_for_the_store_are_bounded_and_come_in_order() {
    const COUNT: u16 = 1_500;
    let mortal = start("20");
    let mut client = mortal.keeper("client");
    let filters: Vec<_> = (1..=COUNT).map(|number| format!("a/{number}")).collect();
    let pairs: Vec<_> = filters.iter().map(|filter| (&**filter, 1)).collect();
    client.subscribe_all(&[], &pairs).unwrap();
    let lock = Lock::on(&mortal);
    let unsubscribe =
        |(id, filter): (u16, &String)| bytes::unsubscribe(Version::V5, id, &[filter.as_bytes()]);
    client.send(&(1..=COUNT).zip(&filters).flat_map(unsubscribe).collect::<Vec<_>>());
    mortal.broker.wait_for_metric("reads_deferred_by_store_total", |turns| turns > 0);
    lock.let_go();
    for id in 1..=COUNT {
        client.expect_ack(kind::UNSUBACK, id).unwrap();
    }
}

/// Files may not grow any more, which is as a disk that is full.
#[test]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    let mortal = start("1");
    let pid = Pid::from_raw(i32::try_from(mortal.broker.pid()).unwrap());
    let limit = |bytes| {
        let limits = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limits).unwrap();
    };
    limit(Some(2 << 20));
    let body = "x".repeat(100_000);
    let payload = |number: u16| format!("{number} {body}").into_bytes();
    let (mut acknowledged, mut unanswered) = (Vec::new(), Vec::new());
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 1..100 {
        let message = mortal.stage.message("t/x", payload(number));
        publisher.send(&message.qos(1, number).bytes());
        match publisher.event().unwrap() {
            Event::Packet(packet) if packet.kind() == kind::PUBACK => {
                acknowledged.push(payload(number));
            }
            Event::Packet(_) | Event::Closed => {
                unanswered = payload(number);
                break;
            }
        }
    }
    assert!(!unanswered.is_empty(), "the disk was not full");
    wait_for_readiness(&mortal, "degraded");
    carry_on(&mortal);
    limit(None);
    wait_until_good(&mortal);
    mortal.stage.client("publisher").unwrap().publish("t/x", "end", 1).unwrap();
    let mut sleeper = mortal.keeper("sleeper");
    assert!(sleeper.connack.session_present);
    acknowledged.push(b"end".to_vec());
    let taken = take_until(&mut sleeper, b"end", &unanswered);
    assert!(taken == acknowledged, "{} came of {}", taken.len(), acknowledged.len());
}

/// The store was locked when a message was acknowledged, and then nothing happened any more: it was not
/// told, and the message was sent again after the next start.
#[test]
fn what_nobody_waits_for_is_told_when_all_is_quiet_again() {
    let mortal = start("1");
    let stored = || {
        let store = Connection::open(mortal.broker.directory().join("store.sqlite")).unwrap();
        store.busy_timeout(Duration::from_secs(20)).unwrap();
        store.query_row("SELECT count(*) FROM pointer", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let mut sleeper = mortal.keeper("sleeper");
    mortal.stage.client("publisher").unwrap().publish("t/x", "once", 1).unwrap();
    let message = sleeper.message().unwrap();
    assert_eq!(stored(), 1);
    let lock = Lock::on(&mortal);
    sleeper.send(&ack(kind::PUBACK, message.id));
    mortal.broker.wait_for_metric("store_batches_failed_total", |count| count > 0);
    lock.let_go();
    mortal.broker.wait_until("it is told", |_| stored() == 0);
}

/// The store was locked when a client went: it was not told, and after a start the client was gone since
/// then, and its Session and its will lasted as long again.
#[test]
fn when_a_client_went_is_told_when_the_store_answers_again() {
    let mortal = start("1");
    let delayed = Will::new("will", "gone").with(&prop::four(prop::WILL_DELAY, 600));
    let connect = mortal.stage.connect("client").kept().will(delayed);
    let absent = || {
        let store = Connection::open(mortal.broker.directory().join("store.sqlite")).unwrap();
        store.busy_timeout(Duration::from_secs(20)).unwrap();
        let both = "SELECT count(*) FROM session JOIN will ON will.session = session.uid
            WHERE session.expires_at IS NOT NULL AND will.fires_at IS NOT NULL";
        store.query_row(both, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let client = mortal.stage.enter(&connect).unwrap();
    let lock = Lock::on(&mortal);
    client.cut().unwrap();
    mortal.broker.wait_for_metric("store_batches_failed_total", |count| count > 0);
    lock.let_go();
    mortal.broker.wait_until("it is told", |_| absent() == 1);
    let back = mortal.stage.enter(&connect).unwrap();
    assert!(back.connack.session_present);
    assert_eq!(absent(), 0, "it is there");
}
