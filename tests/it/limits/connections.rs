//! How many connections there may be, and how fast they may come.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::limited;
use crate::conformance::{Client, Stage, Version, kind};
use crate::harness::Broker;

/// A connection that comes from `127.0.0.host`.
fn open_from(host: u8, broker: &Broker) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], broker.port())).into()).unwrap();
    Client::new(TcpStream::from(socket), Version::V5, Duration::from_secs(20))
}

/// A client that comes from `127.0.0.host`.
#[track_caller]
fn enter_from(host: u8, broker: &Broker, s: &Stage) -> Client {
    let mut client = open_from(host, broker);
    client.send(&s.connect(&format!("from{host}")).bytes());
    assert_eq!(client.expect(kind::CONNACK).unwrap().reason().unwrap().code, 0);
    client
}

fn refused(bound: &str) -> String {
    format!("connections_refused_total{{bound=\"{bound}\"}}")
}

#[test]
fn one_connection_too_many_is_closed_at_once() {
    let broker = limited(&["--connections-max", "2"]);
    let s = broker.stage(Version::V5);
    let (mut first, second) = (s.client("first").unwrap(), s.client("second").unwrap());
    s.open().unwrap().closed().unwrap();
    broker.wait_for_metric(&refused("connections"), |count| count == 1);
    first.quiet().unwrap();
    second.leave().unwrap();
    broker.wait_for_metric("connections", |open| open == 1);
    s.client("third").unwrap().quiet().unwrap();
}

#[test]
fn an_address_has_its_share_and_others_have_theirs() {
    let broker = limited(&["--connections-per-address-max", "1"]);
    let s = broker.stage(Version::V5);
    let mut first = s.client("first").unwrap();
    s.open().unwrap().closed().unwrap();
    broker.wait_for_metric(&refused("address_connections"), |count| count == 1);
    enter_from(2, &broker, &s).quiet().unwrap();
    first.quiet().unwrap();
    first.leave().unwrap();
    broker.wait_for_metric("connections", |open| open == 0);
    s.client("next").unwrap();
}

#[test]
fn an_address_that_connects_too_often_is_refused_and_others_are_not() {
    let broker = limited(&["--connect-rate-max", "2"]);
    let s = broker.stage(Version::V5);
    let mut first = s.client("first").unwrap();
    let before = broker.metrics().value(&refused("address_rate"));
    // More than a machine could connect slowly enough.
    let flood: Vec<Client> = (0..50).map(|_| s.open().unwrap()).collect();
    broker.wait_for_metric(&refused("address_rate"), |count| count >= before + 40);
    enter_from(2, &broker, &s).quiet().unwrap();
    first.quiet().unwrap();
    drop(flood);
}

#[test]
fn handshakes_that_are_not_finished_are_bounded() {
    let broker = limited(&["--half-open-max", "1"]);
    let s = broker.stage(Version::V5);
    let mut inside = s.client("inside").unwrap();
    let mut silent = s.open().unwrap();
    broker.wait_for_metric("connections_half_open", |count| count == 1);
    s.open().unwrap().closed().unwrap();
    broker.wait_for_metric(&refused("half_open"), |count| count == 1);
    inside.quiet().unwrap();
    silent.send(&s.connect("silent").bytes());
    silent.expect(kind::CONNACK).unwrap();
    broker.wait_for_metric("connections_half_open", |count| count == 0);
    s.client("next").unwrap().quiet().unwrap();
}

/// A listener has bounds of its own beside those of the broker.
#[test]
fn listeners_have_bounds_of_their_own() {
    let broker = Broker::start_with(|directory| {
        let file = directory.join("broker.toml");
        let text = "admin_port = 0\n[limits]\npacket_bytes_max = \"2 KiB\"\n\
            [[listener]]\nport = 0\nconnections_max = 1\npacket_bytes_max = \"1 KiB\"\n\
            [[listener]]\nkind = \"ws\"\nport = 0\n\
            [[listener]]\nport = 0\n";
        std::fs::write(&file, text).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    });
    let [narrow, wide] = broker.ports().tcp[..] else { panic!("{:?}", broker.ports()) };
    assert_eq!(broker.ports().ws.len(), 1);
    let target = |port| crate::conformance::Target { port, ..broker.target() };
    let narrow = Stage::new(target(narrow), Version::V5);
    let wide = Stage::new(target(wide), Version::V5);
    let maximum = |client: &Client| client.connack.properties.number(0x27);
    let mut first = narrow.client("first").unwrap();
    assert_eq!(maximum(&first), Some(1024));
    narrow.open().unwrap().closed().unwrap();
    broker.wait_for_metric(&refused("listener_connections"), |count| count == 1);
    for name in ["second", "third"] {
        let mut client = wide.client(name).unwrap();
        assert_eq!(maximum(&client), Some(2048));
        client.quiet().unwrap();
    }
    first.quiet().unwrap();
}
