//! What the clients of one broker want, as its peers are told it: distinct filters, never clients.
//!
//! [`LocalInterest`] counts Subscriptions and says what is to be announced; [`RemoteInterest`] is
//! the other end. Every change has a version, so that a SUBACK can wait until each peer has applied
//! the one in which its filter came.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::cluster::frame::InterestEntry;
use crate::cluster::hash::wire_hash;
use crate::mqtt::{QoS, TopicFilter};

/// The filters that somebody at this broker subscribes to.
#[derive(Debug)]
pub struct LocalInterest {
    wanted: HashMap<TopicFilter, Wanted, FixedState>,
    /// Those of them that are shared.
    shared: BTreeSet<TopicFilter>,
    version: u64,
    checksum: u64,
}

/// One filter.
#[derive(Debug)]
struct Wanted {
    /// Subscriptions by the QoS they ask for.
    counts: [u32; 3],
    /// Of a Shared Subscription: those of them that can take nothing.
    short: u32,
    /// The version in which peers learnt all that its subscribers count on.
    since: u64,
}

/// What one Subscription more or less means to the peers.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub enum InterestChange {
    /// They know all there is to know.
    Nothing,
    /// They are to be told this.
    Added(InterestEntry),
    /// Nobody wants the filter any more.
    Removed,
}

impl LocalInterest {
    /// Nobody wants anything. `hash_seed` keeps clients from choosing filters that collide.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        let wanted = HashMap::with_hasher(hashing);
        Self { wanted, shared: BTreeSet::new(), version: 0, checksum: 0 }
    }

    /// Somebody subscribes. Returns what peers are to be told, and the version they must have applied
    /// before the subscriber may count on them: a second subscriber waits for what the first one
    /// caused.
    pub fn add(&mut self, filter: &TopicFilter, qos: QoS) -> (InterestChange, u64) {
        let former = self.wanted.get(filter).map(|wanted| wanted.entry(filter));
        let wanted = self.wanted.entry_ref(filter).or_insert_with(|| Wanted {
            counts: [0; 3],
            short: 0,
            since: u64::MAX,
        });
        wanted.count(qos, 1);
        let entry = wanted.entry(filter);
        if former.as_ref() == Some(&entry) {
            return (InterestChange::Nothing, wanted.since);
        }
        if former.is_none() && filter.share().is_some() {
            self.shared.insert(filter.clone());
        }
        self.version += 1;
        if former.as_ref().is_none_or(|former| former.qos < entry.qos) {
            wanted.since = self.version;
        }
        let since = wanted.since;
        self.checksum = self.checksum.wrapping_sub(former.as_ref().map_or(0, entry_hash));
        self.checksum = self.checksum.wrapping_add(entry_hash(&entry));
        (InterestChange::Added(entry), since)
    }

    /// Somebody unsubscribes, or is gone.
    pub fn remove(&mut self, filter: &TopicFilter, qos: QoS) -> InterestChange {
        let Some(wanted) = self.wanted.get_mut(filter) else {
            debug_assert!(false, "a Subscription that was never counted is taken away");
            return InterestChange::Nothing;
        };
        let former = wanted.entry(filter);
        wanted.count(qos, -1);
        if wanted.total() == 0 {
            self.wanted.remove(filter);
            self.shared.remove(filter);
            self.version += 1;
            self.checksum = self.checksum.wrapping_sub(entry_hash(&former));
            return InterestChange::Removed;
        }
        let entry = wanted.entry(filter);
        if entry == former {
            return InterestChange::Nothing;
        }
        self.version += 1;
        self.checksum = self.checksum.wrapping_sub(entry_hash(&former));
        self.checksum = self.checksum.wrapping_add(entry_hash(&entry));
        InterestChange::Added(entry)
    }

    /// So many members of a Shared Subscription can take nothing.
    pub fn set_short(&mut self, filter: &TopicFilter, short: u32) -> InterestChange {
        let Some(wanted) = self.wanted.get_mut(filter) else { return InterestChange::Nothing };
        let former = wanted.entry(filter);
        wanted.short = short;
        let entry = wanted.entry(filter);
        if entry == former {
            return InterestChange::Nothing;
        }
        self.version += 1;
        self.checksum = self.checksum.wrapping_sub(entry_hash(&former));
        self.checksum = self.checksum.wrapping_add(entry_hash(&entry));
        InterestChange::Added(entry)
    }

    /// The Shared Subscriptions among the filters.
    pub fn shared_filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.shared.iter()
    }

    /// Goes up with every change that peers are told.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The sum of the hashes of all entries, whatever their order.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Distinct filters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// All of it, for a peer that knows nothing yet; in no particular order, which the receiver does
    /// not depend on.
    pub fn entries(&self) -> impl Iterator<Item = InterestEntry> + '_ {
        self.wanted.iter().map(|(filter, wanted)| wanted.entry(filter))
    }
}

impl Wanted {
    fn count(&mut self, qos: QoS, difference: i32) {
        let place = match qos {
            QoS::AtMostOnce => &mut self.counts[0],
            QoS::AtLeastOnce => &mut self.counts[1],
            QoS::ExactlyOnce => &mut self.counts[2],
        };
        debug_assert!(difference > 0 || *place > 0, "more Subscriptions go than came");
        *place = place.saturating_add_signed(difference);
    }

    fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    fn entry(&self, filter: &TopicFilter) -> InterestEntry {
        let [_, at_least_once, exactly_once] = self.counts;
        let qos = if exactly_once > 0 {
            QoS::ExactlyOnce
        } else if at_least_once > 0 {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let weight = match filter.share() {
            Some(_) => {
                let able = self.total().saturating_sub(self.short);
                u8::try_from(able).unwrap_or(u8::MAX)
            }
            None => 1,
        };
        InterestEntry { filter: filter.clone(), qos, weight }
    }
}

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
                self.checksum = self.checksum.wrapping_sub(former_hash(&entry.filter, former));
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
                self.checksum = self.checksum.wrapping_sub(former_hash(&filter, former));
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
            sum.wrapping_add(former_hash(filter, *value))
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

/// One summand of a checksum.
fn entry_hash(entry: &InterestEntry) -> u64 {
    former_hash(&entry.filter, (entry.qos, entry.weight))
}

fn former_hash(filter: &TopicFilter, (qos, weight): (QoS, u8)) -> u64 {
    let tail = u64::from(weight) << 8 | u64::from(qos as u8);
    // Odd, so that two entries that differ in their tail alone have different hashes.
    wire_hash(filter.as_str().as_bytes()).wrapping_mul(2 * tail + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &'static str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn entry(text: &'static str, qos: QoS, weight: u8) -> InterestEntry {
        InterestEntry { filter: filter(text), qos, weight }
    }

    #[test]
    fn peers_hear_of_distinct_filters_and_of_the_highest_qos() {
        let mut interest = LocalInterest::new(1);
        let added = |text, qos| InterestChange::Added(entry(text, qos, 1));
        assert_eq!(
            interest.add(&filter("a/+"), QoS::AtMostOnce),
            (added("a/+", QoS::AtMostOnce), 1)
        );
        assert_eq!(interest.add(&filter("a/+"), QoS::AtMostOnce), (InterestChange::Nothing, 1));
        assert_eq!(
            interest.add(&filter("a/+"), QoS::ExactlyOnce),
            (added("a/+", QoS::ExactlyOnce), 2)
        );
        assert_eq!(
            interest.remove(&filter("a/+"), QoS::ExactlyOnce),
            added("a/+", QoS::AtMostOnce)
        );
        assert_eq!(interest.remove(&filter("a/+"), QoS::AtMostOnce), InterestChange::Nothing);
        assert_eq!(interest.remove(&filter("a/+"), QoS::AtMostOnce), InterestChange::Removed);
        assert_eq!((interest.len(), interest.checksum(), interest.version()), (0, 0, 4));
    }

    #[test]
    fn a_second_subscriber_waits_for_what_the_first_one_caused() {
        let mut interest = LocalInterest::new(1);
        let (_, first) = interest.add(&filter("a"), QoS::AtLeastOnce);
        let (_, other) = interest.add(&filter("b"), QoS::AtLeastOnce);
        let (change, second) = interest.add(&filter("a"), QoS::AtMostOnce);
        assert_eq!(change, InterestChange::Nothing);
        assert_eq!(second, first, "not what came since");
        assert!(other > first);
    }

    #[test]
    fn a_shared_subscription_weighs_as_many_as_there_are_members() {
        let mut interest = LocalInterest::new(1);
        let shared = "$share/g/a";
        let (_, first) = interest.add(&filter(shared), QoS::AtLeastOnce);
        let (change, second) = interest.add(&filter(shared), QoS::AtLeastOnce);
        assert_eq!(change, InterestChange::Added(entry(shared, QoS::AtLeastOnce, 2)));
        assert_eq!(second, first, "its peers send what the group is to get already");
    }

    #[test]
    fn members_that_can_take_nothing_do_not_weigh() {
        let mut interest = LocalInterest::new(1);
        let shared = filter("$share/g/a");
        for _ in 0..2 {
            let _announced = interest.add(&shared, QoS::AtLeastOnce);
        }
        let weighs = |weight| InterestChange::Added(entry("$share/g/a", QoS::AtLeastOnce, weight));
        assert_eq!(interest.set_short(&shared, 1), weighs(1));
        assert_eq!(interest.set_short(&shared, 1), InterestChange::Nothing);
        assert_eq!(interest.set_short(&shared, 2), weighs(0));
        assert_eq!(interest.remove(&shared, QoS::AtLeastOnce), InterestChange::Nothing);
        assert_eq!(interest.set_short(&shared, 0), weighs(1));
        assert_eq!(interest.shared_filters().count(), 1);
        assert_eq!(interest.remove(&shared, QoS::AtLeastOnce), InterestChange::Removed);
        assert_eq!((interest.shared_filters().count(), interest.checksum()), (0, 0));
        assert_eq!(interest.set_short(&shared, 1), InterestChange::Nothing, "it is gone");
    }

    #[test]
    fn both_ends_agree_after_deltas_and_after_a_snapshot() {
        let mut local = LocalInterest::new(1);
        let mut remote = RemoteInterest::new(2);
        for (text, qos) in [("a", QoS::AtMostOnce), ("b/#", QoS::ExactlyOnce)] {
            if let (InterestChange::Added(entry), _) = local.add(&filter(text), qos) {
                let changes = remote.add(local.version(), vec![entry]);
                assert_eq!(changes.added.len(), 1);
            }
        }
        assert_eq!((remote.version(), remote.checksum()), (local.version(), local.checksum()));
        let _announced_by_the_snapshot = local.add(&filter("c"), QoS::AtMostOnce);
        assert_eq!(local.remove(&filter("a"), QoS::AtMostOnce), InterestChange::Removed);
        remote.begin_snapshot();
        let _part = remote.add(local.version(), local.entries().collect());
        assert_eq!(remote.len(), 2, "nothing changes before it is whole");
        let changes = remote.complete_snapshot(local.version(), local.checksum()).unwrap();
        assert_eq!(changes.added, [entry("c", QoS::AtMostOnce, 1)]);
        assert_eq!(changes.removed, [filter("a")]);
        assert_eq!((remote.version(), remote.checksum()), (local.version(), local.checksum()));
    }

    /// The sum that ends a snapshot was never looked at: half of one counted as all there is.
    #[test]
    fn a_snapshot_that_is_not_whole_changes_nothing_and_is_asked_for_again() {
        let mut local = LocalInterest::new(1);
        for text in ["a", "b", "$share/g/c"] {
            let _announced = local.add(&filter(text), QoS::AtLeastOnce);
        }
        let (version, checksum) = (local.version(), local.checksum());
        let mut remote = RemoteInterest::new(2);
        remote.begin_snapshot();
        let _part = remote.add(version, local.entries().take(2).collect());
        assert_eq!(remote.complete_snapshot(version, checksum), Err(SnapshotMismatch));
        assert!(remote.awaits_snapshot() && remote.is_in_snapshot());
        assert_eq!((remote.len(), remote.version()), (0, 0));
        // Nor does the end of one whose beginning has not come.
        remote.begin_snapshot();
        let _part = remote.add(version, local.entries().collect());
        assert_eq!(remote.complete_snapshot(version, checksum).unwrap().added.len(), 3);
        assert!(!remote.awaits_snapshot());
        assert_eq!(remote.complete_snapshot(version, checksum), Err(SnapshotMismatch));
        assert!(remote.awaits_snapshot());
    }
}
