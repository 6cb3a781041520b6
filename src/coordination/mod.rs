//! The port [`crate::ports::coordination`] over a real ZooKeeper ensemble.
//!
//! One task owns the session with the ensemble. It takes requests from a bounded queue, hands them
//! to the client in that order, and sends what comes of it to a bounded queue of events.
//!
//! Invariants: every ticket is answered exactly once, as long as the handle lives; answers come in
//! the order of their requests, but for [`Busy`], which comes at once; a request waits while the
//! connection is away and never moves to another session; a session that ended is followed by
//! another, for ever.
//!
//! [`Busy`]: crate::ports::coordination::CoordinationError::Busy

mod backoff;
mod call;
mod complaint;
mod connect;
mod counters;
mod driver;
mod intake;
mod options;
mod outbox;
mod pending;
mod servers;
mod session;
mod translate;
mod watches;
mod zookeeper;

pub use counters::{Latency, ZooKeeperCounters};
pub use options::{Digest, Identity, Options, Tls};
pub use servers::{Servers, ServersError};
pub use zookeeper::{StartError, ZooKeeper};
