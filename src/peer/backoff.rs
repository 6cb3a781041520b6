//! How long to wait before a link is dialled again.

use std::time::Duration;

/// Doubles from try to try, and is jittered, so that brokers do not dial in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// The link stood: the next wait is short again.
    pub(super) fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// How long to wait now: between half and all of what it has come to.
    pub(super) fn wait(&mut self, chance: u32) -> Duration {
        let half = self.next / 2;
        let wait = half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_begin_anew() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.wait(0), Duration::from_millis(5));
        assert_eq!(backoff.wait(u32::MAX), Duration::from_millis(20));
        for _ in 0..20 {
            assert!(backoff.wait(u32::MAX) <= LONGEST);
        }
        assert_eq!(backoff.wait(u32::MAX), LONGEST);
        assert_eq!(backoff.wait(0), LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.wait(u32::MAX), SHORTEST);
    }
}
