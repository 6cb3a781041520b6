//! Exact accounts of what arrived: lost, doubled, out of order.

use std::collections::BTreeSet;

use crate::number::index;

/// What went wrong in a row; all zero when nothing did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Messages that never arrived, counted per receiver.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicates: u64,
    /// Messages that arrived behind a later one of the same publisher.
    pub inversions: u64,
    /// Messages that nobody sent, or that came to the wrong receiver.
    pub strays: u64,
}

impl Faults {
    /// Whether every message arrived once, in order.
    #[must_use]
    pub fn is_clean(self) -> bool {
        self == Self::default()
    }

    /// Adds another account to this one.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.inversions += other.inversions;
        self.strays += other.strays;
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lost, duplicates, inversions, strays } = self;
        write!(f, "lost {lost}, duplicates {duplicates}, inversions {inversions}, stray {strays}")
    }
}

/// Whether a message counts as delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// The first copy.
    First,
    /// Another copy of one that is already here.
    Again,
}

/// One receiver's account of one flow of which it is owed every message.
///
/// Every sequence below `next` has arrived or is in `missing`.
#[derive(Clone, Debug, Default)]
pub struct Track {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Track {
    /// Notes the arrival of `sequence`.
    pub fn note(&mut self, sequence: u64, faults: &mut Faults) -> Arrival {
        if sequence == self.next {
            self.next += 1;
            return Arrival::First;
        }
        self.note_out_of_turn(sequence, faults)
    }

    /// Notes the arrival of `sequence` where others get a part of the flow: gaps are no fault.
    pub fn note_share(&mut self, sequence: u64, faults: &mut Faults) {
        if sequence < self.next {
            faults.inversions += 1;
        }
        self.next = self.next.max(sequence + 1);
    }

    fn note_out_of_turn(&mut self, sequence: u64, faults: &mut Faults) -> Arrival {
        if sequence > self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
            return Arrival::First;
        }
        if self.missing.remove(&sequence) {
            faults.inversions += 1;
            return Arrival::First;
        }
        faults.duplicates += 1;
        Arrival::Again
    }

    /// Messages of the `sent` ones that are not here.
    #[must_use]
    pub fn lost(&self, sent: u64) -> u64 {
        crate::number::count(self.missing.len()) + sent.saturating_sub(self.next)
    }
}

/// The messages of a flow that are under way: a window of `copies` counters.
///
/// Messages below `base` are done; those from `base` to `sent` are within the window.
#[derive(Clone, Debug)]
pub struct Window {
    owed: Box<[u32]>,
    copies: u32,
    base: u64,
    sent: u64,
}

impl Window {
    /// A window of `len` messages, each due to arrive `copies` times.
    #[must_use]
    pub fn new(len: usize, copies: u32) -> Self {
        Self { owed: vec![0; len].into_boxed_slice(), copies, base: 0, sent: 0 }
    }

    /// Takes the next message into the window; `None` when it is full.
    pub fn send(&mut self) -> Option<u64> {
        let sequence = self.sent;
        let copies = self.copies;
        if self.room() == 0 {
            return None;
        }
        *self.slot(sequence)? = copies;
        self.sent += 1;
        Some(sequence)
    }

    /// Notes one copy of `sequence`; [`Arrival::Again`] when no more are owed.
    pub fn note(&mut self, sequence: u64) -> Option<Arrival> {
        if sequence >= self.sent {
            return None;
        }
        if sequence < self.base {
            return Some(Arrival::Again);
        }
        let owed = self.slot(sequence)?;
        if *owed == 0 {
            return Some(Arrival::Again);
        }
        *owed -= 1;
        while self.base < self.sent && self.slot(self.base) == Some(&mut 0) {
            self.base += 1;
        }
        Some(Arrival::First)
    }

    /// Messages that may be sent now.
    #[must_use]
    pub fn room(&self) -> u64 {
        crate::number::count(self.owed.len()) - (self.sent - self.base)
    }

    /// Messages sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether everything sent has arrived.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.base == self.sent
    }

    /// Copies that have not arrived.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.owed.iter().map(|&copies| u64::from(copies)).sum()
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut u32> {
        let len = crate::number::count(self.owed.len());
        self.owed.get_mut(index(sequence % len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(arrivals: &[u64], sent: u64) -> Faults {
        let mut track = Track::default();
        let mut faults = Faults::default();
        for &sequence in arrivals {
            track.note(sequence, &mut faults);
        }
        faults.lost = track.lost(sent);
        faults
    }

    #[test]
    fn a_track_tells_the_faults_apart() {
        assert!(account(&[0, 1, 2], 3).is_clean());
        assert_eq!(account(&[0, 2], 4), Faults { lost: 2, ..Faults::default() });
        assert_eq!(account(&[0, 2, 1], 3), Faults { inversions: 1, ..Faults::default() });
        assert_eq!(account(&[0, 0, 1], 2), Faults { duplicates: 1, ..Faults::default() });
    }

    #[test]
    fn a_window_opens_when_every_copy_is_here() {
        let mut window = Window::new(2, 2);
        assert_eq!((window.send(), window.send(), window.send()), (Some(0), Some(1), None));
        for sequence in [1, 1, 0] {
            assert_eq!(window.note(sequence), Some(Arrival::First));
            assert_eq!(window.room(), 0);
        }
        assert_eq!(window.note(0), Some(Arrival::First));
        assert_eq!(window.room(), 2);
        assert_eq!(window.note(1), Some(Arrival::Again));
        assert_eq!(window.note(2), None);
        assert!(window.is_idle());
    }
}
