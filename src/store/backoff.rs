//! How long to wait before the next try.

use std::time::Duration;

/// Pauses that grow, until the time for trying is up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    next: Duration,
    left: Duration,
}

impl Backoff {
    /// Tries for as long as `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self { next: FIRST, left: patience }
    }

    /// The pause before the next try; nothing when the time is up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if self.left.is_zero() {
            return None;
        }
        let pause = self.next.min(self.left);
        self.left -= pause;
        self.next = (self.next * 2).min(LONGEST);
        Some(pause)
    }
}

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_add_up_to_the_patience() {
        let patience = Duration::from_secs(4);
        let mut backoff = Backoff::new(patience);
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.next()).collect();
        assert_eq!(pauses[..2], [FIRST, FIRST * 2]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert_eq!(pauses.iter().sum::<Duration>(), patience);
    }
}
