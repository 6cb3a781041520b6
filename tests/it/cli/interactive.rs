//! `mqtt_pub` on a terminal: prompt, lines, acknowledgements, and the two ways to end it.

use std::{
    fs::File,
    io::Write,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{PUB, Running, SUB, Watchdog, read_until, run};
use crate::harness::Broker;

/// A program on a terminal of its own.
struct Terminal {
    _watchdog: Watchdog,
    screen: File,
    child: Child,
}

impl Terminal {
    fn start(program: &str, args: &[&str]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let side = File::options().read(true).write(true).open(name).unwrap();
        let child = Command::new(program)
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(side.try_clone().unwrap())
            .stdout(side.try_clone().unwrap())
            .stderr(side)
            .spawn()
            .unwrap();
        Self { _watchdog: Watchdog::over(&child), screen: File::from(controller), child }
    }

    fn read_until(&mut self, text: &str) -> String {
        read_until(&mut self.screen, text)
    }

    fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn every_line_is_a_message_with_its_acknowledgement_and_an_empty_line_ends_it() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut subscriber =
        Running::start(SUB, &["-p", &port, "-t", "weather", "-q", "1", "-d", "-v"]);
    subscriber.read_error_until("received SUBACK");

    let mut terminal = Terminal::start(PUB, &["-p", &port, "-t", "weather", "-q", "1"]);
    terminal.read_until("weather> ");
    terminal.type_in("sunny\n");
    let shown = terminal.read_until("weather> ");
    assert_eq!(shown, "sunny\r\n5 bytes, acknowledged\r\nweather> ");
    subscriber.read_until("weather sunny\n");
    terminal.type_in("x\n");
    assert_eq!(terminal.read_until("weather> "), "x\r\n1 byte, acknowledged\r\nweather> ");
    terminal.type_in("\n");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn the_answer_says_when_nobody_listens_and_when_nothing_is_acknowledged() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut terminal = Terminal::start(PUB, &["-p", &port, "-t", "a", "-q", "2"]);
    terminal.read_until("a> ");
    terminal.type_in("hello\n");
    let shown = terminal.read_until("a> ");
    assert!(shown.contains("5 bytes, acknowledged"), "{shown}");

    let mut terminal = Terminal::start(PUB, &["-p", &port, "-t", "a", "-t", "b"]);
    terminal.read_until("a b> ");
    terminal.type_in("hello\n");
    let shown = terminal.read_until("a b> ");
    assert_eq!(shown, "hello\r\na: 5 bytes, sent\r\nb: 5 bytes, sent\r\na b> ");
}

#[test]
fn a_watched_topic_keeps_its_line() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut terminal = Terminal::start(SUB, &["-p", &port, "-t", "#", "-w", "-d"]);
    terminal.read_until("received SUBACK (Mid: 1)\r\n");
    let publish = |topic, payload| {
        assert_eq!(run(PUB, &["-p", &port, "-t", topic, "-m", payload]).code(), 0);
    };
    publish("a", "1");
    terminal.read_until("\r\na 1\r\n");
    publish("b", "1");
    terminal.read_until("\r\nb 1\r\n");
    publish("a", "2");
    terminal.read_until("\u{1b}[2A\r\u{1b}[2Ka 2\u{1b}[2B\r");
}

#[test]
fn a_long_send_shows_a_bar_and_a_short_one_does_not() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let send = ["-p", &port, "-t", "a", "-m", "x", "-q", "1", "--rate", "20", "--repeat"];
    let mut terminal = Terminal::start(PUB, &[&send[..], &["25"]].concat());
    terminal.read_until("/25");
    terminal.read_until("acknowledged p50");
    assert_eq!(terminal.wait().code(), Some(0));
    let mut terminal = Terminal::start(PUB, &[&send[..], &["3", "--stats", "json"]].concat());
    let shown = terminal.read_until("}");
    assert!(shown.starts_with('{'), "{shown:?}");
}

#[test]
fn ctrl_d_ends_it_too() {
    let broker = Broker::start(&[]);
    let mut terminal = Terminal::start(PUB, &["-p", &broker.port().to_string(), "-t", "a"]);
    terminal.read_until("a> ");
    terminal.type_in("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
}

/// What was typed before a ctrl-d was held until a second one, and only a third one ended it.
#[test]
fn ctrl_d_after_text_sends_the_line_and_the_next_one_ends_it() {
    let broker = Broker::start(&[]);
    let port = broker.port().to_string();
    let mut subscriber = Running::start(SUB, &["-p", &port, "-t", "a", "-d", "-v"]);
    subscriber.read_error_until("received SUBACK");
    let mut terminal = Terminal::start(PUB, &["-p", &port, "-t", "a"]);
    terminal.read_until("a> ");
    terminal.type_in("abc\u{4}");
    assert_eq!(terminal.read_until("a> "), "abc\r\n3 bytes, sent\r\na> ");
    subscriber.read_until("a abc\n");
    terminal.type_in("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn a_refused_line_says_why() {
    let server = super::stub_server::StubServer::start(|mut session| {
        session.expect_connect();
        session.send(&[0x20, 0x03, 0x00, 0x00, 0x00]);
        // PUBACK 1: not authorized, "members only".
        session.expect(0x32);
        session.send(b"\x40\x13\x00\x01\x87\x0f\x1f\x00\x0cmembers only");
        session.wait_for_end();
    });
    let mut terminal = Terminal::start(PUB, &["-p", &server.port(), "-t", "a", "-q", "1"]);
    terminal.read_until("a> ");
    terminal.type_in("hello\n");
    let shown = terminal.read_until("a> ");
    let said = "hello\r\n5 bytes, refused: Not authorized (0x87): members only\r\na> ";
    assert_eq!(shown, said);
    terminal.type_in("\n");
    assert_eq!(terminal.wait().code(), Some(6));
}
