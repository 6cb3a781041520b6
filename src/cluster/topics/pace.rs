//! How fast the tree is written to.

use crate::ports::Tick;

/// Lets through so many a second, and a tenth of a second's worth at once.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of the whole cluster.
    budget_per_sec: u32,
    /// Brokers that share it.
    sharers: u32,
    /// In thousandths of one.
    credit: u64,
    last: Tick,
}

impl Pace {
    pub(super) fn new(budget_per_sec: u32) -> Self {
        Self { budget_per_sec, sharers: 1, credit: ONE, last: Tick::ZERO }
    }

    pub(super) fn set_sharers(&mut self, sharers: u32) {
        self.sharers = sharers.max(1);
    }

    /// Whether one may go now.
    pub(super) fn is_open(&mut self, now: Tick) -> bool {
        let earned = now.saturating_since(self.last).saturating_mul(self.per_sec());
        self.last = self.last.max(now);
        self.credit = self.credit.saturating_add(earned).min(self.credit_max());
        self.credit >= ONE
    }

    /// One goes.
    pub(super) fn spend(&mut self) {
        self.credit = self.credit.saturating_sub(ONE);
    }

    /// When the next one may go.
    pub(super) fn next(&self) -> Tick {
        let missing = ONE.saturating_sub(self.credit);
        self.last.plus_millis(missing.div_ceil(self.per_sec()))
    }

    /// How long so many take.
    pub(super) fn millis_for(&self, count: usize) -> u64 {
        u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(ONE) / self.per_sec()
    }

    /// It is a rate per second and, in thousandths, per millisecond. Nobody is kept from writing
    /// altogether.
    fn per_sec(&self) -> u64 {
        u64::from((self.budget_per_sec / self.sharers).max(1))
    }

    fn credit_max(&self) -> u64 {
        (self.per_sec() * ONE / 10).max(ONE)
    }
}

const ONE: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(pace: &mut Pace, now: Tick) -> bool {
        let is_open = pace.is_open(now);
        if is_open {
            pace.spend();
        }
        is_open
    }

    #[test]
    fn the_budget_is_kept_and_shared() {
        for (sharers, expected) in [(1, 1_000), (4, 250), (1_000, 10)] {
            let mut pace = Pace::new(100);
            pace.set_sharers(sharers);
            let tries = (0..10_000).map(Tick::from_millis);
            let admitted = tries.filter(|&now| admit(&mut pace, now)).count();
            assert!(admitted.abs_diff(expected) <= 2, "{admitted} with {sharers}");
        }
    }

    #[test]
    fn it_says_when_to_come_again() {
        let mut pace = Pace::new(100);
        let mut now = Tick::ZERO.plus_secs(9);
        for _ in 0..50 {
            while admit(&mut pace, now) {}
            let next = pace.next();
            assert!(next > now);
            now = next;
            assert!(admit(&mut pace, now));
        }
    }
}
