//! What exists in the tree, by who pays for it, as far as this broker has read.
//!
//! Kept by whoever reads the znodes (the registry of topics, the relay), consulted by the bank. A
//! figure is good for a calculation only when everything that was known to have changed when the
//! leases were read has been read since: [`Holdings::mark`] then, [`Holdings::is_settled`] later.

use std::collections::BTreeMap;

use super::funds::Funds;
use crate::cluster::identity::BootId;

/// A moment in the order of changes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mark(u64);

/// The cost of what exists, by payer.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Ordered, so that nothing depends on hashing. As long as brokers have started while their
    /// znodes lived; a payer of nothing is dropped.
    by_payer: BTreeMap<BootId, Funds>,
    /// Goes up with each mark.
    generation: u64,
    /// How many changes of each generation are known and not yet read.
    unread: BTreeMap<u64, u64>,
    /// Whether all there is has been listed since the connection was made.
    is_listed: bool,
    /// Znodes that are there and did not fit into the books.
    untracked: u64,
}

impl Holdings {
    /// Something exists that `payer` pays for.
    pub fn add(&mut self, payer: BootId, cost: Funds) {
        let held = self.by_payer.entry(payer).or_default();
        *held = held.plus(cost);
    }

    /// It is gone, or somebody else pays for it now.
    pub fn remove(&mut self, payer: BootId, cost: Funds) {
        let Some(held) = self.by_payer.get_mut(&payer) else { return };
        debug_assert!(held.covers(cost), "{payer:?} holds {held}, not {cost}");
        *held = held.saturating_minus(cost);
        if *held == Funds::ZERO {
            self.by_payer.remove(&payer);
        }
    }

    /// Something has changed and must be read. Give the mark back with [`Self::note_read`].
    pub fn note_change(&mut self) -> Mark {
        // What a listing finds may have been there before anything.
        let generation = if self.is_listed { self.generation } else { 0 };
        *self.unread.entry(generation).or_default() += 1;
        Mark(generation)
    }

    /// What had changed at `mark` has been read.
    pub fn note_read(&mut self, mark: Mark) {
        let Some(count) = self.unread.get_mut(&mark.0) else { return };
        *count -= 1;
        if *count == 0 {
            self.unread.remove(&mark.0);
        }
    }

    /// Everything is about to be listed anew.
    pub fn note_listing(&mut self) {
        self.is_listed = false;
    }

    /// Everything has been listed; what was found may wait to be read.
    pub fn note_listed(&mut self) {
        self.is_listed = true;
    }

    /// A znode is there that does not fit into the books: no figure is good from now on.
    pub fn set_untracked(&mut self, untracked: u64) {
        self.untracked = untracked;
    }

    /// This moment.
    pub fn mark(&mut self) -> Mark {
        self.generation += 1;
        Mark(self.generation - 1)
    }

    /// Whether everything that was known to have changed at `mark` has been read.
    #[must_use]
    pub fn is_settled(&self, mark: Mark) -> bool {
        let oldest = self.unread.first_key_value();
        self.is_listed && self.untracked == 0 && oldest.is_none_or(|(&oldest, _)| oldest > mark.0)
    }

    /// The cost of what `payer` pays for.
    #[must_use]
    pub fn of(&self, payer: BootId) -> Funds {
        self.by_payer.get(&payer).copied().unwrap_or_default()
    }

    /// The cost of all there is.
    #[must_use]
    pub fn total(&self) -> Funds {
        self.of_others_than(&[])
    }

    /// The cost of all there is whose payer is not among these.
    #[must_use]
    pub fn of_others_than(&self, payers: &[BootId]) -> Funds {
        let orphans = self.by_payer.iter().filter(|(payer, _)| !payers.contains(payer));
        orphans.fold(Funds::ZERO, |sum, (_, &cost)| sum.plus(cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Funds = Funds { topics: 1, znode_bytes: 10, relay_bytes: 0 };

    #[test]
    fn figures_are_settled_when_what_had_changed_has_been_read() {
        let mut holdings = Holdings::default();
        let before = holdings.note_change();
        let mark = holdings.mark();
        assert!(!holdings.is_settled(mark), "nothing has been listed");
        holdings.note_listed();
        assert!(!holdings.is_settled(mark), "a change from before is unread");
        let after = holdings.note_change();
        holdings.note_read(before);
        assert!(holdings.is_settled(mark), "what changed later does not matter");
        assert!(!holdings.is_settled(after));
        holdings.set_untracked(1);
        assert!(!holdings.is_settled(mark), "the books are incomplete");
    }

    /// The story: a leader that had just started asked for the figures while it listed what there was, and
    /// what was found after that was taken for a change of later: it gave away what was taken.
    #[test]
    fn what_is_found_by_a_listing_was_there_before() {
        let mut holdings = Holdings::default();
        let mark = holdings.mark();
        let found = holdings.note_change();
        holdings.note_listed();
        assert!(!holdings.is_settled(mark), "it was there before");
        holdings.note_read(found);
        assert!(holdings.is_settled(mark));
    }

    #[test]
    fn costs_are_kept_by_payer() {
        let mut holdings = Holdings::default();
        holdings.add(BootId(1), ONE);
        holdings.add(BootId(2), ONE);
        holdings.add(BootId(2), ONE);
        assert_eq!(holdings.of(BootId(2)), ONE.plus(ONE));
        assert_eq!(holdings.of_others_than(&[BootId(2)]), ONE);
        holdings.remove(BootId(1), ONE);
        assert_eq!(holdings.of_others_than(&[BootId(2)]), Funds::ZERO);
    }
}
