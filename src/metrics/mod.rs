//! What Prometheus is told: readings of what others count, and their exposition as text.
//!
//! Nothing is counted here. Whoever counts gives a [`Source`]; a scrape asks every source and writes
//! what it says. So the hot path has counters of its own shard and nothing else, and a scrape pays
//! for the sums.

mod broker;
mod exposition;
mod readings;
mod runtime;

pub use broker::BrokerSource;
pub use exposition::{CONTENT_TYPE, Exposition};
pub use readings::{Readings, Source};
pub use runtime::RuntimeSource;
