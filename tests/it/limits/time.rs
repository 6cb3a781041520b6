//! What takes too long: a handshake, a packet, a publisher's rate, a keep alive.

use std::time::{Duration, Instant};

use super::limited;
use crate::conformance::{Client, Event, Verdict, Version, kind, prop};
use crate::harness::{Authority, Broker};

/// Sends `bytes` one at a time, with a wait between them in which the broker may close. Returns how
/// long it let this go on.
fn trickle(client: &mut Client, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    client.set_patience(Duration::from_millis(50));
    for byte in bytes {
        client.send(&[*byte]);
        match client.event() {
            Ok(Event::Closed) => return begin.elapsed(),
            Ok(Event::Packet(packet)) => assert_eq!(packet.kind(), kind::DISCONNECT),
            Err(Verdict::Differs(_) | Verdict::Skipped(_)) => {}
        }
    }
    panic!("the broker listened for {:?}", begin.elapsed());
}

/// Nothing, half of it, or a byte now and then: whoever has not said CONNECT in time is let go.
#[test]
fn a_connect_that_is_not_whole_in_time_ends_the_connection() {
    let broker = limited(&["--handshake-timeout-secs", "1"]);
    let s = broker.stage(Version::V5);
    let mut inside = s.client("inside").unwrap();
    let connect = s.connect("slow").with(&prop::user("a", "x".repeat(1_000))).bytes();
    let begin = Instant::now();
    let (mut silent, mut half, mut slow) =
        (s.open().unwrap(), s.open().unwrap(), s.open().unwrap());
    half.send(&connect[..10]);
    let lasted = trickle(&mut slow, &connect);
    silent.closed().unwrap();
    half.closed().unwrap();
    assert!(lasted >= Duration::from_millis(900), "closed after {lasted:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(broker.metrics().value("connect_timeouts_total"), 3);
    inside.quiet().unwrap();
}

#[test]
fn a_tls_handshake_that_is_not_done_in_time_ends_the_connection() {
    let authority = Authority::new();
    let broker = Broker::start_with(|_| {
        let bounds = ["--handshake-timeout-secs", "1", "--admin-port", "0", "--tls-port", "0"];
        bounds.map(str::to_owned).into_iter().chain(authority.server_arguments()).collect()
    });
    let s = broker.stage(Version::V5);
    let tls = broker.ports().tls[0];
    let mut sockets = [(); 2].map(|()| {
        let stream = s.target.socket(tls).unwrap();
        Client::new(stream, Version::V5, s.target.patience)
    });
    sockets[1].send(&[0x16, 3, 1, 2]);
    for socket in &mut sockets {
        socket.closed().unwrap();
    }
    let timed_out = "handshakes_failed_total{reason=\"timed_out\"}";
    broker.wait_for_metric(timed_out, |count| count == 2);
    s.client("inside").unwrap().quiet().unwrap();
}

/// Half a packet and then nothing, or ever one byte more: the connection ends, with 0x8D for 5.0.
#[test]
fn a_packet_that_is_not_whole_in_time_ends_the_connection() {
    let broker = limited(&["--packet-timeout-secs", "1"]);
    let s = broker.stage(Version::V5);
    let mut other = s.client("other").unwrap();
    let (mut half, mut slow) = (s.client("half").unwrap(), s.client("slow").unwrap());
    let message = s.message("t", "x".repeat(1_000)).bytes();
    half.send(&message[..100]);
    let lasted = trickle(&mut slow, &message);
    assert!(lasted >= Duration::from_millis(900), "closed after {lasted:?}");
    assert_eq!(half.refused(&[0x8D]).unwrap().expect("a client of 5.0 is told").code, 0x8D);
    assert_eq!(broker.metrics().value("packet_timeouts_total"), 2);
    other.quiet().unwrap();
}

/// The broker reads up to 128 packets at a time, so that this publisher is put off several times.
#[test]
fn a_publisher_above_its_rate_is_read_later() {
    let broker = limited(&["--publish-rate-max", "200"]);
    let s = broker.stage(Version::V5);
    let (mut fast, mut other) = (s.client("fast").unwrap(), s.client("other").unwrap());
    let begin = Instant::now();
    let messages = (1..=400).flat_map(|id| s.message("t", "x").qos(1, id).bytes());
    fast.send(&messages.collect::<Vec<u8>>());
    broker.wait_for_metric("reads_deferred_by_rate_total", |count| count > 0);
    other.quiet().unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1_200), "the other client waited too");
    for id in 1..=400 {
        fast.expect_ack(kind::PUBACK, id).unwrap();
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1_200), "400 messages at 200 a second in {took:?}");
    assert!(took < Duration::from_secs(8), "400 messages at 200 a second in {took:?}");
    assert!(broker.metrics().value("reads_deferred_by_rate_total") > 1);
}

#[test]
fn a_keep_alive_is_cut_to_its_bound() {
    let broker = limited(&["--keep-alive-max-secs", "30"]);
    for (asked, told) in [(0, Some(30)), (31, Some(30)), (30, None), (5, None)] {
        let s = broker.stage(Version::V5);
        let client = s.enter(&s.connect("a").keep_alive(asked)).unwrap();
        assert_eq!(client.connack.properties.number(prop::SERVER_KEEP_ALIVE), told, "{asked}");
    }
    assert_eq!(broker.metrics().value("keep_alives_shortened_total"), 2);
}

/// The server keeps to what it has told: one and a half times its own keep alive.
#[test]
fn a_client_without_a_keep_alive_is_let_go_by_that_of_the_server() {
    let broker = limited(&["--keep-alive-max-secs", "1"]);
    let s = broker.stage(Version::V5);
    let mut other = broker.stage(Version::V4).client("other").unwrap();
    let begin = Instant::now();
    let mut silent = s.enter(&s.connect("silent").keep_alive(0)).unwrap();
    assert_eq!(silent.refused(&[0x8D]).unwrap().expect("a client of 5.0 is told").code, 0x8D);
    assert!(begin.elapsed() >= Duration::from_millis(1_400), "after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5), "after {:?}", begin.elapsed());
    assert_eq!(broker.metrics().value("keep_alive_timeouts_total"), 1);
    // A client of 3.1.1 cannot be told, so that it keeps its own.
    other.quiet().unwrap();
}
