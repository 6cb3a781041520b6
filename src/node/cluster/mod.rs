//! This broker as one of several.
//!
//! [`Cluster::bind`] opens the port of the links and draws a boot id; [`Cluster::start`] starts the
//! task that does what [`crate::cluster`] decides.

mod metrics;
mod phase;
mod receiver;
mod status;
mod task;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub(super) use metrics::ClusterSource;
pub(super) use phase::Phase;
pub(super) use status::Status;

use self::receiver::LinkReceiver;
use self::task::ClusterTask;
use crate::admin::Health;
use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::lane::LaneOptions;
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::MembershipOptions;
use crate::cluster::tickets::{Owner, TicketSource};
use crate::config::Config;
use crate::coordination::{self, Digest, Servers, ServersError, ZooKeeper};
use crate::gateway::mqtt::ShardContext;
use crate::peer::Links;
use crate::ports::clock::Tick;
use crate::runtime::shard::ShardHandles;
use crate::runtime::{Background, Clock, Shutdown};

/// Why a broker cannot be one of several.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The list of servers is none.
    #[error("--zookeeper {0}")]
    Servers(String, #[source] ServersError),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    File(PathBuf, #[source] io::Error),
    /// The file of ZooKeeper's digest authentication holds something else.
    #[error("{0} does not hold one line `user:password`")]
    Digest(PathBuf),
    /// The port of the links cannot be opened.
    #[error(
        "cannot accept links of other brokers on {0}: choose another --link-port or --link-bind"
    )]
    Bind(SocketAddr, #[source] io::Error),
    /// ZooKeeper cannot be spoken to at all.
    #[error(transparent)]
    ZooKeeper(#[from] coordination::StartError),
}

/// What is needed before the broker is there.
pub(super) struct Cluster {
    boot_id: BootId,
    name: Arc<str>,
    listener: tokio::net::TcpListener,
    options: coordination::Options,
    link_address: String,
    status: Arc<Status>,
}

/// What the rest of the node sees of the cluster.
pub(super) struct Membered {
    pub(super) phase: watch::Receiver<Phase>,
    /// Ends the session when dropped.
    _zookeeper: Arc<ZooKeeper>,
}

impl Cluster {
    /// Opens the port of the links; nothing when this broker is alone.
    pub(super) fn bind(
        config: &Config,
        background: &Background,
    ) -> Result<Option<Self>, ClusterError> {
        let Some(zookeeper) = &config.cluster.zookeeper else { return Ok(None) };
        let servers = servers(zookeeper)?;
        let options = coordination::Options {
            servers,
            session_timeout: session_timeout(config),
            digest: config.cluster.zookeeper_auth_file.as_deref().map(read_digest).transpose()?,
            tls: config.cluster.zookeeper_cafile.as_deref().map(read_tls).transpose()?,
        };
        let address = SocketAddr::new(config.cluster.link_bind_address(), config.cluster.link_port);
        let bind = || async { tokio::net::TcpListener::bind(address).await };
        let listener =
            background.block_on(bind()).map_err(|error| ClusterError::Bind(address, error))?;
        let port = listener.local_addr().map_or(address.port(), |bound| bound.port());
        Ok(Some(Self {
            boot_id: draw_boot_id(),
            name: Arc::from(broker_name(config)),
            listener,
            options,
            link_address: host_and_port(&config.cluster.link_host, port),
            status: Arc::new(Status::default()),
        }))
    }

    /// The other brokers, none yet.
    pub(super) fn peers(&self, hash_seed: u64) -> Peers {
        let name = Arc::clone(&self.name);
        let peers = Peers::new(self.boot_id, name, hash_seed, LaneOptions::default());
        // There is none before the first heartbeat is committed.
        peers.set_lease(Tick::ZERO);
        peers
    }

    /// What there is to say of it.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// The port on which links are accepted.
    pub(super) fn link_port(&self) -> Option<u16> {
        self.listener.local_addr().ok().map(|address| address.port())
    }

    /// Joins.
    pub(super) fn start(
        self,
        config: &Config,
        broker: &Arc<Broker>,
        clock: Clock,
        background: &Background,
        shards: Arc<ShardHandles>,
        health: Arc<Health>,
        shutdown: Shutdown,
    ) -> Result<Membered, ClusterError> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let handle = background.handle();
        let zookeeper = Arc::new(ZooKeeper::start(self.options, clock, sender, &handle)?);
        let receiver = Arc::new(LinkReceiver::new(Arc::clone(broker), clock));
        let links = Links::start(
            config.cluster.cluster.clone(),
            self.name.to_string(),
            self.boot_id,
            self.listener,
            receiver,
            handle.clone(),
            shards,
        );
        let options = MembershipOptions {
            name: self.name,
            link_address: self.link_address,
            zone: config.cluster.zone.clone().unwrap_or_default(),
            wire: WireVersions::OURS,
            session_timeout_millis: u64::try_from(session_timeout(config).as_millis())
                .unwrap_or(u64::MAX),
        };
        let tickets = TicketSource::new(Owner::Membership);
        let membership = Membership::new(options.clone(), self.boot_id, tickets, clock.now());
        let (phase_sender, phase) = watch::channel(Phase::Joining);
        self.status.watch(&zookeeper);
        let task = ClusterTask {
            broker: Arc::clone(broker),
            clock,
            context: ShardContext::new(broker),
            coordination: Arc::clone(&zookeeper) as _,
            events,
            options,
            membership,
            links,
            phase: phase_sender,
            status: self.status,
            health,
            shutdown,
            session: None,
            awaited: None,
            ping_at: clock.now(),
            is_over: false,
            has_let_go: false,
        };
        handle.spawn("cluster", task.run());
        Ok(Membered { phase, _zookeeper: zookeeper })
    }
}

/// The servers, and the path under which the cluster lives.
fn servers(list: &str) -> Result<Servers, ClusterError> {
    let with_path =
        if list.contains('/') { list.to_owned() } else { format!("{list}{CHROOT_DEFAULT}") };
    with_path.parse().map_err(|error| ClusterError::Servers(list.to_owned(), error))
}

fn session_timeout(config: &Config) -> Duration {
    Duration::from_secs(config.cluster.zookeeper_timeout_secs.get().into())
}

fn read_digest(path: &Path) -> Result<Digest, ClusterError> {
    let text = read(path)?;
    let (user, password) =
        text.trim_end().split_once(':').ok_or_else(|| ClusterError::Digest(path.to_owned()))?;
    Ok(Digest { user: user.to_owned(), password: password.to_owned() })
}

fn read_tls(path: &Path) -> Result<coordination::Tls, ClusterError> {
    Ok(coordination::Tls { ca: read(path)?, identity: None })
}

fn read(path: &Path) -> Result<String, ClusterError> {
    fs::read_to_string(path).map_err(|error| ClusterError::File(path.to_owned(), error))
}

/// The name of this broker, or of the machine.
fn broker_name(config: &Config) -> String {
    let of_machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    config.broker.name.clone().unwrap_or_else(of_machine)
}

/// An IPv6 address stands in brackets.
fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn draw_boot_id() -> BootId {
    BootId(u128::from(super::draw_seed()) << 64 | u128::from(super::draw_seed()))
}

/// What ZooKeeper has said and the task has not heard yet.
const EVENTS_MAX: usize = 16_384;
const CHROOT_DEFAULT: &str = "/mqttzoo";
