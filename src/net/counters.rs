//! What the listeners count.

use super::peer::TransportKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of all listeners together. They are touched once or twice a connection, never for
/// a packet, so that plain shared atomics do.
#[derive(Debug, Default)]
pub struct NetCounters {
    accepted: [Count; TransportKind::ALL.len()],
    refused: [Count; Refusal::ALL.len()],
    setbacks: [Count; Setback::ALL.len()],
    /// Times an acceptor paused because the system had no file or memory left for a socket.
    pub accept_pauses: Count,
    /// Connections now between accept and [`super::Transport::mark_established`].
    pub half_open: Count,
    /// Connections now open.
    pub open: Count,
}

/// A number that any thread may change and read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// Why a connection was refused before a byte was read from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The broker has as many connections as it may.
    #[error("the broker has as many connections as it may")]
    Connections,
    /// The listener has as many connections as it may.
    #[error("the listener has as many connections as it may")]
    ListenerConnections,
    /// Too many connections have not finished their handshakes.
    #[error("too many connections have not finished their handshakes")]
    HalfOpen,
    /// The address has as many connections as it may.
    #[error("the address has as many connections as it may")]
    AddressConnections,
    /// The address connects too often.
    #[error("the address connects too often")]
    AddressRate,
    /// More addresses are limited than can be remembered.
    #[error("more addresses are limited than can be remembered")]
    Addresses,
}

/// Why a connection that was let in did not get through its handshakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setback {
    /// It left before any byte: a health check, as a rule.
    Vanished,
    /// The time was up.
    TimedOut,
    /// The PROXY protocol header was missing or wrong.
    Proxy,
    /// TLS failed: no common version, a certificate missing or refused, or nonsense.
    Tls,
    /// The HTTP request was no WebSocket opening handshake for MQTT.
    WebSocket,
    /// It spoke another protocol than the listener.
    WrongProtocol,
    /// The socket broke.
    Socket,
}

impl NetCounters {
    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted(&self, kind: TransportKind) -> &Count {
        at(&self.accepted, TransportKind::ALL.iter().position(|each| *each == kind))
    }

    /// Connections refused since the start.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> &Count {
        at(&self.refused, Refusal::ALL.iter().position(|each| *each == refusal))
    }

    /// Handshakes that failed since the start.
    #[must_use]
    pub fn setbacks(&self, setback: Setback) -> &Count {
        at(&self.setbacks, Setback::ALL.iter().position(|each| *each == setback))
    }
}

impl Count {
    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub(super) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away, for numbers that are a level and not a sum.
    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::ListenerConnections,
        Self::HalfOpen,
        Self::AddressConnections,
        Self::AddressRate,
        Self::Addresses,
    ];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ListenerConnections => "listener_connections",
            Self::HalfOpen => "half_open",
            Self::AddressConnections => "address_connections",
            Self::AddressRate => "address_rate",
            Self::Addresses => "addresses",
        }
    }
}

impl Setback {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Vanished,
        Self::TimedOut,
        Self::Proxy,
        Self::Tls,
        Self::WebSocket,
        Self::WrongProtocol,
        Self::Socket,
    ];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::TimedOut => "timed_out",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::WrongProtocol => "wrong_protocol",
            Self::Socket => "socket",
        }
    }
}

fn at(counts: &[Count], position: Option<usize>) -> &Count {
    position.and_then(|position| counts.get(position)).expect("`ALL` names every variant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_word_of_its_own() {
        let counters = NetCounters::default();
        for refusal in Refusal::ALL {
            counters.refused(refusal).up();
        }
        for setback in Setback::ALL {
            counters.setbacks(setback).up();
        }
        for kind in TransportKind::ALL {
            counters.accepted(kind).up();
        }
        assert!(Refusal::ALL.iter().all(|each| counters.refused(*each).value() == 1));
        assert!(Setback::ALL.iter().all(|each| counters.setbacks(*each).value() == 1));
        assert!(TransportKind::ALL.iter().all(|each| counters.accepted(*each).value() == 1));
    }
}
