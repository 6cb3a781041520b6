//! When to send PINGREQ, and when to stop believing in the connection.

use std::time::Duration;

use super::event::Tick;

/// The Keep Alive of one connection [MQTT-3.1.2-20].
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    sent_at: Tick,
    answer_due: Option<Tick>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    GiveUp,
}

impl KeepAlive {
    /// Starts over for a connection; zero seconds turn the mechanism off.
    pub(super) fn start(&mut self, now: Tick, secs: u16) {
        // A tenth early, so that what travels late still arrives within the interval.
        let interval = (secs > 0).then(|| Duration::from_secs(secs.into()) * 9 / 10);
        *self = Self { interval, sent_at: now, answer_due: None };
    }

    /// Any packet that is sent postpones the next PINGREQ.
    pub(super) fn sent(&mut self, now: Tick) {
        self.sent_at = now;
    }

    /// The server answered.
    pub(super) fn answered(&mut self) {
        self.answer_due = None;
    }

    /// What has come due; a PINGREQ is counted as sent.
    pub(super) fn expire(&mut self, now: Tick) -> Due {
        if self.answer_due.is_some_and(|due| due <= now) {
            return Due::GiveUp;
        }
        let Some(interval) = self.interval else { return Due::Nothing };
        if self.answer_due.is_some() || self.sent_at + interval > now {
            return Due::Nothing;
        }
        self.answer_due = Some(now + interval.min(ANSWER_WITHIN));
        Due::Ping
    }

    /// The next time something may be due.
    pub(super) fn next_timeout(&self) -> Option<Tick> {
        self.answer_due.or_else(|| Some(self.sent_at + self.interval?))
    }
}

/// A server that has not answered a PINGREQ for this long is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
