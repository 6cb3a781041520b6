//! One shard's own part of the broker: what no other thread touches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::Broker;
use crate::broker::complaints::Complaints;
use crate::broker::counters::ShardCounters;
use crate::broker::durable::Homeless;
use crate::broker::durable::keeper::Keeper;
use crate::broker::event::Event;
use crate::broker::peers::message_ids::MessageIds;
use crate::broker::routes::Fanout;
use crate::broker::telling::Passed;
use crate::ports::clock::Tick;
use crate::ports::message::Delivery;
use crate::routing::{RouteCache, RouteCacheLimits};

/// The state of one shard.
pub struct Shard {
    pub(crate) routes: RouteCache<Fanout>,
    pub(crate) counters: Arc<ShardCounters>,
    /// Owners to wake when the turn ends: one wake per target and batch.
    wakes: Vec<Waker>,
    /// Deliveries between a mailbox and its Session; empty between turns.
    pub(crate) inbox: VecDeque<Delivery>,
    /// What gave way in a queue whose policy is to publish it elsewhere; empty between publishes.
    pub(crate) dead_letters: Vec<Delivery>,
    /// Queues that miss the message of the broker that is being published; none between publishes.
    pub(crate) left_out: u32,
    /// What is said of such messages.
    pub(crate) complaints: Complaints,
    /// What happened since somebody last asked.
    pub(crate) events: Vec<Event>,
    /// Publishes that were not told because others are.
    pub(crate) passed: Passed,
    /// Identifiers for messages that other brokers may see.
    pub(crate) message_ids: MessageIds,
    /// Whether a way to another broker was getting full: whoever publishes there is to slow down.
    pub(crate) is_congested: bool,
    /// The way to the store, where there is one.
    pub(crate) keeper: Option<Keeper>,
    /// What it did not take of what members of Shared Subscriptions handed on.
    pub(crate) homeless: Vec<Homeless>,
}

impl Shard {
    /// A shard of `broker`.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        let options = broker.options();
        Self {
            routes: RouteCache::new(
                broker.seeds.hash,
                RouteCacheLimits {
                    entries_max: options.cached_routes_max,
                    topic_bytes_max: options.cached_topic_bytes_max,
                },
            ),
            counters: broker.counters().register(),
            wakes: Vec::new(),
            inbox: VecDeque::new(),
            dead_letters: Vec::new(),
            left_out: 0,
            complaints: Complaints::default(),
            events: Vec::new(),
            passed: Passed::default(),
            message_ids: MessageIds::default(),
            is_congested: false,
            keeper: broker.durable.as_ref().map(|durable| Keeper::new(Arc::clone(durable))),
            homeless: Vec::new(),
        }
    }

    /// Remembers to wake an owner when the turn ends.
    #[inline]
    pub(crate) fn wake_later(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakes.push(waker);
        }
    }

    /// The same for several.
    pub(crate) fn wake_each(&mut self, wakers: Vec<Waker>) {
        self.wakes.extend(wakers);
    }

    /// Ends a turn: hands over what is to be stored, and wakes everybody who has got something.
    #[inline]
    pub fn end_turn(&mut self, now: Tick) {
        if let Some(keeper) = &mut self.keeper {
            keeper.flush(now);
        }
        self.wake_all();
    }

    /// Wakes everybody who has got something.
    #[inline]
    pub fn wake_all(&mut self) {
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }

    /// What happened since this was last called.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }

    /// Lets outdated routes go, a few at a time, so that they do not keep ended Sessions.
    pub fn sweep_routes(&mut self, broker: &Broker) {
        let generation = broker.generation.load(std::sync::atomic::Ordering::Acquire);
        self.routes.sweep(generation, SWEEP_MAX);
    }

    /// Routes in the cache.
    #[must_use]
    pub fn cached_routes(&self) -> usize {
        self.routes.len()
    }

    /// What this shard has counted.
    #[must_use]
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }
}

/// Routes looked at in one sweep.
const SWEEP_MAX: usize = 4_096;
