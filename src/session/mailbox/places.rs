//! The places of a queue that is stored: which are given, which are certain, which are in memory.
//!
//! Invariants: places are given in ascending order and never twice; those not in memory are all
//! behind those that are; what is pending is neither sent nor read, nor is what is doubtful.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ports::message::MessageId;

/// The places of one queue.
#[derive(Debug)]
pub(super) struct Places {
    /// The next one to give.
    next: u64,
    /// Given, and the store has not answered for it; ascending.
    pending: VecDeque<u64>,
    /// Set while there are places that are not in memory.
    behind: Option<Behind>,
    /// Places behind, by runs (first to last), that the store gave up and may have all the same.
    doubtful: BTreeMap<u64, u64>,
    /// Messages that the store did not take: whoever has the Session next is not to have them either, since
    /// others have come behind them by then.
    given_up: VecDeque<MessageId>,
    /// Below this the client may have been sent it before the broker was started anew.
    repeat_below: u64,
    /// Bytes of messages that are counted and not in memory, as far as they are known.
    bytes_left_out: usize,
    /// Whether others have taken all there was in memory, and more is in the store.
    pub(super) is_relieved: bool,
    /// Whether what is offered may have been stored where the Session was before: only the store can tell, so
    /// nothing of it is kept in memory.
    pub(super) has_moved: bool,
    /// What was collected before there were places, until the store has answered for it: it may come again by
    /// way of another shard, whose batch is in the store first, and is not to have a second place there.
    pub(super) collected: BTreeSet<MessageId>,
    /// Whether the Session is over, and not only gone from here.
    pub(super) has_ended: bool,
}

#[derive(Debug)]
struct Behind {
    /// The last place that is in memory, or was.
    after: u64,
    /// Whether the store has been asked for what follows.
    is_asked: bool,
    /// How many were taken although the queue was full, since the oldest are to be read before they
    /// can give way.
    owed: u32,
    /// How many of the places that follow are not counted: what was there is done with, or was given up.
    gaps: u64,
}

impl Behind {
    fn after(after: u64) -> Self {
        Self { after, is_asked: false, owed: 0, gaps: 0 }
    }
}

/// What a page shows to be missing in the store.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Missing {
    /// Places that were counted, and are empty: what was there has expired, or the store knew it already.
    pub(super) messages: u64,
    /// What was counted for them. It is not known one by one: it is what is left when nothing else is
    /// left out, and a fair share before.
    pub(super) bytes: usize,
}

/// What the store is to be asked for.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageWanted {
    /// What follows this place,
    pub after: u64,
    /// up to before this one: what is there, or behind it, may not be all yet.
    pub below: u64,
}

impl Places {
    /// Of a queue that is empty, in which `next` is the first place.
    pub(super) fn new(next: u64) -> Self {
        Self {
            next,
            pending: VecDeque::new(),
            behind: None,
            doubtful: BTreeMap::new(),
            given_up: VecDeque::new(),
            repeat_below: 0,
            bytes_left_out: 0,
            is_relieved: false,
            has_moved: false,
            collected: BTreeSet::new(),
            has_ended: false,
        }
    }

    /// Of a queue that another process left, with `count` places from `first` to before `next`; the
    /// client may have been sent what is below `sent_below`.
    pub(super) fn left(first: u64, next: u64, count: u64, sent_below: u64) -> Self {
        let gaps = next.saturating_sub(first).saturating_sub(count);
        Self {
            behind: (first < next).then(|| Behind { gaps, ..Behind::after(first - 1) }),
            repeat_below: sent_below.min(next),
            ..Self::new(next)
        }
    }

    /// Gives a place, which is pending.
    pub(super) fn give(&mut self) -> u64 {
        let place = self.next;
        self.next += 1;
        self.pending.push_back(place);
        place
    }

    /// The store has answered for `place`.
    pub(super) fn settle(&mut self, place: u64) {
        if let Ok(at) = self.pending.binary_search(&place) {
            self.pending.remove(at);
        }
        if self.pending.is_empty() && self.pending.capacity() > IDLE_CAPACITY {
            self.pending = VecDeque::new();
        }
    }

    /// Whether `place`, and all before it, are certain.
    pub(super) fn is_certain(&self, place: u64) -> bool {
        self.pending.front().is_none_or(|first| place < *first)
    }

    /// Whether the store has answered for all of them.
    pub(super) fn are_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether there are places that are not in memory.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// The message of `bytes` bytes at `place` is not kept in memory, and nothing behind it.
    pub(super) fn leave_out(&mut self, place: u64, bytes: usize) {
        self.behind.get_or_insert(Behind::after(place - 1));
        self.bytes_left_out += bytes;
    }

    /// Bytes of what is not in memory.
    #[inline]
    pub(super) fn bytes_left_out(&self) -> usize {
        self.bytes_left_out
    }

    /// A message of `bytes` bytes was left out and is so no more. How many of them were known.
    pub(super) fn take_left_out(&mut self, bytes: usize) -> usize {
        let known = bytes.min(self.bytes_left_out);
        self.bytes_left_out -= known;
        known
    }

    /// The store did not take what was to be at `place`, of `bytes` bytes. Whether that was not in
    /// memory, and was counted.
    pub(super) fn withdraw(&mut self, place: u64, bytes: usize) -> bool {
        let Some(behind) = self.behind.as_mut().filter(|behind| place > behind.after) else {
            return false;
        };
        behind.gaps += 1;
        let _known = self.take_left_out(bytes);
        true
    }

    /// How many places are counted and not in memory.
    fn left_out(&self) -> u64 {
        self.behind.as_ref().map_or(0, |behind| {
            (self.next - 1).saturating_sub(behind.after).saturating_sub(behind.gaps)
        })
    }

    /// `place` is not to be read, whatever the store has there. `false` when there is no room for
    /// another run of such places.
    pub(super) fn doubt(&mut self, place: u64) -> bool {
        if self.behind.as_ref().is_none_or(|behind| place <= behind.after) {
            // It was in memory, and nobody reads it.
            return true;
        }
        let follows = |(_, last): &(&u64, &mut u64)| **last + 1 == place;
        if let Some((_, last)) = self.doubtful.range_mut(..place).next_back().filter(follows) {
            *last = place;
            return true;
        }
        let has_room = self.doubtful.len() < DOUBTS_MAX;
        if has_room {
            self.doubtful.insert(place, place);
        }
        has_room
    }

    /// Whether `place` is not to be read.
    pub(super) fn is_doubtful(&self, place: u64) -> bool {
        self.doubtful.range(..=place).next_back().is_some_and(|(_, last)| place <= *last)
    }

    /// The store did not take a message. Of many the last are remembered.
    pub(super) fn note_given_up(&mut self, message: MessageId) {
        if self.given_up.len() >= GIVEN_UP_MAX {
            self.given_up.pop_front();
        }
        self.given_up.push_back(message);
    }

    pub(super) fn take_given_up(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.given_up).into()
    }

    /// What to ask the store for, once; `None` when nothing is behind, or nothing of it certain.
    pub(super) fn ask(&mut self) -> Option<PageWanted> {
        let below = self.pending.front().copied().unwrap_or(self.next);
        let behind = self.behind.as_mut().filter(|behind| !behind.is_asked)?;
        if behind.after + 1 >= below {
            return None;
        }
        behind.is_asked = true;
        Some(PageWanted { after: behind.after, below })
    }

    /// Whether [`Self::ask`] would.
    pub(super) fn can_ask(&self) -> bool {
        let below = self.pending.front().copied().unwrap_or(self.next);
        self.behind.as_ref().is_some_and(|behind| !behind.is_asked && behind.after + 1 < below)
    }

    /// Whether this page is what the store was asked for last, and not an answer that came too late.
    pub(super) fn expects(&self, page: PageWanted) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.is_asked && behind.after == page.after)
    }

    /// One is taken although the queue is full: what is behind is to be read, and gives way then.
    /// `false` when there is no such thing, or too many were taken by now.
    pub(super) fn owe(&mut self) -> bool {
        let behind = self.behind.as_mut().filter(|behind| behind.owed < OWED_MAX);
        behind.is_some_and(|behind| {
            behind.owed += 1;
            true
        })
    }

    /// How many were taken that way and are not paid for. Whoever asks pays, or owes the rest again.
    pub(super) fn take_owed(&mut self) -> u32 {
        self.behind.as_mut().map_or(0, |behind| std::mem::take(&mut behind.owed))
    }

    /// So many are still owed.
    pub(super) fn owe_again(&mut self, owed: u32) {
        if let Some(behind) = &mut self.behind {
            behind.owed = owed;
        }
    }

    /// The store has answered: everything up to `last` is in memory now, at `count` places.
    pub(super) fn note_read(&mut self, last: u64, count: u64) -> Missing {
        let Some(behind) = &mut self.behind else { return Missing { messages: 0, bytes: 0 } };
        let missing = last.saturating_sub(behind.after).saturating_sub(count);
        // Which of them were not counted nobody knows before the last page.
        let known = missing.min(behind.gaps);
        behind.gaps -= known;
        behind.is_asked = false;
        behind.after = behind.after.max(last);
        let after = behind.after;
        self.doubtful.retain(|_, last| *last > after);
        if behind.after + 1 >= self.next {
            self.behind = None;
        }
        let (messages, left) = (missing - known, self.left_out());
        let bytes = match left {
            0 => self.bytes_left_out,
            _ => share_of(self.bytes_left_out, messages, messages + left),
        };
        self.bytes_left_out -= bytes;
        Missing { messages, bytes }
    }

    /// The store could not answer: it may be asked again.
    pub(super) fn note_unread(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.is_asked = false;
        }
    }

    /// The place below which the client may have been sent what was there; `first` is the first that is
    /// in memory and was not taken.
    pub(super) fn sent_below(&self, first: Option<u64>) -> u64 {
        let behind = self.behind.as_ref().map_or(self.next, |behind| behind.after + 1);
        first.unwrap_or(behind).max(self.repeat_below)
    }

    /// Whether the client may have been sent what is at `place`.
    pub(super) fn may_be_repeated(&self, place: u64) -> bool {
        place < self.repeat_below
    }
}

/// So many parts of `bytes` as `part` is of `whole`, which is not zero.
fn share_of(bytes: usize, part: u64, whole: u64) -> usize {
    let share = bytes as u128 * u128::from(part) / u128::from(whole.max(1));
    usize::try_from(share).unwrap_or(bytes).min(bytes)
}

/// A queue that has run empty keeps room for this many.
const IDLE_CAPACITY: usize = 128;
/// Messages that are taken although a queue is full, while the store is asked for those that give way.
const OWED_MAX: u32 = 256;
/// Messages remembered that the store did not take. Of more, one that moves may come late.
const GIVEN_UP_MAX: usize = 1_024;
/// Runs of places that are doubtful. More: what the store has there may come twice.
const DOUBTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_certain_behind_what_is_pending() {
        let mut places = Places::new(1);
        let given = [places.give(), places.give(), places.give()];
        assert_eq!(given, [1, 2, 3]);
        places.settle(2);
        assert!(!places.is_certain(1) && !places.is_certain(2));
        places.settle(1);
        assert!(places.is_certain(2) && !places.is_certain(3));
    }

    #[test]
    fn what_is_behind_is_read_up_to_what_is_pending_until_it_meets_the_end() {
        let mut places = Places::new(1);
        for _ in 1..=4 {
            let place = places.give();
            if place > 1 {
                places.leave_out(place, 1);
            }
        }
        for place in [1, 2, 4] {
            places.settle(place);
        }
        let wanted = places.ask();
        assert_eq!(wanted, Some(PageWanted { after: 1, below: 3 }));
        assert_eq!(places.ask(), None, "once at a time");
        assert_eq!(places.note_read(2, 1), Missing { messages: 0, bytes: 0 });
        assert_eq!(places.ask(), None, "3 is pending");
        places.settle(3);
        assert_eq!(places.ask(), Some(PageWanted { after: 2, below: 5 }));
        assert_eq!(places.note_read(4, 1), Missing { messages: 1, bytes: 3 });
        assert!(!places.is_behind());
    }

    #[test]
    fn doubtful_places_are_known_until_they_are_passed() {
        let mut places = Places::new(1);
        assert!(places.doubt(1), "it was in memory");
        assert!(!places.is_doubtful(1));
        for _ in 1..=7 {
            let place = places.give();
            places.leave_out(place, 1);
            places.settle(place);
        }
        assert!([2, 3, 6].into_iter().all(|place| places.doubt(place)));
        let doubtful = |places: &Places| (1..=7).filter(|it| places.is_doubtful(*it)).collect();
        let all: Vec<u64> = doubtful(&places);
        assert_eq!(all, [2, 3, 6]);
        assert_eq!(places.ask(), Some(PageWanted { after: 0, below: 8 }));
        let _missing = places.note_read(4, 3);
        let left: Vec<u64> = doubtful(&places);
        assert_eq!(left, [6]);
    }

    #[test]
    fn a_queue_that_was_left_is_behind_and_its_head_may_be_a_repeat() {
        let mut places = Places::left(7, 20, 13, 10);
        assert_eq!(places.ask(), Some(PageWanted { after: 6, below: 20 }));
        assert!(places.may_be_repeated(9) && !places.may_be_repeated(10));
        assert!(!Places::left(20, 20, 0, 3).is_behind());
    }

    #[test]
    fn what_is_missing_is_told_from_what_was_not_counted() {
        let mut places = Places::left(1, 11, 8, 0);
        for _ in 11..=14 {
            let place = places.give();
            places.leave_out(place, 2);
            places.settle(place);
        }
        assert!(places.withdraw(12, 2));
        assert_eq!(places.left_out(), 11);
        assert_eq!(places.note_read(5, 1), Missing { messages: 1, bytes: 0 });
        assert_eq!(places.left_out(), 9);
        assert!(!places.withdraw(3, 2), "it has been passed");
        assert_eq!(places.take_left_out(4), 4);
        assert_eq!(places.note_read(14, 8), Missing { messages: 1, bytes: 2 });
        assert!(!places.withdraw(13, 2));
    }

    #[test]
    fn what_was_taken_may_have_been_sent_and_so_may_what_an_earlier_process_had() {
        let mut places = Places::new(1);
        assert_eq!(places.sent_below(None), 1);
        for _ in 1..=4 {
            let place = places.give();
            places.settle(place);
        }
        assert_eq!((places.sent_below(Some(3)), places.sent_below(None)), (3, 5));
        places.leave_out(4, 1);
        assert_eq!(places.sent_below(None), 4, "what is in the store alone was not");
        let places = Places::left(7, 20, 13, 10);
        assert_eq!((places.sent_below(None), places.sent_below(Some(12))), (10, 12));
    }
}
