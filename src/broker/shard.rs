//! One shard's own part of the broker: what no other thread touches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::Broker;
use crate::broker::counters::ShardCounters;
use crate::broker::routes::Fanout;
use crate::ports::message::Delivery;
use crate::routing::route_cache::RouteCache;

/// The state of one shard.
pub struct Shard {
    pub(crate) routes: RouteCache<Fanout>,
    pub(crate) counters: Arc<ShardCounters>,
    /// Owners to wake when the turn ends: one wake per target and batch.
    wakes: Vec<Waker>,
    /// Deliveries between a mailbox and its Session; empty between turns.
    pub(crate) inbox: VecDeque<Delivery>,
}

impl Shard {
    /// A shard of `broker`.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        let options = broker.options();
        Self {
            routes: RouteCache::new(
                options.cached_routes_max,
                options.cached_topic_bytes_max,
                broker.hash_seed,
            ),
            counters: broker.counters().register(),
            wakes: Vec::new(),
            inbox: VecDeque::new(),
        }
    }

    /// Remembers to wake an owner when the turn ends.
    #[inline]
    pub(crate) fn wake_later(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakes.push(waker);
        }
    }

    /// Ends a turn: wakes everybody who has got something.
    #[inline]
    pub fn wake_all(&mut self) {
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }

    /// What this shard has counted.
    #[must_use]
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }
}
