//! The listeners: one list made from the flags of the common ones and the `[[listener]]` tables.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use super::{
    AcknowledgeLevel, Config, ConfigError,
    option::options,
    value::{ByteSize, LOOPBACK, choices},
};

options! {
    /// One listener more. What is absent is as at the top level and in `[limits]`.
    #[heading = "Listener tables"]
    #[table = "listener"]
    pub struct ListenerTable {
        /// What is spoken: `tcp`, `tls`, `ws`, `wss`, or `unix`.
        kind: ListenerKind as "KIND" = ListenerKind::Tcp,
        /// The IP addresses to listen on.
        host: Vec<IpAddr> as "ADDR" = Vec::new(),
        /// The port; 0 is any free port. Every kind but `unix` needs one.
        port: Option<u16> as "PORT" = None,
        /// The path of the socket of a `unix` listener.
        path: Option<PathBuf> as "PATH" = None,
        /// The certificate chain, in PEM.
        cert: Option<PathBuf> as "FILE" = None,
        /// The private key, in PEM.
        key: Option<PathBuf> as "FILE" = None,
        /// The authorities of client certificates, in PEM.
        cafile: Option<PathBuf> as "FILE" = None,
        /// The only path at which WebSocket is answered.
        ws_path: Option<String> as "PATH" = None,
        /// Whether connections open with a PROXY protocol header.
        proxy_protocol: Option<bool> as "BOOL" = None,
        /// Whether clients without a user name are let in.
        allow_anonymous: Option<bool> as "BOOL" = None,
        /// What acknowledgements of publishes wait for.
        acknowledge: Option<AcknowledgeLevel> as "WHEN" = None,
        /// Connections of this listener. One more is closed at once.
        connections_max: Option<NonZeroUsize> as "N" = None,
        /// Connections from one IP address.
        connections_per_address_max: Option<NonZeroUsize> as "N" = None,
        /// New connections per second from one IP address.
        connect_rate_max: Option<NonZeroU32> as "N" = None,
        /// PUBLISH packets per second from one client.
        publish_rate_max: Option<NonZeroU32> as "N" = None,
        /// The largest packet accepted.
        packet_bytes_max: Option<ByteSize> as "SIZE" = None,
        /// The longest keep alive, in seconds.
        keep_alive_max_secs: Option<NonZeroU16> as "SECONDS" = None,
        /// Messages in flight to a client, and from one.
        in_flight_max: Option<NonZeroU16> as "N" = None,
        /// Topic aliases a client may use.
        topic_alias_max: Option<u16> as "N" = None,
    }
}

choices! {
    /// What is spoken on a listener.
    pub enum ListenerKind {
        /// MQTT over TCP.
        Tcp = "tcp",
        /// MQTT over TLS.
        Tls = "tls",
        /// MQTT over WebSocket.
        Ws = "ws",
        /// MQTT over WebSocket over TLS.
        Wss = "wss",
        /// MQTT over a Unix socket.
        Unix = "unix",
    }
    expected "tcp, tls, ws, wss, unix"
}

/// A listener to open, with everything it needs to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// What is spoken.
    pub kind: ListenerKind,
    /// Where.
    pub address: ListenerAddress,
    /// The files of TLS, for the kinds that speak it.
    pub tls: Option<TlsFiles>,
    /// The only path at which WebSocket is answered; any if absent.
    pub ws_path: Option<String>,
    /// Whether connections open with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether clients without a user name are let in.
    pub allow_anonymous: bool,
    /// What acknowledgements of publishes wait for, where a topic has no level of its own.
    pub acknowledge: AcknowledgeLevel,
    /// Whether the addresses are those of the defaults: one that this machine lacks, as `::1` where
    /// IPv6 is switched off, is passed over.
    pub has_default_hosts: bool,
    /// The bounds of its connections.
    pub limits: ListenerLimits,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.address)
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenerAddress {
    /// On one port of some addresses; port 0 is any free port, the same for all of them.
    Inet {
        /// The addresses; at least one.
        hosts: Vec<IpAddr>,
        /// The port.
        port: u16,
    },
    /// On a Unix socket at this path.
    Unix(PathBuf),
}

impl ListenerAddress {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Inet { hosts, .. } => hosts.iter().all(|host| host.to_canonical().is_loopback()),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { hosts, port } => {
                let at = |host: &IpAddr| SocketAddr::new(*host, *port).to_string();
                f.write_str(&hosts.iter().map(at).collect::<Vec<_>>().join(", "))
            }
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The files of a listener that speaks TLS, all in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of client certificates. When given, clients must present one.
    pub cafile: Option<PathBuf>,
}

/// The bounds that a listener may set for itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenerLimits {
    /// Connections of this listener; those of the whole broker have a bound beside.
    pub connections_max: Option<NonZeroUsize>,
    /// Connections from one IP address.
    pub connections_per_address_max: Option<NonZeroUsize>,
    /// New connections per second from one IP address.
    pub connect_rate_max: Option<NonZeroU32>,
    /// PUBLISH packets per second from one client.
    pub publish_rate_max: Option<NonZeroU32>,
    /// The largest packet accepted.
    pub packet_bytes_max: ByteSize,
    /// The longest keep alive, in seconds.
    pub keep_alive_max_secs: Option<NonZeroU16>,
    /// Messages in flight to a client, and from one.
    pub in_flight_max: NonZeroU16,
    /// Topic aliases a client may use.
    pub topic_alias_max: u16,
}

/// Every listener of `config`, checked one by one and against each other.
pub(super) fn listeners(config: &Config) -> Result<Vec<Listener>, ConfigError> {
    let tables = common_tables(config).into_iter().chain(config.tables.iter().cloned());
    let mut listeners = Vec::new();
    for table in tables {
        listeners.push(resolve(config, &table)?);
    }
    require_distinct(&listeners)?;
    Ok(listeners)
}

/// The listeners that have a flag of their own, as tables.
fn common_tables(config: &Config) -> Vec<ListenerTable> {
    let listen = &config.listen;
    let with_port = [
        (ListenerKind::Tcp, listen.port),
        (ListenerKind::Tls, listen.tls_port),
        (ListenerKind::Ws, listen.ws_port),
        (ListenerKind::Wss, listen.wss_port),
    ];
    let with_port = with_port
        .into_iter()
        .filter(|(_, port)| port.is_some())
        .map(|(kind, port)| ListenerTable { kind, port, ..ListenerTable::default() });
    let unix = listen.unix.iter().map(|path| ListenerTable {
        kind: ListenerKind::Unix,
        path: Some(path.clone()),
        ..ListenerTable::default()
    });
    with_port.chain(unix).collect()
}

/// The listener of one table, with what it inherits filled in.
fn resolve(config: &Config, table: &ListenerTable) -> Result<Listener, ConfigError> {
    let address = address(config, table)?;
    let anonymous_by_default = address.is_local() && config.auth.password_file.is_none();
    let listener = Listener {
        kind: table.kind,
        has_default_hosts: table.host.is_empty() && config.listen.host == LOOPBACK,
        tls: tls_files(config, table)?,
        ws_path: table.ws_path.clone().or_else(|| config.listen.ws_path.clone()),
        proxy_protocol: table.proxy_protocol.unwrap_or(config.listen.proxy_protocol),
        allow_anonymous: table
            .allow_anonymous
            .or(config.auth.allow_anonymous)
            .unwrap_or(anonymous_by_default),
        acknowledge: table.acknowledge.unwrap_or(config.acknowledge.acknowledge),
        limits: limits(config, table),
        address,
    };
    require_a_way_in(config, &listener)?;
    require_a_path(&listener)?;
    Ok(listener)
}

/// What a client asks for opens with a slash.
fn require_a_path(listener: &Listener) -> Result<(), ConfigError> {
    let speaks_websocket = matches!(listener.kind, ListenerKind::Ws | ListenerKind::Wss);
    match listener.ws_path.as_deref().filter(|_| speaks_websocket) {
        Some(path) if !path.starts_with('/') => Err(ConfigError::Contradiction(format!(
            "listener {listener}: no client can ask for the ws_path {path:?}: write {:?}",
            format!("/{path}")
        ))),
        Some(_) | None => Ok(()),
    }
}

fn address(config: &Config, table: &ListenerTable) -> Result<ListenerAddress, ConfigError> {
    let kind = table.kind;
    match (kind, table.port, &table.path) {
        (ListenerKind::Unix, None, Some(path)) => Ok(ListenerAddress::Unix(path.clone())),
        (ListenerKind::Unix, ..) => Err(ConfigError::Contradiction(
            "a [[listener]] of kind unix needs a path, and has no port".to_owned(),
        )),
        (_, Some(port), None) => {
            let hosts = if table.host.is_empty() { &config.listen.host } else { &table.host };
            Ok(ListenerAddress::Inet { hosts: hosts.clone(), port })
        }
        (_, Some(_) | None, _) => Err(ConfigError::Contradiction(format!(
            "a [[listener]] of kind {kind} needs a port, and has no path (ws_path is the one of \
             WebSocket)"
        ))),
    }
}

fn tls_files(config: &Config, table: &ListenerTable) -> Result<Option<TlsFiles>, ConfigError> {
    match table.kind {
        ListenerKind::Tcp | ListenerKind::Ws | ListenerKind::Unix => return Ok(None),
        ListenerKind::Tls | ListenerKind::Wss => {}
    }
    let choose = |own: &Option<PathBuf>, common: &Option<PathBuf>| own.clone().or(common.clone());
    let cert = choose(&table.cert, &config.listen.cert);
    let key = choose(&table.key, &config.listen.key);
    let (Some(cert), Some(key)) = (cert, key) else {
        return Err(ConfigError::Contradiction(format!(
            "the {} listener needs a certificate and its key: give --cert FILE and --key FILE",
            table.kind
        )));
    };
    Ok(Some(TlsFiles { cert, key, cafile: choose(&table.cafile, &config.listen.cafile) }))
}

fn limits(config: &Config, table: &ListenerTable) -> ListenerLimits {
    let common = &config.limits;
    ListenerLimits {
        connections_max: table.connections_max,
        connections_per_address_max: table
            .connections_per_address_max
            .or(common.connections_per_address_max),
        connect_rate_max: table.connect_rate_max.or(common.connect_rate_max),
        publish_rate_max: table.publish_rate_max.or(common.publish_rate_max),
        packet_bytes_max: table.packet_bytes_max.unwrap_or(common.packet_bytes_max),
        keep_alive_max_secs: table.keep_alive_max_secs.or(common.keep_alive_max_secs),
        in_flight_max: table.in_flight_max.unwrap_or(common.in_flight_max),
        topic_alias_max: table.topic_alias_max.unwrap_or(common.topic_alias_max),
    }
}

/// A listener that other machines reach must say who may come in.
fn require_a_way_in(config: &Config, listener: &Listener) -> Result<(), ConfigError> {
    let asks_for_certificate = listener.tls.as_ref().is_some_and(|tls| tls.cafile.is_some());
    let has_source = config.auth.password_file.is_some() || asks_for_certificate;
    if listener.allow_anonymous || has_source {
        return Ok(());
    }
    Err(ConfigError::Contradiction(format!(
        "listener {listener} would let nobody in: set allow_anonymous = true (--allow-anonymous) \
         to let everybody in, or password_file (--password-file FILE) to let in those who know a \
         password"
    )))
}

fn require_distinct(listeners: &[Listener]) -> Result<(), ConfigError> {
    let mut taken = BTreeSet::new();
    for place in listeners.iter().flat_map(|listener| places(&listener.address)) {
        if let Some(twice) = taken.replace(place) {
            return Err(ConfigError::Contradiction(format!(
                "two listeners share {twice}: give one of them another port or path"
            )));
        }
    }
    Ok(())
}

/// The places that nobody else can have; a port that is still free is none.
fn places(address: &ListenerAddress) -> Vec<String> {
    match address {
        ListenerAddress::Inet { port: 0, .. } => Vec::new(),
        ListenerAddress::Inet { hosts, port } => {
            hosts.iter().map(|host| SocketAddr::new(*host, *port).to_string()).collect()
        }
        ListenerAddress::Unix(path) => vec![path.display().to_string()],
    }
}
