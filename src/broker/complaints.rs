//! Log lines about what one client is refused: one a second says enough, whatever it sends.

use crate::ports::clock::Tick;

/// Allows one line a second and counts the rest.
#[derive(Debug, Default)]
pub struct Complaints {
    quiet_until: Tick,
    suppressed: u32,
}

impl Complaints {
    /// Whether the next line stands for others that were not written.
    #[must_use]
    pub fn has_more_to_say(&self) -> bool {
        self.suppressed > 0
    }

    /// Whether a line is due for what just happened, and how many were not since the last one.
    pub fn note(&mut self, now: Tick) -> Option<u32> {
        if now < self.quiet_until {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.quiet_until = now.plus_millis(PAUSE_MILLIS);
        Some(std::mem::take(&mut self.suppressed))
    }
}

const PAUSE_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_it_stands_for() {
        let mut complaints = Complaints::default();
        let seen: Vec<_> = [0, 1, 500, 999, 1_000, 2_000, 2_001, 9_000]
            .map(|millis| complaints.note(Tick::from_millis(millis)))
            .to_vec();
        assert_eq!(seen, [Some(0), None, None, None, Some(3), Some(0), None, Some(1)]);
    }
}
