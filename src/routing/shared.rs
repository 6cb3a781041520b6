//! Shared Subscriptions: a message goes to one member of the group.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::route::Target;
use crate::mqtt::TopicFilter;

/// A Share Name and a Topic Filter: together they name the group.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(TopicFilter);

/// The members of a group as they were when the route was made. Snapshots of one group share the
/// turn.
#[derive(Debug)]
pub struct SharedGroup<S> {
    id: GroupId,
    members: Box<[Arc<Target<S>>]>,
    turn: Arc<AtomicUsize>,
}

/// The members of a group, each once, whose turn it is first.
#[derive(Debug)]
pub struct InTurn<'a, S> {
    members: &'a [Arc<Target<S>>],
    turn: &'a AtomicUsize,
    /// Where the first one was found.
    start: usize,
    offered: usize,
}

impl GroupId {
    /// The group that `filter` is a subscription to: none if it has no share part.
    #[must_use]
    pub fn of(filter: &TopicFilter) -> Option<Self> {
        filter.share().map(|_| Self(filter.clone()))
    }

    /// The same in a buffer of its own, for keeping.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// The Share Name.
    #[must_use]
    pub fn share_name(&self) -> &str {
        self.0.share().expect("a group has a share part").name
    }

    /// The whole filter, `$share/NAME/FILTER`.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S> SharedGroup<S> {
    pub(super) fn new(id: GroupId, members: Box<[Arc<Target<S>>]>, turn: Arc<AtomicUsize>) -> Self {
        Self { id, members, turn }
    }

    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> &GroupId {
        &self.id
    }

    /// All members, in the order of their keys.
    #[must_use]
    pub fn members(&self) -> &[Arc<Target<S>>] {
        &self.members
    }

    /// The members to try for one message, starting after the one that was tried last. The caller
    /// stops at the one that takes it: every further step moves the turn on, so that the
    /// neighbour of a member that is away does not get twice its share.
    #[must_use]
    pub fn in_turn(&self) -> InTurn<'_, S> {
        InTurn { members: &self.members, turn: &self.turn, start: 0, offered: 0 }
    }
}

impl<'a, S> Iterator for InTurn<'a, S> {
    type Item = &'a Arc<Target<S>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offered == self.members.len() {
            return None;
        }
        // The positions are counted from the first one and not read again, so that each member is
        // offered once although other shards move the turn meanwhile.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if self.offered == 0 {
            self.start = turn % self.members.len();
        }
        let position = (self.start + self.offered) % self.members.len();
        self.offered += 1;
        self.members.get(position)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.members.len() - self.offered;
        (left, Some(left))
    }
}

impl<S> ExactSizeIterator for InTurn<'_, S> {}
