//! Time as the broker sees it: an input, never something it asks for.

/// Milliseconds on a monotonic clock that starts with the process.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tick(u64);

impl Tick {
    /// The start of the process.
    pub const ZERO: Self = Self(0);

    /// The instant `millis` milliseconds after the start of the process.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start of the process.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant plus `millis` milliseconds; the end of time at most.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This instant plus `secs` seconds; the end of time at most.
    #[must_use]
    pub const fn plus_secs(self, secs: u32) -> Self {
        self.plus_millis(secs as u64 * 1_000)
    }

    /// Milliseconds since `earlier`, or zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
