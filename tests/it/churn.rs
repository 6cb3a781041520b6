//! Clients come, publish and vanish: afterwards the broker holds what it held before.

mod stored;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::conformance::bytes::Will;
use crate::conformance::{Client, Connect, Stage, Version, kind, prop};
use crate::harness::Broker;

/// What must be as before: one name for each gauge, summed over its labels.
const HELD: &[&str] = &[
    "connections",
    "connections_half_open",
    "connections_parked",
    "clients_connected",
    "shard_connections",
    "tasks",
    "sessions",
    "subscriptions",
    "shared_subscriptions",
    "index_nodes",
    "retained_messages",
    "retained_bytes",
    "queued_bytes",
    "wills_bytes",
    "timers",
    "cached_routes",
];

/// Everything a broker holds.
type Held = BTreeMap<&'static str, u64>;

fn held(broker: &Broker) -> Held {
    let metrics = broker.metrics();
    HELD.iter().map(|name| (*name, metrics.sum(name))).collect()
}

/// Waits until the broker holds no more and no less than `before`; else says what it does hold. Of tasks there
/// may be less: the connection by which it was asked whether it serves may have been on its way out.
fn check_leaks(broker: &Broker, before: &Held, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    loop {
        let now = held(broker);
        let differing: Vec<_> = HELD
            .iter()
            .filter(|name| before[**name] != now[**name])
            .filter(|name| **name != "tasks" || now[**name] > before[**name])
            .map(|name| format!("{name}: {} and not {}", now[name], before[name]))
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(differing.join(", "));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A broker that says nothing by itself, so that nothing changes by itself.
fn quiet_broker() -> Broker {
    // A store keeps pages of its file in memory, which is not what this is about.
    let arguments =
        ["--admin-port", "0", "--sys-interval-secs", "off", "--log", "warn", "--no-database"];
    // Whoever has nothing to do for a moment is parked, so that clients go while they are.
    let broker = Broker::start(&[&arguments[..], &["--park-after-secs", "0"]].concat());
    // Its own tasks are to be counted among those from before.
    broker.wait_until("it serves", |broker| {
        broker.ask_admin("GET", "/readyz").is_ok_and(|(status, _)| status == 200)
    });
    broker
}

/// Whether a process holds over five per cent more than it did.
fn has_grown(before: u64, after: u64) -> bool {
    after * 100 > before * 105
}

/// Clients of one round, and how many of them are there at once.
const CLIENTS: usize = 2_000;
const AT_ONCE: usize = 500;

/// One client, whose number decides what it leaves behind: a Session that lasts a second, a will, a
/// delayed will, a shared subscription, messages it has not acknowledged.
fn connect(s: &Stage, n: usize) -> Connect {
    let connect = Connect::new(s.version, format!("churn{n}"));
    let connect = if n.is_multiple_of(2) {
        connect.resumed().with(&prop::four(prop::SESSION_EXPIRY, 1))
    } else {
        connect
    };
    match n % 5 {
        0 => connect.will(Will::new(&format!("will/{n}"), "gone")),
        1 => connect
            .will(Will::new(&format!("will/{n}"), "late").with(&prop::four(prop::WILL_DELAY, 1))),
        _ => connect,
    }
}

/// Sends everything a client has to say in one write and waits for the last answer.
fn live(s: &Stage, n: usize) -> Client {
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], s.target.port))).unwrap();
    // The close is to be a reset: as abrupt as it gets.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    let mut client = Client::new(stream, s.version, s.target.patience);
    client.send(&connect(s, n).bytes());
    client.expect(kind::CONNACK).unwrap();
    let (own, shared) = (format!("own/{n}/+"), format!("$share/g{}/shared/{}", n % 7, n % 7));
    let codes = client.subscribe_all(&[], &[(&own, 2), (&shared, 1), ("all", 1)]).unwrap().codes;
    assert_eq!(codes, [2, 1, 1]);
    let mut publish = |topic: &str, qos: u8| {
        let id = if qos > 0 { client.fresh_id() } else { 0 };
        client.send(&s.message(topic, "x".repeat(n % 500)).qos(qos, id).bytes());
    };
    publish(&format!("own/{n}/a"), 2);
    publish(&format!("shared/{}", n % 7), 1);
    if n.is_multiple_of(10) {
        publish("all", 0);
    }
    client
}

/// All clients come and vanish, a part of them at a time, half of the work on each of two threads.
fn churn(s: &Stage) {
    let some = |from: usize| {
        for group in (from..CLIENTS).step_by(AT_ONCE * 2) {
            let clients: Vec<Client> = (group..group + AT_ONCE).map(|n| live(s, n)).collect();
            drop(clients);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| some(0));
        scope.spawn(|| some(AT_ONCE));
    });
}

#[test]
fn two_thousand_clients_in_five_rounds_leave_nothing_behind() {
    let broker = quiet_broker();
    let s = broker.stage(Version::V5);
    let before = held(&broker);
    let mut resident = Vec::new();
    for round in 1..=5 {
        churn(&s);
        let leaks = check_leaks(&broker, &before, Duration::from_secs(20));
        assert_eq!(leaks, Ok(()), "after round {round}");
        resident.push(broker.metrics().value("resident_bytes"));
    }
    let accepted = broker.metrics().value("connects_accepted_total");
    assert_eq!(accepted, (resident.len() * CLIENTS) as u64);
    println!("RSS after each round: {resident:?}");
    assert!(!has_grown(resident[1], resident[4]), "RSS grows from round to round: {resident:?}");
}

/// The checker finds whatever is left behind, and finds it gone afterwards.
#[test]
fn a_planted_leak_is_found() {
    let broker = quiet_broker();
    let s = broker.stage(Version::V5);
    let before = held(&broker);
    let found = |names: &[&str]| {
        broker.wait_until(&format!("{names:?} are found"), |broker| {
            let leaks = check_leaks(broker, &before, Duration::ZERO).err().unwrap_or_default();
            names.iter().all(|name| leaks.contains(&format!("{name}: ")))
        });
    };
    let clean = || assert_eq!(check_leaks(&broker, &before, Duration::from_secs(20)), Ok(()));

    let silent = s.open().unwrap();
    found(&["connections", "connections_half_open", "shard_connections", "tasks"]);
    drop(silent);
    clean();

    let client = s.enter(&s.connect("a").will(Will::new("will", "gone"))).unwrap();
    found(&["connections", "clients_connected", "sessions", "tasks", "wills_bytes"]);
    drop(client);
    clean();

    let parked = s.connect("parked").resumed().with(&prop::four(prop::SESSION_EXPIRY, 600));
    let mut client = s.enter(&parked).unwrap();
    client.subscribe("a/b/c", 1).unwrap();
    client.subscribe("$share/g/s", 1).unwrap();
    client.leave().unwrap();
    found(&["sessions", "subscriptions", "shared_subscriptions", "index_nodes", "timers"]);
    let mut publisher = s.client("publisher").unwrap();
    publisher.publish("a/b/c", "waits", 1).unwrap();
    publisher.leave().unwrap();
    found(&["queued_bytes", "cached_routes"]);
    s.enter(&s.connect("parked")).unwrap().leave().unwrap();
    clean();

    let resident = broker.metrics().value("resident_bytes");
    let mut publisher = s.client("publisher").unwrap();
    publisher.retain("kept/0", "x").unwrap();
    found(&["retained_messages", "retained_bytes"]);
    assert!(!has_grown(resident, broker.metrics().value("resident_bytes")));
    for n in 0..10 {
        publisher.retain(&format!("kept/{n}"), &"x".repeat(500_000)).unwrap();
    }
    assert!(has_grown(resident, broker.metrics().value("resident_bytes")));
    for n in 0..10 {
        publisher.retain(&format!("kept/{n}"), "").unwrap();
    }
    drop(publisher);
    clean();
}

/// Bytes for a client that is gone were once sent to the next client of its shard: a write that fails
/// leaves them in the buffer that all connections of a shard share, and nobody threw them away.
#[test]
fn what_was_meant_for_a_client_that_vanished_reaches_nobody_else() {
    let broker = Broker::start(&["--threads", "1", "--log", "warn"]);
    let s = broker.stage(Version::V5);
    let subscribe = crate::conformance::bytes::subscribe(s.version, 1, &[], &[(b"secret", 0)]);
    let message = s.message("secret", "x").bytes();
    let everything = [s.connect("v").bytes(), subscribe, message.repeat(50)].concat();
    for _ in 0..500 {
        let mut stream = s.target.socket(s.target.port).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        std::io::Write::write_all(&mut stream, &everything).unwrap();
        drop(stream);
        s.client("next").unwrap().ping().unwrap();
    }
}
