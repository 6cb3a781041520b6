//! What the clients of one broker want, as its peers are told it: distinct filters, never clients.
//!
//! [`LocalInterest`] counts Subscriptions and says what is to be announced; [`RemoteInterest`] is
//! the other end. Every change has a version, so that a SUBACK can wait until each peer has applied
//! the one in which its filter came.

mod local;
mod remote;
#[cfg(test)]
mod tests;

pub use local::{InterestChange, LocalInterest};
pub use remote::{RemoteInterest, RouteChanges, SnapshotMismatch};

use crate::cluster::frame::InterestEntry;
use crate::cluster::hash::wire_hash;
use crate::mqtt::{QoS, TopicFilter};

/// One summand of a checksum.
fn entry_hash(entry: &InterestEntry) -> u64 {
    filter_hash(&entry.filter, (entry.qos, entry.weight))
}

fn filter_hash(filter: &TopicFilter, (qos, weight): (QoS, u8)) -> u64 {
    let tail = u64::from(weight) << 8 | u64::from(qos as u8);
    // Odd, so that two entries that differ in their tail alone have different hashes.
    wire_hash(filter.as_str().as_bytes()).wrapping_mul(2 * tail + 1)
}
