//! From an accepted socket to a byte stream: PROXY header, TLS, WebSocket, in this order.

use super::admission::Seat;
use super::certificate_name::common_name;
use super::counters::{Refusal, Setback};
use super::first_bytes::Speech;
use super::options::WebSocketOptions;
use super::peer::{Peer, PeerAddress};
use super::proxy::{ProxyError, read_header};
use super::tls::TlsReloader;
use super::transport::{Stream, Transport};
use super::websocket_handshake::{WebSocketHandshakeError, shake_hands};
use crate::runtime::Clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a listener does before MQTT begins.
#[derive(Debug)]
pub(super) struct Handshakes {
    pub(super) proxy_protocol: bool,
    pub(super) tls: Option<Arc<TlsReloader>>,
    pub(super) websocket: Option<WebSocketOptions>,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the client left before any byte")]
    Vanished,
    #[error("the handshakes took too long")]
    TimedOut,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Proxy(ProxyError),
    #[error("{0}")]
    WrongProtocol(&'static str),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error(transparent)]
    WebSocket(WebSocketHandshakeError),
    #[error("the socket broke: {0}")]
    Socket(#[from] io::Error),
}

impl Handshakes {
    /// Whether there is nothing to do.
    pub(super) fn is_none(&self) -> bool {
        !self.proxy_protocol && self.tls.is_none() && self.websocket.is_none()
    }

    /// Performs all of them; what they tell about the client goes into `peer`.
    pub(super) async fn perform(
        &self,
        mut stream: TcpStream,
        peer: &mut Peer,
        mut seat: Seat,
        clock: Clock,
    ) -> Result<Transport, HandshakeError> {
        if self.proxy_protocol {
            if let Some(source) = read_header(&mut stream).await? {
                stand_for(peer, source);
            }
            if let Some(ip) = peer.address.ip() {
                seat.claim_address(ip, clock.now())?;
            }
        }
        let stream = match (&self.tls, &self.websocket) {
            (None, None) => Stream::Tcp(stream),
            (None, Some(websocket)) => {
                Stream::WebSocket(Box::new(shake_hands(stream, websocket).await?))
            }
            (Some(tls), None) => Stream::Tls(Box::new(accept_tls(stream, tls, peer).await?)),
            (Some(tls), Some(websocket)) => {
                let stream = accept_tls(stream, tls, peer).await?;
                Stream::SecureWebSocket(Box::new(shake_hands(stream, websocket).await?))
            }
        };
        Ok(Transport::new(stream, seat))
    }
}

/// The proxy says whom it stands for; we note the proxy.
fn stand_for(peer: &mut Peer, source: SocketAddr) {
    if let PeerAddress::Ip(proxy) = peer.address {
        peer.proxied_by = Some(Box::new(proxy));
    }
    peer.address = PeerAddress::Ip(source);
}

async fn accept_tls(
    stream: TcpStream,
    tls: &TlsReloader,
    peer: &mut Peer,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let mut first = [0; FIRST_BYTES];
    let count = stream.peek(&mut first).await?;
    match Speech::of(first.split_at(count).0) {
        _ if count == 0 => return Err(HandshakeError::Vanished),
        Speech::Mqtt => return Err(HandshakeError::WrongProtocol(MQTT)),
        Speech::Http => return Err(HandshakeError::WrongProtocol(HTTP)),
        Speech::Proxy => return Err(HandshakeError::WrongProtocol(PROXY)),
        Speech::Tls | Speech::Other => {}
    }
    let acceptor = TlsAcceptor::from(tls.current());
    let stream = acceptor.accept(stream).await.map_err(HandshakeError::Tls)?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    peer.tls_common_name = certificate.and_then(|certificate| common_name(certificate));
    Ok(stream)
}

impl HandshakeError {
    /// What it is counted as; refusals have counters of their own.
    pub(super) fn setback(&self) -> Result<Setback, Refusal> {
        Ok(match self {
            Self::Refused(refusal) => return Err(*refusal),
            Self::Vanished => Setback::Vanished,
            Self::TimedOut => Setback::TimedOut,
            Self::Proxy(_) => Setback::Proxy,
            Self::WrongProtocol(_) => Setback::WrongProtocol,
            Self::Tls(_) => Setback::Tls,
            Self::WebSocket(_) => Setback::WebSocket,
            Self::Socket(_) => Setback::Socket,
        })
    }
}

impl From<ProxyError> for HandshakeError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::Vanished => Self::Vanished,
            ProxyError::Socket(error) => Self::Socket(error),
            ProxyError::Missing(Speech::Tls) => Self::WrongProtocol(TLS_WITHOUT_PROXY),
            error @ (ProxyError::Cut
            | ProxyError::Missing(_)
            | ProxyError::Malformed
            | ProxyError::Datagram) => Self::Proxy(error),
        }
    }
}

impl From<WebSocketHandshakeError> for HandshakeError {
    fn from(error: WebSocketHandshakeError) -> Self {
        match error {
            WebSocketHandshakeError::Vanished => Self::Vanished,
            WebSocketHandshakeError::Socket(error) => Self::Socket(error),
            WebSocketHandshakeError::WrongProtocol(diagnosis) => Self::WrongProtocol(diagnosis),
            error @ (WebSocketHandshakeError::Left
            | WebSocketHandshakeError::NoRequest
            | WebSocketHandshakeError::Refused(_)) => Self::WebSocket(error),
        }
    }
}

const MQTT: &str = "the client speaks plain MQTT to a TLS listener: \
                    turn TLS on in the client, or connect it to the port without TLS";
const HTTP: &str = "the client speaks HTTP to a TLS listener: use https:// or wss:// in the client";
const PROXY: &str = "the client sends a PROXY protocol header to a listener that does not expect \
                     one: set proxy_protocol on the listener, or turn it off in the proxy";
const TLS_WITHOUT_PROXY: &str = "no PROXY protocol header before TLS, which this listener asks for: turn it on in the proxy, \
     or connect clients without a proxy to another listener";

/// Enough to recognise the other protocols by.
const FIRST_BYTES: usize = 12;
