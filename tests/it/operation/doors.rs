//! Clients at the wrong door, health checks, and proxies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::cli::{Running, SUB};
use crate::conformance::{Client, Version, kind};
use crate::harness::{Authority, Broker};

/// A broker with every kind of door.
fn with_all_doors(authority: &Authority, further: &[&str]) -> Broker {
    Broker::start_with(|directory| {
        let socket = directory.join("socket").display().to_string();
        let doors = ["--tls-port", "0", "--ws-port", "0", "--wss-port", "0", "--admin-port", "0"];
        let mut arguments: Vec<String> = doors.map(str::to_owned).to_vec();
        arguments.extend(["--unix".to_owned(), socket]);
        arguments.extend(authority.server_arguments());
        arguments.extend(further.iter().map(|&text| text.to_owned()));
        arguments
    })
}

/// Says `bytes` at a door; the broker closes without a word in answer and logs one line.
#[track_caller]
fn check_wrong(broker: &Broker, port: u16, bytes: &[u8], line: &str) {
    let before = broker.count_in_log(line);
    let target = broker.target();
    let mut client = Client::new(target.socket(port).unwrap(), Version::V4, target.patience);
    client.send(bytes);
    client.closed().unwrap();
    broker.wait_until(line, |broker| broker.count_in_log(line) > before);
    assert_eq!(broker.count_in_log(line), before + 1, "{}", broker.log());
}

#[test]
fn a_client_that_speaks_another_protocol_gets_one_clear_line() {
    let authority = Authority::new();
    let broker = with_all_doors(&authority, &[]);
    let ports = broker.ports().clone();
    let connect = broker.stage(Version::V4).connect("a").bytes();
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 500]].concat();
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n";
    let (tcp, tls, ws, wss) = (ports.tcp[0], ports.tls[0], ports.ws[0], ports.wss[0]);
    check_wrong(&broker, tcp, &hello, "the client speaks TLS to a listener without TLS");
    check_wrong(&broker, tcp, get, "the client speaks HTTP to an MQTT listener");
    check_wrong(&broker, tcp, header, "set proxy_protocol on the listener");
    check_wrong(&broker, tls, &connect, "the client speaks plain MQTT to a TLS listener");
    check_wrong(&broker, tls, get, "the client speaks HTTP to a TLS listener");
    check_wrong(&broker, wss, &connect, "the client speaks plain MQTT to a TLS listener");
    let before = broker.log().lines().count();
    check_wrong(&broker, ws, &connect, "MQTT");
    check_wrong(&broker, ws, &hello, "TLS");
    assert_eq!(broker.log().lines().count(), before + 2, "{}", broker.log());
    broker.stage(Version::V5).client("right").unwrap().quiet().unwrap();
}

/// Connects to every door and leaves without a byte.
fn check_health(broker: &Broker) {
    let ports = broker.ports();
    let doors = [ports.tcp[0], ports.tls[0], ports.ws[0], ports.wss[0]];
    for port in doors {
        drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    drop(std::os::unix::net::UnixStream::connect(&ports.unix[0]).unwrap());
    for (door, count) in [("tcp", 1), ("tls", 1), ("ws", 1), ("wss", 1), ("unix", 1)] {
        let name = format!("connections_accepted_total{{transport=\"{door}\"}}");
        broker.wait_for_metric(&name, |accepted| accepted == count);
    }
    broker.wait_for_metric("connections", |open| open == 0);
}

#[test]
fn a_health_check_is_logged_at_debug_only() {
    let authority = Authority::new();
    let broker = with_all_doors(&authority, &[]);
    check_health(&broker);
    broker.stage(Version::V5).client("a").unwrap().leave().unwrap();
    let log = broker.wait_for_log("client disconnected");
    assert_eq!(log.lines().count(), 3, "start, connect, disconnect, and nothing else: {log}");

    let broker = with_all_doors(&authority, &["--log", "debug"]);
    check_health(&broker);
    broker.wait_until("five lines", |broker| broker.count_in_log("before any byte") == 5);
    assert_eq!(broker.count_in_log("WARN"), 0, "{}", broker.log());
}

/// Bytes came, though none of MQTT: it is no health check.
#[test]
fn what_breaks_the_rules_of_websocket_is_told_as_what_breaks_those_of_mqtt() {
    let broker = Broker::start(&["--ws-port", "0", "--log", "debug"]);
    let request = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let connect = broker.stage(Version::V5).connect("open").bytes();
    let length = 0x80 | u8::try_from(connect.len()).unwrap();
    let connect = [&[0x82, length, 0, 0, 0, 0][..], &connect].concat();
    for (frames, line, reason) in [
        (&[0x81, 0x80, 0, 0, 0, 0][..], "connection refused", "a WebSocket text frame"),
        (&[0x82, 0, 0, 0, 0, 0], "connection refused", "without a mask"),
        (&[0xC2, 0x80, 0, 0, 0, 0], "connection refused", "with reserved bits"),
        (&[&connect[..], &[0x81, 0x80, 0, 0, 0, 0]].concat(), "client disconnected", "text frame"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.ports().ws[0])).unwrap();
        stream.write_all(&[&request[..], frames].concat()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        broker.wait_until("a line with the reason", |broker| {
            let log = broker.log();
            log.lines()
                .any(|it| ["INFO", line, "0x82", reason].iter().all(|word| it.contains(word)))
        });
    }
    assert_eq!(broker.count_in_log("before any byte"), 0, "{}", broker.log());
}

#[test]
fn a_client_that_leaves_without_ending_tls_is_told_of_in_our_words() {
    let authority = Authority::new();
    let broker = with_all_doors(&authority, &[]);
    let (port, ca) = (broker.ports().tls[0].to_string(), authority.path("ca.pem"));
    let client = Running::start(SUB, &["-p", &port, "--cafile", &ca, "-t", "t"]);
    broker.wait_for_log("client connected");
    client.signal(Signal::KILL);
    let log = broker.wait_for_log("client disconnected");
    assert!(log.contains("the client closed the connection without ending TLS"), "{log}");
    assert!(!log.contains("http"), "{log}");
}

/// A listener behind a proxy logs whom the proxy stands for, in both forms of the header.
#[test]
fn a_proxy_header_names_the_client_in_the_log() {
    let broker = Broker::start(&["--proxy-protocol", "--admin-port", "0"]);
    let s = broker.stage(Version::V5);
    let signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    let binary = [&signature[..], &[192, 0, 2, 8, 198, 51, 100, 1, 0xC3, 0x51, 7, 0x5B]].concat();
    for (name, header, address) in [
        ("v1", b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n".to_vec(), "192.0.2.7:50000"),
        ("v2", binary, "192.0.2.8:50001"),
        (
            "v6",
            b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 1883\r\n".to_vec(),
            "[2001:db8::7]:50000",
        ),
    ] {
        let mut client = s.open().unwrap();
        client.send(&[header, s.connect(name).bytes()].concat());
        client.expect(kind::CONNACK).unwrap();
        client.quiet().unwrap();
        let line =
            format!("client connected client_id=\"{}\" address=\"{address}\"", s.client_id(name));
        broker.wait_for_log(&line);
    }
    let mut without = s.open().unwrap();
    without.send(&s.connect("without").bytes());
    without.closed().unwrap();
    broker.wait_for_log("no PROXY protocol header");
    broker.wait_for_metric("handshakes_failed_total{reason=\"proxy\"}", |count| count == 1);
}
