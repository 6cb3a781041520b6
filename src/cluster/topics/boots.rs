//! Boot ids, written small: a table of a million topics names each of a few brokers very often.

use crate::cluster::identity::BootId;

/// A place in [`Boots`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Boot(u16);

/// Every boot id that was met. Nothing is forgotten: it takes a process start to add one.
#[derive(Debug)]
pub(super) struct Boots {
    known: Vec<BootId>,
}

impl Boots {
    /// The first place is our own.
    pub(super) fn new(own: BootId) -> Self {
        Self { known: vec![own] }
    }

    /// The place of `boot_id`. When there are more than places, the rest share one where nobody
    /// stands: their versions cannot be told apart, and what they pay for is nobody's.
    pub(super) fn place(&mut self, boot_id: BootId) -> Boot {
        let found = self.known.iter().position(|&known| known == boot_id);
        let place = found.unwrap_or(self.known.len());
        if found.is_none() && place < usize::from(u16::MAX) {
            self.known.push(boot_id);
        }
        Boot(u16::try_from(place).unwrap_or(u16::MAX))
    }

    pub(super) fn at(&self, boot: Boot) -> BootId {
        self.known.get(usize::from(boot.0)).copied().unwrap_or(BootId(0))
    }
}

impl Boot {
    /// Ourselves.
    pub(super) const OWN: Self = Self(0);
}
