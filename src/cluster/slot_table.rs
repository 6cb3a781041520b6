//! Which broker coordinates which Client Identifiers.

use std::sync::Arc;

use crate::cluster::hash::wire_hash;
use crate::cluster::identity::BootId;

/// The coordinator of each slot, as the newest slot map has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlotTable {
    epoch: i64,
    owners: Arc<[Option<BootId>; SLOTS]>,
}

impl SlotTable {
    /// The table of one epoch: `owner` tells who coordinates each of the slots.
    #[must_use]
    pub fn new(epoch: i64, owner: impl FnMut(usize) -> Option<BootId>) -> Self {
        Self { epoch, owners: Arc::new(std::array::from_fn(owner)) }
    }

    /// Of two tables the later has the higher.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Who coordinates a Client Identifier; nobody while no broker is up.
    #[must_use]
    pub fn owner(&self, client_id: &str) -> Option<BootId> {
        self.owners.get(slot_of(client_id)).copied().flatten()
    }

    /// All that coordinate any slot, each once, in order.
    #[must_use]
    pub fn coordinators(&self) -> Vec<BootId> {
        let mut owners: Vec<_> = self.owners.iter().copied().flatten().collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

/// Where a Client Identifier belongs: a constant of the wire.
#[must_use]
pub fn slot_of(client_id: &str) -> usize {
    let slot = wire_hash(client_id.as_bytes()) % SLOTS as u64;
    usize::try_from(slot).expect("there are 1,024 slots")
}

/// How many slots there are: a constant of the wire.
pub const SLOTS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_identifier_has_one_coordinator() {
        let odd_slots = |slot: usize| (slot % 2 == 1).then_some(BootId(7));
        let table = SlotTable::new(3, odd_slots);
        for client_id in ["", "a", "sensor-17"] {
            assert_eq!(table.owner(client_id), odd_slots(slot_of(client_id)));
        }
        assert_eq!(table.coordinators(), [BootId(7)]);
    }
}
