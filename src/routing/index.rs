//! The subscription index: from a Topic Name to who gets its messages.

use std::sync::Arc;

use smallvec::SmallVec;

use super::filter_tree::FilterTree;
use super::route::{Route, Subscriber, SubscriberKey, Target};
use super::shared::{GroupId, SharedGroup};
use super::subscribers::{Members, Subscribers};
use crate::mqtt::{SubscriptionOptions, TopicFilter};

/// Every subscription of one broker. Whoever changes it invalidates the cached routes.
pub struct Index<S> {
    filters: FilterTree<Subscribers<S>>,
    subscription_count: usize,
    /// Those of them that are Shared Subscriptions.
    shared_count: usize,
}

/// What a SUBSCRIBE did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Subscribed {
    /// There is a subscription more.
    New,
    /// The subscriber had one to the same filter, which is replaced [MQTT-3.8.4-3].
    Replaced,
}

/// What the index holds, for gauges. Everything returns to zero with the last subscription.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IndexMemory {
    /// Subscriptions: pairs of a subscriber and a filter.
    pub subscriptions: usize,
    /// Distinct filters; those that differ in the share part only count once.
    pub filters: usize,
    /// Levels of those filters that are kept.
    pub nodes: usize,
    /// The bytes they take, about.
    pub bytes: usize,
}

impl<S: Subscriber> Index<S> {
    /// An empty index. The seed should not be known to clients, who choose what is hashed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { filters: FilterTree::new(seed), subscription_count: 0, shared_count: 0 }
    }

    /// Subscribes, or replaces the subscription to an identical filter.
    pub fn subscribe(
        &mut self,
        subscriber: &S,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) -> Subscribed {
        let key = subscriber.key();
        let target = Target::new(subscriber.clone(), options, subscription_id);
        let subscribers = self.filters.value_or_default(filter.matcher());
        let was_there = match GroupId::of(filter) {
            Some(group) => subscribers.put_shared(&group, key, target),
            None => subscribers.put(key, target),
        };
        if was_there {
            return Subscribed::Replaced;
        }
        self.subscription_count += 1;
        self.shared_count += usize::from(filter.share().is_some());
        Subscribed::New
    }

    /// Takes the subscription to exactly this filter away [MQTT-3.10.4-1]; says whether there was
    /// one.
    pub fn unsubscribe(&mut self, key: SubscriberKey, filter: &TopicFilter) -> bool {
        let Some(subscribers) = self.filters.value_mut(filter.matcher()) else { return false };
        let was_there = match filter.share() {
            Some(share) => subscribers.remove_shared(share.name, key),
            None => subscribers.remove(key),
        };
        if !was_there {
            return false;
        }
        self.subscription_count -= 1;
        self.shared_count -= usize::from(filter.share().is_some());
        if subscribers.is_empty() {
            self.filters.remove(filter.matcher());
        }
        true
    }

    /// Who gets the messages of `topic`.
    #[must_use]
    pub fn route(&self, topic: &str) -> Route<S> {
        let mut matches = Matches::default();
        self.filters.visit_matches(topic, |subscribers| matches.add(subscribers));
        Route { targets: matches.targets(), groups: matches.groups.into_boxed_slice() }
    }

    /// The group as it is now: for a message that the member it was meant for has not been sent.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<Arc<SharedGroup<S>>> {
        let subscribers = self.filters.value(id.filter().matcher())?;
        subscribers.group(id.share_name()).map(|group| Arc::clone(group.snapshot()))
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscription_count
    }

    /// How many of them are Shared Subscriptions.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        self.shared_count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscription_count == 0
    }

    /// How many levels of filters are kept.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.filters.node_count()
    }

    /// What is held.
    #[must_use]
    pub fn memory(&self) -> IndexMemory {
        let target_bytes = size_of::<Target<S>>() + ARC_OVERHEAD;
        IndexMemory {
            subscriptions: self.subscription_count,
            filters: self.filters.len(),
            nodes: self.filters.node_count(),
            bytes: self.filters.memory_bytes() + self.subscription_count * target_bytes,
        }
    }
}

/// The filters that match, before their subscribers are merged.
struct Matches<'a, S> {
    ones: SmallVec<[&'a Arc<Target<S>>; 8]>,
    crowds: SmallVec<[&'a Members<S>; 4]>,
    groups: Vec<Arc<SharedGroup<S>>>,
}

impl<S> Default for Matches<'_, S> {
    fn default() -> Self {
        Self { ones: SmallVec::new(), crowds: SmallVec::new(), groups: Vec::new() }
    }
}

impl<'a, S: Subscriber> Matches<'a, S> {
    fn add(&mut self, subscribers: &'a Subscribers<S>) {
        match subscribers {
            Subscribers::Nobody => {}
            Subscribers::One(one) => self.ones.push(one),
            Subscribers::Crowd(crowd) => {
                if !crowd.members.is_empty() {
                    self.crowds.push(&crowd.members);
                }
                self.groups.extend(crowd.groups.iter().map(|group| Arc::clone(group.snapshot())));
            }
        }
    }

    /// Each subscriber once, in the order of the keys.
    fn targets(&self) -> Box<[Arc<Target<S>>]> {
        match (self.ones.as_slice(), self.crowds.as_slice()) {
            ([], []) => Box::default(),
            ([one], []) => Box::new([Arc::clone(one)]),
            ([], [crowd]) => crowd.values().cloned().collect(),
            (_, _) => self.merged_targets(),
        }
    }

    fn merged_targets(&self) -> Box<[Arc<Target<S>>]> {
        let ones = self.ones.iter().map(|&one| (one.subscriber.key(), one));
        let crowds = self.crowds.iter().flat_map(|&members| members);
        let mut all: Vec<(SubscriberKey, &Arc<Target<S>>)> =
            ones.chain(crowds.map(|(&key, target)| (key, target))).collect();
        all.sort_by_key(|&(key, _)| key);
        all.chunk_by(|(one, _), (other, _)| one == other).map(merged).collect()
    }
}

/// The target for all matching subscriptions of one subscriber.
fn merged<S: Subscriber>(same: &[(SubscriberKey, &Arc<Target<S>>)]) -> Arc<Target<S>> {
    let ((_, first), others) = same.split_first().expect("a chunk is not empty");
    if others.is_empty() {
        return Arc::clone(first);
    }
    let mut target = Target::clone(first);
    for (_, other) in others {
        target.merge(other);
    }
    Arc::new(target)
}

/// The two counts of an `Arc`, and what an allocator adds.
const ARC_OVERHEAD: usize = 24;

#[cfg(test)]
mod tests;
