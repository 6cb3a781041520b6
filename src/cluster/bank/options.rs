//! What a bank is told when it is made.

use std::sync::Arc;

use super::funds::Funds;
use crate::cluster::identity::BootId;

/// Who we are and how much there is.
#[derive(Clone, Debug)]
pub struct BankOptions {
    /// Of this broker: unique among live ones.
    pub name: Arc<str>,
    /// Its life.
    pub boot_id: BootId,
    /// All that may exist in the cluster. That of the leader holds.
    pub budget: Funds,
    /// What is asked for at once: large enough that asking is rare, small beside the budget.
    pub chunk: Funds,
    /// Spreads brokers that want to try again.
    pub jitter_seed: u64,
}
