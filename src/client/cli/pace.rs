//! How fast messages may go out.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one message go per interval; what was missed is made up for.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// One message per `interval`; zero means as fast as possible.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: None }
    }

    /// When the next message is due, or `None` for now.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A message went out.
    pub(super) fn sent(&mut self, now: Instant) {
        if !self.interval.is_zero() {
            self.next = Some(self.next.unwrap_or(now) + self.interval);
        }
    }
}
