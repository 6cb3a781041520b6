//! Who is at the other end.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What is known of a client before it has said CONNECT.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from; behind a proxy, where the proxy says it does.
    pub address: PeerAddress,
    /// The name of the listener it came in by.
    pub listener: Arc<str>,
    /// How it speaks.
    pub kind: TransportKind,
    /// The common name in the client certificate, if one was asked for and has one.
    pub tls_common_name: Option<Box<str>>,
    /// The proxy between us and the client.
    pub proxied_by: Option<Box<SocketAddr>>,
}

/// An address as logs show it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PeerAddress {
    /// Over the network.
    Ip(SocketAddr),
    /// On this machine, over a Unix socket: there is no address.
    Unix,
}

/// How MQTT is carried.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransportKind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket over TLS.
    SecureWebSocket,
    /// A Unix socket.
    Unix,
}

impl PeerAddress {
    /// The address without its port.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl TransportKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Tcp, Self::Tls, Self::WebSocket, Self::SecureWebSocket, Self::Unix];

    /// The word for it in logs, metrics and `ports.json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
            Self::Unix => "unix",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
