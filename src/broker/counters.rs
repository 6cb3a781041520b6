//! Counters. Those of the hot path belong to a shard and are summed when somebody asks; only the
//! shard writes them, so counting is a load and a store, never a locked instruction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

macro_rules! counters {
    ($(#[$outer:meta])* $name:ident, $totals:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$doc])* pub $field: Count,)* }

        /// A reading of all counters, summed over shards.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $totals { $($(#[$doc])* pub $field: u64,)* }

        impl $totals {
            fn add(&mut self, shard: &$name) { $(self.$field += shard.$field.total();)* }

            /// Every counter as (name, value), in the order of their definition.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

counters! {
    /// What one shard counts.
    ShardCounters, Totals {
        /// Bytes received from clients.
        bytes_received,
        /// Bytes sent to clients.
        bytes_sent,
        /// Control Packets received.
        packets_received,
        /// Control Packets sent, PUBLISH excepted.
        packets_sent,
        /// PUBLISH packets received.
        publishes_received,
        /// PUBLISH packets sent.
        publishes_sent,
        /// Payload bytes of PUBLISH packets received.
        publish_bytes_received,
        /// Payload bytes of PUBLISH packets sent.
        publish_bytes_sent,
        /// Publishes that matched no Subscription.
        publishes_unmatched,
        /// Publishes refused because a queue, the retained store or the budget was full.
        publishes_refused,
        /// Publishes refused because the client may not.
        publishes_denied,
        /// Deliveries dropped because a queue was full.
        deliveries_dropped,
        /// Deliveries dropped because their expiry had passed.
        deliveries_expired,
        /// Deliveries dropped because the client takes no packet that large.
        deliveries_too_large,
        /// Messages published to the dead letter topic.
        dead_letters,
        /// Connections that got as far as a successful CONNACK.
        connects_accepted,
        /// CONNECTs refused.
        connects_refused,
        /// Connections that ended with a normal DISCONNECT.
        disconnects_normal,
        /// Connections that ended in any other way.
        disconnects_other,
        /// Connections closed for a violation of the protocol.
        violations,
        /// Connections closed because nothing came within the Keep Alive.
        keep_alive_timeouts,
        /// Sessions taken over by another connection.
        takeovers,
        /// Sessions that expired.
        sessions_expired,
        /// Wills published.
        wills_published,
        /// Subscriptions refused.
        subscribes_refused,
        /// Turns in which a publisher was not read because memory or its rate was at a bound.
        reads_deferred,
        /// Acknowledgements that fitted nothing in flight.
        acknowledgements_unknown,
        /// Routes found in the cache.
        route_hits,
        /// Routes that had to be looked up in the index.
        route_misses,
    }
}

/// One counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        // One writer: no other thread can have changed it in between.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of all shards.
#[derive(Debug, Default)]
pub struct Counters {
    shards: Mutex<Vec<Arc<ShardCounters>>>,
}

impl Counters {
    /// The counters of a new shard.
    #[must_use]
    pub fn register(&self) -> Arc<ShardCounters> {
        let counters = Arc::new(ShardCounters::default());
        self.shards.lock().push(Arc::clone(&counters));
        counters
    }

    /// The sums over all shards.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.shards.lock().iter() {
            totals.add(shard);
        }
        totals
    }
}
