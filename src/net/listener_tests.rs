//! Whole listeners over real sockets: what goes in comes out, and what should not get in does not.
//! The clients are other people's code: rustls and tungstenite.

mod stage;

use super::tls::tests::Files;
use super::{
    AcceptContext, ConnectRate, ConnectionBudget, NetCounters, Peer, PeerAddress, Refusal, Serve,
    Setback, Transport, TransportKind, WebSocketOptions, bind,
};
use crate::runtime::limits::{raise_open_files, resident_bytes};
use crate::runtime::{Background, Clock, ShardHandle, Shards, Shutdown};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stage::{
    Broker, PATIENCE, connect_tls, connect_websocket, exchange, exchange_messages, options,
    tls_client, within,
};
use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

fn check_echo(kind: TransportKind) {
    let files = Files::new();
    let socket_path = files.directory.join("socket");
    let payload: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5A).collect();
    let cuts: [Vec<&[u8]>; 3] =
        [vec![&payload], payload.chunks(777).collect(), payload[..500].chunks(1).collect()];
    Broker::start(options(kind, &files)).run(async |broker| {
        for pieces in &cuts {
            let received = match kind {
                TransportKind::Tcp => exchange(broker.tcp().await, pieces).await,
                TransportKind::Tls => {
                    let config = tls_client(&files, None, b"mqtt");
                    let stream = connect_tls(broker.tcp().await, config).await.unwrap();
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
                    exchange(stream, pieces).await
                }
                TransportKind::WebSocket => {
                    let socket = connect_websocket(broker.tcp().await, "/any").await.unwrap();
                    exchange_messages(socket, pieces).await
                }
                TransportKind::SecureWebSocket => {
                    let config = tls_client(&files, None, b"http/1.1");
                    let stream = connect_tls(broker.tcp().await, config).await.unwrap();
                    let socket = connect_websocket(stream, "/mqtt").await.unwrap();
                    exchange_messages(socket, pieces).await
                }
                TransportKind::Unix => {
                    let stream = UnixStream::connect(&socket_path).await.unwrap();
                    exchange(stream, pieces).await
                }
            };
            assert!(received == pieces.concat(), "{kind}: the echo differs");
            let peer = broker.arrival().await;
            assert_eq!((peer.kind, &*peer.listener), (kind, kind.as_str()));
            assert_eq!(peer.address == PeerAddress::Unix, kind == TransportKind::Unix);
            assert_eq!(within(broker.ends.recv()).await, Some(None));
        }
        assert_eq!(broker.counters.accepted(kind).value(), 3);
    });
    assert!(!socket_path.exists(), "the path of a closed listener is gone");
}

#[test]
fn tcp_carries_any_cut_of_the_bytes() {
    check_echo(TransportKind::Tcp);
}

#[test]
fn tls_carries_any_cut_of_the_bytes() {
    check_echo(TransportKind::Tls);
}

/// [MQTT-6.0.0-2]
#[test]
fn websocket_carries_any_cut_of_the_bytes() {
    check_echo(TransportKind::WebSocket);
}

/// [MQTT-6.0.0-2]
#[test]
fn secure_websocket_carries_any_cut_of_the_bytes() {
    check_echo(TransportKind::SecureWebSocket);
}

#[test]
fn unix_carries_any_cut_of_the_bytes() {
    check_echo(TransportKind::Unix);
}

/// [MQTT-6.0.0-1]
#[test]
fn a_text_frame_closes_the_connection() {
    let files = Files::new();
    Broker::start(options(TransportKind::WebSocket, &files)).run(async |broker| {
        let mut socket = connect_websocket(broker.tcp().await, "/").await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        let Some(Ok(Message::Close(Some(close)))) = within(socket.next()).await else {
            panic!("no close frame");
        };
        assert_eq!(close.code, CloseCode::Unsupported);
        let end = within(broker.ends.recv()).await.unwrap().unwrap();
        assert!(end.contains("text frame"), "{end}");
    });
}

#[test]
fn only_the_configured_path_is_served() {
    let mut options = options(TransportKind::WebSocket, &Files::new());
    options.websocket = Some(WebSocketOptions { path: Some("/mqtt".to_owned()) });
    Broker::start(options).run(async |broker| {
        let refused = connect_websocket(broker.tcp().await, "/other").await.unwrap_err();
        assert!(matches!(refused, Error::Http(response) if response.status() == 404));
        connect_websocket(broker.tcp().await, "/mqtt").await.unwrap();
        broker.until(|counters| counters.setbacks(Setback::WebSocket).value() == 1).await;
    });
}

#[test]
fn mutual_tls_lets_in_whom_the_ca_has_signed() {
    let (files, strangers) = (Files::new(), Files::new());
    let mut options = options(TransportKind::Tls, &files);
    options.tls = Some(files.mutual());
    Broker::start(options).run(async |broker| {
        let connect = async |identity| {
            let config = tls_client(&files, identity, b"mqtt");
            let mut stream = connect_tls(broker.tcp().await, config).await?;
            // With TLS 1.3 the client learns of its refusal when it reads.
            stream.write_all(b"x").await?;
            stream.read_u8().await
        };
        assert_eq!(within(connect(Some(files.issue("sensor-7")))).await.unwrap(), b'x');
        within(connect(None)).await.unwrap_err();
        within(connect(Some(strangers.issue("sensor-7")))).await.unwrap_err();
        broker.until(|counters| counters.setbacks(Setback::Tls).value() == 2).await;
        assert_eq!(broker.arrival().await.tls_common_name.as_deref(), Some("sensor-7"));
        assert!(broker.arrivals.try_recv().is_err(), "the others never arrived");
    });
}

#[test]
fn a_reload_changes_the_certificate_of_the_next_connection_only() {
    let files = Files::new();
    let bound = bind(options(TransportKind::Tls, &files)).unwrap();
    let tls = bound.tls().unwrap();
    Broker::with(bound, usize::MAX, true).run(async |broker| {
        let connect = async || {
            let config = tls_client(&files, None, b"mqtt");
            connect_tls(broker.tcp().await, config).await.unwrap()
        };
        let certificate = |stream: &TlsStream<TcpStream>| {
            stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
        };
        let before = connect().await;
        files.issue("server");
        let same = connect().await;
        tls.reload().unwrap();
        let after = connect().await;
        assert!(certificate(&before) == certificate(&same));
        assert!(certificate(&before) != certificate(&after));
        assert_eq!(exchange(before, &[b"still here"]).await, b"still here");
    });
}

/// A new CA is asked about every client: no session of before is resumed.
#[test]
fn a_reload_of_the_ca_refuses_whom_only_the_old_one_has_signed() {
    let (files, others) = (Files::new(), Files::new());
    let mut options = options(TransportKind::Tls, &files);
    options.tls = Some(files.mutual());
    let bound = bind(options).unwrap();
    let tls = bound.tls().unwrap();
    Broker::with(bound, usize::MAX, true).run(async |broker| {
        // One configuration, and with it one cache of tickets, for both connections.
        let config = tls_client(&files, Some(files.issue("sensor-7")), b"mqtt");
        let connect = async || {
            let mut stream = connect_tls(broker.tcp().await, config.clone()).await?;
            stream.write_all(b"x").await?;
            stream.read_u8().await
        };
        within(connect()).await.unwrap();
        within(connect()).await.unwrap();
        files.write("ca.pem", &others.ca_pem);
        tls.reload().unwrap();
        within(connect()).await.unwrap_err();
    });
}

#[test]
fn a_proxy_says_whom_it_stands_for_also_before_tls() {
    let files = Files::new();
    let mut options = options(TransportKind::Tls, &files);
    options.proxy_protocol = true;
    Broker::start(options).run(async |broker| {
        let mut stream = broker.tcp().await;
        let ours = stream.local_addr().unwrap();
        stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 8883\r\n").await.unwrap();
        let stream = connect_tls(stream, tls_client(&files, None, b"mqtt")).await.unwrap();
        assert_eq!(exchange(stream, &[b"hello"]).await, b"hello");
        let peer = broker.arrival().await;
        assert_eq!(peer.address.to_string(), "192.0.2.7:50000");
        assert_eq!(peer.proxied_by.as_deref(), Some(&ours));
    });
}

#[test]
fn without_its_header_a_proxied_connection_is_closed() {
    let mut options = options(TransportKind::Tcp, &Files::new());
    options.proxy_protocol = true;
    Broker::start(options).run(async |broker| {
        for (count, bytes) in [(1, &b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c"[..]), (2, b"nonsense!!!!")]
        {
            let mut stream = broker.tcp().await;
            stream.write_all(bytes).await.unwrap();
            assert_eq!(within(closed(&mut stream)).await, 0);
            broker.until(|counters| counters.setbacks(Setback::Proxy).value() == count).await;
        }
    });
}

#[test]
fn limits_of_addresses_are_those_behind_the_proxy() {
    let mut options = options(TransportKind::Tcp, &Files::new());
    options.proxy_protocol = true;
    options.limits.connections_per_address_max = Some(1);
    Broker::start(options).run(async |broker| {
        let connect = async |client: &str| {
            let mut stream = broker.tcp().await;
            let header = format!("PROXY TCP4 {client} 198.51.100.1 50000 8883\r\nx");
            stream.write_all(header.as_bytes()).await.unwrap();
            let echoed = within(closed(&mut stream)).await == 1;
            (stream, echoed)
        };
        let first = connect("192.0.2.1").await;
        let other = connect("192.0.2.2").await;
        assert!(first.1 && other.1);
        assert!(!connect("192.0.2.1").await.1);
        broker.until(|counters| counters.refused(Refusal::AddressConnections).value() == 1).await;
    });
}

/// Reads a byte; zero is the end, also if it comes as a reset.
async fn closed(stream: &mut TcpStream) -> usize {
    stream.read(&mut [0]).await.unwrap_or(0)
}

fn check_timeout(kind: TransportKind, sent: &[u8]) {
    let files = Files::new();
    let mut options = options(kind, &files);
    options.limits.handshake_timeout = Duration::from_millis(30);
    options.limits.half_open_max = 1;
    Broker::start(options).run(async |broker| {
        for count in 1..3 {
            let mut stream = broker.tcp().await;
            stream.write_all(sent).await.unwrap();
            assert_eq!(within(closed(&mut stream)).await, 0);
            broker.until(|counters| counters.setbacks(Setback::TimedOut).value() == count).await;
            broker.until(|counters| counters.half_open.value() == 0).await;
        }
        assert_eq!(broker.counters.refused(Refusal::HalfOpen).value(), 0);
    });
}

#[test]
fn half_a_handshake_is_let_go_in_time() {
    check_timeout(TransportKind::Tls, b"");
    check_timeout(TransportKind::Tls, &[0x16, 0x03, 0x01, 0x02]);
    check_timeout(TransportKind::WebSocket, b"GET / HTTP/1.1\r\nHost:");
    check_timeout(TransportKind::SecureWebSocket, b"\x16\x03");
}

#[test]
fn who_speaks_another_protocol_or_leaves_is_counted_so() {
    let files = Files::new();
    for kind in [TransportKind::Tls, TransportKind::WebSocket, TransportKind::SecureWebSocket] {
        Broker::start(options(kind, &files)).run(async |broker| {
            let mut stream = broker.tcp().await;
            stream.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0").await.unwrap();
            assert_eq!(within(closed(&mut stream)).await, 0);
            broker.until(|counters| counters.setbacks(Setback::WrongProtocol).value() == 1).await;
            drop(broker.tcp().await);
            broker.until(|counters| counters.setbacks(Setback::Vanished).value() == 1).await;
        });
    }
}

#[test]
fn bounds_refuse_the_newcomer_and_free_with_the_connection() {
    let mut options = options(TransportKind::Tcp, &Files::new());
    options.limits.connections_max = 2;
    Broker::start(options).run(async |broker| {
        let mut first = broker.tcp().await;
        let _second = broker.tcp().await;
        broker.until(|counters| counters.open.value() == 2).await;
        assert_eq!(within(closed(&mut broker.tcp().await)).await, 0);
        broker.until(|counters| counters.refused(Refusal::ListenerConnections).value() == 1).await;
        first.shutdown().await.unwrap();
        broker.until(|counters| counters.open.value() == 1).await;
        assert_eq!(exchange(broker.tcp().await, &[b"in"]).await, b"in");
    });
}

#[test]
fn the_budget_of_all_listeners_binds_each() {
    let bound = bind(options(TransportKind::Tcp, &Files::new())).unwrap();
    Broker::with(bound, 1, true).run(async |broker| {
        let _first = broker.tcp().await;
        broker.until(|counters| counters.open.value() == 1).await;
        assert_eq!(within(closed(&mut broker.tcp().await)).await, 0);
        broker.until(|counters| counters.refused(Refusal::Connections).value() == 1).await;
    });
}

#[test]
fn a_connection_is_half_open_until_the_broker_says_otherwise() {
    let mut options = options(TransportKind::Tcp, &Files::new());
    options.limits.half_open_max = 1;
    Broker::with(bind(options).unwrap(), usize::MAX, false).run(async |broker| {
        let _silent = broker.tcp().await;
        broker.until(|counters| counters.half_open.value() == 1).await;
        assert_eq!(within(closed(&mut broker.tcp().await)).await, 0);
        broker.until(|counters| counters.refused(Refusal::HalfOpen).value() == 1).await;
    });
}

#[test]
fn an_address_that_connects_too_often_is_refused() {
    let mut options = options(TransportKind::Tcp, &Files::new());
    options.limits.connect_rate_per_address = Some(ConnectRate { per_sec: 1, burst: 2 });
    Broker::start(options).run(async |broker| {
        for _ in 0..10 {
            drop(broker.tcp().await);
        }
        broker.until(|counters| counters.refused(Refusal::AddressRate).value() >= 1).await;
        broker.until(|counters| counters.accepted(TransportKind::Tcp).value() >= 2).await;
    });
}

#[test]
fn at_shutdown_listeners_close_and_connections_stand() {
    Broker::start(options(TransportKind::Tcp, &Files::new())).run(async |broker| {
        let standing = broker.tcp().await;
        broker.arrival().await;
        broker.shutdown.begin();
        within(broker.background.join_tasks(PATIENCE)).await.unwrap();
        TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap_err();
        assert_eq!(exchange(standing, &[b"still here"]).await, b"still here");
    });
}

/// Runs `test` in a process of its own, where it may spend what all tests share.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let name = format!("net::listener_tests::{name}");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([&name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

const ALONE: &str = "MQTTZOO_TEST_RUNS_ALONE";

#[test]
fn with_no_file_left_the_acceptor_pauses_and_then_goes_on() {
    alone("with_no_file_left_the_acceptor_pauses_and_then_goes_on", || {
        Broker::start(options(TransportKind::Tcp, &Files::new())).run(async |broker| {
            let before = getrlimit(Resource::Nofile);
            let few = Rlimit { current: Some(60), maximum: before.maximum };
            setrlimit(Resource::Nofile, few).unwrap();
            let mut clients = Vec::new();
            while let Ok(client) = TcpStream::connect(("127.0.0.1", broker.port)).await {
                clients.push(client);
            }
            broker.until(|counters| counters.accept_pauses.value() >= 2).await;
            drop(clients);
            broker.until(|counters| counters.open.value() == 0).await;
            assert_eq!(exchange(broker.tcp().await, &[b"in again"]).await, b"in again");
        });
    });
}

/// Waits for a byte that does not come, and holds nothing but the connection.
struct Idle;

impl Serve for Idle {
    fn serve(
        self: Arc<Self>,
        mut transport: Transport,
        _peer: Peer,
        _shard: ShardHandle,
    ) -> impl Future<Output = ()> + Send + 'static {
        std::future::poll_fn(move |cx| {
            let mut bytes = [0; 16];
            let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
            std::pin::Pin::new(&mut transport).poll_read(cx, &mut buffer).map(drop)
        })
    }
}

/// The bar for a whole idle connection is 4,000 bytes; this is our share of it.
#[test]
fn an_idle_plain_connection_costs_little() {
    alone("an_idle_plain_connection_costs_little", || {
        raise_open_files().unwrap();
        let listener = bind(options(TransportKind::Tcp, &Files::new())).unwrap();
        let address = ("127.0.0.1", listener.port().unwrap());
        let (shards, background) = (Shards::start(1, 1).unwrap(), Background::start(1).unwrap());
        let counters = Arc::new(NetCounters::default());
        let context = AcceptContext {
            server: Arc::new(Idle),
            shards: shards.handles(),
            counters: counters.clone(),
            budget: ConnectionBudget::new(usize::MAX),
            clock: Clock::start(),
            shutdown: Shutdown::new(),
        };
        listener.accept(context, &background.handle()).unwrap();
        let mut clients = Vec::with_capacity(10_000);
        let mut resident = |count: u64| {
            while clients.len() < usize::try_from(count).unwrap() {
                clients.push(std::net::TcpStream::connect(address).unwrap());
            }
            while shards.handles().task_counts().iter().all(|tasks| (tasks.running as u64) < count)
            {
                std::thread::yield_now();
            }
            resident_bytes().unwrap()
        };
        let before = resident(1_000);
        let each = (resident(9_000) - before) / 8_000;
        println!("{each} bytes of RSS an idle plain connection");
        assert!(each < 1_500, "{each}");
    });
}
