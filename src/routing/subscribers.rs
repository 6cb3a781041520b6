//! The subscribers of one Topic Filter.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use super::route::{Subscriber, SubscriberKey, Target};
use super::shared::{GroupId, SharedGroup};

/// Mostly there is one subscriber and no group, so that is the case that costs sixteen bytes and
/// the target.
#[derive(Default)]
pub(super) enum Subscribers<S> {
    /// Nobody: only while a subscription is being added or taken away.
    #[default]
    Nobody,
    /// One, with a subscription of its own.
    One(Arc<Target<S>>),
    /// Everything else.
    Crowd(Box<Crowd<S>>),
}

pub(super) struct Crowd<S> {
    pub(super) members: Members<S>,
    /// In the order of their Share Names.
    pub(super) groups: Vec<Group<S>>,
}

/// Ordered by key, so that a route of one filter needs no sorting.
pub(super) type Members<S> = BTreeMap<SubscriberKey, Arc<Target<S>>>;

/// The subscribers with the same Share Name.
pub(super) struct Group<S> {
    id: GroupId,
    members: Members<S>,
    turn: Arc<AtomicUsize>,
    /// What routes hold: made when one is asked for, given up when the members change.
    snapshot: OnceLock<Arc<SharedGroup<S>>>,
}

impl<S: Subscriber> Subscribers<S> {
    /// Adds or replaces; says whether there was one with this key.
    pub(super) fn put(&mut self, key: SubscriberKey, target: Target<S>) -> bool {
        match self {
            Self::Nobody => *self = Self::One(Arc::new(target)),
            Self::One(one) if one.subscriber.key() == key => {
                *one = Arc::new(target);
                return true;
            }
            Self::One(_) | Self::Crowd(_) => {
                return self.crowd().members.insert(key, Arc::new(target)).is_some();
            }
        }
        false
    }

    /// Adds or replaces a member of a group; says whether there was one with this key.
    pub(super) fn put_shared(
        &mut self,
        id: &GroupId,
        key: SubscriberKey,
        target: Target<S>,
    ) -> bool {
        let groups = &mut self.crowd().groups;
        let position = match position_of(groups, id.share_name()) {
            Ok(position) => position,
            Err(position) => {
                groups.insert(position, Group::new(id.clone()));
                position
            }
        };
        let group = groups.get_mut(position).expect("the group was found or made here");
        group.snapshot = OnceLock::new();
        group.members.insert(key, Arc::new(target)).is_some()
    }

    /// Takes a subscriber away; says whether it was there.
    pub(super) fn remove(&mut self, key: SubscriberKey) -> bool {
        match self {
            Self::One(one) if one.subscriber.key() == key => {
                *self = Self::Nobody;
                true
            }
            Self::Nobody | Self::One(_) => false,
            Self::Crowd(crowd) => {
                let was_there = crowd.members.remove(&key).is_some();
                self.simplify();
                was_there
            }
        }
    }

    /// Takes a member of a group away; says whether it was there.
    pub(super) fn remove_shared(&mut self, share_name: &str, key: SubscriberKey) -> bool {
        let Self::Crowd(crowd) = self else { return false };
        let Ok(position) = position_of(&crowd.groups, share_name) else { return false };
        let group = crowd.groups.get_mut(position).expect("the position was just found");
        let was_there = group.members.remove(&key).is_some();
        group.snapshot = OnceLock::new();
        if group.members.is_empty() {
            crowd.groups.remove(position);
        }
        self.simplify();
        was_there
    }

    pub(super) fn group(&self, share_name: &str) -> Option<&Group<S>> {
        let Self::Crowd(crowd) = self else { return None };
        crowd.groups.get(position_of(&crowd.groups, share_name).ok()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    fn crowd(&mut self) -> &mut Crowd<S> {
        if !matches!(self, Self::Crowd(_)) {
            let mut members = Members::new();
            if let Self::One(one) = std::mem::take(self) {
                members.insert(one.subscriber.key(), one);
            }
            *self = Self::Crowd(Box::new(Crowd { members, groups: Vec::new() }));
        }
        let Self::Crowd(crowd) = self else { unreachable!("it was just made one") };
        crowd
    }

    /// A crowd that is none any more becomes the small case again.
    fn simplify(&mut self) {
        if let Self::Crowd(crowd) = self
            && crowd.groups.is_empty()
            && crowd.members.len() <= 1
        {
            *self = crowd.members.pop_first().map_or(Self::Nobody, |(_, one)| Self::One(one));
        }
    }
}

impl<S> Group<S> {
    fn new(id: GroupId) -> Self {
        Self { id, members: Members::new(), turn: Arc::default(), snapshot: OnceLock::new() }
    }

    pub(super) fn snapshot(&self) -> &Arc<SharedGroup<S>> {
        self.snapshot.get_or_init(|| {
            let members = self.members.values().cloned().collect();
            Arc::new(SharedGroup::new(self.id.clone(), members, Arc::clone(&self.turn)))
        })
    }
}

fn position_of<S>(groups: &[Group<S>], share_name: &str) -> Result<usize, usize> {
    groups.binary_search_by(|group| group.id.share_name().cmp(share_name))
}
