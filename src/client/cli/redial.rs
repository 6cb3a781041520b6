//! When to connect again after a failure, and when to give up. No clock, no I/O.

use std::time::Duration;

use super::exit::Exit;
use crate::{
    client::{driver::Closed, session::CloseReason},
    mqtt::ReasonCode,
};

/// The policy of one program run.
#[derive(Debug)]
pub(super) struct Redial {
    retries_first: bool,
    reconnects: bool,
    attempts_max: u32,
    has_connected: bool,
    failures: u32,
}

impl Redial {
    /// `attempts_max` bounds how often in a row a lost connection is tried again.
    pub(super) fn new(retries_first: bool, reconnects: bool, attempts_max: u32) -> Self {
        Self { retries_first, reconnects, attempts_max, has_connected: false, failures: 0 }
    }

    /// A connection stands.
    pub(super) fn connected(&mut self) {
        self.has_connected = true;
    }

    /// A connection is over. One that did not last counts like one that failed, or two clients that
    /// take a session from each other would do so at full speed.
    pub(super) fn lasted(&mut self, how_long: Duration) {
        if how_long >= LASTING {
            self.failures = 0;
        }
    }

    /// Whether there was a connection before.
    pub(super) fn has_connected(&self) -> bool {
        self.has_connected
    }

    /// The pause before the next attempt, or `None` to give up.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let may = if self.has_connected {
            self.reconnects && self.failures < self.attempts_max
        } else {
            self.retries_first
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(7)).min(LAST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        may.then_some(pause)
    }

    /// What the program ends with when it gives up on a broken network.
    pub(super) fn exit(&self) -> Exit {
        if self.has_connected { Exit::Lost } else { Exit::Connect }
    }
}

/// Whether the same connection may succeed a little later.
pub(super) fn is_transient(reason_code: ReasonCode) -> bool {
    matches!(
        reason_code,
        ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
    )
}

/// Whether another connection may help after this end.
pub(super) fn is_worth_retrying(closed: &Closed) -> bool {
    match closed {
        Closed::Lost(_) => true,
        Closed::By(reason) => match reason {
            CloseReason::ConnackTimeout | CloseReason::PingTimeout => true,
            CloseReason::Finished
            | CloseReason::Refused
            | CloseReason::FallBack
            | CloseReason::ByServer
            | CloseReason::Unsendable(_)
            | CloseReason::Violation(..) => false,
        },
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);
const LASTING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_start_over_after_a_connection_that_lasted() {
        let mut redial = Redial::new(true, true, u32::MAX);
        let pauses: Vec<_> = (0..9).filter_map(|_| redial.pause()).collect();
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert_eq!(pauses[1], FIRST_PAUSE * 2);
        assert_eq!(pauses[8], LAST_PAUSE);
        redial.connected();
        redial.lasted(LASTING / 2);
        assert_eq!(redial.pause(), Some(LAST_PAUSE));
        redial.lasted(LASTING);
        assert_eq!(redial.pause(), Some(FIRST_PAUSE));
    }

    #[test]
    fn it_gives_up_when_told_to() {
        assert_eq!(Redial::new(false, true, 9).pause(), None);
        let mut redial = Redial::new(false, true, 2);
        redial.connected();
        assert!(redial.pause().is_some() && redial.pause().is_some());
        assert_eq!(redial.pause(), None);
        let mut redial = Redial::new(true, false, 9);
        redial.connected();
        assert_eq!(redial.pause(), None);
        assert_eq!(redial.exit(), Exit::Lost);
    }
}
