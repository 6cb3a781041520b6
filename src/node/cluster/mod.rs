//! This broker as one of several.
//!
//! [`Cluster::configured`] draws a boot id, [`Cluster::listen`] opens the port of the links, and
//! [`Reachable::join`] starts the task that does what [`crate::cluster`] decides.

mod bell;
mod goodbyes;
mod hearing;
mod link_metrics;
mod metrics;
mod phase;
mod reach;
mod receiver;
mod relaying;
mod spreading;
mod status;
mod task;
mod terms;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub(super) use metrics::ClusterSource;
pub(super) use phase::Phase;
pub(super) use status::Status;

use self::bell::Bell;
use self::goodbyes::Goodbyes;
use self::reach::Reach;
use self::receiver::LinkReceiver;
use self::relaying::LinkNews;
use self::task::ClusterTask;
use self::terms::terms_of;
use crate::activity::ActivityLog;
use crate::admin::Health;
use crate::broker::Broker;
use crate::broker::durable::{Registrar, RetainedReader};
use crate::broker::peers::Peers;
use crate::broker::peers::topic_registry::TopicRegistry;
use crate::cluster::clock::ClusterClock;
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::lane::LaneOptions;
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::MembershipOptions;
use crate::cluster::relay::{Relay, RelayOptions};
use crate::cluster::tickets::{Owner, TicketSource};
use crate::config::{Config, Propagation};
use crate::coordination::{self, Digest, Servers, ServersError, ZooKeeper};
use crate::gateway::mqtt::ShardContext;
use crate::peer::{
    Authorities, ClusterSeal, LinkContext, LinkOptions, LinkStartError, LinkTlsError,
    LinkTlsOptions, Links, Secret,
};
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
    /// A secret of the links is too short to be one, or there are too many.
    #[error(
        "the secret in {0} is shorter than {SECRET_BYTES_MIN} characters, or there are more than \
         {SECRETS_MAX}: write one a line"
    )]
    Secret(PathBuf),
    /// The name of the broker is that of its znodes.
    #[error(
        "--name {0:?} cannot be the name of a broker in a cluster: 1 to 200 bytes, no `/`, no control \
         characters, not `.` or `..`"
    )]
    Name(String),
    /// The others could not dial it.
    #[error("--link-advertise {0:?} is no HOST:PORT")]
    Advertise(String),
    /// Links cannot be had.
    #[error(transparent)]
    Links(#[from] LinkStartError),
    /// ZooKeeper cannot be spoken to at all.
    #[error(transparent)]
    ZooKeeper(#[from] coordination::StartError),
}

/// What is needed before the broker is there.
pub(super) struct Cluster {
    boot_id: BootId,
    name: Arc<str>,
    zookeeper: coordination::Options,
    links: LinkOptions,
    seal: ClusterSeal,
    status: Arc<Status>,
}

/// A broker whose peers can reach it, before it joins.
pub(super) struct Reachable {
    cluster: Cluster,
    links: Links,
    bell: Arc<Bell>,
    link_news: Arc<LinkNews>,
    /// Ends the links: later than everything that sends by them.
    links_shutdown: Shutdown,
}

/// What the cluster stands on.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) broker: &'a Arc<Broker>,
    pub(super) clock: Clock,
    pub(super) background: &'a Background,
    pub(super) shards: Arc<ShardHandles>,
    pub(super) contexts: &'a Arc<[Arc<ShardContext>]>,
    pub(super) health: Arc<Health>,
    pub(super) shutdown: Shutdown,
    pub(super) activity: Option<ActivityLog>,
}

/// What the rest of the node sees of the cluster.
pub(super) struct Membered {
    pub(super) phase: watch::Receiver<Phase>,
    links: Links,
    links_shutdown: Shutdown,
    leaving: Shutdown,
    left: Shutdown,
    zookeeper: Arc<ZooKeeper>,
    authorities: Authorities,
    has_new_seal: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

impl Cluster {
    /// Reads what is configured; nothing when this broker is alone.
    pub(super) fn configured(config: &Config) -> Result<Option<Self>, ClusterError> {
        let options = &config.cluster;
        let secret = options.link_secret_file.as_deref().map(read_secret).transpose()?;
        let Some(zookeeper) = &options.zookeeper else {
            if secret.is_some() {
                tracing::info!(
                    "link_secret_file has no effect: this broker is alone, without --zookeeper"
                );
            }
            return Ok(None);
        };
        let zookeeper = coordination::Options {
            servers: servers(zookeeper)?,
            session_timeout: session_timeout(config),
            digest: options.zookeeper_auth_file.as_deref().map(read_digest).transpose()?,
            tls: zookeeper_tls(config)?,
        };
        let (boot_id, name) = (draw_boot_id(), broker_name(config));
        if !is_znode_name(&name) {
            return Err(ClusterError::Name(name));
        }
        if let Some(address) = options.link_advertise.as_ref().filter(|one| !is_dialable(one)) {
            return Err(ClusterError::Advertise(address.clone()));
        }
        let address = SocketAddr::new(options.link_bind_address(), options.link_port);
        let mut links = LinkOptions::new(&options.cluster, &name, boot_id, address);
        if let Some(secret) = secret {
            links.secret = secret;
        }
        links.tls = link_tls(config);
        let status = Arc::new(Status::default());
        let authorities = Authorities::load(links.tls.clone()).map_err(LinkStartError::Tls)?;
        let seal = ClusterSeal {
            cluster: links.cluster.clone(),
            secret: links.secret.clone(),
            access: zookeeper.digest.as_ref().map_or_else(Secret::none, access),
            propagation: options.propagation.to_string(),
            authorities,
        };
        Ok(Some(Self { boot_id, name: Arc::from(name), zookeeper, links, seal, status }))
    }

    /// Who this broker is in its first life.
    pub(super) fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// The other brokers, none yet.
    pub(super) fn peers(&self, hash_seed: u64) -> Peers {
        let name = Arc::clone(&self.name);
        let peers = Peers::new(self.boot_id, name, hash_seed, LaneOptions::default());
        // There is none before the first heartbeat is committed.
        peers.set_lease(Tick::ZERO);
        peers
    }

    /// Opens the port of the links.
    pub(super) fn listen(self, ground: &Ground<'_>) -> Result<Reachable, ClusterError> {
        let links_shutdown = Shutdown::new();
        let bell = Arc::<Bell>::default();
        let link_news = LinkNews::new(&bell);
        let receiver = LinkReceiver::new(
            Arc::clone(ground.broker),
            ground.clock,
            Arc::clone(ground.contexts),
            Arc::clone(&link_news),
        );
        let context = LinkContext {
            receiver: Arc::new(receiver),
            shards: Arc::clone(&ground.shards),
            clock: ground.clock,
            shutdown: links_shutdown.clone(),
        };
        let links = Links::start(self.links.clone(), context)?;
        Ok(Reachable { cluster: self, links, bell, link_news, links_shutdown })
    }
}

impl Reachable {
    /// What there is to say of it.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.cluster.status)
    }

    /// The port on which links are accepted.
    pub(super) fn link_port(&self) -> u16 {
        self.links.local_address().port()
    }

    /// Joins.
    pub(super) fn join(self, ground: &Ground<'_>) -> Result<Membered, ClusterError> {
        let port = self.link_port();
        let Self { cluster, links, bell, link_news, links_shutdown } = self;
        let (config, clock) = (ground.config, ground.clock);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let background = ground.background.handle();
        let zookeeper = Arc::new(ZooKeeper::start(cluster.zookeeper, clock, sender, &background)?);
        let ours = WireVersions::OURS;
        let wire = if config.keeps_cluster_sessions() { ours } else { ours.in_memory() };
        let options = MembershipOptions {
            name: cluster.name,
            link_address: config
                .cluster
                .link_advertise
                .clone()
                .unwrap_or_else(|| host_and_port(&config.cluster.link_host, port)),
            zone: config.cluster.zone.clone().unwrap_or_default(),
            wire,
            session_timeout_millis: u64::from(config.cluster.zookeeper_timeout_secs.get()) * 1_000,
        };
        let tickets = TicketSource::new(Owner::Membership);
        let mut membership =
            Membership::new(options.clone(), cluster.boot_id, tickets, clock.now());
        membership.set_guard(Box::new(cluster.seal.clone()));
        let tickets = TicketSource::new(Owner::Clock);
        let cluster_clock = ClusterClock::new(options.session_timeout_millis, tickets);
        let seeds = [super::draw_seed(), super::draw_seed()];
        let terms = terms_of(config);
        let registry = TopicRegistry::new(&options, cluster.boot_id, terms, seeds);
        let has_links = config.cluster.propagation == Propagation::Links;
        let relay = RelayOptions {
            name: Arc::clone(&options.name),
            boot_id: cluster.boot_id,
            session_timeout_millis: options.session_timeout_millis,
            message_bytes_max: config.cluster.relay_message_max.0,
            is_always: !has_links,
        };
        let (phase_sender, phase) = watch::channel(Phase::Joining);
        cluster.status.watch(&zookeeper, &links);
        let (leaving, left) = (Shutdown::new(), Shutdown::new());
        let (authorities, has_new_seal) =
            (cluster.seal.authorities.clone(), Arc::<AtomicBool>::default());
        let task_bell = Arc::clone(&bell);
        let task = ClusterTask {
            broker: Arc::clone(ground.broker),
            activity: ground.activity.clone(),
            clock,
            context: ShardContext::new(ground.broker),
            coordination: Arc::clone(&zookeeper) as _,
            events,
            options,
            membership,
            seal: cluster.seal,
            has_new_seal: Arc::clone(&has_new_seal),
            cluster_clock,
            registry,
            relay: Relay::new(relay, bell.waker()),
            link_news,
            reach: Reach::default(),
            has_links,
            terms,
            bell: task_bell,
            background: background.clone(),
            links: links.clone(),
            phase: phase_sender,
            status: cluster.status,
            health: Arc::clone(&ground.health),
            draining: ground.shutdown.clone(),
            leaving: leaving.clone(),
            left: left.clone(),
            session: None,
            awaited: None,
            goodbyes: Goodbyes::default(),
            pinged_at: clock.now(),
            slots_wanted_at: clock.now(),
            has_name_holder_answered: Arc::default(),
            is_up: false,
            is_over: false,
            has_let_go: false,
            registrar: ground.broker.durable().map(|durable| Registrar::new(Arc::clone(durable))),
            retained_reader: ground.broker.durable().cloned().map(RetainedReader::new),
            store_reminder: None,
            is_cut_off: false,
        };
        background.spawn("cluster", task.run());
        Ok(Membered {
            phase,
            links,
            links_shutdown,
            leaving,
            left,
            zookeeper,
            authorities,
            has_new_seal,
            bell,
        })
    }
}

impl Membered {
    /// Reads the files of TLS between brokers again.
    pub(super) fn reload(&self) -> Result<(), LinkTlsError> {
        self.links.reload_tls().and_then(|()| self.renew_seal())
    }

    /// Who comes in later is told by the authorities that are believed now.
    fn renew_seal(&self) -> Result<(), LinkTlsError> {
        if self.authorities.reload()? {
            self.has_new_seal.store(true, Ordering::Release);
            self.bell.waker().wake();
        }
        Ok(())
    }

    /// Leaves the cluster, at most within `limit`, when the clients are gone: nobody has to wait
    /// until this broker is declared dead.
    pub(super) async fn leave(&self, limit: Duration) {
        self.leaving.begin();
        if tokio::time::timeout(limit, self.left.begun()).await.is_err() {
            tracing::info!("the cluster was not left in time: the others will declare us dead");
        } else {
            self.links.part(PART_MAX).await;
        }
        self.links_shutdown.begin();
        self.zookeeper.close();
        if tokio::time::timeout(SESSION_END_MAX, self.zookeeper.closed()).await.is_err() {
            tracing::debug!("the ZooKeeper session ends by itself");
        }
    }
}

/// The servers, and the path under which the cluster lives.
fn servers(list: &str) -> Result<Servers, ClusterError> {
    let servers = list.parse::<Servers>();
    let servers = servers.map_err(|error| ClusterError::Servers(list.to_owned(), error))?;
    Ok(servers.or_below(CHROOT_DEFAULT))
}

/// What only who has this user and password can show.
fn access(digest: &Digest) -> Secret {
    Secret::new(format!("{}:{}", digest.user, digest.password).as_bytes())
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

/// The authorities of ZooKeeper, and what we show it.
fn zookeeper_tls(config: &Config) -> Result<Option<coordination::Tls>, ClusterError> {
    let cluster = &config.cluster;
    let Some(authorities) = &cluster.zookeeper_cafile else { return Ok(None) };
    let identity = match (&cluster.zookeeper_cert, &cluster.zookeeper_key) {
        (Some(certificate), Some(key)) => {
            Some(coordination::Identity { certificate: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    Ok(Some(coordination::Tls { ca: read(authorities)?, identity }))
}

fn is_znode_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.chars().any(|c| c == '/' || c.is_control())
}

fn is_dialable(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && matches!(port.parse::<u16>(), Ok(1..)))
}

fn read_secret(path: &Path) -> Result<Secret, ClusterError> {
    let text = read(path)?;
    let secrets: Vec<_> = text.trim_end().lines().map(|line| line.trim_end().as_bytes()).collect();
    let is_fit = |secret: &&[u8]| secret.len() >= SECRET_BYTES_MIN;
    match secrets.split_first() {
        Some((shown, others)) if secrets.len() <= SECRETS_MAX && secrets.iter().all(is_fit) => {
            Ok(Secret::changing(shown, others.iter().copied()))
        }
        Some(_) | None => Err(ClusterError::Secret(path.to_owned())),
    }
}

/// The files of TLS between brokers, which are given together or not at all.
fn link_tls(config: &Config) -> Option<LinkTlsOptions> {
    let cluster = &config.cluster;
    Some(LinkTlsOptions {
        certificate: cluster.link_cert.clone()?,
        key: cluster.link_key.clone()?,
        ca: cluster.link_cafile.clone()?,
        server_name: None,
    })
}

fn read(path: &Path) -> Result<String, ClusterError> {
    fs::read_to_string(path).map_err(|error| ClusterError::File(path.to_owned(), error))
}

/// The name of this broker, or of the machine.
pub(in crate::node) fn broker_name(config: &Config) -> String {
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
const SECRET_BYTES_MIN: usize = 16;
/// The one that is shown, and those that are believed besides while it is being changed.
const SECRETS_MAX: usize = 4;
const CHROOT_DEFAULT: &str = "/mqttzoo";
/// How long the others have to hear that this broker has left.
const PART_MAX: Duration = Duration::from_millis(500);
/// How long the end of the ZooKeeper session is waited for.
const SESSION_END_MAX: Duration = Duration::from_secs(1);
