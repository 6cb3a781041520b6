//! Who is parked, by number and by deadline.

use std::collections::BTreeSet;

/// Things with small numbers, some of which are due in a certain second.
pub(super) struct Roll<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    /// Second and number.
    deadlines: BTreeSet<(u32, u32)>,
}

impl<T> Roll<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), deadlines: BTreeSet::new() }
    }

    /// Puts one down, and returns its number.
    pub(super) fn add(&mut self, entry: T, due_secs: Option<u32>) -> u32 {
        let number = if let Some(number) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(index(number)) {
                *place = Some(entry);
            }
            number
        } else {
            self.entries.push(Some(entry));
            u32::try_from(self.entries.len() - 1).expect("there are fewer sockets than that")
        };
        self.deadlines.extend(due_secs.map(|secs| (secs, number)));
        number
    }

    /// Strikes one off that was put down with this deadline.
    pub(super) fn remove(&mut self, number: u32, due_secs: Option<u32>) -> Option<T> {
        let entry = self.entries.get_mut(index(number))?.take()?;
        if let Some(secs) = due_secs {
            self.deadlines.remove(&(secs, number));
        }
        self.free.push(number);
        if self.is_empty() {
            // There may have been a million.
            *self = Self::new();
        }
        Some(entry)
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.entries.get(number)?.as_ref()
    }

    /// Some of those who are due by this second, the earliest first.
    pub(super) fn due(&self, by_secs: u32) -> impl Iterator<Item = &T> {
        let numbers = self.deadlines.range(..=(by_secs, u32::MAX));
        numbers.filter_map(|(_, number)| self.get(index(*number)))
    }

    /// The second of the next deadline.
    pub(super) fn next_due(&self) -> Option<u32> {
        self.deadlines.first().map(|(secs, _)| *secs)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Everybody; nobody is left.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::replace(self, Self::new()).entries.into_iter().flatten()
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

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
        assert_eq!(roll.due(5).collect::<Vec<_>>(), [&"c", &"d"]);
        assert_eq!(roll.due(4).count(), 0);
        assert_eq!(roll.remove(2, Some(5)), Some("c"));
        assert_eq!(roll.remove(2, Some(5)), None);
        assert_eq!(roll.add("e", Some(9)), 2);
        assert_eq!(roll.due(7).collect::<Vec<_>>(), [&"d", &"a"]);
        assert_eq!((roll.get(1), roll.get(2), roll.get(4)), (Some(&"b"), Some(&"e"), None));
        assert_eq!(roll.take_all().collect::<Vec<_>>(), ["a", "b", "e", "d"]);
        assert_eq!((roll.len(), roll.next_due()), (0, None));
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
}
