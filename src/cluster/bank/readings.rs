//! What the bank shows of itself.

use super::funds::Funds;

/// Figures for metrics and `$SYS/broker/bank`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BankReadings {
    /// The free budget of the cluster, when it was last read; nothing before that.
    pub free: Option<Funds>,
    /// What this broker may have.
    pub lease: Funds,
    /// What it has.
    pub used: Funds,
    /// Wishes for which there was no room.
    pub refusals: u64,
    /// Times the lease grew.
    pub top_ups: u64,
    /// Times the lease shrank.
    pub refunds: u64,
    /// Own registrations that were deleted to make room.
    pub evictions: u64,
    /// Znodes that came late, after nobody believed in them: they were charged without asking.
    pub late_charges: u64,
    /// Times this broker, as the leader, counted everything.
    pub audits: u64,
    /// Audits that found another free budget than was written down, and corrected it.
    pub corrections: u64,
    /// Audits that met a lease or a free budget that nobody can read; they change nothing.
    pub unreadable: u64,
    /// By how much leases and orphans were above the budget in the last audit.
    pub over_budget: Funds,
}
