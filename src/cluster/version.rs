//! Versions of retained and latest values: of two changes made anywhere, which is the later.

use crate::cluster::identity::BootId;

/// Hybrid logical time and who made the change. Higher wins.
///
/// The upper 48 bits are milliseconds since 1970 on the cluster clock, the lower 16 count changes
/// within one of them, or beyond what the own clock shows yet.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// Hybrid logical time.
    pub time: u64,
    /// Who made the change.
    pub boot_id: BootId,
}

impl Version {
    /// When the change was made, in milliseconds since 1970 on the cluster clock.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.time >> COUNTER_BITS
    }
}

/// Gives each change a version above all that were seen.
#[derive(Debug, Default)]
pub struct VersionClock {
    last: u64,
}

impl VersionClock {
    /// A version for a change made now.
    pub fn next(&mut self, cluster_millis: u64, boot_id: BootId) -> Version {
        self.last = (self.last + 1).max(cluster_millis << COUNTER_BITS);
        Version { time: self.last, boot_id }
    }

    /// Somebody has a value of this version.
    pub fn note(&mut self, version: Version) {
        self.last = self.last.max(version.time);
    }
}

const COUNTER_BITS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::{BootId, VersionClock};

    #[test]
    fn a_version_is_above_all_seen_whatever_the_clock_says() {
        let mut clock = VersionClock::default();
        let first = clock.next(1_000, BootId(1));
        let second = clock.next(999, BootId(1));
        assert!(second > first, "the clock went back");
        let mut behind = VersionClock::default();
        behind.note(second);
        assert!(behind.next(0, BootId(0)) > second, "another broker's clock is behind");
    }
}
