//! What the clients of this broker want, counted by filter.

use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::entry_hash;
use crate::cluster::frame::InterestEntry;
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
        self.change(&former, entry)
    }

    /// So many members of a Shared Subscription can take nothing.
    pub fn set_short(&mut self, filter: &TopicFilter, short: u32) -> InterestChange {
        let Some(wanted) = self.wanted.get_mut(filter) else { return InterestChange::Nothing };
        let former = wanted.entry(filter);
        wanted.short = short;
        let entry = wanted.entry(filter);
        self.change(&former, entry)
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

    /// Notes what peers are to know of a filter from now on, which may be what they know already.
    fn change(&mut self, former: &InterestEntry, entry: InterestEntry) -> InterestChange {
        if *former == entry {
            return InterestChange::Nothing;
        }
        self.version += 1;
        self.checksum = self.checksum.wrapping_sub(entry_hash(former));
        self.checksum = self.checksum.wrapping_add(entry_hash(&entry));
        InterestChange::Added(entry)
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
