//! What a registry is told when it is made.

use crate::cluster::identity::BootId;

/// Who we are, and the bounds.
#[derive(Clone, Debug)]
pub struct TopicsOptions {
    /// This life of this broker: the payer of what it writes.
    pub boot_id: BootId,
    /// The most topics that are known at once. It should be no less than the budget of the bank, or
    /// the leader cannot count.
    pub topics_max: usize,
    /// The most bytes that they take.
    pub topics_bytes_max: usize,
    /// The most bytes of own values, written or waiting.
    pub values_bytes_max: usize,
    /// The most registrations that wait for their turn.
    pub backlog_max: usize,
    /// Writes a second of the whole cluster.
    pub writes_per_sec: u32,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// How long a connection may have been gone before that is seen.
    pub outage_millis_max: u64,
    /// Of the tables.
    pub hash_seed: u64,
    /// Spreads brokers that list again.
    pub jitter_seed: u64,
}

/// How long what stands in the tree does: the same for all brokers of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The time to live of the znodes, after which the ensemble collects them.
    pub ttl_millis: u64,
    /// A registration that nobody refreshes holds for so long at least.
    pub registration_millis_min: u64,
    /// A deletion is remembered for so long.
    pub tombstone_millis: u64,
    /// What a broker has left behind that is dead is swept so long after it has expired: a payer that
    /// comes back at once may find its own first.
    pub orphan_grace_millis: u64,
}

impl Lifetimes {
    /// Those of real clusters.
    pub const USUAL: Self = Self {
        ttl_millis: 120 * MINUTE_MILLIS,
        registration_millis_min: 10 * MINUTE_MILLIS,
        tombstone_millis: 10 * MINUTE_MILLIS,
        orphan_grace_millis: MINUTE_MILLIS,
    };
}

impl TopicsOptions {
    /// The usual bounds.
    #[must_use]
    pub const fn new(boot_id: BootId, hash_seed: u64, jitter_seed: u64) -> Self {
        Self {
            boot_id,
            topics_max: 1_000_000,
            topics_bytes_max: 64 * MEBIBYTE,
            values_bytes_max: 64 * MEBIBYTE,
            backlog_max: 4_096,
            writes_per_sec: 100,
            lifetimes: Lifetimes::USUAL,
            outage_millis_max: 60_000,
            hash_seed,
            jitter_seed,
        }
    }
}

const MINUTE_MILLIS: u64 = 60_000;
const MEBIBYTE: usize = 1_024 * 1_024;
