//! What one peer wants, put together from what it says.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{entry_hash, filter_hash};
use crate::cluster::frame::InterestEntry;
use crate::mqtt::{QoS, TopicFilter};

/// What one peer wants, as far as it has said.
#[derive(Debug)]
pub struct RemoteInterest {
    entries: HashMap<TopicFilter, (QoS, u8), FixedState>,
    version: u64,
    /// How far the routes are.
    routed_version: u64,
    checksum: u64,
    /// A snapshot on its way: the whole of it stands beside the old set, and then replaces it.
    snapshot: Option<HashMap<TopicFilter, (QoS, u8), FixedState>>,
    /// What came last cannot be relied on: a snapshot is to be asked for until it comes.
    is_awaited: bool,
    hashing: FixedState,
}

/// A snapshot is not what its sender has: part of it is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a snapshot of interest is not what was told")]
pub struct SnapshotMismatch;

/// What is to be changed in the routes to a peer.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct RouteChanges {
    /// To be added, or changed.
    pub added: Vec<InterestEntry>,
    /// To be taken away.
    pub removed: Vec<TopicFilter>,
}

impl RemoteInterest {
    /// It has said nothing yet.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        let entries = HashMap::with_hasher(hashing.clone());
        Self {
            entries,
            version: 0,
            routed_version: 0,
            checksum: 0,
            snapshot: None,
            is_awaited: false,
            hashing,
        }
    }

    /// A snapshot begins.
    pub fn begin_snapshot(&mut self) {
        self.snapshot = Some(HashMap::with_hasher(self.hashing.clone()));
    }

    /// Something of what it said is lost, or wrong: nothing counts from here on but a snapshot.
    pub fn await_snapshot(&mut self) {
        self.is_awaited = true;
        self.begin_snapshot();
    }

    /// Whether it is to be asked for a snapshot, again and again.
    #[must_use]
    pub fn awaits_snapshot(&self) -> bool {
        self.is_awaited
    }

    /// Entries that are new or have changed. Part of a snapshot changes nothing yet.
    pub fn add(&mut self, version: u64, entries: Vec<InterestEntry>) -> RouteChanges {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.extend(entries.iter().map(parts));
            return RouteChanges::default();
        }
        self.version = version;
        for entry in &entries {
            self.checksum = self.checksum.wrapping_add(entry_hash(entry));
            let (filter, value) = parts(entry);
            if let Some(former) = self.entries.insert(filter, value) {
                self.checksum = self.checksum.wrapping_sub(filter_hash(&entry.filter, former));
            }
        }
        RouteChanges { added: entries, removed: Vec::new() }
    }

    /// Filters that nobody there wants any more.
    pub fn remove(&mut self, version: u64, filters: Vec<TopicFilter>) -> RouteChanges {
        if let Some(snapshot) = &mut self.snapshot {
            for filter in &filters {
                snapshot.remove(filter);
            }
            return RouteChanges::default();
        }
        self.version = version;
        let mut removed = Vec::with_capacity(filters.len());
        for filter in filters {
            if let Some(former) = self.entries.remove(&filter) {
                self.checksum = self.checksum.wrapping_sub(filter_hash(&filter, former));
                removed.push(filter);
            }
        }
        RouteChanges { added: Vec::new(), removed }
    }

    /// The snapshot is whole: what it changes. When its sum is not that of its sender, it changes
    /// nothing, and is waited for until it comes anew.
    ///
    /// # Errors
    ///
    /// It is not what was told.
    pub fn complete_snapshot(
        &mut self,
        version: u64,
        checksum: u64,
    ) -> Result<RouteChanges, SnapshotMismatch> {
        let Some(snapshot) = self.snapshot.take() else {
            self.await_snapshot();
            return Err(SnapshotMismatch);
        };
        let sum = |sum: u64, (filter, value): (&TopicFilter, &(QoS, u8))| {
            sum.wrapping_add(filter_hash(filter, *value))
        };
        if snapshot.iter().fold(0, sum) != checksum {
            self.await_snapshot();
            return Err(SnapshotMismatch);
        }
        let entry = |filter: &TopicFilter, &(qos, weight): &(QoS, u8)| InterestEntry {
            filter: filter.clone(),
            qos,
            weight,
        };
        let added = snapshot
            .iter()
            .filter(|(filter, value)| self.entries.get(*filter) != Some(value))
            .map(|(filter, value)| entry(filter, value))
            .collect();
        let is_gone = |filter: &&TopicFilter| !snapshot.contains_key(*filter);
        let removed = self.entries.keys().filter(is_gone).cloned().collect();
        self.checksum = checksum;
        self.entries = snapshot;
        self.version = version;
        self.is_awaited = false;
        Ok(RouteChanges { added, removed })
    }

    /// Everything it wants, for when it is gone.
    pub fn clear(&mut self) -> Vec<TopicFilter> {
        self.snapshot = None;
        self.checksum = 0;
        self.entries.drain().map(|(filter, _)| filter).collect()
    }

    /// How many members of this Shared Subscription it has that can take messages.
    #[must_use]
    pub fn weight(&self, filter: &TopicFilter) -> u8 {
        self.entries.get(filter).map_or(0, |&(_, weight)| weight)
    }

    /// The version that was told last.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The routes have been changed as the last change said.
    pub fn note_routed(&mut self) {
        self.routed_version = self.version;
    }

    /// The version that may be confirmed: publishes go by it.
    #[must_use]
    pub fn routed_version(&self) -> u64 {
        self.routed_version
    }

    /// The sum of the hashes of all entries at [`Self::version`].
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Whether a snapshot is on its way.
    #[must_use]
    pub fn is_in_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Distinct filters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it wants nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn parts(entry: &InterestEntry) -> (TopicFilter, (QoS, u8)) {
    (entry.filter.clone(), (entry.qos, entry.weight))
}
