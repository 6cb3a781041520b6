//! What the registry shows of itself.

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TopicsReadings {
    /// Topics that are known: registered by whoever, or about to be.
    pub known: u64,
    /// Those among them that have a znode without a value.
    pub registrations: u64,
    /// Topics that wait to be registered.
    pub backlog: u64,
    /// Changes that are known of and not read yet.
    pub unread: u64,
    /// Writes that wait for their turn, other than registrations.
    pub unwritten: u64,
    /// Bytes of own values.
    pub values_bytes: u64,
    /// Topics registered by this broker.
    pub registered: u64,
    /// Values and tombstones written by this broker.
    pub values_written: u64,
    /// Values that a newer one overtook before they were written.
    pub values_coalesced: u64,
    /// Latest values that went by link before their turn to be written came.
    pub values_early: u64,
    /// Values that met a later one in the tree.
    pub values_superseded: u64,
    /// Values too large for a znode.
    pub values_too_large: u64,
    /// Values that went by link only, for want of room.
    pub values_refused: u64,
    /// Registrations and values that were written again, to keep them.
    pub refreshed: u64,
    /// Znodes that went while they still held, and were made again.
    pub recreated: u64,
    /// Expired znodes that were deleted.
    pub swept: u64,
    /// Own registrations that were deleted to make room.
    pub evicted: u64,
    /// Registrations of brokers that are dead, deleted to make room.
    pub orphans_evicted: u64,
    /// Topics not registered: they begin with `$`.
    pub skipped_system: u64,
    /// Topics not registered: their name is too long for the tree.
    pub skipped_long: u64,
    /// Topics not registered: too many waited already.
    pub refused_rate: u64,
    /// Topics not registered: the bank had no room.
    pub refused_bank: u64,
    /// Topics not registered: too many are known.
    pub refused_full: u64,
    /// Znodes of others that did not fit into the table: as long as there are any, the leader cannot
    /// count.
    pub untracked: u64,
    /// Times that parts were compared with those of another broker instead of being listed.
    pub comparisons: u64,
    /// Parts that differed then, and were listed.
    pub parts_differing: u64,
    /// Questions of other brokers that were not answered.
    pub questions_declined: u64,
    /// Writes that met another version than they expected.
    pub conflicts: u64,
    /// Writes whose answer was lost.
    pub lost: u64,
    /// Writes that failed for another reason.
    pub failed: u64,
    /// Znodes read.
    pub reads: u64,
    /// Znodes whose content nobody here can read.
    pub unreadable: u64,
}
