//! What the way to the ensemble counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ports::coordination::CoordinationError;

/// Counters of the way to the ensemble. They are touched a few times a request.
#[derive(Debug, Default)]
pub struct ZooKeeperCounters {
    requests: Count,
    outstanding: Count,
    errors: [Count; ERRORS.len()],
    sessions: Count,
    expired: Count,
    reconnects: Count,
    failed_attempts: Count,
    changes: Count,
    gaps: Count,
    session_timeout_millis: Count,
    latency: [Count; LATENCY_MICROS.len() + 1],
    latency_sum_micros: Count,
}

/// How long the answers of the ensemble took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Latency {
    /// How many took at most so long, for each bound in turn; every one is in the last, which has
    /// no bound.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// All of them together.
    pub sum: Duration,
}

impl ZooKeeperCounters {
    /// Requests that were handed to the ensemble's client.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.value()
    }

    /// Requests that are with the ensemble now.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding.value()
    }

    /// Answers that were errors, by kind.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ERRORS.into_iter().zip(&self.errors).map(|(name, count)| (name, count.value()))
    }

    /// Sessions that were made.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.value()
    }

    /// Sessions that ended against our will.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired.value()
    }

    /// Times a session found a new connection.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.value()
    }

    /// Attempts to make a session that failed.
    #[must_use]
    pub fn failed_attempts(&self) -> u64 {
        self.failed_attempts.value()
    }

    /// Changes of watched znodes that were told.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.value()
    }

    /// Times so many changes waited to be told that they were dropped, and a reconnect was told in
    /// their place.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.value()
    }

    /// How long the ensemble lets the present session live without a word from us; zero before the
    /// first.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_millis.value())
    }

    /// How long the answers took.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let bounds = LATENCY_MICROS.into_iter().map(|micros| Some(Duration::from_micros(micros)));
        let mut count = 0;
        let counts = self.latency.iter().map(|bucket| {
            count += bucket.value();
            count
        });
        Latency {
            buckets: bounds.chain([None]).zip(counts).collect(),
            sum: Duration::from_micros(self.latency_sum_micros.value()),
        }
    }

    pub(super) fn note_sent(&self) {
        self.requests.add(1);
        self.outstanding.add(1);
    }

    pub(super) fn note_answered(&self, micros: u64) {
        self.outstanding.subtract(1);
        self.latency_sum_micros.add(micros);
        let bucket = LATENCY_MICROS.iter().position(|&bound| micros <= bound);
        let bucket = self.latency.get(bucket.unwrap_or(LATENCY_MICROS.len()));
        bucket.expect("there is one more than there are bounds").add(1);
    }

    pub(super) fn note_error(&self, error: &CoordinationError) {
        let name = name(error);
        let place = ERRORS.iter().position(|&known| known == name);
        place.and_then(|place| self.errors.get(place)).expect("every error has a name").add(1);
    }

    pub(super) fn note_session(&self, timeout: Duration) {
        self.sessions.add(1);
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.session_timeout_millis.set(millis);
    }

    pub(super) fn note_expired(&self) {
        self.expired.add(1);
    }

    pub(super) fn note_reconnect(&self) {
        self.reconnects.add(1);
    }

    pub(super) fn note_failed_attempt(&self) {
        self.failed_attempts.add(1);
    }

    pub(super) fn note_change(&self) {
        self.changes.add(1);
    }

    pub(super) fn note_gap(&self) {
        self.gaps.add(1);
    }
}

/// What an error is called in the metrics; a failed part gives its name to the whole.
fn name(error: &CoordinationError) -> &'static str {
    match error {
        CoordinationError::NoNode => "no_node",
        CoordinationError::NodeExists => "node_exists",
        CoordinationError::BadVersion => "bad_version",
        CoordinationError::NotEmpty => "not_empty",
        CoordinationError::Part { error, .. } => name(error),
        CoordinationError::NoTtl => "no_ttl",
        CoordinationError::NoAuth => "no_auth",
        CoordinationError::ConnectionLost => "connection_lost",
        CoordinationError::SessionExpired => "session_expired",
        CoordinationError::Busy => "busy",
        CoordinationError::Other(_) => "other",
    }
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn subtract(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const ERRORS: [&str; 10] = [
    "no_node",
    "node_exists",
    "bad_version",
    "not_empty",
    "no_ttl",
    "no_auth",
    "connection_lost",
    "session_expired",
    "busy",
    "other",
];

const LATENCY_MICROS: [u64; 10] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_add_up_in_their_buckets() {
        let counters = ZooKeeperCounters::default();
        for micros in [500, 501, 7_000_000] {
            counters.note_sent();
            counters.note_answered(micros);
        }
        let latency = counters.latency();
        assert_eq!(latency.buckets.first(), Some(&(Some(Duration::from_micros(500)), 1)));
        assert_eq!(latency.buckets.get(1), Some(&(Some(Duration::from_millis(1)), 2)));
        assert_eq!(latency.buckets.last(), Some(&(None, 3)));
        assert_eq!(latency.sum, Duration::from_micros(7_001_001));
        assert_eq!((counters.requests(), counters.outstanding()), (3, 0));
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let counters = ZooKeeperCounters::default();
        let error = Box::new(CoordinationError::BadVersion);
        counters.note_error(&CoordinationError::Part { part: 2, error });
        counters.note_error(&CoordinationError::Other("it rains".to_owned()));
        let counted: Vec<_> = counters.errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("bad_version", 1), ("other", 1)]);
    }
}
