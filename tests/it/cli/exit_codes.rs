//! Every exit code, and the one line on stderr that comes with it.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use super::{
    PUB, Ran, Running, SUB, run, run_with,
    stub_server::{StubServer, StubSession},
};
use crate::harness::{Broker, free_port};

#[track_caller]
fn check(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code(), code, "{}", ran.stderr);
    assert!(ran.stderr.contains(says), "{says:?} is not in {:?}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stdout.is_empty(), "{}", ran.text());
}

#[test]
fn a_mistake_on_the_command_line_is_1() {
    check(&run(PUB, &["-m", "x", "-q", "7"]), 1, "0, 1 or 2");
    check(&run(PUB, &["-m", "x", "-t", "a/#"]), 1, "-t a/#");
    check(&run(PUB, &["-m", "x", "-c"]), 1, "-i ID");
    check(&run(PUB, &["-m", "x", "-P", "secret", "-V", "311"]), 1, "-P without -u");
    check(&run(PUB, &["-m", "x", "--proxy", "http://x"]), 1, "socks5h://");
    check(&run(PUB, &["-m", "x", "-D", "publish", "receive-maximum", "5"]), 1, "no such property");
    check(&run(PUB, &["-m", "x", "--tls-version", "tlsv1.1"]), 1, "tlsv1.2");
    check(&run(PUB, &["-m", "x", "--cert", "a.pem"]), 1, "--key");
    check(&run(SUB, &["-t", "a/#/b"]), 1, "-t a/#/b");
    check(&run(SUB, &["-F", "%Z"]), 1, "%Z");
    check(&run(SUB, &["-L", "http://x"]), 1, "mqtts");
}

/// The encoder panicked where a string has more bytes than MQTT can say.
#[test]
fn what_is_longer_than_a_string_of_mqtt_is_1_and_named() {
    let long = "x".repeat(70_000);
    let pair = format!("name={long}");
    let url = format!("mqtt://{long}@localhost/t");
    let too_long = |option: &str| format!("{option}: it has 70000 bytes");
    let common: [(&str, &[&str]); 9] = [
        ("-i", &["-i", &long]),
        ("-u", &["-u", &long]),
        ("-P", &["-u", "x", "-P", &long]),
        ("-L", &["-L", &url]),
        ("--will-payload", &["--will-topic", "t", "--will-payload", &long]),
        ("-Y", &["-Y", &pair]),
        ("-D connect user-property", &["-D", "connect", "user-property", &long, "x"]),
        ("-D disconnect user-property", &["-D", "disconnect", "user-property", "x", &long]),
        ("-D will content-type", &["-D", "will", "content-type", &long]),
    ];
    for (option, args) in common {
        check(&run(PUB, &[args, &["-m", "x"]].concat()), 1, &too_long(option));
        check(&run(SUB, args), 1, &too_long(option));
    }
    for option in ["--content-type", "--correlation", "--partition-key"] {
        check(&run(PUB, &["-m", "x", option, &long]), 1, &too_long(option));
    }
    check(&run(PUB, &["-m", "x", "-I", &long]), 1, "-I: it has 70");
    for args in [["-t", &long], ["--will-topic", &long], ["--response-topic", &long]] {
        let ran = run(PUB, &[&["-m", "x"][..], &args].concat());
        check(&ran, 1, "a topic has at most 65,535 bytes");
        assert!(ran.stderr.len() < 1_000, "it is not repeated");
    }
    check(&run(SUB, &["-t", &long]), 1, &too_long("-t"));
    check(&run(SUB, &["-U", &long]), 1, &too_long("-U"));
    check(&run(SUB, &["-t", "t", "--share", &long]), 1, "-t: it has 700");
}

#[test]
fn a_file_that_cannot_be_read_is_2() {
    check(&run(PUB, &["-f", "/nonexistent"]), 2, "cannot read /nonexistent: No such file");
    check(&run(PUB, &["-m", "x", "--cafile", "/nonexistent"]), 2, "cannot read /nonexistent");
    check(&run(PUB, &["-m", "x", "--cafile", "Cargo.toml"]), 2, "Cargo.toml is not a certificate");
    check(&run(PUB, &["-m", "x", "--password-file", "/nonexistent"]), 2, "cannot read");
}

#[test]
fn no_server_is_3() {
    let port = free_port().to_string();
    let says = format!("connection refused by localhost (127.0.0.1:{port}): nothing listens there");
    check(&run(PUB, &["-m", "x", "-p", &port]), 3, &says);
    check(&run(SUB, &["-p", &port]), 3, &says);
    check(&run(SUB, &["-h", "no-such-host.invalid"]), 3, "unknown host no-such-host.invalid");
    check(&run(SUB, &["--unix", "/nonexistent/socket"]), 3, "no socket at /nonexistent/socket");
}

#[test]
fn quiet_says_nothing_and_still_fails() {
    let port = free_port().to_string();
    let ran = run(PUB, &["-m", "x", "-p", &port, "--quiet"]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (3, ""));
}

#[test]
fn a_server_of_another_protocol_is_3_and_named() {
    for (answer, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP on this port (say --ws"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "TLS on this port (say --cafile"),
    ] {
        // The second connection is the fall-back to 3.1.1.
        let script = |mut session: StubSession| {
            session.expect_connect();
            session.send(answer);
        };
        let server = StubServer::start_all(vec![Box::new(script), Box::new(script)]);
        check(&run(SUB, &["-p", &server.port()]), 3, says);
    }
}

#[test]
fn a_refused_connect_ends_with_its_reason_code() {
    for (code, exit, words) in [
        (0x87, 135, "Not authorized (0x87): go away"),
        (0x8A, 138, "Banned (0x8A): go away"),
        (0x82, 3, "Protocol Error (0x82): go away"),
        (0x9F, 159, "Connection rate exceeded (0x9F): go away"),
    ] {
        let server = StubServer::start(move |mut session| {
            session.expect_connect();
            session.send(&[0x20, 13, 0, code, 10, 0x1f, 0, 7]);
            session.send(b"go away");
            session.wait_for_end();
        });
        check(&run(PUB, &["-m", "x", "-p", &server.port()]), exit, words);
        server.finish();
    }
}

#[test]
fn the_return_codes_of_3_1_1_map_to_reason_codes() {
    for (code, exit) in [(1, 132), (2, 133), (3, 136), (4, 134), (5, 135)] {
        let server = StubServer::start(move |mut session| {
            session.expect_connect();
            session.send(&[0x20, 2, 0, code]);
            session.wait_for_end();
        });
        let ran = run(PUB, &["-m", "x", "-V", "311", "-p", &server.port()]);
        check(&ran, exit, "refused the connection");
        server.finish();
    }
}

#[test]
fn a_server_without_mqtt_5_is_asked_again_in_3_1_1() {
    for answer in [&[0x20, 2, 0, 1][..], &[0x20, 3, 0, 0x84, 0], &[]] {
        let server = StubServer::start_all(vec![
            Box::new(move |mut session: StubSession| {
                assert_eq!(session.expect_connect()[6], 5);
                session.send(answer);
            }),
            Box::new(|mut session: StubSession| {
                assert_eq!(session.expect_connect()[6], 4);
                session.send(&[0x20, 2, 0, 0]);
                assert_eq!(session.expect(0x30), b"\x00\x01ax");
            }),
        ]);
        let ran = run(PUB, &["-m", "x", "-t", "a", "-p", &server.port()]);
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        server.finish();
    }
}

#[test]
fn a_lost_connection_is_4_when_nobody_wants_another() {
    let server = StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 3, 0, 0, 0]);
        session.expect(0x82);
    });
    let ran = run(SUB, &["--no-reconnect", "-p", &server.port()]);
    check(&ran, 4, "the server closed the connection");
    let server = StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 3, 0, 0, 0]);
        session.expect(0x82);
        session.send(&[0xe0, 2, 0x8e, 0]);
        session.wait_for_end();
    });
    check(&run(SUB, &["-p", &server.port()]), 4, "Session taken over (0x8E)");
}

#[test]
fn a_time_out_is_5() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    check(&run(SUB, &["-p", &port, "-W", "0.2", "-C", "1"]), 5, "timed out");
}

#[test]
fn a_refused_publish_is_6_and_a_refused_subscribe_7() {
    let server = StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 3, 0, 0, 0]);
        session.expect(0x32);
        session.send(&[0x40, 4, 0, 1, 0x97, 0]);
        session.wait_for_end();
    });
    let ran = run(PUB, &["-t", "a", "-m", "x", "-q", "1", "-p", &server.port()]);
    check(&ran, 6, "publish to a refused: Quota exceeded (0x97)");
    let server = StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 3, 0, 0, 0]);
        session.expect(0x82);
        session.send(&[0x90, 4, 0, 1, 0, 0x87]);
        session.wait_for_end();
    });
    let ran = run(SUB, &["-t", "secret", "-p", &server.port()]);
    check(&ran, 7, "subscribe to secret refused: Not authorized (0x87)");
}

#[test]
fn an_interrupt_is_a_disconnect_and_then_death_by_the_signal_itself() {
    let server = StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 3, 0, 0, 0]);
        session.expect(0x82);
        session.send(&[0x90, 4, 0, 1, 0, 0]);
        assert_eq!(session.wait_for_end(), [0xe0, 0]);
    });
    let mut running = Running::start(SUB, &["-d", "-p", &server.port()]);
    running.read_error_until("SUBACK");
    running.signal(Signal::INT);
    let ran = running.finish();
    assert_eq!(ran.status.signal(), Some(Signal::INT.as_raw()));
    server.finish();
}

#[test]
fn nobody_reading_any_more_is_no_error() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut running = Running::start(SUB, &["-p", &port, "-t", "a", "-d"]);
    running.read_error_until("SUBACK");
    drop(running.child.stdout.take());
    // The first message finds the pipe closed.
    assert_eq!(run(PUB, &["-p", &port, "-t", "a", "-m", "x"]).code(), 0);
    let status = running.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_line_that_is_no_message_is_2_and_named() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let lines = b"{\"topic\":\"a\",\"payload\":\"x\"}\nhello\n";
    let ran = run_with(PUB, &["-p", &port, "--json-lines"], lines);
    check(&ran, 2, "line 2: no message in JSON");
}
