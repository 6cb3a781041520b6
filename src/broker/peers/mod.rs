//! The other brokers: who they are, what they want, what they are sent, and what comes from them.
//!
//! To the rest of the broker a peer is one more subscriber in the index. A publish goes once to each
//! peer that wants it, and what comes from a peer is matched here and never passed on.

pub mod adoption;
pub(crate) mod again;
pub mod credit;
mod doubtful;
pub mod forward;
pub(crate) mod handover;
pub mod interest;
mod latest;
pub mod leases;
mod legacies;
mod lending;
pub(crate) mod message_ids;
pub(crate) mod outcomes;
pub mod ownership;
pub mod peer;
pub mod receive;
pub mod recovery;
pub mod relaying;
pub mod retained;
pub mod slot_news;
pub mod ticket;
mod tombstones;
pub mod topic_registry;
pub mod topics;
mod verdict;
pub mod waiting;
pub mod wills;

#[cfg(test)]
mod stories;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, RwLock};

use crate::broker::Broker;
use crate::broker::peers::adoption::Adoptions;
use crate::broker::peers::credit::GroupCredit;
use crate::broker::peers::doubtful::Doubtful;
use crate::broker::peers::interest::AnnouncedInterest;
use crate::broker::peers::leases::UnknownCallers;
use crate::broker::peers::lending::Lending;
use crate::broker::peers::ownership::Ownership;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::retained::RetainedVersions;
use crate::broker::peers::slot_news::SlotNews;
use crate::broker::peers::topics::TopicFeed;
use crate::broker::peers::wills::Wills;
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::{Lane, LaneOptions};
use crate::mqtt::TopicFilter;
use crate::ports::clock::Tick;
use crate::ports::message::SessionKey;
use crate::ports::store::OwnerId;
use crate::routing::SubscriberKey;

/// The other brokers of the cluster, as all shards see them.
pub struct Peers {
    /// Changes when this broker was declared dead and begins a new life.
    boot_id: RwLock<BootId>,
    name: Arc<str>,
    live: RwLock<Arc<[Arc<Peer>]>>,
    interest: AnnouncedInterest,
    credit: GroupCredit,
    lending: Lending,
    doubtful: Doubtful,
    retained: RetainedVersions,
    topics: TopicFeed,
    ownership: Ownership,
    slot_news: SlotNews,
    wills: Wills,
    adoptions: Adoptions,
    next_key: AtomicU64,
    next_message_number: AtomicU64,
    hash_seed: u64,
    /// Milliseconds to add to a tick for the time of the cluster.
    clock_offset_millis: AtomicI64,
    /// Whether that is known: until then no time of the cluster means anything here.
    knows_time: AtomicBool,
    /// Until when we may acknowledge and admit.
    lease_until_millis: AtomicU64,
    /// Connections that have something to acknowledge once we may: one entry each.
    lease_waiting: Mutex<BTreeMap<SessionKey, Waker>>,
    unknown_callers: UnknownCallers,
    lane_options: LaneOptions,
    /// Whether this broker is part of the cluster and takes clients.
    is_admitting: AtomicBool,
}

impl Peers {
    /// None yet. We are `name`, in the life `boot_id`.
    #[must_use]
    pub fn new(boot_id: BootId, name: Arc<str>, hash_seed: u64, lane_options: LaneOptions) -> Self {
        Self {
            boot_id: RwLock::new(boot_id),
            name,
            live: RwLock::new(Arc::from([])),
            interest: AnnouncedInterest::new(hash_seed),
            credit: GroupCredit::default(),
            lending: Lending::default(),
            doubtful: Doubtful::default(),
            retained: RetainedVersions::new(hash_seed),
            topics: TopicFeed::default(),
            ownership: Ownership::new(boot_id, hash_seed),
            slot_news: SlotNews::default(),
            wills: Wills::default(),
            adoptions: Adoptions::default(),
            next_key: AtomicU64::new(PEER_KEYS),
            next_message_number: AtomicU64::new(0),
            hash_seed,
            clock_offset_millis: AtomicI64::new(0),
            knows_time: AtomicBool::new(false),
            lease_until_millis: AtomicU64::new(u64::MAX),
            lease_waiting: Mutex::default(),
            unknown_callers: UnknownCallers::default(),
            lane_options,
            is_admitting: AtomicBool::new(false),
        }
    }

    /// This life of this broker.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        *self.boot_id.read()
    }

    /// This broker's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Clients are taken from now on, or no longer.
    pub fn set_admitting(&self, is_admitting: bool) {
        self.is_admitting.store(is_admitting, Ordering::Release);
    }

    /// Whether a CONNECT may succeed now: this broker is part of the cluster and sure of it.
    #[must_use]
    pub fn admits(&self, now: Tick) -> bool {
        self.is_admitting.load(Ordering::Acquire) && self.has_lease(now)
    }

    /// All that have not been declared dead.
    #[must_use]
    pub fn live(&self) -> Arc<[Arc<Peer>]> {
        Arc::clone(&self.live.read())
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, boot_id: BootId) -> Option<Arc<Peer>> {
        self.live.read().iter().find(|peer| peer.boot_id() == boot_id).cloned()
    }

    /// What our clients want, and who knows it.
    #[must_use]
    pub fn interest(&self) -> &AnnouncedInterest {
        &self.interest
    }

    fn credit(&self) -> &GroupCredit {
        &self.credit
    }

    fn lending(&self) -> &Lending {
        &self.lending
    }

    fn doubtful(&self) -> &Doubtful {
        &self.doubtful
    }

    /// This broker was declared dead, and its Sessions are about to end.
    pub(crate) fn note_declared_dead(&self) {
        self.doubtful.begin(&self.live());
    }

    /// Whether it takes clients, lease or not.
    pub(crate) fn is_part_of_cluster(&self) -> bool {
        self.is_admitting.load(Ordering::Acquire)
    }

    /// What the registry of topics is to hear of.
    #[must_use]
    pub fn topics(&self) -> &TopicFeed {
        &self.topics
    }

    /// Who holds which Client Identifier.
    #[must_use]
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// What brokers tell each other of slot maps.
    #[must_use]
    pub fn slot_news(&self) -> &SlotNews {
        &self.slot_news
    }

    /// Wills that a second broker keeps.
    #[must_use]
    pub fn wills(&self) -> &Wills {
        &self.wills
    }

    /// Stored Sessions of brokers that are dead.
    #[must_use]
    pub fn adoptions(&self) -> &Adoptions {
        &self.adoptions
    }

    /// The first of `count` numbers for messages that nobody else gets.
    fn draw_message_numbers(&self, count: u64) -> u64 {
        self.next_message_number.fetch_add(count, Ordering::Relaxed)
    }

    /// The time of the cluster, in milliseconds since 1970.
    #[must_use]
    pub fn cluster_millis(&self, now: Tick) -> u64 {
        now.as_millis().saturating_add_signed(self.clock_offset_millis.load(Ordering::Relaxed))
    }

    /// The moment that a time of the cluster is here; what was before our start is our start.
    #[must_use]
    pub fn tick(&self, cluster_millis: u64) -> Tick {
        debug_assert!(self.knows_time(), "what ends then would last for ever");
        let offset = self.clock_offset_millis.load(Ordering::Relaxed);
        Tick::from_millis(cluster_millis.saturating_add_signed(offset.saturating_neg()))
    }

    /// The cluster's time is this much ahead of our ticks.
    pub fn set_clock_offset(&self, millis: i64) {
        self.clock_offset_millis.store(millis, Ordering::Relaxed);
        self.knows_time.store(true, Ordering::Release);
    }

    /// Whether the time of the cluster is known. Before that no message of a peer can be taken, nor
    /// any of a client: when it expires could not be said.
    #[must_use]
    pub fn knows_time(&self) -> bool {
        self.knows_time.load(Ordering::Acquire)
    }

    /// We may acknowledge and admit until then. Whoever waited for it looks again.
    pub fn set_lease(&self, until: Tick) {
        self.lease_until_millis.store(until.as_millis(), Ordering::Release);
        let waiting = std::mem::take(&mut *self.lease_waiting.lock());
        waiting.into_values().for_each(Waker::wake);
    }

    /// Whether we may acknowledge now; else `waker` is called when that may have changed.
    pub(crate) fn wait_for_lease(&self, now: Tick, waiting: SessionKey, waker: &Waker) -> bool {
        if self.has_lease(now) {
            return true;
        }
        self.lease_waiting.lock().insert(waiting, waker.clone());
        // It may have come before the waker was kept.
        self.has_lease(now)
    }

    /// Whether we may acknowledge and admit now.
    #[must_use]
    pub fn has_lease(&self, now: Tick) -> bool {
        now.as_millis() < self.lease_until_millis.load(Ordering::Acquire)
    }
}

impl Turn<'_> {
    /// This broker was declared dead and begins a new life, which has no lease yet: whoever it knew is
    /// to be met anew. What was on its way between brokers ends.
    pub fn begin_life(&mut self, peers: &Peers, boot_id: BootId) {
        peers.set_lease(Tick::ZERO);
        *peers.boot_id.write() = boot_id;
        peers.retained.lock().legacies.clear();
        if let Some(durable) = self.broker.durable() {
            durable.begin_life(OwnerId(boot_id.0));
        }
        peers.interest.speak();
        self.begin_life_of_ownership(peers, boot_id);
        self.leave_what_was_held();
        peers.wills.begin_life();
        self.begin_life_of_adoptions(peers);
    }

    /// A broker has joined, or was there when we came. Returns the way to it, for a link to take up.
    pub fn add_peer(&mut self, peers: &Peers, member: &Member) -> Arc<Lane> {
        if let Some(known) = peers.find(member.boot_id) {
            return Arc::clone(known.lane());
        }
        let key = SubscriberKey(peers.next_key.fetch_add(1, Ordering::Relaxed));
        let lane = Arc::new(Lane::new(peers.lane_options));
        let peer = Arc::new(Peer::new(member, key, Arc::clone(&lane), peers.hash_seed));
        {
            let mut live = peers.live.write();
            *live = live.iter().chain([&peer]).cloned().collect();
        }
        let mut wakes = Vec::new();
        peers.interest.enter(&peer, &mut wakes);
        self.shard.wake_each(wakes);
        self.introduce_owner(peers, member.boot_id);
        self.shard.wake_later(peers.wills.note_change());
        lane
    }

    /// A broker was declared dead: nothing more goes to it or comes from it, and nobody waits for it.
    pub fn remove_peer(&mut self, peers: &Peers, boot_id: BootId) {
        let Some(peer) = peers.find(boot_id) else { return self.inherit_of_unmet(peers, boot_id) };
        {
            let mut live = peers.live.write();
            *live = live.iter().filter(|other| other.boot_id() != boot_id).cloned().collect();
        }
        // Whoever still reads a batch of it is waited for: its routes would come back behind this.
        peer.inbound().lock().close();
        peers.doubtful.bury(&peer);
        let is_mourned = self.mourn(peers, &peer);
        let wake = peer.lane().close();
        self.shard.wake_later(wake);
        let filters = peer.interest().lock().clear();
        if is_mourned {
            self.keep_routes(peers, &peer, filters);
        } else {
            self.broker.remove_routes(&peer, &filters);
        }
        let mut wakes = Vec::new();
        peers.interest.leave(boot_id, &mut wakes);
        self.shard.wake_each(wakes);
        // Last: what it was to have of Shared Subscriptions goes to others by the new routes.
        self.release_unanswered(&peer);
        self.bury_owner(peers, boot_id);
        self.inherit(peers, &peer);
        self.shard.wake_later(peers.wills.bury(boot_id, self.now));
    }
}

impl Broker {
    fn remove_routes(&self, peer: &Arc<Peer>, filters: &[TopicFilter]) {
        for batch in filters.chunks(INDEX_BATCH_MAX) {
            let mut index = self.index.write();
            for filter in batch {
                index.unsubscribe(peer.key(), filter);
            }
        }
        self.bump_generation();
    }

    fn add_routes(&self, peer: &Arc<Peer>, entries: &[crate::cluster::frame::InterestEntry]) {
        let destination = Destination::Peer(Arc::clone(peer));
        for batch in entries.chunks(INDEX_BATCH_MAX) {
            let mut index = self.index.write();
            for entry in batch {
                let options = crate::mqtt::SubscriptionOptions {
                    qos: entry.qos,
                    ..crate::mqtt::SubscriptionOptions::default()
                };
                let _new_or_changed = index.subscribe(&destination, &entry.filter, options, None);
            }
        }
        self.bump_generation();
    }
}

/// Where the keys of peers begin: no process has that many Sessions.
const PEER_KEYS: u64 = 1 << 63;
/// Routes changed under one lock of the index: shards wait for it.
const INDEX_BATCH_MAX: usize = 256;
