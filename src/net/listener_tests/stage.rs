//! A listener with a client on its other side.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::net::tls::tests::Files;
use crate::net::{
    AcceptContext, BoundListener, ConnectionBudget, ListenerOptions, NetCounters, Peer, Serve,
    Transport, TransportKind, WebSocketOptions, bind,
};
use crate::runtime::{Background, Clock, ShardHandle, Shards, Shutdown};

/// Sends back what it receives and tells the test who came.
pub(super) struct Echo {
    pub(super) arrivals: mpsc::Sender<Peer>,
    pub(super) ends: mpsc::Sender<Option<String>>,
    pub(super) establishes: bool,
}

impl Serve for Echo {
    async fn serve(self: Arc<Self>, mut transport: Transport, peer: Peer, _shard: ShardHandle) {
        if self.establishes {
            transport.mark_established();
        }
        let _ = self.arrivals.send(peer).await;
        let outcome = echo(&mut transport).await;
        drop(transport);
        let _ = self.ends.send(outcome.err().map(|error| error.to_string())).await;
    }
}

pub(super) async fn echo(transport: &mut Transport) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = transport.read(&mut buffer).await?;
        if count == 0 {
            return transport.shutdown().await;
        }
        transport.write_all(&buffer[..count]).await?;
        transport.flush().await?;
    }
}

/// A broker that only echoes, with one listener.
pub(super) struct Broker {
    pub(super) port: u16,
    pub(super) counters: Arc<NetCounters>,
    pub(super) arrivals: mpsc::Receiver<Peer>,
    pub(super) ends: mpsc::Receiver<Option<String>>,
    pub(super) shutdown: Shutdown,
    pub(super) shards: Shards,
    pub(super) background: Background,
}

impl Broker {
    pub(super) fn start(options: ListenerOptions) -> Self {
        Self::with(bind(options).unwrap(), usize::MAX, true)
    }

    pub(super) fn with(bound: BoundListener, connections_max: usize, establishes: bool) -> Self {
        let (arrivals_in, arrivals) = mpsc::channel(100);
        let (ends_in, ends) = mpsc::channel(100);
        let server = Echo { arrivals: arrivals_in, ends: ends_in, establishes };
        let shards = Shards::start(2, 1).unwrap();
        let background = Background::start(1).unwrap();
        let (counters, shutdown) = (Arc::new(NetCounters::default()), Shutdown::new());
        let port = bound.port().unwrap_or(0);
        let context = AcceptContext {
            server: Arc::new(server),
            shards: shards.handles(),
            counters: counters.clone(),
            budget: ConnectionBudget::new(connections_max),
            clock: Clock::start(),
            shutdown: shutdown.clone(),
        };
        bound.accept(context, &background.handle()).unwrap();
        Self { port, counters, arrivals, ends, shutdown, shards, background }
    }

    /// Runs `test` and then checks that nothing is left of any connection.
    pub(super) fn run(mut self, test: impl AsyncFnOnce(&mut Self)) {
        let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        client.block_on(async {
            test(&mut self).await;
            self.shutdown.begin();
            self.shards.join_tasks(&crate::net::CONNECTION_TASKS, PATIENCE).await.unwrap();
            self.background.join_tasks(PATIENCE).await.unwrap();
        });
        assert_eq!((self.counters.open.value(), self.counters.half_open.value()), (0, 0));
        assert!(self.shards.handles().iter().all(|shard| shard.connection_count() == 0));
        self.shards.stop(Duration::from_secs(10));
        self.background.stop(PATIENCE);
    }

    pub(super) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    pub(super) async fn arrival(&mut self) -> Peer {
        within(self.arrivals.recv()).await.unwrap()
    }

    pub(super) async fn until(&self, mut holds: impl FnMut(&NetCounters) -> bool) {
        within(async {
            while !holds(&self.counters) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn options(kind: TransportKind, files: &Files) -> ListenerOptions {
    let mut options = ListenerOptions::tcp(kind.as_str(), &["127.0.0.1"], 0);
    match kind {
        TransportKind::Tcp => {}
        TransportKind::Tls => options.tls = Some(files.options()),
        TransportKind::WebSocket => options.websocket = Some(WebSocketOptions::default()),
        TransportKind::SecureWebSocket => {
            options.tls = Some(files.options());
            options.websocket = Some(WebSocketOptions::default());
        }
        TransportKind::Unix => {
            options = ListenerOptions::unix("unix", files.directory.join("socket"));
        }
    }
    options
}

pub(super) fn tls_client(
    files: &Files,
    identity: Option<(PathBuf, PathBuf)>,
    alpn: &[u8],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(files.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<_, _> = CertificateDer::pem_file_iter(certificate).unwrap().collect();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain.unwrap(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

pub(super) async fn connect_tls(
    stream: TcpStream,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

pub(super) async fn connect_websocket<S>(stream: S, path: &str) -> Result<WebSocketStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    let protocol = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    Ok(socket)
}

/// Sends the pieces one by one and reads until everything has come back.
pub(super) async fn exchange<S>(mut stream: S, pieces: &[&[u8]]) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut received = vec![0; length];
    let send = async {
        for piece in pieces {
            write.write_all(piece).await.unwrap();
            write.flush().await.unwrap();
        }
    };
    let (outcome, ()) = tokio::join!(read.read_exact(&mut received), send);
    outcome.unwrap();
    stream.shutdown().await.unwrap();
    received
}

/// The same with a message for each piece.
pub(super) async fn exchange_messages<S>(socket: WebSocketStream<S>, pieces: &[&[u8]]) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let (mut write, mut read) = socket.split();
    let send = async {
        for piece in pieces {
            write.send(Message::binary(piece.to_vec())).await.unwrap();
        }
    };
    let receive = async {
        let mut received = Vec::new();
        while received.len() < length {
            let message = read.next().await.unwrap().unwrap();
            assert!(message.is_binary(), "{message:?}");
            received.extend_from_slice(&message.into_data());
        }
        received
    };
    let (received, ()) = tokio::join!(receive, send);
    write.close().await.unwrap();
    assert!(matches!(read.next().await, Some(Ok(Message::Close(_)))));
    received
}
