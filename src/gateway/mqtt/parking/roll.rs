//! Who is parked, by number and by deadline.
//!
//! Invariant: who is due in a second hangs on the chain of that second, which begins at its entry in
//! the table of firsts. There may be a million, so what hangs there has no allocation of its own: many
//! small ones come when tasks and timers go, and would lie scattered where those lay, so that no page
//! of theirs could be given back.

use std::collections::BTreeMap;
use std::iter::successors;

/// Things with small numbers, some of which are due in a certain second.
pub(super) struct Roll<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    /// The first on the chain of each second.
    firsts: BTreeMap<u32, u32>,
}

struct Entry<T> {
    thing: Option<T>,
    /// Its neighbours on the chain.
    previous: u32,
    next: u32,
}

impl<T> Roll<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), firsts: BTreeMap::new() }
    }

    /// Puts one down, and returns its number.
    pub(super) fn add(&mut self, thing: T, due_secs: Option<u32>) -> u32 {
        let entry = Entry { thing: Some(thing), previous: NOBODY, next: NOBODY };
        let number = if let Some(number) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(index(number)) {
                *place = entry;
            }
            number
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("there are fewer sockets than that")
        };
        if let Some(secs) = due_secs {
            self.chain(number, secs);
        }
        number
    }

    fn chain(&mut self, number: u32, secs: u32) {
        let Some(next) = self.firsts.insert(secs, number) else { return };
        if let Some(entry) = self.entries.get_mut(index(number)) {
            entry.next = next;
        }
        if let Some(entry) = self.entries.get_mut(index(next)) {
            entry.previous = number;
        }
    }

    /// Strikes one off that was put down with this deadline.
    pub(super) fn remove(&mut self, number: u32, due_secs: Option<u32>) -> Option<T> {
        let entry = self.entries.get_mut(index(number))?;
        let thing = entry.thing.take()?;
        let (previous, next) = (entry.previous, entry.next);
        if let Some(secs) = due_secs {
            self.unchain(previous, next, secs);
        }
        self.free.push(number);
        if self.is_empty() {
            // There may have been a million.
            *self = Self::new();
        }
        Some(thing)
    }

    /// Nobody is between these two any more.
    fn unchain(&mut self, previous: u32, next: u32, secs: u32) {
        if let Some(entry) = self.entries.get_mut(index(next)) {
            entry.previous = previous;
        }
        if let Some(entry) = self.entries.get_mut(index(previous)) {
            entry.next = next;
        } else if next == NOBODY {
            self.firsts.remove(&secs);
        } else {
            self.firsts.insert(secs, next);
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.entries.get(number)?.thing.as_ref()
    }

    /// Those who are due by this second, the earliest first; within a second, who came last.
    pub(super) fn due(&self, by_secs: u32) -> impl Iterator<Item = &T> {
        let entry = |number: u32| self.entries.get(index(number));
        let firsts = self.firsts.range(..=by_secs).filter_map(move |(_, number)| entry(*number));
        firsts
            .flat_map(move |first| successors(Some(first), move |before| entry(before.next)))
            .filter_map(|entry| entry.thing.as_ref())
    }

    /// The second of the next deadline.
    pub(super) fn next_due(&self) -> Option<u32> {
        self.firsts.first_key_value().map(|(secs, _)| *secs)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Everybody; nobody is left.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let all = std::mem::replace(self, Self::new());
        all.entries.into_iter().filter_map(|entry| entry.thing)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The number of no entry.
const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_deadlines_go_with_their_entries() {
        let mut roll = Roll::new();
        let numbers = [("a", Some(7)), ("b", None), ("c", Some(5)), ("d", Some(5))]
            .map(|(name, due)| roll.add(name, due));
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!((roll.len(), roll.next_due()), (4, Some(5)));
        assert_eq!(roll.due(5).collect::<Vec<_>>(), [&"d", &"c"]);
        assert_eq!(roll.due(4).count(), 0);
        assert_eq!(roll.remove(2, Some(5)), Some("c"));
        assert_eq!(roll.remove(2, Some(5)), None);
        assert_eq!(roll.add("e", Some(9)), 2);
        assert_eq!(roll.due(7).collect::<Vec<_>>(), [&"d", &"a"]);
        assert_eq!((roll.get(1), roll.get(2), roll.get(4)), (Some(&"b"), Some(&"e"), None));
        assert_eq!(roll.take_all().collect::<Vec<_>>(), ["a", "b", "e", "d"]);
        assert_eq!((roll.len(), roll.next_due()), (0, None));
    }

    /// The first, the last and one between them go by different ways.
    #[test]
    fn who_goes_leaves_a_whole_chain() {
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
        for order in orders {
            let mut roll = Roll::new();
            let _other = roll.add(9, Some(6));
            let numbers = [0, 1, 2, 3].map(|name| roll.add(name, Some(5)));
            let mut left = vec![3, 2, 1, 0];
            for name in order {
                assert_eq!(roll.remove(numbers[name], Some(5)), Some(name));
                left.retain(|other| *other != name);
                assert_eq!(roll.due(5).copied().collect::<Vec<_>>(), left, "{order:?}");
            }
            assert_eq!((roll.next_due(), roll.due(6).count()), (Some(6), 1));
        }
    }

    #[test]
    fn an_empty_roll_keeps_no_room() {
        let mut roll = Roll::new();
        let numbers: Vec<_> = (0..1_000).map(|n| roll.add(n, Some(n))).collect();
        for number in numbers {
            assert_eq!(roll.remove(number, Some(number)), Some(number));
        }
        assert!(roll.is_empty());
        assert_eq!((roll.entries.capacity(), roll.free.capacity()), (0, 0));
    }

    /// There may be a million.
    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry<std::sync::Arc<u8>>>(), 16);
    }
}
