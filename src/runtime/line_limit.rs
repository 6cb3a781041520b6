//! Log lines that others can cause are limited, or a flood of clients is a flood of lines.

use crate::ports::clock::Tick;
use parking_lot::Mutex;

/// Allows so many lines a minute and counts the rest.
#[derive(Debug)]
pub struct LineLimit {
    per_minute: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Tick,
    lines: u32,
    suppressed: u64,
}

impl LineLimit {
    /// A limit of so many lines in each minute.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        Self { per_minute, window: Mutex::default() }
    }

    /// Whether a line may be written now, and how many were not since the last that was.
    pub fn allow(&self, now: Tick) -> Option<u64> {
        let mut window = self.window.lock();
        if now.saturating_since(window.began) >= MINUTE_MILLIS {
            window.began = now;
            window.lines = 0;
        }
        if window.lines >= self.per_minute {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

const MINUTE_MILLIS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_its_lines_and_the_next_one_tells_of_the_rest() {
        let limit = LineLimit::per_minute(2);
        let now = Tick::from_millis(5);
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), Some(0));
        assert_eq!(limit.allow(now), None);
        assert_eq!(limit.allow(now.plus_millis(10)), None);
        assert_eq!(limit.allow(now.plus_millis(MINUTE_MILLIS)), Some(2));
        assert_eq!(limit.allow(now.plus_millis(MINUTE_MILLIS)), Some(0));
        assert_eq!(limit.allow(now.plus_millis(MINUTE_MILLIS)), None);
    }
}
