//! The Client Identifiers that connections of ours wait for, by identifier and by claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::broker::peers::ownership::claims::PendingClaim;

/// Claims that are not settled. Each has a number of its own.
pub(super) struct PendingClaims {
    by_client: HashMap<Arc<str>, PendingClaim, FixedState>,
    by_claim: BTreeMap<u64, Arc<str>>,
}

impl PendingClaims {
    pub(super) fn new(hashing: FixedState) -> Self {
        Self { by_client: HashMap::with_hasher(hashing), by_claim: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, client_id: Arc<str>, pending: PendingClaim) {
        self.by_claim.insert(pending.claim, Arc::clone(&client_id));
        let former = self.by_client.insert(client_id, pending);
        debug_assert!(former.is_none(), "a client that waits already is not asked for again");
    }

    pub(super) fn remove(&mut self, client_id: &str) -> Option<PendingClaim> {
        let pending = self.by_client.remove(client_id)?;
        self.by_claim.remove(&pending.claim);
        Some(pending)
    }

    pub(super) fn get(&self, client_id: &str) -> Option<&PendingClaim> {
        self.by_client.get(client_id)
    }

    pub(super) fn get_mut(&mut self, client_id: &str) -> Option<&mut PendingClaim> {
        self.by_client.get_mut(client_id)
    }

    pub(super) fn get_key_value(&self, client_id: &str) -> Option<(&Arc<str>, &PendingClaim)> {
        self.by_client.get_key_value(client_id)
    }

    /// Whose claim has this number.
    pub(super) fn client_of(&self, claim: u64) -> Option<&Arc<str>> {
        self.by_claim.get(&claim)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &PendingClaim)> {
        self.by_client.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut PendingClaim> {
        self.by_client.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }
}
