//! Lost connections: what is open is sent again, and subscriptions are made again.

use super::{
    PUB, Running, SUB, run,
    stub_server::{StubServer, StubSession},
};
use crate::harness::{Broker, free_port};

const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
const CONNACK_PRESENT: &[u8] = &[0x20, 3, 1, 0, 0];

#[test]
fn an_open_message_is_sent_again_with_its_identifier_where_the_session_lasts() {
    let first: Vec<u8> = [b"\x00\x01a\x00\x01\x00x".as_slice()].concat();
    let again = first.clone();
    let server = StubServer::start_all(vec![
        Box::new(move |mut session: StubSession| {
            session.expect_connect();
            session.send(CONNACK);
            assert_eq!(session.expect(0x32), first);
        }),
        Box::new(move |mut session: StubSession| {
            let connect = session.expect_connect();
            assert_eq!(connect[7] & 2, 0, "clean start would throw the session away");
            session.send(CONNACK_PRESENT);
            assert_eq!(session.expect(0x3a), again);
            session.send(&[0x40, 2, 0, 1]);
            session.expect(0xe0);
        }),
    ]);
    let args = ["-p", &server.port(), "-t", "a", "-m", "x", "-q", "1", "-i", "me", "-x", "60"];
    let ran = run(PUB, &args);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("next attempt in"), "{}", ran.stderr);
    server.finish();
}

#[test]
fn a_subscriber_outlives_a_restart_of_the_broker() {
    let port = free_port().to_string();
    let broker = Broker::start(&["--port", &port]);
    let mut subscriber = Running::start(SUB, &["-p", &port, "-t", "a", "-q", "1", "-d"]);
    subscriber.read_error_until("received SUBACK");
    drop(broker);
    subscriber.read_error_until("next attempt in");
    let _broker = Broker::start(&["--port", &port]);
    subscriber.read_error_until("received SUBACK");
    assert_eq!(run(PUB, &["-p", &port, "-t", "a", "-m", "back", "-q", "1"]).code(), 0);
    subscriber.read_until("back\n");
}

#[test]
fn a_resumed_session_is_not_subscribed_again() {
    let server = StubServer::start_all(vec![
        Box::new(|mut session: StubSession| {
            session.expect_connect();
            session.send(CONNACK);
            session.expect(0x82);
            session.send(&[0x90, 4, 0, 1, 0, 0]);
        }),
        Box::new(|mut session: StubSession| {
            session.expect_connect();
            session.send(CONNACK_PRESENT);
            session.send(b"\x30\x05\x00\x01a\x00x");
            assert_eq!(session.wait_for_end(), [0xe0, 0]);
        }),
    ]);
    let ran = run(SUB, &["-p", &server.port(), "-t", "a", "-c", "-i", "me", "-C", "1"]);
    assert_eq!((ran.code(), ran.text().as_str()), (0, "x\n"), "{}", ran.stderr);
    server.finish();
}

#[test]
fn retry_waits_for_a_server_to_come() {
    let port = free_port().to_string();
    let mut publisher =
        Running::start(PUB, &["-p", &port, "-t", "a", "-m", "x", "-q", "1", "--retry"]);
    publisher.read_error_until("next attempt in");
    let _broker = Broker::start(&["--port", &port]);
    assert_eq!(publisher.finish().code(), 0);
}

#[test]
fn a_busy_server_is_tried_again_and_a_final_refusal_is_not() {
    let server = StubServer::start_all(vec![
        Box::new(|mut session: StubSession| {
            session.expect_connect();
            session.send(&[0x20, 3, 0, 0x89, 0]);
            session.wait_for_end();
        }),
        Box::new(|mut session: StubSession| {
            session.expect_connect();
            session.send(&[0x20, 3, 0, 0x8a, 0]);
            session.wait_for_end();
        }),
    ]);
    let ran = run(PUB, &["-p", &server.port(), "-m", "x", "--retry"]);
    assert_eq!(ran.code(), 0x8a, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    server.finish();
}
