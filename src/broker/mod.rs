//! The broker: the use cases, over sessions and routing, without I/O.
//!
//! A [`Broker`] is shared by all shards; a [`shard::Shard`] is one shard's own part of it, and a
//! [`turn::Turn`] is what a connection has in its hands while it runs. Gateways drive a
//! [`connection::Connection`] with bytes; the simulator drives the same one.
//!
//! One file per use case: [`connect`], [`publish`], [`subscribe`], [`disconnect`], [`expire`],
//! [`administer`], [`sys_topics`].

pub mod acknowledge;
pub mod administer;
pub mod card;
pub mod complaints;
pub mod connect;
pub mod connection;
pub mod counters;
pub mod disconnect;
pub mod durable;
pub mod event;
pub mod expire;
mod held;
pub mod latest;
pub mod left_behind;
pub mod letting_go;
pub mod options;
pub mod parts;
pub mod peers;
pub mod permissions;
pub mod places;
pub mod publish;
pub mod registry;
mod relief;
pub mod replay;
pub mod routes;
pub mod shard;
pub mod subscribe;
pub mod sys_topics;
pub mod telling;
pub mod throttle;
pub mod timers;
pub mod turn;
pub mod wills;

#[cfg(test)]
mod stories;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::broker::counters::Counters;
use crate::broker::durable::Durable;
use crate::broker::latest::{FIRST_OFFER, Replayable};
use crate::broker::left_behind::LeftBehind;
use crate::broker::options::BrokerOptions;
use crate::broker::parts::PartBudget;
use crate::broker::peers::Peers;
use crate::broker::registry::Registry;
use crate::broker::routes::Destination;
use crate::broker::sys_topics::SYS_PREFIX;
use crate::broker::timers::Timers;
use crate::broker::wills::WillBudget;
use crate::ports::auth::{Authenticator, Authorizer};
use crate::ports::clock::Tick;
use crate::ports::message::{Message, SessionKey};
use crate::routing::{Index, RetainedLimits, RetainedStore};
use crate::session::mailbox::QueueBudget;

/// What all shards of one broker share.
///
/// Locks, each held for a handful of lines: the subscription index, the retained messages, the
/// parts of the registry, each mailbox. Which is taken inside which: ARCHITECTURE.md.
pub struct Broker {
    options: BrokerOptions,
    index: RwLock<Index<Destination>>,
    /// Goes up with every change of the index; cached routes of an older generation are void.
    generation: AtomicU64,
    retained: RwLock<RetainedStore<Replayable>>,
    /// The number of the next latest value that is handed out.
    latest_offers: AtomicU64,
    registry: Registry,
    timers: Timers,
    queue_budget: Arc<QueueBudget>,
    part_budget: Arc<PartBudget>,
    will_budget: Arc<WillBudget>,
    /// For wills of other brokers' clients.
    others_will_budget: Arc<WillBudget>,
    counters: Counters,
    authenticator: Option<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    next_session_key: AtomicU64,
    next_assigned_id: AtomicU64,
    seeds: Seeds,
    /// The other brokers, where this one is part of a cluster.
    peers: Option<Peers>,
    /// What outlives the process, where something does.
    durable: Option<Arc<Durable>>,
    is_draining: AtomicBool,
    /// For members of Shared Subscriptions at other brokers, while this one drains.
    left_behind: LeftBehind,
    is_short_of_memory: AtomicBool,
}

/// Who may come in, and what they may do; without one everybody may do everything.
#[derive(Clone, Default)]
pub struct Guards {
    /// Decides at CONNECT.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Decides at PUBLISH, SUBSCRIBE and for wills.
    pub authorizer: Option<Arc<dyn Authorizer>>,
}

/// Numbers that make one broker different from another.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// For hash tables. Who knows it can choose names that collide, so it is told to nobody.
    pub hash: u64,
    /// For Client Identifiers we assign; clients see it.
    pub instance: u64,
}

impl Broker {
    /// An empty broker. The seeds are drawn by `node` and fixed by the simulator.
    #[must_use]
    pub fn new(options: BrokerOptions, guards: Guards, seeds: Seeds) -> Self {
        let retained = RetainedStore::new(RetainedLimits {
            messages_max: options.retained_messages_max,
            bytes_max: options.retained_bytes_max,
            exempt_prefix: Some(SYS_PREFIX),
            latest_max: options.latest.values_max,
            latest_bytes_max: options.latest.bytes_max,
        });
        Self {
            index: RwLock::new(Index::new(seeds.hash)),
            generation: AtomicU64::new(1),
            retained: RwLock::new(retained),
            latest_offers: AtomicU64::new(FIRST_OFFER),
            registry: Registry::new(options.sessions_max, seeds.hash),
            queue_budget: Arc::new(QueueBudget::new(options.queued_bytes_max)),
            part_budget: Arc::new(PartBudget::new(options.partial_packets_bytes_max)),
            will_budget: Arc::new(WillBudget::new(options.wills_bytes_max)),
            others_will_budget: Arc::new(WillBudget::new(options.wills_bytes_max)),
            timers: Timers::default(),
            counters: Counters::default(),
            authenticator: guards.authenticator,
            authorizer: guards.authorizer,
            next_session_key: AtomicU64::new(SessionKey::BROKER.0 + 1),
            next_assigned_id: AtomicU64::new(1),
            seeds,
            peers: None,
            durable: None,
            is_draining: AtomicBool::new(false),
            left_behind: LeftBehind::default(),
            is_short_of_memory: AtomicBool::new(false),
            options,
        }
    }

    /// The same as one broker of a cluster.
    #[must_use]
    pub fn with_peers(mut self, peers: Peers) -> Self {
        self.peers = Some(peers);
        self
    }

    /// The same with a store.
    #[must_use]
    pub fn with_store(mut self, durable: Arc<Durable>) -> Self {
        self.durable = Some(durable);
        self
    }

    /// What outlives the process, where something does.
    #[must_use]
    pub fn durable(&self) -> Option<&Arc<Durable>> {
        self.durable.as_ref()
    }

    /// Whether the store of its cluster has not heard of this life of the broker.
    fn is_unknown_to_store(&self) -> bool {
        self.peers.is_some() && self.durable.as_ref().is_some_and(|it| !it.is_registered())
    }

    /// The other brokers, where this one is part of a cluster.
    #[inline]
    #[must_use]
    pub fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    fn draw_session_key(&self) -> SessionKey {
        SessionKey(self.next_session_key.fetch_add(1, Ordering::Relaxed))
    }

    /// A Client Identifier nobody else has [MQTT-3.1.3-6].
    fn draw_client_id(&self) -> String {
        let number = self.next_assigned_id.fetch_add(1, Ordering::Relaxed);
        format!("auto-{:016x}-{number}", self.seeds.instance)
    }

    pub(crate) fn bump_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Stops taking CONNECTs: they are answered 0x8B.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the broker is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Above the memory high-water mark publishers are not read from.
    pub fn set_short_of_memory(&self, is_short: bool) {
        self.is_short_of_memory.store(is_short, Ordering::Relaxed);
    }

    /// Whether memory is above its high-water mark.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        self.is_short_of_memory.load(Ordering::Relaxed)
    }

    /// The bounds and defaults it runs with.
    #[must_use]
    pub fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its Sessions.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Times that parked Sessions wait for.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Subscriptions there are.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.index.read().len()
    }

    /// Those of them that are Shared Subscriptions.
    #[must_use]
    pub fn shared_subscription_count(&self) -> usize {
        self.index.read().shared_len()
    }

    /// Nodes of the subscription index.
    #[must_use]
    pub fn index_node_count(&self) -> usize {
        self.index.read().node_count()
    }

    /// Retained messages and their bytes.
    #[must_use]
    pub fn retained_counts(&self) -> (usize, usize) {
        let retained = self.retained.read();
        (retained.len(), retained.bytes())
    }

    /// The message that a topic retains.
    #[must_use]
    pub fn retained_message(&self, topic: &str, now: Tick) -> Option<Arc<Message>> {
        let retained = self.retained.read();
        retained.get(topic, now.as_millis()).map(|kept| Arc::clone(&kept.message))
    }

    /// The room for packets that are not whole yet.
    #[inline]
    #[must_use]
    pub fn part_budget(&self) -> &Arc<PartBudget> {
        &self.part_budget
    }

    /// Bytes of the wills that are kept.
    #[must_use]
    pub fn will_bytes(&self) -> u64 {
        self.will_budget.used()
    }

    /// Bytes that queues hold or have leased.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queue_budget.leased()
    }

    /// How often a queue was full because all queues together were.
    #[must_use]
    pub fn queue_budget_refusals(&self) -> u64 {
        self.queue_budget.refusals()
    }

    /// Bytes that queues may lease, but for the first lease of one that holds nothing.
    #[must_use]
    pub fn queues_bytes_max(&self) -> u64 {
        self.queue_budget.bytes_max()
    }

    /// How often a queue that held nothing got room although all queues together had too much.
    #[must_use]
    pub fn queue_budget_reserves(&self) -> u64 {
        self.queue_budget.reserves()
    }

    /// How often a message came to a Session that had taken it where it was before it moved here.
    #[must_use]
    pub fn known_messages(&self) -> u64 {
        self.queue_budget.known()
    }

    /// How often a Session that may move forgot too soon which message it had taken.
    #[must_use]
    pub fn forgotten_messages(&self) -> u64 {
        self.queue_budget.forgotten()
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Broker").field("options", &self.options).finish_non_exhaustive()
    }
}
