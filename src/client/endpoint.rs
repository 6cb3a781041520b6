//! Where a server is, and the way to it.

use std::{fmt, net::IpAddr, path::PathBuf};

use super::tls::TlsOptions;

/// A server and the way to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where the server listens.
    pub address: Address,
    /// Set when the connection is encrypted.
    pub tls: Option<TlsOptions>,
    /// Set when MQTT travels inside a WebSocket: the path of the request.
    pub websocket_path: Option<String>,
    /// The local address to connect from.
    pub bind: Option<IpAddr>,
    /// A SOCKS5 proxy on the way.
    pub proxy: Option<Proxy>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or address, and a port. Every address the name resolves to is tried.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A SOCKS5 proxy, which resolves the server's name itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Host of the proxy.
    pub host: String,
    /// Port of the proxy.
    pub port: u16,
    /// User name and password, if the proxy asks for them.
    pub credentials: Option<(String, String)>,
}
