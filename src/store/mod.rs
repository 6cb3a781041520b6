//! The port [`crate::ports::store`] over three places: memory, SQLite, PostgreSQL.
//!
//! What is submitted waits in one bounded [`intake`]. Whoever carries it out takes all that waits, as
//! far as one transaction should go, and commits it as a group: the more is going on, the larger the
//! groups, and nobody waits for a timer. A group that fails is tried again batch by batch, so that
//! one that cannot be stored harms no other.
//!
//! Invariants: every ticket is answered exactly once, in the order of its submitter; an answer means
//! that the batch cannot be lost; what is repeated after a lost connection changes nothing twice.

mod backoff;
mod codec;
mod condition;
mod counters;
mod intake;
mod key;
mod memory;
mod migrations;
mod postgres;
mod retry;
mod row;
mod sqlite;

pub use counters::StoreCounters;
pub use memory::MemoryStore;
pub use postgres::{PostgresOptions, PostgresOptionsError, PostgresParts, PostgresStore};
pub use sqlite::{Hook, SqliteOptions, SqliteStore, Step};
