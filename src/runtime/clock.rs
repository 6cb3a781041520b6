//! The only place that reads the machine's clocks.

use crate::ports::clock::Tick;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The broker's clock. Copies agree with each other: they share the moment of the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts the clock: now is [`Tick::ZERO`].
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick::from_millis(saturating_millis(self.started.elapsed()))
    }

    /// Microseconds since the start, to measure how long something takes.
    #[must_use]
    pub fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long it is since the start, as exactly as the machine tells: for measuring.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Wall-clock time in milliseconds since 1970, for logs and for what is stored.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn unix_millis(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, saturating_millis)
    }

    /// The moment `tick` as the timers of the runtime want it.
    ///
    /// A moment too far away to be written as an [`Instant`] becomes one a century ahead.
    #[must_use]
    pub fn instant_at(&self, tick: Tick) -> tokio::time::Instant {
        let after = Duration::from_millis(tick.as_millis()).min(FAR_FUTURE);
        tokio::time::Instant::from_std(self.started + after)
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_and_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let before = clock.now();
        assert!(copy.now() >= before);
    }

    #[test]
    fn a_moment_too_far_away_is_still_a_moment() {
        let clock = Clock::start();
        let never = clock.instant_at(Tick::from_millis(u64::MAX));
        assert!(never > clock.instant_at(Tick::ZERO.plus_secs(u32::MAX / 2)));
    }

    #[test]
    fn wall_clock_is_after_this_was_written() {
        assert!(Clock::start().unix_millis() > 1_700_000_000_000);
    }
}
