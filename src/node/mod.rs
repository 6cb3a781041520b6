//! The composition root: a broker put together from its configuration.
//!
//! [`Node::start`] reads like a list: the order in which things come up. [`Node::run`] is what goes on
//! until a signal, [`Node::stop`] the order in which they go down.

mod activity;
mod admin;
mod cluster;
mod data_dir;
mod database;
mod drain;
mod guards;
mod housekeeping;
mod options;
mod parking;
mod queue_watch;
mod reload;
mod serve;
mod signals;
mod store;
mod store_source;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::activity::ActivityLog;
use crate::admin::{Access, AdminBindError, Health, Standing, TokenError};
use crate::auth::FileError;
use crate::broker::durable::Durable;
use crate::broker::options::ConnectionOptions;
use crate::broker::{Broker, Seeds};
use crate::config::{Config, Surroundings, Warning};
use crate::gateway::mqtt::{ParkingPlace, ShardContext};
use crate::net::{
    AcceptContext, BindError, BoundListener, ConnectionBudget, ListenAddress, NetCounters,
    TlsReloader, Transport, bind,
};
use crate::node::cluster::{Cluster, ClusterError, Ground, Membered, Reachable, Status};
use crate::node::data_dir::{DataDir, DataDirError, Ports};
use crate::node::guards::GuardFiles;
use crate::node::serve::Server;
use crate::node::signals::Signals;
use crate::node::store::{Kept, OpenError, Place};
use crate::runtime::limits::{OpenFiles, raise_open_files};
use crate::runtime::logging::{Logging, LoggingError};
use crate::runtime::{Background, Clock, Shards, Shutdown};

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be written.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The password file or the access file cannot be used.
    #[error(transparent)]
    Guards(#[from] FileError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It cannot be one of several brokers.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It cannot be part of its cluster, now or any more.
    #[error("{0}")]
    LeftCluster(String),
    /// The administration port cannot be opened.
    #[error(transparent)]
    AdminBind(#[from] AdminBindError),
    /// The administration has no token.
    #[error(transparent)]
    AdminToken(#[from] TokenError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system lets it have no connection.
    #[error(
        "{allowed} files may be open, which the broker needs for itself: allow more, with \
         `ulimit -n` or what LimitNOFILE= is where it is started"
    )]
    TooFewFiles {
        /// How many may be open.
        allowed: u64,
    },
    /// A thread, a timer or a signal cannot be had.
    #[error("the system refuses what a broker needs")]
    System(#[source] io::Error),
}

/// A broker that runs.
pub struct Node {
    config: Config,
    surroundings: Surroundings,
    broker: Arc<Broker>,
    clock: Clock,
    /// What outlives the process.
    kept: Option<Kept>,
    /// What is written down of clients.
    activity: Option<ActivityLog>,
    /// Where it is written.
    activity_thread: Option<Background>,
    logging: Logging,
    background: Background,
    shards: Shards,
    contexts: Arc<[Arc<ShardContext>]>,
    /// One for each shard.
    parking: Arc<[Arc<ParkingPlace<Transport>>]>,
    guard_files: GuardFiles,
    /// Of the listeners with these names.
    reloaders: Vec<(String, Arc<TlsReloader>)>,
    admin_access: Option<Arc<Access>>,
    health: Arc<Health>,
    net_counters: Arc<NetCounters>,
    budget: Arc<ConnectionBudget>,
    connections_max: usize,
    open_files: OpenFiles,
    ports: Ports,
    /// Where it is one of several brokers.
    cluster: Option<Membered>,
    cluster_status: Option<Arc<Status>>,
    /// Opened, and served once the broker is part of its cluster.
    waiting: Vec<(BoundListener, ConnectionOptions)>,
    /// Until it runs.
    signals: Option<Signals>,
    shutdown: Shutdown,
    /// Held as long as the broker runs.
    data_dir: DataDir,
}

/// Runs a broker until it is told to stop.
#[must_use]
pub fn run(config: Config, surroundings: Surroundings, warnings: &[Warning]) -> ExitCode {
    match Node::start(config, surroundings, warnings) {
        Ok(node) => match node.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &StartError) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _unheard = writeln!(io::stderr().lock(), "mqtt_broker: {}", chain(error));
    ExitCode::FAILURE
}

impl Node {
    /// Brings a broker up. When this returns it accepts connections.
    ///
    /// # Errors
    /// The first thing that cannot be had, in one line.
    pub fn start(
        config: Config,
        surroundings: Surroundings,
        warnings: &[Warning],
    ) -> Result<Self, StartError> {
        let logging = Logging::start(options::logging(&config))?;
        for warning in warnings {
            match warning {
                Warning::UnknownVariable { .. } => tracing::warn!("{warning}"),
                // Nobody has done anything wrong.
                Warning::KubernetesVariables(_) => tracing::info!("{warning}"),
            }
        }
        let data_dir = DataDir::lock(&config.broker.data_dir)?;
        let guard_files = GuardFiles::open(&config)?;
        let open_files = raise_open_files().map_err(StartError::System)?;
        options::require_files_for_connections(open_files)?;
        let clock = Clock::start();
        let seed = draw_seed();
        let seeds = Seeds { hash: draw_seed(), instance: draw_seed() };
        let background = Background::start(BACKGROUND_THREADS).map_err(StartError::System)?;
        // Before anybody can know that we are there: a signal that comes at once is not our end.
        let signals = Signals::new(&background).map_err(StartError::System)?;
        let threads = options::threads(&config);
        let shards = Shards::start(threads, seed).map_err(StartError::System)?;
        let cluster = Cluster::configured(&config)?;
        let mut broker = Broker::new(options::broker(&config), guard_files.guards(), seeds);
        if let Some(cluster) = &cluster {
            broker = broker.with_peers(cluster.peers(seeds.hash));
        }
        let database = database::options(&config).map_err(OpenError::from)?;
        let activity = activity::start(&config, database.as_ref(), clock, &background)
            .map_err(StartError::System)?;
        let (activity, activity_thread) = activity.unzip();
        let member = cluster.as_ref().map(Cluster::boot_id);
        let kept = store::open(&config, database, member, &background, clock)?;
        if let Some(Kept { durable, .. }) = &kept {
            broker = broker.with_store(Arc::clone(durable));
        }
        let broker = Arc::new(broker);
        let contexts: Arc<[_]> =
            (0..threads).map(|_| shard_context(&broker, activity.as_ref())).collect();
        let parking = parking::open(&config, clock, &shards.handles(), &contexts);
        let parking = parking.map_err(StartError::System)?;
        let connections_max = options::connections_max(&config, open_files);
        let mut node = Self {
            broker,
            clock,
            kept,
            activity,
            activity_thread,
            logging,
            background,
            shards,
            contexts,
            parking,
            guard_files,
            reloaders: Vec::new(),
            admin_access: None,
            health: Arc::new(Health::starting()),
            net_counters: Arc::new(NetCounters::default()),
            budget: ConnectionBudget::new(connections_max),
            connections_max,
            open_files,
            ports: Ports::default(),
            cluster: None,
            cluster_status: None,
            waiting: Vec::new(),
            signals: Some(signals),
            shutdown: Shutdown::new(),
            data_dir,
            config,
            surroundings,
        };
        let cluster = cluster.map(|cluster| cluster.listen(&node.ground())).transpose()?;
        node.cluster_status = cluster.as_ref().map(Reachable::status);
        node.ports = node.open()?;
        if let Some(Kept { durable, .. }) = &node.kept {
            node.health.watch_store(Arc::clone(durable.store()));
        }
        node.ports.link = cluster.as_ref().map(Reachable::link_port);
        node.data_dir.write_ports(&node.ports)?;
        if node.waits_for_database() {
            // It may take as long as it takes, and probes and signals are answered meanwhile.
            node.health.set_bound();
            return Ok(node);
        }
        if cluster.is_none() {
            node.background.block_on(node.restore())?;
        } else {
            node.serve_store();
        }
        node.health.set_bound();
        node.start_housekeeping();
        match cluster {
            Some(cluster) => node.cluster = Some(cluster.join(&node.ground())?),
            None => node.take_clients()?,
        }
        Ok(node)
    }

    /// Opens all listeners, and only then serves any of them.
    fn open(&mut self) -> Result<Ports, StartError> {
        let mut ports = Ports::default();
        let admin = self.bind_admin()?;
        let mut bound = Vec::new();
        for (listener, connection) in options::listeners(&self.config) {
            let opened = bind(listener)?;
            ports.note(&opened);
            self.reloaders.extend(opened.tls().map(|tls| (opened.name().to_owned(), tls)));
            bound.push((opened, connection));
        }
        if let Some((admin, access)) = admin {
            ports.admin = Some(admin.address().port());
            let access = Arc::new(access);
            self.admin_access = Some(Arc::clone(&access));
            self.serve_admin(admin, access)?;
        }
        self.waiting = bound;
        Ok(ports)
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            config: &self.config,
            broker: &self.broker,
            clock: self.clock,
            background: &self.background,
            shards: self.shards.handles(),
            contexts: &self.contexts,
            health: Arc::clone(&self.health),
            shutdown: self.shutdown.clone(),
            activity: self.activity.clone(),
        }
    }

    /// Whether clients are taken only when a server has answered.
    fn waits_for_database(&self) -> bool {
        let is_alone = self.config.cluster.zookeeper.is_none();
        is_alone && matches!(self.kept, Some(Kept { place: Place::Server(_), .. }))
    }

    /// What an earlier process left comes back, before anybody can ask for it.
    async fn restore(&self) -> Result<(), StartError> {
        let (Some(kept), Some(context)) = (&self.kept, self.contexts.first()) else {
            return Ok(());
        };
        let restored = store::restore(&self.broker, kept, context, self.clock).await;
        let restored = restored.map_err(|reason| self.unreadable(reason))?;
        if self.waits_for_database() {
            tracing::info!("keeps Sessions in {}", kept.place);
        }
        if restored.is_any() {
            tracing::info!(
                sessions = restored.sessions,
                retained = restored.retained,
                left_out = restored.left_out,
                "what was stored is back"
            );
        }
        self.serve_store();
        Ok(())
    }

    /// Takes the answers of the store.
    fn serve_store(&self) {
        let Some(kept) = &self.kept else { return };
        for (shard, context) in self.shards.handles().iter().zip(&*self.contexts) {
            let (broker, context) = (Arc::clone(&self.broker), Arc::clone(context));
            shard.spawn("store", store::serve(broker, context, self.clock));
        }
        let durable = Arc::clone(&kept.durable);
        let collect = store::collect(durable, self.clock, self.shutdown.clone());
        self.background.handle().spawn("collector", collect);
    }

    fn unreadable(&self, reason: String) -> OpenError {
        let directory = self.config.broker.data_dir.display().to_string();
        OpenError::Unusable { directory, reason }
    }

    fn store_in_words(&self) -> String {
        match &self.kept {
            Some(kept) if self.cluster.is_some() => {
                format!("{}: sessions and retained messages outlive this process", kept.place)
            }
            Some(kept) => {
                let place = match kept.place {
                    Place::Directory(_) => "sqlite".to_owned(),
                    Place::Server(_) => kept.place.to_string(),
                };
                format!("{place}: sessions and retained messages outlive this process")
            }
            None => "memory: sessions and retained messages end with this process".to_owned(),
        }
    }

    /// Serves what was opened.
    fn take_clients(&mut self) -> Result<(), StartError> {
        for (listener, connection) in std::mem::take(&mut self.waiting) {
            let server = Server::new(
                Arc::clone(&self.broker),
                self.clock,
                Arc::new(connection),
                Arc::clone(&self.contexts),
                Arc::clone(&self.parking),
            );
            let context = AcceptContext {
                server: Arc::new(server),
                shards: self.shards.handles(),
                counters: Arc::clone(&self.net_counters),
                budget: Arc::clone(&self.budget),
                clock: self.clock,
                shutdown: self.shutdown.clone(),
            };
            accept(listener, context, &self.background)?;
        }
        self.health.set_serving();
        tracing::info!(
            name = self.config.broker.name.as_deref(),
            threads = self.shards.handles().count(),
            ports = %self.ports,
            connections_max = self.connections_max,
            open_files = self.open_files.after,
            store = self.store_in_words(),
            "mqttzoo {} accepts connections",
            env!("CARGO_PKG_VERSION"),
        );
        Ok(())
    }

    /// Serves until a signal, once the broker is part of its cluster.
    fn serve(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        if self.waits_for_database() {
            let obstacle = Some("waits for the database");
            self.health.set_standing(Standing { obstacle, ..Standing::default() });
            match self.background.block_on(signals.unless_ended(self, self.restore())) {
                Some(restored) => restored?,
                None => return Ok(()),
            }
            self.health.set_standing(Standing::default());
            self.start_housekeeping();
            self.take_clients()?;
        }
        if let Some(mut phase) = self.cluster.as_ref().map(|cluster| cluster.phase.clone()) {
            if !self.background.block_on(signals.wait_until_joined(self, &mut phase))? {
                return Ok(());
            }
            self.take_clients()?;
        }
        self.background.block_on(signals.serve(self))
    }

    fn run(mut self) -> Result<(), StartError> {
        let mut signals = self.signals.take().expect("a broker is run once");
        let outcome = self.serve(&mut signals);
        // Whoever sends traffic here learns it first.
        self.health.set_draining();
        let has_served = outcome.is_ok() && self.waiting.is_empty();
        if let Some(wait) = self.config.drain.drain_wait_secs.filter(|_| has_served) {
            self.background.block_on(signals.wait_for_traffic_to_turn(wait));
        }
        self.stop();
        outcome
    }

    /// Brings a broker down: no more connections, good-bye to every client, then the threads.
    fn stop(self) {
        self.shutdown.begin();
        let timeout = Duration::from_secs(self.config.drain.drain_timeout_secs.get().into());
        self.background.block_on(self.drain(timeout));
        if let Some(cluster) = &self.cluster {
            // While it is still this broker's to say.
            self.background.block_on(self.flush_store());
            self.background.block_on(cluster.leave(STOP_TIMEOUT));
        }
        let (is_alone, kept) = (self.cluster.is_none(), self.kept_if_served());
        self.shards.stop(STOP_TIMEOUT);
        if let Some(durable) = kept.filter(|_| is_alone) {
            self.background.block_on(store::flush(&durable, self.clock, STORE_TIMEOUT));
        }
        if let Some(activity) = &self.activity {
            self.background.block_on(activity.finish(STOP_TIMEOUT));
        }
        if let Some(thread) = self.activity_thread {
            thread.stop(STOP_TIMEOUT);
        }
        self.background.stop(STOP_TIMEOUT);
        tracing::info!("mqttzoo has stopped");
        drop(self.logging);
    }
}

impl Node {
    /// The store, unless no client has been served.
    fn kept_if_served(&self) -> Option<Arc<Durable>> {
        let kept = self.kept.as_ref().filter(|_| self.waiting.is_empty())?;
        Some(Arc::clone(&kept.durable))
    }

    /// Waits until what the last clients left is stored.
    async fn flush_store(&self) {
        if let Some(durable) = self.kept_if_served() {
            store::flush(&durable, self.clock, STORE_TIMEOUT).await;
        }
    }
}

fn shard_context(broker: &Broker, activity: Option<&ActivityLog>) -> Arc<ShardContext> {
    Arc::new(ShardContext::new(broker).observed(activity.map(activity::observer)))
}

fn accept(
    listener: BoundListener,
    context: AcceptContext<Server>,
    background: &Background,
) -> Result<(), StartError> {
    listener.accept(context, &background.handle()).map_err(StartError::System)
}

/// An address as `ports.json` and the start-up line show it.
fn shown(address: &ListenAddress) -> Result<SocketAddr, String> {
    match address {
        ListenAddress::Ip(address) => Ok(*address),
        ListenAddress::Unix(path) => Err(path.display().to_string()),
    }
}

/// An error and what it came from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

/// A seed that clients cannot know.
fn draw_seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}

/// Threads for what is not the data path.
const BACKGROUND_THREADS: usize = 2;
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long what the last clients left may take to be stored.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
