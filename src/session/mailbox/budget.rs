//! The bytes of all queues of a broker together. A payload counts once for each queue it waits in.
//!
//! Mailboxes lease them in chunks, so that what they share is touched once per chunk and not once per
//! message. Two rules keep those who do not read from taking it all: QoS 0 leases no more than half,
//! and a mailbox that holds nothing, and whose client is there, gets its first lease whatever others
//! have.

use std::sync::atomic::Ordering;

use crate::session::sync::AtomicU64;

/// The bytes of all queues of a broker together.
#[derive(Debug)]
pub struct QueueBudget {
    /// Chunks: those of all in the lower half, those for QoS 0 among them in the upper one, so that
    /// a lease is one step.
    leased: AtomicU64,
    refusals: AtomicU64,
    reserves: AtomicU64,
    pub(super) known: AtomicU64,
    pub(super) forgotten: AtomicU64,
    behind: AtomicU64,
    chunks_max: u64,
}

/// Whom a lease is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    AtMostOnce,
    AtLeastOnce,
}

/// What a mailbox has leased, in chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leases {
    at_most_once: u32,
    at_least_once: u32,
}

impl Leases {
    pub(super) fn is_empty(self) -> bool {
        self.at_most_once == 0 && self.at_least_once == 0
    }

    fn of(&mut self, of: Use) -> &mut u32 {
        match of {
            Use::AtMostOnce => &mut self.at_most_once,
            Use::AtLeastOnce => &mut self.at_least_once,
        }
    }
}

impl QueueBudget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let [leased, refusals, reserves, known, forgotten, behind] = [0; 6].map(AtomicU64::new);
        let chunks_max = bytes_max / LEASE_BYTES;
        Self { leased, refusals, reserves, known, forgotten, behind, chunks_max }
    }

    /// Bytes that mailboxes hold or may take without asking again.
    #[must_use]
    pub fn leased(&self) -> u64 {
        all_of(self.leased.load(Ordering::Relaxed)) * LEASE_BYTES
    }

    /// Bytes that mailboxes may lease, but for what is in reserve for those that hold nothing.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.chunks_max * LEASE_BYTES
    }

    /// How often a mailbox was refused room because all queues together had too much.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// How often a mailbox that held nothing got room although all queues together had too much.
    #[must_use]
    pub fn reserves(&self) -> u64 {
        self.reserves.load(Ordering::Relaxed)
    }

    /// How often a message came that a Session had taken already, where it was before it moved.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// How often a Session forgot that it had taken a message because it had taken too many since.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Mailboxes in which something waits that another member of a Shared Subscription could have.
    #[inline]
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.behind.load(Ordering::SeqCst)
    }

    pub(super) fn count_behind(&self, is_behind: bool) {
        if is_behind {
            self.behind.fetch_add(1, Ordering::SeqCst);
        } else {
            self.behind.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Makes `leases` suffice for `needed` bytes; `is_first` for a mailbox that holds nothing.
    #[inline]
    pub(super) fn extend(&self, leases: &mut Leases, of: Use, needed: u64, is_first: bool) -> bool {
        let held = leases.of(of);
        let bytes = u64::from(*held) * LEASE_BYTES;
        if needed <= bytes {
            return true;
        }
        let chunks = u32::try_from((needed - bytes).div_ceil(LEASE_BYTES)).unwrap_or(u32::MAX);
        let Some(all) = held.checked_add(chunks) else { return false };
        let is_leased = self.lease(chunks.into(), of, is_first);
        if is_leased {
            *held = all;
        }
        is_leased
    }

    /// Takes back what `leases` has for one use.
    #[inline]
    pub(super) fn give_back(&self, leases: &mut Leases, of: Use) {
        let chunks = std::mem::take(leases.of(of));
        if chunks == 0 {
            return;
        }
        let step = step(of, chunks.into());
        let before = self.leased.fetch_sub(step, Ordering::Relaxed);
        debug_assert!(before >= step, "more was given back than was leased");
    }

    fn lease(&self, chunks: u64, of: Use, is_first: bool) -> bool {
        let step = step(of, chunks);
        let after = self.leased.fetch_add(step, Ordering::Relaxed) + step;
        let is_within = all_of(after) <= self.chunks_max
            && (of == Use::AtLeastOnce || at_most_once_of(after) <= self.chunks_max / 2);
        if is_within {
            return true;
        }
        if is_first {
            self.reserves.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        self.leased.fetch_sub(step, Ordering::Relaxed);
        self.refusals.fetch_add(1, Ordering::Relaxed);
        false
    }
}

fn step(of: Use, chunks: u64) -> u64 {
    match of {
        Use::AtMostOnce => chunks << HALF_BITS | chunks,
        Use::AtLeastOnce => chunks,
    }
}

fn all_of(leased: u64) -> u64 {
    leased & ((1 << HALF_BITS) - 1)
}

fn at_most_once_of(leased: u64) -> u64 {
    leased >> HALF_BITS
}

/// What a mailbox leases of the budget at a time.
const LEASE_BYTES: u64 = 16 * 1_024;
/// Half of the bits of what is leased: enough for 64 TiB.
const HALF_BITS: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = LEASE_BYTES;

    #[track_caller]
    fn check(budget: &QueueBudget, leases: &mut Leases, of: Use, needed: u64, is_leased: bool) {
        assert_eq!(budget.extend(leases, of, needed, false), is_leased, "{of:?} {needed}");
    }

    #[test]
    fn qos_0_leases_half_and_the_others_what_is_left() {
        let budget = QueueBudget::new(4 * CHUNK + 1);
        let [mut first, mut second] = [Leases::default(); 2];
        check(&budget, &mut first, Use::AtMostOnce, 2 * CHUNK, true);
        check(&budget, &mut first, Use::AtMostOnce, 2 * CHUNK + 1, false);
        check(&budget, &mut second, Use::AtLeastOnce, 2 * CHUNK, true);
        check(&budget, &mut second, Use::AtLeastOnce, 2 * CHUNK + 1, false);
        assert_eq!((budget.leased(), budget.refusals()), (4 * CHUNK, 2));
        budget.give_back(&mut first, Use::AtMostOnce);
        assert!(first.is_empty());
        check(&budget, &mut second, Use::AtLeastOnce, 4 * CHUNK, true);
        budget.give_back(&mut second, Use::AtLeastOnce);
        assert_eq!((budget.leased(), budget.reserves()), (0, 0));
    }

    #[test]
    fn who_holds_nothing_gets_a_first_lease() {
        let budget = QueueBudget::new(CHUNK);
        let [mut full, mut empty] = [Leases::default(); 2];
        check(&budget, &mut full, Use::AtLeastOnce, CHUNK, true);
        assert!(budget.extend(&mut empty, Use::AtMostOnce, 1, true));
        check(&budget, &mut empty, Use::AtMostOnce, CHUNK, true);
        check(&budget, &mut empty, Use::AtMostOnce, CHUNK + 1, false);
        assert_eq!((budget.leased(), budget.reserves(), budget.refusals()), (2 * CHUNK, 1, 1));
        budget.give_back(&mut empty, Use::AtMostOnce);
        budget.give_back(&mut full, Use::AtLeastOnce);
        assert_eq!(budget.leased(), 0);
    }
}
