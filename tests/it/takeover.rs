//! One Client Identifier, several connections: the newest has the Session, and has it at once.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use mqttzoo::auth::passwd::set_password;
use socket2::{Domain, Socket, Type};

use crate::conformance::{Client, Connect, Event, Stage, Version, kind};
use crate::harness::Broker;

/// A connection with small buffers, so that what is unsent is soon unsent in the broker.
fn open_narrow(s: &Stage) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], s.target.port)).into()).unwrap();
    Client::new(TcpStream::from(socket), s.version, s.target.patience)
}

/// A client that stopped reading, with more unsent than any socket takes. The newcomer is let in at
/// once: 0x8E is tried once and not awaited, or it would take as long as the old connection is given
/// to take its leave.
#[track_caller]
fn check_stuck(version: Version, is_kept: bool, qos: u8) {
    let broker = Broker::start(&["--admin-port", "0"]);
    let s = broker.stage(version);
    let connect = if is_kept { s.connect("stuck").kept() } else { s.connect("stuck") };
    let mut stuck = open_narrow(&s);
    stuck.send(&connect.bytes());
    stuck.expect(kind::CONNACK).unwrap();
    stuck.subscribe("t", qos).unwrap();
    let mut publisher = s.client("publisher").unwrap();
    let payload = "x".repeat(256 * 1024);
    for _ in 0..40 {
        publisher.publish("t", &payload, qos).unwrap();
    }
    publisher.ping().unwrap();
    let metrics = broker.metrics();
    let unsent = 40 * 256 * 1024 - metrics.value("sent_bytes_total").min(40 * 256 * 1024);
    assert!(unsent > 1 << 20, "only {unsent} bytes wait in the broker");

    let begin = Instant::now();
    let newcomer = s.enter(&connect).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(900), "the newcomer waited {took:?}");
    assert_eq!(newcomer.connack.session_present, is_kept);
    assert_eq!(broker.metrics().value("takeovers_total"), 1);
    assert_eq!(broker.metrics().value("clients_connected"), 2);
    // The old connection comes to its end, read or not.
    broker.wait_for_metric("connections", |open| open == 2);
    if is_kept {
        check_replayed(newcomer, &payload);
    }
    publisher.quiet().unwrap();
}

/// The Session has moved with all its messages.
#[track_caller]
fn check_replayed(mut client: Client, payload: &str) {
    for _ in 0..40 {
        let message = client.message().unwrap();
        assert_eq!(message.payload.len(), payload.len());
        client.settle(&message).unwrap();
    }
    client.quiet().unwrap();
}

#[test]
fn a_client_that_stopped_reading_is_taken_over_at_once() {
    for version in [Version::V4, Version::V5] {
        check_stuck(version, true, 1);
    }
}

#[test]
fn a_clean_client_that_stopped_reading_is_taken_over_at_once() {
    check_stuck(Version::V5, false, 0);
}

/// Ten clients say CONNECT at once; those that were let in, at least for a moment.
fn compete(s: &Arc<Stage>, connect: &Connect) -> Vec<Client> {
    let at_once = Arc::new(Barrier::new(10));
    let competitors = [(); 10].map(|()| {
        let (s, connect, at_once) = (Arc::clone(s), connect.clone(), Arc::clone(&at_once));
        thread::spawn(move || {
            let mut client = s.open().unwrap();
            at_once.wait();
            client.send(&connect.bytes());
            match client.event().unwrap() {
                Event::Packet(packet) if packet.kind() == kind::CONNACK => {
                    let is_in = packet.reason().unwrap().code == 0;
                    is_in.then_some(client)
                }
                Event::Packet(packet) => panic!("{}", packet.shown()),
                Event::Closed => None,
            }
        })
    });
    competitors.into_iter().filter_map(|one| one.join().unwrap()).collect()
}

/// Whether a client that was let in still stands; if not it has been told why.
fn is_alive(client: &mut Client) -> bool {
    client.send(&[0xC0, 0]);
    match client.event().unwrap() {
        Event::Packet(packet) if packet.kind() == kind::PINGRESP => return true,
        Event::Packet(packet) if packet.kind() == kind::DISCONNECT => {
            assert_eq!(packet.reason().unwrap().code, 0x8E);
        }
        Event::Packet(packet) => panic!("{}", packet.shown()),
        Event::Closed => {}
    }
    false
}

/// All ten have an answer before any of them asks whether it still stands.
#[test]
fn ten_connects_at_once_leave_exactly_one() {
    let broker = Broker::start(&["--admin-port", "0"]);
    for round in 0..20 {
        let version = if round % 2 == 0 { Version::V4 } else { Version::V5 };
        let s = Arc::new(broker.stage(version));
        let connect = s.connect("x");
        let connect = if round % 4 < 2 { connect } else { connect.kept() };
        let mut inside = compete(&s, &connect);
        let alive = inside.iter_mut().map(is_alive).filter(|is_alive| *is_alive).count();
        assert_eq!(alive, 1, "round {round}, {version:?}");
        assert_eq!(broker.metrics().value("clients_connected"), 1);
        drop(inside);
        broker.wait_for_metric("connections", |open| open == 0);
    }
}

/// Checking a password takes its time; a queue of them takes more.
struct Slow {
    broker: Broker,
    /// Sockets whose CONNECTs wait for their turn.
    queue: Vec<Client>,
}

impl Slow {
    /// A broker whose authenticator has `waiting` CONNECTs before it.
    fn new(waiting: usize, further: &[&str]) -> Self {
        let broker = Broker::start_with(|directory| {
            let users = directory.join("users");
            set_password(&users, "alice", b"wonder").unwrap();
            let users = users.display().to_string();
            let arguments = ["--admin-port", "0", "--allow-anonymous", "--password-file", &users];
            [&arguments[..], further].concat().into_iter().map(str::to_owned).collect()
        });
        let s = broker.stage(Version::V5);
        let connect = |n: usize| alice(s.connect(&format!("q{n}"))).bytes();
        let queue = (0..waiting).map(|n| {
            let mut client = s.open().unwrap();
            client.send(&connect(n));
            client
        });
        let queue = queue.collect();
        Self { broker, queue }
    }
}

/// With alice's password.
fn alice(connect: Connect) -> Connect {
    Connect { user_name: Some(b"alice".to_vec()), password: Some(b"wonder".to_vec()), ..connect }
}

/// Until the newcomer has been let in, the Session is where it was.
#[test]
fn a_takeover_waits_for_the_authenticator_and_harms_nobody_meanwhile() {
    let slow = Slow::new(20, &[]);
    let s = slow.broker.stage(Version::V5);
    let connect = alice(s.connect("x").kept());
    let mut old = s.open().unwrap();
    old.send(&connect.bytes());
    assert_eq!(old.expect(kind::CONNACK).unwrap().reason().unwrap().code, 0);
    old.subscribe("t", 1).unwrap();
    let mut newcomer = s.open().unwrap();
    newcomer.send(&connect.bytes());
    while slow.broker.metrics().value("connects_accepted_total") < 5 {
        old.quiet().unwrap();
    }
    let reason = newcomer.expect(kind::CONNACK).unwrap().reason().unwrap();
    assert!(reason.code == 0 && reason.session_present, "{reason:?}");
    assert_eq!(old.refused(&[0x8E]).unwrap().expect("a client of 5.0 is told").code, 0x8E);
    newcomer.publish("t", "mine now", 1).unwrap();
    newcomer.receive("t", "mine now", 1).unwrap();
    for mut waiting in slow.queue {
        assert_eq!(waiting.expect(kind::CONNACK).unwrap().reason().unwrap().code, 0);
    }
}

/// A newcomer that is refused takes nothing over.
#[test]
fn a_takeover_that_comes_to_nothing_leaves_the_session_alone() {
    let slow = Slow::new(5, &[]);
    let s = slow.broker.stage(Version::V5);
    let mut old = s.client("x").unwrap();
    let mut wrong = s.open().unwrap();
    let connect = Connect { password: Some(b"guess".to_vec()), ..alice(s.connect("x")) };
    wrong.send(&connect.bytes());
    assert_eq!(wrong.expect(kind::CONNACK).unwrap().reason().unwrap().code, 0x86);
    wrong.closed().unwrap();
    old.quiet().unwrap();
    assert_eq!(slow.broker.metrics().value("takeovers_total"), 0);
    drop(slow.queue);
    slow.broker.wait_for_metric("connections", |open| open == 1);
    old.quiet().unwrap();
}

/// Ten with a password at once, behind others that wait.
#[test]
fn ten_connects_at_once_behind_a_slow_authenticator_leave_exactly_one() {
    let slow = Slow::new(5, &[]);
    let s = Arc::new(slow.broker.stage(Version::V5));
    let mut inside = compete(&s, &alice(s.connect("x").kept()));
    let alive = inside.iter_mut().map(is_alive).filter(|is_alive| *is_alive).count();
    assert_eq!(alive, 1);
}

/// The last in the queue are told in time that nobody can check them, and may come again.
#[test]
fn a_connect_that_waits_too_long_is_refused_with_0x88() {
    let slow = Slow::new(200, &["--auth-timeout-secs", "1"]);
    let mut codes: Vec<u8> = Vec::new();
    for mut waiting in slow.queue {
        codes.push(waiting.expect(kind::CONNACK).unwrap().reason().unwrap().code);
    }
    assert!(codes.contains(&0x88), "{codes:02x?}");
    assert!(codes.iter().all(|code| [0, 0x88].contains(code)), "{codes:02x?}");
    slow.broker.stage(Version::V5).client("a").unwrap().quiet().unwrap();
}

#[test]
fn no_more_connects_wait_than_may() {
    let slow = Slow::new(50, &["--auth-waiting-max", "1"]);
    let mut codes: Vec<u8> = Vec::new();
    for mut waiting in slow.queue {
        codes.push(waiting.expect(kind::CONNACK).unwrap().reason().unwrap().code);
    }
    assert!(codes.iter().all(|code| [0, 0x89].contains(code)), "{codes:02x?}");
    let granted = codes.split(|code| *code == 0).count() - 1;
    let refused = (codes.len() - granted) as u64;
    assert!(refused > 0 && granted > 0, "{codes:02x?}");
    assert_eq!(slow.broker.metrics().value("connects_waiting_exceeded_total"), refused);
    slow.broker.stage(Version::V5).client("a").unwrap().quiet().unwrap();
}
