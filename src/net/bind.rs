//! Opening the sockets of a listener. Every failure is one line: what, where, what to do.

use super::options::{Endpoint, ListenerOptions};
use super::peer::TransportKind;
use super::tls::TlsReloader;
use crate::runtime::port_owner::owner_of;
use crate::runtime::tls::TlsError;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A listener whose sockets are open. Clients may connect already; [`Self::accept`] serves them.
#[derive(Debug)]
pub struct BoundListener {
    pub(super) options: ListenerOptions,
    pub(super) sockets: Vec<(Socket, ListenAddress)>,
    pub(super) tls: Option<Arc<TlsReloader>>,
}

/// Where a socket listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// On the network; the port is the one that was bound.
    Ip(SocketAddr),
    /// At a path.
    Unix(PathBuf),
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error(
        "listener {listener}: {address} is taken by {}: stop it, or choose another port",
        owner.as_deref().unwrap_or("another program")
    )]
    PortTaken {
        /// The listener.
        listener: String,
        /// The address and port.
        address: SocketAddr,
        /// Its program, if the system tells.
        owner: Option<String>,
    },
    /// The system does not let us.
    #[error(
        "listener {listener}: no permission to listen on {address}: choose a port from 1024 on, \
         or grant the program cap_net_bind_service"
    )]
    Permission {
        /// The listener.
        listener: String,
        /// The address and port.
        address: SocketAddr,
    },
    /// The address is not one of this machine.
    #[error(
        "listener {listener}: {} is not an address of this machine: \
         choose one that `ip address` shows, or 0.0.0.0 for all", .address.ip()
    )]
    NotOurAddress {
        /// The listener.
        listener: String,
        /// The address and port.
        address: SocketAddr,
    },
    /// A host name has no address, or there is none to listen on.
    #[error("listener {listener}: cannot find the address of host {host:?}: check its spelling")]
    UnknownHost {
        /// The listener.
        listener: String,
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No host was given.
    #[error("listener {listener}: no host to listen on: give at least one")]
    NoHost {
        /// The listener.
        listener: String,
    },
    /// Another broker listens at the path.
    #[error("listener {listener}: another program listens at {}: stop it, or choose another path",
        path.display())]
    PathTaken {
        /// The listener.
        listener: String,
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is at the path.
    #[error("listener {listener}: {} exists and is no socket: remove it, or choose another path",
        path.display())]
    NotASocket {
        /// The listener.
        listener: String,
        /// The path.
        path: PathBuf,
    },
    /// The path cannot be bound.
    #[error("listener {listener}: cannot create the socket {}: \
        check that its directory exists and may be written, and that the path is below 108 bytes",
        path.display())]
    Path {
        /// The listener.
        listener: String,
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A Unix socket was asked for TLS, WebSocket or the PROXY protocol.
    #[error(
        "listener {listener}: a Unix socket carries plain MQTT only: \
         remove TLS, WebSocket and proxy_protocol from it"
    )]
    UnixIsPlain {
        /// The listener.
        listener: String,
    },
    /// A file of TLS is missing or wrong.
    #[error("listener {listener}: it cannot speak TLS")]
    Tls {
        /// The listener.
        listener: String,
        /// Which, and why.
        source: Box<TlsError>,
    },
    /// Something else.
    #[error("listener {listener}: cannot listen on {address}")]
    Other {
        /// The listener.
        listener: String,
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Opens the sockets of one listener and loads its certificates.
///
/// # Errors
///
/// Each [`BindError`] is one line for the person who started the broker. Nothing stays open.
pub fn bind(options: ListenerOptions) -> Result<BoundListener, BindError> {
    let tls = load_tls(&options)?;
    let sockets = match &options.endpoint {
        Endpoint::Tcp { hosts, port } => bind_tcp(&options, hosts, *port)?,
        Endpoint::Unix { path } => vec![bind_unix(&options, path)?],
    };
    Ok(BoundListener { options, sockets, tls })
}

impl BoundListener {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What is spoken on it.
    #[must_use]
    pub fn kind(&self) -> TransportKind {
        self.options.kind()
    }

    /// Where its sockets listen: at least one.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.sockets.iter().map(|(_, address)| address)
    }

    /// The port, the same on all its addresses; none for a Unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.addresses().find_map(|address| match address {
            ListenAddress::Ip(address) => Some(address.port()),
            ListenAddress::Unix(_) => None,
        })
    }

    /// Its TLS, to be reloaded.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<TlsReloader>> {
        self.tls.clone()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

fn load_tls(options: &ListenerOptions) -> Result<Option<Arc<TlsReloader>>, BindError> {
    let protocol: &[u8] = if options.websocket.is_some() { b"http/1.1" } else { b"mqtt" };
    let Some(tls) = &options.tls else {
        return Ok(None);
    };
    let listener = || options.name.clone();
    let loaded = TlsReloader::load(tls.clone(), protocol);
    loaded
        .map(|tls| Some(Arc::new(tls)))
        .map_err(|source| BindError::Tls { listener: listener(), source: source.into() })
}

fn bind_tcp(
    options: &ListenerOptions,
    hosts: &[String],
    port: u16,
) -> Result<Vec<(Socket, ListenAddress)>, BindError> {
    let ips = resolve(options, hosts)?;
    for _ in 1..FREE_PORT_ATTEMPTS_MAX {
        match bind_ips(options, &ips, port) {
            // The free port of the first address may be taken on another one.
            Err(BindError::PortTaken { .. }) if port == 0 => {}
            outcome => return outcome,
        }
    }
    bind_ips(options, &ips, port)
}

fn resolve(options: &ListenerOptions, hosts: &[String]) -> Result<Vec<IpAddr>, BindError> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for host in hosts {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let found = (bare.unwrap_or(host), 0).to_socket_addrs().map_err(|source| {
            BindError::UnknownHost { listener: options.name.clone(), host: host.clone(), source }
        })?;
        for address in found {
            if !ips.contains(&address.ip()) {
                ips.push(address.ip());
            }
        }
    }
    if ips.is_empty() {
        return Err(BindError::NoHost { listener: options.name.clone() });
    }
    Ok(ips)
}

/// Binds every address to the same port: the given one, or what the first address got.
fn bind_ips(
    options: &ListenerOptions,
    ips: &[IpAddr],
    port: u16,
) -> Result<Vec<(Socket, ListenAddress)>, BindError> {
    let mut port = port;
    let mut sockets = Vec::new();
    for ip in ips {
        let address = SocketAddr::new(*ip, port);
        let bound = match open_tcp(options, address) {
            Ok(bound) => bound,
            Err(error) if ips.len() > 1 && is_ipv6_missing(*ip, &error) => {
                tracing::debug!(listener = options.name, %address, "this machine has no IPv6");
                continue;
            }
            Err(error) => return Err(bind_error(options, address, error)),
        };
        port = bound.1.port();
        sockets.push((bound.0, ListenAddress::Ip(bound.1)));
    }
    match (sockets.is_empty(), ips.first()) {
        (true, Some(ip)) => {
            let address = SocketAddr::new(*ip, port);
            Err(BindError::NotOurAddress { listener: options.name.clone(), address })
        }
        _ => Ok(sockets),
    }
}

/// Accepted sockets inherit every option set here, which saves six system calls a connection.
fn open_tcp(options: &ListenerOptions, address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let limits = &options.limits;
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let keep_alive = TcpKeepalive::new()
        .with_time(limits.tcp_keep_alive)
        .with_interval((limits.tcp_keep_alive / KEEP_ALIVE_PROBES).max(KEEP_ALIVE_INTERVAL_MIN))
        .with_retries(KEEP_ALIVE_PROBES);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(limits.tcp_user_timeout))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

fn is_ipv6_missing(ip: IpAddr, error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    ip.is_ipv6() && matches!(code, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind_error(options: &ListenerOptions, address: SocketAddr, source: io::Error) -> BindError {
    let listener = options.name.clone();
    match Errno::from_io_error(&source) {
        Some(Errno::ADDRINUSE) => {
            BindError::PortTaken { listener, address, owner: owner_of(address.port()) }
        }
        Some(Errno::ACCESS | Errno::PERM) => BindError::Permission { listener, address },
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => {
            BindError::NotOurAddress { listener, address }
        }
        _ => BindError::Other { listener, address, source },
    }
}

fn bind_unix(options: &ListenerOptions, path: &Path) -> Result<(Socket, ListenAddress), BindError> {
    let listener = || options.name.clone();
    if options.tls.is_some() || options.websocket.is_some() || options.proxy_protocol {
        return Err(BindError::UnixIsPlain { listener: listener() });
    }
    let failed = |source| BindError::Path { listener: listener(), path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { listener: listener(), path: path.to_owned() });
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(BindError::PathTaken { listener: listener(), path: path.to_owned() });
        }
        // A broker that was killed leaves its socket behind.
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let socket = open_unix(path).map_err(failed)?;
    Ok((socket, ListenAddress::Unix(path.to_owned())))
}

fn open_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// How many connections may wait to be accepted; the system has its own bound below it.
const BACKLOG: i32 = 4096;

const KEEP_ALIVE_PROBES: u32 = 10;
const KEEP_ALIVE_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How often port 0 is tried on several addresses before we give up.
const FREE_PORT_ATTEMPTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{TlsOptions, WebSocketOptions};
    use std::os::unix::net::UnixListener;

    fn check(options: ListenerOptions, expected: &[&str]) {
        let error = bind(options).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let error = format!("{error}{}", cause.unwrap_or_default());
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        assert!(error.starts_with("listener test: ") && !error.contains('\n'), "{error}");
    }

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mqttzoo-bind-{}-{name}", std::process::id()))
    }

    #[test]
    fn port_0_is_the_same_free_port_on_every_address() {
        let hosts = ["127.0.0.1", "[::1]", "localhost"];
        let bound = bind(ListenerOptions::tcp("test", &hosts, 0)).unwrap();
        let port = bound.port().unwrap();
        assert!(port > 0);
        for address in bound.addresses() {
            let ListenAddress::Ip(address) = address else { panic!("{address}") };
            assert_eq!(address.port(), port);
            assert!(address.ip().is_loopback());
        }
        assert!(bound.addresses().count() <= 2, "localhost is known already");
    }

    #[test]
    fn accepted_sockets_inherit_their_options() {
        let options = ListenerOptions::tcp("test", &["127.0.0.1"], 0);
        let limits = options.limits;
        let bound = bind(options).unwrap();
        let port = bound.port().unwrap();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (socket, _) = bound.sockets[0].0.accept().unwrap();
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits.tcp_keep_alive);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), limits.tcp_keep_alive / 10);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits.tcp_user_timeout));
    }

    #[test]
    fn a_taken_port_names_who_has_it() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let options = ListenerOptions::tcp("test", &["127.0.0.1"], port);
        let address = format!("127.0.0.1:{port}");
        check(options, &[&address, "another listener of this broker", "choose another port"]);
    }

    #[test]
    fn addresses_that_cannot_be_are_told_apart() {
        let listen = |hosts: &[&str]| ListenerOptions::tcp("test", hosts, 0);
        check(listen(&["192.0.2.1"]), &["192.0.2.1 is not an address of this machine"]);
        check(listen(&["no.such.host.invalid"]), &["no.such.host.invalid", "spelling"]);
        check(listen(&[]), &["no host"]);
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let mut options = ListenerOptions::tcp("test", &["127.0.0.1"], 0);
        let missing = path("missing.pem");
        options.tls = Some(TlsOptions {
            certificate: missing.clone(),
            key: missing.clone(),
            client_ca: None,
        });
        check(options, &["cannot read the certificate", &missing.display().to_string()]);
    }

    #[test]
    fn a_unix_socket_left_behind_is_replaced_and_nothing_else_is() {
        let stale = path("stale");
        drop(UnixListener::bind(&stale).unwrap());
        drop(bind(ListenerOptions::unix("test", stale.clone())).unwrap());
        fs::remove_file(&stale).unwrap();

        let alive = path("alive");
        let holder = UnixListener::bind(&alive).unwrap();
        check(ListenerOptions::unix("test", alive.clone()), &["another program listens at"]);
        drop(holder);
        fs::remove_file(&alive).unwrap();

        let file = path("file");
        fs::write(&file, "precious").unwrap();
        check(ListenerOptions::unix("test", file.clone()), &["exists and is no socket"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_file(&file).unwrap();

        let nowhere = path("nowhere").join("socket");
        check(ListenerOptions::unix("test", nowhere), &["check that its directory exists"]);
    }

    #[test]
    fn a_unix_socket_is_plain() {
        let mut options = ListenerOptions::unix("test", path("plain"));
        options.websocket = Some(WebSocketOptions::default());
        check(options, &["plain MQTT only"]);
    }
}
