//! Every option of the top level of the file, group by group.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use super::{
    option::options,
    value::{ByteSize, LOOPBACK, above_zero, choices, count},
};
use crate::mqtt::TopicFilter;

options! {
    /// What the broker is called, where it keeps its state, how many cores it uses.
    #[heading = "Broker"]
    pub struct Broker {
        /// The name of this broker, in logs and metrics. The name of the machine when absent.
        name: Option<String> as "NAME" = None,
        /// Where the broker keeps its state, and `ports.json` with the ports it bound. When absent:
        /// `$XDG_STATE_HOME/mqttzoo`, else `~/.local/state/mqttzoo`; for root `/var/lib/mqttzoo`.
        data_dir: PathBuf as "DIR" = PathBuf::new(),
        /// Whether nothing outlives the process: Sessions and retained messages are kept in memory
        /// alone. When off, a broker that is alone keeps them in `data_dir`, or in PostgreSQL.
        no_database: bool as "BOOL" = false,
        /// How long what must be stored waits for a store that does not answer, or has no room:
        /// publishes, CONNECT of a Session that is kept. Then a CONNECT is refused with 0x88, and
        /// any other connection is closed without an answer. Who needs no store never waits.
        store_wait_secs: NonZeroU32 as "SECONDS" = above_zero(10),
        /// How many shards (threads that serve connections) there are. One per core when off.
        threads: Option<NonZeroUsize> as "N" = None,
        /// Seconds between two rounds of `$SYS` messages.
        sys_interval_secs: Option<NonZeroU32> as "SECONDS" = Some(above_zero(10)),
    }
}

options! {
    /// The ways in. With no configuration only `port` listens, on both loopback addresses; each
    /// other listener opens when its port or path is given. `[[listener]]` tables add more, each
    /// with bounds of its own.
    #[heading = "Listeners"]
    pub struct Listen {
        /// The IP address to listen on; may be repeated. `localhost` is both loopback addresses.
        /// Any other address needs `allow_anonymous` or a source of authentication.
        host: Vec<IpAddr> as "ADDR" = LOOPBACK.to_vec(),
        /// The port of plain TCP; 0 is any free port. Off by default when the file has
        /// `[[listener]]` tables.
        port: Option<u16> as "PORT" = Some(1883),
        /// The port of TLS, 8883 by custom. Needs `cert` and `key`.
        tls_port: Option<u16> as "PORT" = None,
        /// The port of WebSocket, 8083 by custom.
        ws_port: Option<u16> as "PORT" = None,
        /// The port of secure WebSocket, 8084 by custom. Needs `cert` and `key`.
        wss_port: Option<u16> as "PORT" = None,
        /// The path of a Unix socket.
        unix: Option<PathBuf> as "PATH" = None,
        /// The PEM file with the certificate chain of the broker, its own certificate first.
        cert: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the private key that belongs to `cert`.
        key: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the authorities whose client certificates are accepted. When given,
        /// TLS clients must present one (mutual TLS), and its common name is their user name.
        cafile: Option<PathBuf> as "FILE" = None,
        /// The only path at which WebSocket is answered, such as `/mqtt`; it opens with a slash. Any
        /// path when absent.
        ws_path: Option<String> as "PATH" = None,
        /// Whether every connection opens with a PROXY protocol header (version 1 or 2) that names
        /// the true peer. Only for listeners that nobody but the proxy can reach.
        proxy_protocol: bool as "BOOL" = false,
    }
}

options! {
    /// Who may come in. A secret never stands in the configuration itself: the options name the
    /// file that holds it.
    #[heading = "Authentication and authorisation"]
    pub struct Auth {
        /// Whether clients without a user name are let in. When absent: on loopback addresses and
        /// Unix sockets, as long as there is no `password_file`.
        allow_anonymous: Option<bool> as "BOOL" = None,
        /// The password file, written by `mqtt_broker passwd FILE USER`. Read again on SIGHUP.
        password_file: Option<PathBuf> as "FILE" = None,
        /// The file that says who may publish and subscribe to what, in Mosquitto's syntax. The
        /// rules are looked at with each SUBSCRIBE and PUBLISH, not with each delivery; a Session
        /// and what it is subscribed to is its user's alone. Read again on SIGHUP. Everything is
        /// allowed when absent.
        acl_file: Option<PathBuf> as "FILE" = None,
        /// How long a CONNECT waits for its password to be checked, in seconds. Then it is refused
        /// with 0x88 (server unavailable).
        auth_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(10),
        /// How many CONNECTs may wait for their password to be checked. One more is refused with
        /// 0x89 (server busy).
        auth_waiting_max: NonZeroUsize as "N" = count(1_024),
    }
}

options! {
    /// What the broker says about itself.
    #[heading = "Logging"]
    pub struct Log {
        /// The least important events that are logged: `error`, `warn`, `info`, `debug`, `trace`,
        /// or `off`. Read again on SIGHUP.
        log: LogLevel as "LEVEL" = LogLevel::Info,
        /// How an event is written: `human` or `json` (one object per line).
        log_format: LogFormat as "FORMAT" = LogFormat::Human,
        /// The file the log is appended to; opened anew on SIGHUP. Standard error when absent.
        log_file: Option<PathBuf> as "FILE" = None,
    }
}

options! {
    /// HTTP for the operator: `/metrics`, `/livez`, `/readyz`, `/startupz`, `/clients`,
    /// `/log-level`. Probes are answered to everybody; the rest on loopback, or to who has the
    /// token.
    #[heading = "Administration"]
    pub struct Admin {
        /// The IP address the administration listens on.
        admin_host: IpAddr as "ADDR" = IpAddr::V4(Ipv4Addr::LOCALHOST),
        /// The port of the administration; 0 is any free port.
        admin_port: Option<u16> as "PORT" = None,
        /// The file that holds the token of the administration, of at least 16 characters. When
        /// given, everything but the probes needs `Authorization: Bearer TOKEN`. Without it, on an
        /// address that is not loopback only probes are answered. Read again on SIGHUP.
        admin_token_file: Option<PathBuf> as "FILE" = None,
    }
}

options! {
    /// Several brokers that are one: they find each other through ZooKeeper, and carry a message that
    /// is published on one of them to the subscribers of all. Alone when `zookeeper` is absent.
    #[heading = "Cluster"]
    pub struct Cluster {
        /// The servers of the ZooKeeper ensemble, `host:port,host:port,...`, and behind them the
        /// path under which the cluster lives, `/mqttzoo` when absent. Slashes at its end mean
        /// nothing, so that `host:2181/` is `host:2181`: a cluster never lives at the root, among what
        /// others keep there. Names that do not resolve yet are tried again.
        zookeeper: Option<String> as "LIST" = None,
        /// How long ZooKeeper, and the other brokers, wait for a sign of life, in seconds, before this
        /// broker is declared dead.
        zookeeper_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(6),
        /// The file that holds `user:password` for ZooKeeper's digest authentication. When given, only
        /// who has it may read and change the cluster's znodes.
        zookeeper_auth_file: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the authorities of ZooKeeper's certificates. When given, ZooKeeper is
        /// spoken to over TLS.
        zookeeper_cafile: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the certificate that is shown to ZooKeeper, and those between it and the
        /// root. Servers want to see one unless they have `ssl.clientAuth=none`.
        zookeeper_cert: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the private key that belongs to `zookeeper_cert`, not encrypted.
        zookeeper_key: Option<PathBuf> as "FILE" = None,
        /// How many topics of the whole cluster may have a znode. Beyond it topics are routed as ever,
        /// and counted. That of the broker that leads holds.
        bank_topics_max: NonZeroUsize as "N" = count(100_000),
        /// Bytes of the names and values of these znodes. ZooKeeper keeps them in memory.
        bank_bytes_max: ByteSize as "SIZE" = ByteSize::mib(64),
        /// The name of the cluster. Brokers of another cluster are refused.
        cluster: String as "NAME" = "mqttzoo".to_owned(),
        /// Where this broker stands, such as a rack or a zone of a cloud.
        zone: Option<String> as "ZONE" = None,
        /// The name or address at which the other brokers reach this one.
        link_host: String as "HOST" = "127.0.0.1".to_owned(),
        /// The address the links of other brokers are accepted on. When absent: `link_host` where
        /// that is an address, else all addresses.
        link_bind: Option<IpAddr> as "ADDR" = None,
        /// The port of the links between brokers; 0 is any free port.
        link_port: u16 as "PORT" = 7883,
        /// The address, `host:port`, at which the other brokers reach this one where that is not
        /// `link_host` and the port that was bound: a proxy, a mapped port.
        link_advertise: Option<String> as "HOST:PORT" = None,
        /// What a SUBACK does when another broker takes more than half a second to learn of the
        /// filters: `strict` waits on, so that who has it gets what is published from then on
        /// wherever that is; `bounded` answers then all the same, and counts
        /// `suback_unconfirmed`. Both say so in the log.
        suback_barrier: BarrierPolicy as "BARRIER" = BarrierPolicy::Strict,
        /// The file that holds the secret that all brokers of the cluster share, of at least 16
        /// characters. Needed, or TLS, unless links are accepted on loopback only. Up to three more
        /// lines hold secrets that others may show, so that the secret can be changed while brokers
        /// run: first give the new one to all as a second line, then make it the first. The file is
        /// read at the start also where there are no links: alone, or with `propagation = "znodes"`.
        link_secret_file: Option<PathBuf> as "FILE" = None,
        /// The PEM file with this broker's certificate for links. With `link_key` and
        /// `link_cafile`, links are TLS and both ends show a certificate.
        link_cert: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the private key that belongs to `link_cert`.
        link_key: Option<PathBuf> as "FILE" = None,
        /// The PEM file with the authority that has signed the link certificates of all brokers.
        link_cafile: Option<PathBuf> as "FILE" = None,
        /// How messages get from one broker to another: by `links`, and through ZooKeeper only
        /// between brokers whose link is down; or all through `znodes`, for networks where brokers
        /// may not reach each other. No broker is dialled then.
        propagation: Propagation as "WAY" = Propagation::Links,
        /// Where the brokers of a cluster keep persistent Sessions and their queues: in `memory`, where
        /// they end with their broker, or in the `database`, where another broker takes them, and where
        /// retained messages outlive all brokers. In the database when absent, if one is given, and else in
        /// memory. All brokers of a cluster need the same here, and the same database.
        cluster_sessions: Option<ClusterSessions> as "WHERE" = None,
        /// The largest message that goes through ZooKeeper. While a link is down, larger ones of
        /// QoS 0 are dropped and counted, others wait for the link. With `propagation = "znodes"` no
        /// client may send a larger packet: it is their Maximum Packet Size where
        /// `packet_bytes_max` is above it.
        relay_message_max: ByteSize as "SIZE" = ByteSize::mib(1),
    }
}

choices! {
    /// Whether a SUBACK waits for a broker that takes long.
    pub enum BarrierPolicy {
        /// For as long as that broker lives.
        Strict = "strict",
        /// For half a second.
        Bounded = "bounded",
    }
    expected "strict, bounded"
}

options! {
    /// Topics that keep their latest value: every message published to one of them, with RETAIN or
    /// without, is kept for a while, and who subscribes meanwhile is sent it at once, with RETAIN set,
    /// as a retained message would be. While a value holds it stands in front of the topic's retained message
    /// and neither replaces nor removes it; an empty message clears the value. In a cluster a value of
    /// up to 4 KiB goes to the other brokers through ZooKeeper, where of the values of one topic that
    /// wait for the write budget only the latest is written; a larger one goes to each of them
    /// directly.
    #[heading = "Latest values"]
    pub struct LastValue {
        /// The topic filters of the topics that keep their latest value; may be repeated. Topics that
        /// begin with `$` keep none.
        last_value: Vec<TopicFilter> as "FILTER" = Vec::new(),
        /// How long a latest value holds, in seconds, unless its message expires earlier.
        last_value_ttl_secs: NonZeroU32 as "SECONDS" = above_zero(60),
        /// How many topics may have a latest value. One more is not kept, and counted.
        last_value_topics_max: NonZeroUsize as "N" = count(100_000),
        /// Bytes of all latest values. What is beyond is not kept, and counted.
        last_value_bytes_max: ByteSize as "SIZE" = ByteSize::mib(64),
    }
}

options! {
    /// How the broker stops on SIGTERM: it says that it is not ready, stops accepting, sends each
    /// client a DISCONNECT with a reason, flushes what is buffered, and ends with exit code 0.
    #[heading = "Stopping"]
    pub struct Drain {
        /// How long, in seconds, the broker goes on as before while `/readyz` says already that no
        /// traffic is welcome: load balancers need that long to notice. A second signal ends the
        /// wait. What `drain_timeout_secs` bounds begins after it. No wait when off.
        drain_wait_secs: Option<NonZeroU32> as "SECONDS" = None,
        /// How long sending clients away may take, in seconds. Connections that are left then are cut.
        /// Leaving the cluster and the last commits come behind it, and may take up to twenty seconds
        /// more: a supervisor is not to kill sooner.
        drain_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(25),
        /// How many clients are sent away per second, so that they do not all return at once
        /// elsewhere. All at once when off.
        drain_rate_max: Option<NonZeroU32> as "N" = None,
    }
}

choices! {
    /// How messages get from one broker to another.
    pub enum Propagation {
        /// By links, and through ZooKeeper where there is none.
        Links = "links",
        /// All through ZooKeeper.
        Znodes = "znodes",
    }
    expected "links, znodes"
}

choices! {
    /// Where the Sessions of a cluster are.
    pub enum ClusterSessions {
        /// In the memory of their brokers.
        Memory = "memory",
        /// In the database of all of them.
        Database = "database",
    }
    expected "memory, database"
}

choices! {
    /// The least important events that are logged.
    pub enum LogLevel {
        /// Nothing.
        Off = "off",
        /// What failed and needs somebody.
        Error = "error",
        /// What is wrong and was coped with.
        Warn = "warn",
        /// What happens: starts, connects, disconnects.
        Info = "info",
        /// What explains why it happens.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
    expected "error, warn, info, debug, trace, off"
}

choices! {
    /// How an event is written.
    pub enum LogFormat {
        /// A line for people, coloured on a terminal.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
    expected "human, json"
}
