//! What the store says of itself, as readings.

use std::sync::Arc;

use crate::metrics::{Readings, Source};
use crate::ports::store::{Store, StoreHealth};
use crate::store::StoreCounters;

/// One store and what it counts.
pub(super) struct StoreSource {
    pub(super) store: Arc<dyn Store>,
    pub(super) counters: Arc<StoreCounters>,
}

impl Source for StoreSource {
    fn read(&self, readings: &mut Readings) {
        let is_degraded = self.store.health() != StoreHealth::Good;
        readings.gauge(
            "store_degraded",
            "1 while the store does not answer, or refuses what is to be stored.",
            is_degraded.into(),
        );
        let counters = &self.counters;
        for (name, help, value) in [
            (
                "store_degradations",
                "Times the store was good and then was not.",
                counters.degraded(),
            ),
            (
                "store_stalls",
                "Transactions that took so long that the store was said not to answer.",
                counters.stalls(),
            ),
            ("store_batches", "Batches that were stored.", counters.batches()),
            ("store_operations", "Operations of those.", counters.operations()),
            ("store_transactions", "Transactions that they took.", counters.groups()),
            ("store_failures", "Batches that were answered with an error.", counters.failures()),
            ("store_retries", "Transactions that were tried again.", counters.retries()),
            ("store_full", "Times a batch found no room among those that wait.", counters.full()),
            (
                "store_fenced",
                "Sessions that were left out because another broker owned them.",
                counters.fenced(),
            ),
        ] {
            readings.counter(name, help, value);
        }
    }
}
