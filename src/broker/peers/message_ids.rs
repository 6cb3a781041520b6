//! Identifiers that tell a message of QoS 1 or 2 from all others in the cluster.

use crate::broker::peers::Peers;
use crate::cluster::hash::wire_hash;
use crate::cluster::identity::BootId;
use crate::ports::message::MessageId;

/// The numbers that one shard may give: it draws many at a time, so that shards do not meet.
#[derive(Debug, Default)]
pub(crate) struct MessageIds {
    next: u64,
    end: u64,
}

impl MessageIds {
    /// One that nobody has.
    #[inline]
    pub(crate) fn draw(&mut self, peers: &Peers) -> MessageId {
        if self.next == self.end {
            self.next = peers.draw_message_numbers(BLOCK);
            self.end = self.next + BLOCK;
        }
        let id = message_id(peers.boot_id(), self.next);
        self.next += 1;
        id
    }
}

/// A hash spreads the messages of all brokers over 64 bits: that two of the thousands under way at
/// a time are the same is less likely than that memory errs.
fn message_id(boot_id: BootId, number: u64) -> MessageId {
    let mut bytes = [0; 24];
    let (first, last) = bytes.split_at_mut(16);
    first.copy_from_slice(&boot_id.0.to_be_bytes());
    last.copy_from_slice(&number.to_be_bytes());
    MessageId(wire_hash(&bytes).max(1))
}

/// Numbers drawn at a time.
const BLOCK: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn brokers_and_numbers_make_different_identifiers() {
        let ids = (0..2_000).flat_map(|number| [1, 2].map(|boot| message_id(BootId(boot), number)));
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), 4_000);
    }
}
