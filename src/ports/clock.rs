//! Time as an input: the adapters read the clock, everything below is told.

/// A point in time, in milliseconds since the broker started. It never goes back.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tick(u64);

impl Tick {
    /// The moment the broker started.
    pub const ZERO: Self = Self(0);

    /// The moment this many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `millis` later. It saturates, so that "never" may be written as `u64::MAX`.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The moment `secs` later.
    #[must_use]
    pub fn plus_secs(self, secs: u32) -> Self {
        self.plus_millis(u64::from(secs) * MILLIS_PER_SEC)
    }

    /// Milliseconds from `earlier` to this moment; zero when `earlier` is in fact later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

const MILLIS_PER_SEC: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::Tick;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let later = Tick::ZERO.plus_secs(3).plus_millis(5);
        assert_eq!(later.as_millis(), 3_005);
        assert_eq!(later.saturating_since(Tick::from_millis(5)), 3_000);
        assert_eq!(Tick::ZERO.saturating_since(later), 0);
        assert_eq!(later.plus_millis(u64::MAX), Tick::from_millis(u64::MAX));
    }
}
