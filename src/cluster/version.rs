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
        self.last = self.last.saturating_add(1).max(cluster_millis << COUNTER_BITS);
        Version { time: self.last, boot_id }
    }

    /// Somebody has a value of this version. `false` when it is too far ahead of the cluster's time,
    /// where that is known: then it is not to be believed, for every later change would be above it.
    #[must_use]
    pub fn note(&mut self, version: Version, cluster_millis: Option<u64>) -> bool {
        let latest = cluster_millis.map(|millis| millis.saturating_add(AHEAD_MILLIS_MAX));
        if latest.is_some_and(|latest| version.millis() > latest) {
            return false;
        }
        self.last = self.last.max(version.time);
        true
    }
}

const COUNTER_BITS: u32 = 16;
/// How far ahead of the cluster's time a version may be. Clocks that differ by more do not agree on a
/// time of the cluster.
const AHEAD_MILLIS_MAX: u64 = 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::{AHEAD_MILLIS_MAX, BootId, COUNTER_BITS, Version, VersionClock};

    #[test]
    fn a_version_is_above_all_seen_whatever_the_clock_says() {
        let mut clock = VersionClock::default();
        let first = clock.next(1_000, BootId(1));
        let second = clock.next(999, BootId(1));
        assert!(second > first, "the clock went back");
        let mut behind = VersionClock::default();
        assert!(behind.note(second, Some(0)));
        assert!(behind.next(0, BootId(0)) > second, "another broker's clock is behind");
    }

    /// The end of time came by the wire: the next change made here panicked, or began at zero again.
    #[test]
    fn a_version_from_far_ahead_is_not_believed() {
        let mut clock = VersionClock::default();
        let now = 1_000_000;
        let at = |millis: u64| Version { time: millis << COUNTER_BITS, boot_id: BootId(2) };
        assert!(!clock.note(Version { time: u64::MAX, boot_id: BootId(2) }, Some(now)));
        assert!(!clock.note(at(now + AHEAD_MILLIS_MAX + 1), Some(now)));
        assert_eq!(clock.next(now, BootId(1)).millis(), now);
        assert!(clock.note(at(now + AHEAD_MILLIS_MAX), Some(now)));
        assert!(clock.next(now, BootId(1)) > at(now + AHEAD_MILLIS_MAX));
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let mut clock = VersionClock::default();
        let last = Version { time: u64::MAX, boot_id: BootId(2) };
        assert!(clock.note(last, None), "there is no time to compare it with");
        assert_eq!(clock.next(0, BootId(2)), last);
    }
}
