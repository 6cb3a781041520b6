//! What a connection has in its hands while it runs.

use crate::broker::Broker;
use crate::broker::shard::Shard;
use crate::ports::clock::Tick;
use crate::session::outbox::Outbox;

/// One turn of one connection, or of the broker's own housekeeping.
pub struct Turn<'a> {
    /// The shared broker.
    pub broker: &'a Broker,
    /// This shard's own part.
    pub shard: &'a mut Shard,
    /// The time of this turn.
    pub now: Tick,
    /// What goes out to the client whose turn it is.
    pub outbox: &'a mut Outbox,
}
