//! What a listener can be told.

use super::peer::TransportKind;
use std::path::PathBuf;
use std::time::Duration;

/// One listener: where it listens, what is spoken there, and its bounds.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// How logs, metrics and [`super::Peer`] name it.
    pub name: String,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Speak TLS. Not on a Unix socket.
    pub tls: Option<TlsOptions>,
    /// Speak WebSocket. Not on a Unix socket.
    pub websocket: Option<WebSocketOptions>,
    /// Every connection opens with a PROXY protocol header. Not on a Unix socket.
    ///
    /// Whoever can reach such a listener can claim any address: only the proxy should.
    pub proxy_protocol: bool,
    /// Its bounds.
    pub limits: ListenerLimits,
}

/// Where a listener listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// A TCP port on one or several addresses or host names. Port 0 is any free one, the same on
    /// all of them.
    Tcp {
        /// Addresses or names; `::` is all of IPv6 only, `0.0.0.0` all of IPv4.
        hosts: Vec<String>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The path; a socket left behind by a broker that is gone is replaced.
        path: PathBuf,
    },
}

/// The files TLS needs. They are read again by [`super::TlsReloader::reload`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsOptions {
    /// PEM: the certificate of the broker, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM: its private key, not encrypted.
    pub key: PathBuf,
    /// PEM: who may sign client certificates. Given, a client without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// What a WebSocket listener can be told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WebSocketOptions {
    /// The only path that is served; any, when absent.
    pub path: Option<String>,
}

/// The bounds of one listener. Reaching one refuses the newcomer: its socket is closed, counted
/// under the [`super::Refusal`] of the same name, and logged, a few lines a minute.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Connections open at once.
    pub connections_max: usize,
    /// Connections that have not reached [`super::Transport::mark_established`].
    pub half_open_max: usize,
    /// How long PROXY header, TLS and WebSocket handshakes may take together.
    pub handshake_timeout: Duration,
    /// Connections open at once from one address (IPv6: from one /64). Off when absent.
    pub connections_per_address_max: Option<u32>,
    /// How fast one address (IPv6: one /64) may connect. Off when absent.
    pub connect_rate_per_address: Option<ConnectRate>,
    /// After how long without a sign of the peer the kernel starts asking, every tenth of it.
    pub tcp_keep_alive: Duration,
    /// After how long without an acknowledgement of sent bytes the kernel gives the peer up.
    pub tcp_user_timeout: Duration,
}

/// A rate with a burst: a bucket of `burst` tokens that refills `per_sec` a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectRate {
    /// Connections a second in the long run.
    pub per_sec: u32,
    /// Connections at once after a pause.
    pub burst: u32,
}

impl ListenerOptions {
    /// Plain MQTT over TCP with the default bounds.
    #[must_use]
    pub fn tcp(name: &str, hosts: &[&str], port: u16) -> Self {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Self::at(name, Endpoint::Tcp { hosts, port })
    }

    /// Plain MQTT over a Unix socket with the default bounds.
    #[must_use]
    pub fn unix(name: &str, path: PathBuf) -> Self {
        Self::at(name, Endpoint::Unix { path })
    }

    /// What is spoken on this listener.
    #[must_use]
    pub fn kind(&self) -> TransportKind {
        match (&self.endpoint, &self.tls, &self.websocket) {
            (Endpoint::Unix { .. }, _, _) => TransportKind::Unix,
            (Endpoint::Tcp { .. }, None, None) => TransportKind::Tcp,
            (Endpoint::Tcp { .. }, Some(_), None) => TransportKind::Tls,
            (Endpoint::Tcp { .. }, None, Some(_)) => TransportKind::WebSocket,
            (Endpoint::Tcp { .. }, Some(_), Some(_)) => TransportKind::SecureWebSocket,
        }
    }

    fn at(name: &str, endpoint: Endpoint) -> Self {
        Self {
            name: name.to_owned(),
            endpoint,
            tls: None,
            websocket: None,
            proxy_protocol: false,
            limits: ListenerLimits::default(),
        }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections_max: usize::MAX,
            half_open_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            connections_per_address_max: None,
            connect_rate_per_address: None,
            tcp_keep_alive: Duration::from_secs(60),
            tcp_user_timeout: Duration::from_secs(120),
        }
    }
}
