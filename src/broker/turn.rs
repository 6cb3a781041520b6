//! What a connection has in its hands while it runs.

use bytestring::ByteString;

use crate::broker::Broker;
use crate::broker::shard::Shard;
use crate::ports::clock::Tick;
use crate::session::outbox::Outbox;

/// A Reason String that fits its packet, whatever the client had a part in: a string of the standard
/// has at most 65,535 bytes, and nobody reads that many.
pub(crate) fn reason_string(reason: &str) -> ByteString {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    ByteString::from(reason.get(..end).unwrap_or_default())
}

const REASON_BYTES_MAX: usize = 1_024;

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
