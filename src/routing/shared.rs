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

/// The places of a group's members, each once, whose turn it is first.
#[derive(Debug)]
pub struct InTurn<'a> {
    turn: &'a AtomicUsize,
    members: usize,
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

    /// The places in [`Self::members`] to try for one message, starting after the one that was
    /// tried last. The caller stops at the one that takes it: every further step moves the turn
    /// on, so that the neighbour of a member that is away does not get twice its share.
    #[must_use]
    pub fn in_turn(&self) -> InTurn<'_> {
        self.in_turn_of(self.members.len())
    }

    /// The same for a list of `places` in which a member may stand more than once.
    #[must_use]
    pub fn in_turn_of(&self, places: usize) -> InTurn<'_> {
        InTurn { turn: &self.turn, members: places, start: 0, offered: 0 }
    }
}

impl Iterator for InTurn<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offered == self.members {
            return None;
        }
        // The places are counted from the first one and not read again, so that each member is
        // offered once although other shards move the turn meanwhile.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if self.offered == 0 {
            self.start = turn % self.members;
        }
        let place = (self.start + self.offered) % self.members;
        self.offered += 1;
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.members - self.offered;
        (left, Some(left))
    }
}

impl ExactSizeIterator for InTurn<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::SubscriptionOptions;

    #[test]
    fn members_take_turns_and_a_member_that_is_away_is_passed_over() {
        let group = group_of(3);
        let everyone_is_there = [true, true, true];
        assert_eq!(takers(&group, everyone_is_there, 4), [0, 1, 2, 0]);
        // Member 1 is away: what it would get goes to its neighbour, whose turn that was then.
        assert_eq!(takers(&group, [true, false, true], 4), [2, 0, 2, 0]);
        assert_eq!(takers(&group, [false, false, false], 1), [u8::MAX]);
    }

    #[test]
    fn each_member_is_offered_once_even_if_the_turn_moves_meanwhile() {
        let group = group_of(3);
        let mut first = group.in_turn();
        let mut offered = vec![first.next().unwrap()];
        let _ = group.in_turn().next();
        offered.extend(first);
        offered.sort_unstable();
        assert_eq!(offered, [0, 1, 2]);
    }

    #[test]
    fn the_parts_of_a_group_id() {
        let filter = TopicFilter::try_from("$share/consumers/a/+/#").unwrap();
        let id = GroupId::of(&filter).unwrap();
        assert_eq!((id.share_name(), id.filter().matcher()), ("consumers", "a/+/#"));
        assert_eq!(GroupId::of(&TopicFilter::try_from("a").unwrap()), None);
    }

    /// Who takes each of `count` messages.
    fn takers(group: &SharedGroup<u8>, is_there: [bool; 3], count: usize) -> Vec<u8> {
        let taker = |_| {
            let mut members = group.in_turn().map(|place| group.members()[place].subscriber);
            members.find(|&member| is_there[usize::from(member)]).unwrap_or(u8::MAX)
        };
        (0..count).map(taker).collect()
    }

    fn group_of(count: u8) -> SharedGroup<u8> {
        let options = SubscriptionOptions::default();
        let member = |number| Arc::new(Target::new(number, options, None));
        let id = GroupId::of(&TopicFilter::try_from("$share/s/a").unwrap()).unwrap();
        SharedGroup::new(id, (0..count).map(member).collect(), Arc::default())
    }
}
