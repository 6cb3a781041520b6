//! Counters. Those of the hot path belong to a shard and are summed when somebody asks; only the
//! shard writes them, so counting is a load and a store, never a locked instruction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

macro_rules! counters {
    ($(#[$outer:meta])* $name:ident, $totals:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: Count,)* }

        /// A reading of all counters, summed over shards.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $totals { $($(#[doc = $doc])+ pub $field: u64,)* }

        impl $totals {
            fn add(&mut self, shard: &$name) { $(self.$field += shard.$field.total();)* }

            /// Every counter as (name, value), in the order of their definition.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }

            /// What every counter counts, as (name, sentence), in the same order.
            pub const MEANINGS: &[(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($doc),+)),)*];
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
        /// Publishes, the broker's own included, that matched no Subscription.
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
        /// Wills published for clients of brokers that were declared dead.
        wills_of_the_dead_published,
        /// Wills of other brokers' clients that were not kept because there was no room.
        wills_of_others_exceeded,
        /// Subscriptions refused.
        subscribes_refused,
        /// Subscriptions refused because the client has as many as it may.
        subscriptions_exceeded,
        /// Subscriptions refused because the client's Topic Filters have as many bytes as they may.
        subscription_sizes_exceeded,
        /// Subscriptions refused because there are as many of all clients as there may be.
        subscriptions_of_all_exceeded,
        /// Connections closed because the topics for which the client set aliases were too long.
        topic_alias_sizes_exceeded,
        /// Times the subscription index was locked to be changed.
        index_batches,
        /// Looks into the retained messages for new Subscriptions.
        retained_scans,
        /// Connections closed because SUBACK or UNSUBACK would be larger than the client takes.
        answers_too_large,
        /// Connections closed because a packet was larger than is taken.
        packets_too_large,
        /// Connections closed because the client sent more QoS 1 and 2 at a time than is taken.
        receive_maximum_exceeded,
        /// Topic Names and Topic Filters refused because they have too many levels.
        topic_levels_exceeded,
        /// Publishes refused because there was no room for another retained message.
        retained_exceeded,
        /// Latest values not kept because there was no room for another one.
        latest_values_exceeded,
        /// CONNECTs refused because there are as many Sessions as there may be.
        sessions_exceeded,
        /// CONNECTs refused because there was no room for another will.
        wills_exceeded,
        /// CONNECTs refused because too many waited for the authenticator or for a Session.
        connects_waiting_exceeded,
        /// CONNECTs refused because the store did not take their Sessions in time.
        connects_unstored,
        /// CONNECTs refused because the Session of the Client Identifier is another user's.
        connects_to_foreign_sessions,
        /// CONNECTs whose Session Expiry Interval was cut to its bound.
        session_expiries_shortened,
        /// CONNECTs whose Keep Alive was cut to its bound.
        keep_alives_shortened,
        /// Connections closed because their CONNECT was not whole in time.
        connect_timeouts,
        /// Connections closed because a packet was not whole in time.
        packet_timeouts,
        /// Sessions ended by an operator.
        sessions_ended_by_operator,
        /// Sessions ended because this broker had been declared dead.
        sessions_ended_by_death,
        /// Connections closed because the lease had ended, or this broker had been declared dead.
        clients_let_go,
        /// Turns in which a publisher was not read because its rate was at its bound.
        reads_deferred_by_rate,
        /// Turns in which a publisher was not read because memory was above its high-water mark.
        reads_deferred_by_memory,
        /// Turns in which a client was not read because there was no room for the rest of its packet.
        reads_deferred_by_partial_packets,
        /// Turns in which a publisher was not read because the store had no room for more.
        reads_deferred_by_store,
        /// Batches that the store could not take.
        store_batches_failed,
        /// Connections closed because the store did not answer in time for what they waited for.
        store_waits_exceeded,
        /// Operations that the store could not take and that were not kept to be tried again.
        store_operations_forgotten,
        /// Deliveries that the store did not take, and that were taken out of their queues.
        deliveries_given_up,
        /// Deliveries that a member of a Shared Subscription had handed on and the store did not take, each
        /// time that they are to be offered again.
        deliveries_offered_again,
        /// QoS 2 deliveries of these that may be stored all the same, and that there was no room to
        /// bear in mind: they may come twice.
        deliveries_doubted_exceeded,
        /// Batches that were given up because more waited for room in the store than may.
        store_batches_given_up,
        /// Sessions let go because another broker has them in the store.
        sessions_fenced,
        /// Sessions that came back from the store for a client whose broker was gone.
        sessions_taken_from_store,
        /// Pages of queues that were in the store alone and came back.
        queue_pages_read,
        /// Publishes of clients of 3.1.1 that had to wait for room in a queue, or behind one that did.
        publishes_held,
        /// Publishes that waited for room in a queue until their connection ended.
        held_publishes_dropped,
        /// Turns in which a publisher was not read because as many of its publishes waited for room
        /// in a queue as may.
        reads_deferred_by_hold,
        /// Acknowledgements that fitted nothing in flight.
        acknowledgements_unknown,
        /// Messages sent to other brokers.
        peer_publishes_sent,
        /// Messages that came from other brokers.
        peer_publishes_received,
        /// QoS 0 messages dropped because the way to another broker was full.
        peer_publishes_dropped,
        /// Messages of QoS 1 and 2 for which there was no room at all on the way to another broker.
        peer_publishes_refused,
        /// Messages of clients here for which a queue at another broker had no room: their publishers
        /// were told, or let go.
        publishes_refused_elsewhere,
        /// QoS 2 messages that came again for those who had not taken them.
        peer_publishes_repeated,
        /// QoS 2 messages that some took and others did not, and of which it was not remembered who:
        /// there were too many in one Session, and when they come again they go to all.
        left_outs_forgotten,
        /// Messages of QoS 1 and 2 that no member of a Shared Subscription at any broker had room for.
        shared_publishes_exhausted,
        /// Messages that waited for one member of a Shared Subscription and went to another.
        shared_deliveries_moved,
        /// Turns in which a client was not read because other brokers had to answer first.
        reads_deferred_by_peers,
        /// SUBACKs that waited for other brokers to apply the filters.
        subacks_deferred,
        /// SUBACKs that waited for other brokers for more than half a second.
        subacks_late,
        /// SUBACKs sent although other brokers did not know the filters yet.
        suback_unconfirmed,
        /// Times that another broker's interest was found to differ from what is known of it.
        interest_disagreements,
        /// Times that another broker gave up what it had to tell this one, and all was told anew.
        peer_controls_lost,
        /// Retained messages and latest values of other brokers that were not kept because their time
        /// was more than an hour ahead.
        versions_disbelieved,
        /// Deletions of retained messages that were forgotten before their time, because there were
        /// too many: an older value that comes late is kept.
        deletions_forgotten,
        /// Retained messages, and deletions, of brokers that died of which others were not told again,
        /// because there were too many.
        retained_untold,
        /// Client Identifiers given up to another broker.
        sessions_moved_away,
        /// Client Identifiers taken over from another broker.
        sessions_moved_here,
        /// Sessions that did not come over whole from another broker, which died, and were given up.
        sessions_lost_on_the_way,
        /// Sessions that came over from another broker and found no room here, or another owner.
        sessions_lost_on_arrival,
        /// Stored Sessions of brokers that were declared dead, taken over by this one.
        sessions_adopted,
        /// The same, for which there was no room here: they stay in the store.
        sessions_adopted_exceeded,
        /// Messages held until all stored Sessions of a dead broker were taken over.
        adoption_publishes_held,
        /// Those of them that waited too long, or were too many: their publishers were let go.
        adoption_publishes_given_up,
        /// Routes found in the cache.
        route_hits,
        /// Routes that had to be looked up in the index.
        route_misses,
    }
}

impl Totals {
    /// Connections that have a CONNACK and have not ended.
    #[must_use]
    pub fn connected(&self) -> u64 {
        let ended = self.disconnects_normal + self.disconnects_other;
        // A shard may have counted an end since the connects were summed.
        self.connects_accepted.saturating_sub(ended)
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
