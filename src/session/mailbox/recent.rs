//! What a Session has taken lately of QoS 2.
//!
//! Two brokers are sent the same message for their clients, and one of them may get it long after the
//! other, because the link there is cut. A Session that moves from the one to the other meanwhile has
//! it, though nothing of it may be in its queue or in flight any more: so it remembers what it has
//! taken, and takes that along.
//!
//! For how long: whoever publishes holds a message for another broker until that has it, by the link or
//! by the relay, or is declared dead, which takes seconds in either case. [`REMEMBERED_MILLIS`] is ten
//! times as much and more.
//!
//! Invariants: the older stand first, at most [`IDS_MAX`] of them, each once; the same stand in the set.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::ports::clock::Tick;
use crate::ports::message::MessageId;

/// The message identifiers of one Session.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<Recalled>,
    ids: HashSet<MessageId, FixedState>,
}

/// A message that a Session has taken, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recalled {
    /// What it is known by in the whole cluster.
    pub id: MessageId,
    /// When.
    pub at: Tick,
}

impl Recent {
    /// It has taken this now. `false` when another one is forgotten before its time.
    pub(super) fn note(&mut self, id: MessageId, now: Tick) -> bool {
        self.forget_old(now);
        let has_room = self.order.len() < IDS_MAX;
        if !has_room {
            self.forget_first();
        }
        self.push(Recalled { id, at: now });
        has_room
    }

    /// Whether it has taken this.
    #[inline]
    pub(super) fn knows(&self, id: MessageId) -> bool {
        self.ids.contains(&id)
    }

    /// It has not taken this after all.
    pub(super) fn forget(&mut self, id: MessageId) {
        if self.ids.remove(&id) {
            self.order.retain(|one| one.id != id);
        }
    }

    /// It has taken these as well, where it was before. How many are forgotten before their time.
    pub(super) fn recall(&mut self, former: Vec<Recalled>) -> usize {
        let mut all: Vec<_> = former.into_iter().chain(self.order.drain(..)).collect();
        all.sort_by_key(|one| one.at);
        self.ids.clear();
        for one in all {
            self.push(one);
        }
        let forgotten = self.order.len().saturating_sub(IDS_MAX);
        (0..forgotten).for_each(|_| self.forget_first());
        forgotten
    }

    /// All of it that may still matter, the older first.
    pub(super) fn take(mut self, now: Tick) -> Vec<Recalled> {
        self.forget_old(now);
        self.order.into()
    }

    fn push(&mut self, one: Recalled) {
        if self.ids.insert(one.id) {
            self.order.push_back(one);
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.order.pop_front() {
            self.ids.remove(&first.id);
        }
    }

    fn forget_old(&mut self, now: Tick) {
        let is_old = |one: &Recalled| now.saturating_since(one.at) > REMEMBERED_MILLIS;
        while self.order.front().is_some_and(is_old) {
            self.forget_first();
        }
        if self.order.is_empty() && self.order.capacity() > IDLE_CAPACITY {
            *self = Self::default();
        }
    }
}

/// How long a message may come again: see above.
pub(super) const REMEMBERED_MILLIS: u64 = 120_000;
/// Of one Session: 140 KiB at most. One that takes more than 34 a second remembers less far back.
pub(super) const IDS_MAX: usize = 4_096;
/// A memory that has run empty keeps room for this many.
const IDLE_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    fn ids(recent: Recent, now: Tick) -> Vec<u64> {
        recent.take(now).into_iter().map(|one| one.id.0).collect()
    }

    #[test]
    fn what_is_too_old_to_come_again_is_forgotten() {
        let mut recent = Recent::default();
        for number in 1..=3 {
            assert!(recent.note(MessageId(number), at(number * 1_000)));
        }
        assert!(recent.note(MessageId(4), at(REMEMBERED_MILLIS + 1_001)));
        assert_eq!(ids(recent, at(REMEMBERED_MILLIS + 2_001)), [3, 4]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_gives_way() {
        let mut recent = Recent::default();
        let max = IDS_MAX as u64;
        assert!((0..max).all(|number| recent.note(MessageId(number), at(number))));
        assert!(!recent.note(MessageId(max), at(max)));
        assert!(recent.knows(MessageId(1)) && !recent.knows(MessageId(0)));
        let kept = ids(recent, at(max));
        assert_eq!((kept.len(), kept[0]), (IDS_MAX, 1));
    }

    #[test]
    fn what_came_with_the_session_stands_by_its_age() {
        let recalled = |number| Recalled { id: MessageId(number), at: at(number) };
        let mut recent = Recent::default();
        let _room = recent.note(MessageId(2), at(2));
        assert_eq!(recent.recall(vec![recalled(1), recalled(2), recalled(3)]), 0);
        assert_eq!(ids(recent, at(4)), [1, 2, 3]);
        let mut recent = Recent::default();
        let too_many = (1..=IDS_MAX as u64 + 2).map(recalled).collect();
        assert_eq!(recent.recall(too_many), 2);
    }
}
