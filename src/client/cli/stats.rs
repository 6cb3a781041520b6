//! `--stats json`: what a run did, in one line on stderr.

use std::time::Duration;

use serde::Serialize;

use super::latency::Latencies;

/// Figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) refused: u64,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acknowledged_p50_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acknowledged_p99_micros: Option<u64>,
}

/// Counts while the program runs.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) refused: u64,
    pub(super) latencies: Latencies,
}

impl Stats {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { messages: 0, bytes: 0, refused: 0, latencies: Latencies::new() }
    }

    /// Counts one message.
    pub(super) fn count(&mut self, payload_len: usize) {
        self.messages += 1;
        self.bytes += payload_len as u64;
    }

    /// The figures after `elapsed`.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn figures(&self, elapsed: Duration) -> Figures {
        let seconds = elapsed.as_secs_f64();
        Figures {
            messages: self.messages,
            bytes: self.bytes,
            refused: self.refused,
            seconds,
            messages_per_second: if seconds > 0.0 { self.messages as f64 / seconds } else { 0.0 },
            acknowledged_p50_micros: self.latencies.percentile_micros(50),
            acknowledged_p99_micros: self.latencies.percentile_micros(99),
        }
    }
}

impl Figures {
    /// The line.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers have a JSON form")
    }
}
