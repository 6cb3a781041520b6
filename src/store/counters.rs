//! What the store counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one store, ever.
#[derive(Debug, Default)]
pub struct StoreCounters {
    batches: AtomicU64,
    operations: AtomicU64,
    groups: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    fenced: AtomicU64,
    full: AtomicU64,
    degraded: AtomicU64,
    stalls: AtomicU64,
}

impl StoreCounters {
    /// Batches that were stored.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Operations of those.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Transactions that they took.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Batches that were answered with an error.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Transactions that were tried again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Sessions that were left out because somebody else owned them.
    #[must_use]
    pub fn fenced(&self) -> u64 {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Batches for which there was no room.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Times it was good and then was not.
    #[must_use]
    pub fn degraded(&self) -> u64 {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Transactions that took so long that the store was said not to answer.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    pub(super) fn note_stored(&self, operations: usize, fenced: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(operations as u64, Ordering::Relaxed);
        self.fenced.fetch_add(fenced as u64, Ordering::Relaxed);
    }

    pub(super) fn note_group(&self) {
        self.groups.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_degraded(&self) {
        self.degraded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }
}
