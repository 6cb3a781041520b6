//! The bytes of packets that have come in part, of all connections together.
//!
//! A few bytes of each connection are free of it, so that small packets cost no shared counter. One
//! client at a time may go beyond the bound: where many packets are half here and none finds room
//! for its rest, they come whole one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What packets that are not whole may have.
#[derive(Debug)]
pub struct PartBudget {
    used: AtomicU64,
    is_overdrawn: AtomicBool,
    bytes_max: u64,
}

/// Whose packet it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
    /// Somebody who has not been let in: all of them have half of the room.
    Stranger,
    /// A client.
    Client,
}

/// What one packet has of it, until it is dropped.
#[derive(Debug)]
pub struct PartRoom {
    budget: Arc<PartBudget>,
    bytes: u64,
    is_overdraft: bool,
}

impl PartBudget {
    /// Room for `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), is_overdrawn: AtomicBool::new(false), bytes_max }
    }

    /// What packets have of it now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there is nothing left of it for packets of `sender`.
    #[inline]
    #[must_use]
    pub fn is_full(&self, sender: Sender) -> bool {
        self.used() >= self.bytes_max_of(sender)
    }

    fn bytes_max_of(&self, sender: Sender) -> u64 {
        match sender {
            Sender::Stranger => self.bytes_max / 2,
            Sender::Client => self.bytes_max,
        }
    }
}

impl PartRoom {
    /// None of it, so far.
    #[must_use]
    pub fn new(budget: &Arc<PartBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, is_overdraft: false }
    }

    /// Takes what a buffer of `capacity` bytes needs; `false` when there is not as much.
    pub fn grow(&mut self, capacity: usize, sender: Sender) -> bool {
        let more = self.missing(capacity);
        let budget = &self.budget;
        let used = budget.used.fetch_add(more, Ordering::Relaxed) + more;
        let is_within = used <= budget.bytes_max_of(sender) || self.is_overdraft;
        if is_within || self.overdraw(sender) {
            self.bytes += more;
            return true;
        }
        self.budget.used.fetch_sub(more, Ordering::Relaxed);
        false
    }

    /// Takes what a buffer of `capacity` bytes needs, though there may not be as much: it has been
    /// read.
    pub fn take(&mut self, capacity: usize) {
        let more = self.missing(capacity);
        self.budget.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
    }

    fn missing(&self, capacity: usize) -> u64 {
        (capacity.saturating_sub(FREE_BYTES) as u64).saturating_sub(self.bytes)
    }

    fn overdraw(&mut self, sender: Sender) -> bool {
        if sender == Sender::Stranger {
            return false;
        }
        self.is_overdraft = !self.budget.is_overdrawn.swap(true, Ordering::Relaxed);
        self.is_overdraft
    }
}

impl Drop for PartRoom {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_overdraft {
            self.budget.is_overdrawn.store(false, Ordering::Relaxed);
        }
    }
}

/// What every connection may hold without asking.
pub const FREE_BYTES: usize = 8 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1_024;

    fn budget(bytes_max: u64) -> Arc<PartBudget> {
        Arc::new(PartBudget::new(bytes_max))
    }

    #[test]
    fn strangers_have_half_and_a_few_bytes_are_free() {
        let budget = budget(64 * KIB as u64);
        let mut stranger = PartRoom::new(&budget);
        assert!(stranger.grow(FREE_BYTES, Sender::Stranger));
        assert_eq!(budget.used(), 0);
        assert!(stranger.grow(FREE_BYTES + 32 * KIB, Sender::Stranger));
        assert!(budget.is_full(Sender::Stranger) && !budget.is_full(Sender::Client));
        assert!(!stranger.grow(FREE_BYTES + 33 * KIB, Sender::Stranger));
        assert_eq!(budget.used(), 32 * KIB as u64);
        let mut client = PartRoom::new(&budget);
        assert!(client.grow(FREE_BYTES + 32 * KIB, Sender::Client));
        assert!(!client.is_overdraft && budget.is_full(Sender::Client));
        drop((stranger, client));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_client_at_a_time_goes_beyond() {
        let budget = budget(0);
        let [mut first, mut second] = [PartRoom::new(&budget), PartRoom::new(&budget)];
        assert!(first.grow(100 * KIB, Sender::Client));
        assert!(!second.grow(100 * KIB, Sender::Client));
        assert!(first.grow(200 * KIB, Sender::Client));
        drop(first);
        assert!(second.grow(100 * KIB, Sender::Client));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_was_read_counts_though_there_is_no_room() {
        let budget = budget(0);
        let mut room = PartRoom::new(&budget);
        room.take(64 * KIB);
        assert_eq!(budget.used(), 56 * KIB as u64);
    }
}
