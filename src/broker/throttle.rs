//! The publish rate of one client: faster than its bound, it is read later.

use crate::ports::clock::Tick;

/// Counts publishes against a rate.
#[derive(Debug)]
pub struct Throttle {
    /// Publishes a second; zero for no bound.
    rate_max: u32,
    /// When the present second began.
    since: Tick,
    /// Publishes since then; never zero again after the first.
    published: u32,
    /// Whether the way to another broker was getting full when it published last.
    is_congested: bool,
}

impl Throttle {
    /// A client that has not published yet.
    #[must_use]
    pub fn new(rate_max: u32, now: Tick) -> Self {
        Self { rate_max, since: now, published: 0, is_congested: false }
    }

    /// One more publish.
    #[inline]
    pub fn note(&mut self) {
        self.published = self.published.saturating_add(1);
    }

    /// Whether this client publishes at all.
    #[must_use]
    pub fn has_published(&self) -> bool {
        self.published > 0
    }

    /// Whether it makes no difference to begin to count anew.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.is_congested && (self.rate_max == 0 || self.published <= 1)
    }

    /// The way to another broker is getting full: the client is read a little later.
    pub fn note_congestion(&mut self) {
        self.is_congested = true;
    }

    /// Whether it published where the way was getting full; asked once for each time.
    pub fn take_congestion(&mut self) -> bool {
        std::mem::take(&mut self.is_congested)
    }

    /// Until when the client is not to be read, if it was too fast.
    pub fn until(&mut self, now: Tick) -> Option<Tick> {
        if self.rate_max == 0 {
            return None;
        }
        let allowed = u64::from(self.rate_max) * now.saturating_since(self.since) / 1_000;
        let surplus = u64::from(self.published).saturating_sub(allowed.max(1));
        if surplus > u64::from(self.rate_max) / BURSTS_A_SECOND {
            let wait = surplus * 1_000 / u64::from(self.rate_max);
            return Some(now.plus_millis(wait.max(1)));
        }
        if now.saturating_since(self.since) >= WINDOW_MILLIS {
            // A quiet client does not save up for a burst. It stays known as a publisher.
            self.since = now;
            self.published = 1;
        }
        None
    }
}

/// A client may be ahead of its rate by this part of a second.
const BURSTS_A_SECOND: u64 = 10;
const WINDOW_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_too_fast_waits_for_what_it_was_ahead() {
        let mut throttle = Throttle::new(100, Tick::ZERO);
        for _ in 0..11 {
            throttle.note();
        }
        assert_eq!(throttle.until(Tick::ZERO), None, "a tenth of a second ahead is allowed");
        throttle.note();
        let until = throttle.until(Tick::ZERO).unwrap();
        assert_eq!(until, Tick::from_millis(110));
        assert_eq!(throttle.until(until), None);
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let mut throttle = Throttle::new(0, Tick::ZERO);
        (0..1_000_000).for_each(|_| throttle.note());
        assert_eq!(throttle.until(Tick::ZERO), None);
    }
}
