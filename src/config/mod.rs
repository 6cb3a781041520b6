//! The configuration: one typed value made from the file, the environment and the flags.
//!
//! Every option is defined once, as a documented field in `sections`, `limits` or `listener`; its
//! key in the file, its flag, its variable, its help and its row in `docs/CONFIG.md` follow from
//! that. Flags win over the environment, the environment wins over the file.
//!
//! Nothing here reads the globals of the process but [`Surroundings::of_this_process`]: the same
//! surroundings give the same configuration, as long as the file stays the same.

mod acknowledge;
mod activity;
mod database;
mod docs;
mod draft;
mod environment;
mod error;
mod file;
mod flags;
mod groups;
mod limits;
mod listener;
mod option;
mod print;
mod sections;
mod value;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

pub use acknowledge::{Acknowledge, AcknowledgeLevel, TopicAcknowledge};
pub use activity::{Activity, ActivityLog};
pub use database::{ConnectionString, Database, Secret, SslMode};
pub use error::{ConfigError, Origin, Warning};
pub use flags::Passwd;
pub use limits::{Limits, OverflowPolicy};
pub use listener::{
    Listener, ListenerAddress, ListenerKind, ListenerLimits, ListenerTable, TlsFiles,
};
pub use sections::{
    Admin, Auth, BarrierPolicy, Broker, Cluster, ClusterSessions, Drain, LastValue, Listen, Log,
    LogFormat, LogLevel, Propagation,
};
pub use value::{ByteSize, Percent};

use draft::Draft;
use flags::{Flags, Print};

/// The whole configuration of a broker. What [`load`] returns has been checked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// What the broker is called, where it keeps its state, how many cores it uses.
    pub broker: Broker,
    /// The common listeners, as written. To open them, use `listeners`.
    pub listen: Listen,
    /// What acknowledgements wait for.
    pub acknowledge: Acknowledge,
    /// Who may come in.
    pub auth: Auth,
    /// What the broker says about itself.
    pub log: Log,
    /// HTTP for the operator.
    pub admin: Admin,
    /// Several brokers that are one.
    pub cluster: Cluster,
    /// PostgreSQL.
    pub database: Database,
    /// What is written down of clients.
    pub activity: Activity,
    /// Topics that keep their latest value.
    pub last_value: LastValue,
    /// How the broker stops.
    pub drain: Drain,
    /// What a client, and all of them together, may cost.
    pub limits: Limits,
    /// Every listener to open, with what it inherits filled in.
    pub listeners: Vec<Listener>,
    /// The `[[listener]]` tables, as written.
    tables: Vec<ListenerTable>,
}

impl Config {
    /// Checks what no single value shows, and fills in the list of listeners.
    fn validate(&mut self) -> Result<(), ConfigError> {
        self.listeners = listener::listeners(self)?;
        if self.listeners.is_empty() {
            return Err(ConfigError::Contradiction(
                "no listener is left: give --port, another port, or --unix".to_owned(),
            ));
        }
        self.check_cluster()?;
        self.database.check(self.broker.no_database)?;
        let limits = &self.limits;
        for (name, packet_bytes_max) in self
            .listeners
            .iter()
            .map(|listener| (listener.to_string(), listener.limits.packet_bytes_max))
        {
            if packet_bytes_max < PACKET_BYTES_LEAST {
                return Err(ConfigError::Contradiction(format!(
                    "listener {name}: packet_bytes_max is {}, which has no room for a CONNECT with a \
                     name and a password: the least is {}",
                    packet_bytes_max.0, PACKET_BYTES_LEAST.0
                )));
            }
            if packet_bytes_max > PACKET_BYTES_LARGEST {
                return Err(ConfigError::Contradiction(format!(
                    "listener {name}: packet_bytes_max is {}, and no packet of MQTT is larger than \
                     {}",
                    packet_bytes_max.0, PACKET_BYTES_LARGEST.0
                )));
            }
            if packet_bytes_max > limits.queue_bytes_max {
                return Err(ConfigError::Contradiction(format!(
                    "listener {name}: packet_bytes_max is above queue_bytes_max: the largest \
                     message would fit no queue"
                )));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Whether the Sessions of this broker outlive it where it is one of several.
    #[must_use]
    pub fn keeps_cluster_sessions(&self) -> bool {
        match self.cluster.cluster_sessions {
            Some(ClusterSessions::Database) => true,
            Some(ClusterSessions::Memory) => false,
            None => self.database.is_given(),
        }
    }

    /// Whether the ways between brokers are guarded where strangers could reach them.
    fn check_cluster(&self) -> Result<(), ConfigError> {
        let cluster = &self.cluster;
        if cluster.zookeeper.is_none() {
            return Ok(());
        }
        let wants_database = cluster.cluster_sessions == Some(ClusterSessions::Database);
        if wants_database && !self.database.is_given() {
            return Err(ConfigError::Contradiction(
                "cluster_sessions = \"database\", and there is no database: give db or db_host"
                    .to_owned(),
            ));
        }
        let tls = [&cluster.link_cert, &cluster.link_key, &cluster.link_cafile];
        let given = tls.iter().filter(|file| file.is_some()).count();
        if given != 0 && given != tls.len() {
            return Err(ConfigError::Contradiction(
                "link_cert, link_key and link_cafile belong together: give all three or none"
                    .to_owned(),
            ));
        }
        let identity = [&cluster.zookeeper_cert, &cluster.zookeeper_key];
        let shown = identity.iter().filter(|file| file.is_some()).count();
        if shown == 1 || (shown > 0 && cluster.zookeeper_cafile.is_none()) {
            return Err(ConfigError::Contradiction(
                "zookeeper_cert and zookeeper_key belong together, and to zookeeper_cafile: give all \
                 three, or the last one alone"
                    .to_owned(),
            ));
        }
        let is_guarded = given > 0 || cluster.link_secret_file.is_some();
        if !is_guarded && !cluster.link_bind_address().is_loopback() {
            return Err(ConfigError::Contradiction(format!(
                "links of other brokers are accepted on {}, where anybody could dial: give \
                 link_secret_file, or link_cert, link_key and link_cafile",
                cluster.link_bind_address()
            )));
        }
        Ok(())
    }
}

impl Cluster {
    /// The address on which links are accepted.
    #[must_use]
    pub fn link_bind_address(&self) -> IpAddr {
        let named = self.link_host.parse().ok();
        self.link_bind.or(named).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// What the process was started with.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The command line, the name of the program first.
    pub args: Vec<OsString>,
    /// The environment variables.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the process runs as root.
    pub is_root: bool,
}

impl Surroundings {
    /// What this process was started with.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            args: std::env::args_os().collect(),
            env: std::env::vars_os().collect(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    fn directory(&self, variable: &str) -> Option<PathBuf> {
        let (_, value) = self.env.iter().find(|(name, _)| name == variable)?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    }

    fn data_dir(&self) -> Option<PathBuf> {
        if self.is_root {
            return Some(PathBuf::from("/var/lib/mqttzoo"));
        }
        self.directory("XDG_STATE_HOME")
            .or_else(|| self.directory("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("mqttzoo"))
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Run a broker.
    Run(Box<Config>),
    /// Print this on standard output and end.
    Show(String),
    /// Work on a password file.
    Passwd(Passwd),
}

/// Reads the command line, the environment, and the file that they name.
///
/// SIGHUP calls it again with the same surroundings, to see what the file says now.
///
/// # Errors
/// The first thing that is wrong, in one line.
pub fn load(surroundings: &Surroundings) -> Result<(Request, Vec<Warning>), ConfigError> {
    let (config_file, settings, print) = match flags::read(&surroundings.args)? {
        Flags::Show(text) => return Ok((Request::Show(text), Vec::new())),
        Flags::Passwd(passwd) => return Ok((Request::Passwd(passwd), Vec::new())),
        Flags::Start { config_file, settings, print } => (config_file, settings, print),
    };
    if print == Some(Print::Docs) {
        return Ok((Request::Show(docs::render()), Vec::new()));
    }
    let environment = environment::read(&surroundings.env)?;
    let mut draft = Draft::default();
    if let Some(path) = config_file.or(environment.config_file) {
        file::read(Path::new(&path), &mut draft)?;
    }
    for setting in environment.settings.into_iter().chain(settings) {
        draft.apply(setting)?;
    }
    if !draft.config.tables.is_empty() && !draft.origins.contains_key("port") {
        draft.config.listen.port = None;
    }
    if !draft.origins.contains_key("data_dir") {
        draft.config.broker.data_dir = surroundings.data_dir().ok_or(ConfigError::NoDataDir)?;
    }
    draft.config.validate()?;
    let request = match print {
        Some(Print::Config | Print::Docs) => Request::Show(print::render(&draft)),
        None => Request::Run(Box::new(draft.config)),
    };
    Ok((request, environment.warnings))
}

/// The parser of the command line, for shell completion and manual pages.
#[must_use]
pub fn command_line() -> clap::Command {
    flags::command()
}

/// A CONNECT with a Client Identifier of 23 bytes, a user name, a password and some properties fits in.
const PACKET_BYTES_LEAST: ByteSize = ByteSize(128);

/// A packet of MQTT has a fixed header of at most five bytes and a remaining length of at most
/// 268,435,455.
const PACKET_BYTES_LARGEST: ByteSize = ByteSize(268_435_455 + 5);

#[cfg(test)]
mod tests;
