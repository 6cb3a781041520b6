//! The task that writes what waits, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use super::ActivityOptions;
use super::ring::Ring;
use super::row::Row;
use super::sink::{Sink, Trouble};
use crate::ports::clock::Tick;
use crate::runtime::Clock;

/// Writes batches, one behind the other.
pub(super) struct Writer {
    sink: Sink,
    days: u32,
    ring: Arc<Ring>,
    clock: Clock,
    /// When what is too old is removed next.
    sweep_at: Tick,
    /// Whether the log has said what is wrong.
    has_complained: bool,
}

impl Writer {
    pub(super) fn new(options: ActivityOptions, ring: Arc<Ring>, clock: Clock) -> Self {
        let ActivityOptions { place, broker, boot, days, limits: _ } = options;
        let (sink, sweep_at) = (Sink::new(place, broker, boot), clock.now());
        Self { sink, days, ring, clock, sweep_at, has_complained: false }
    }

    pub(super) async fn run(mut self) {
        while self.ring.arrival().await {
            // Rows that come together are written together.
            self.ring.rest(LINGER).await;
            let rows = self.ring.take(BATCH_MAX);
            self.write(&rows).await;
            self.sweep().await;
        }
        self.ring.end();
    }

    /// Writes a batch, again and again if need be. One that the server refuses is given up.
    async fn write(&mut self, rows: &[Row]) {
        let (mut pause, mut refusals) = (PAUSE_FIRST, 0);
        loop {
            let written = self.sink.write(rows, self.clock.unix_millis());
            let tried = tokio::time::timeout(ANSWER_WITHIN, written).await;
            let trouble = match tried {
                Ok(Ok(())) => {
                    self.note_success(rows.len());
                    return;
                }
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Absent("no answer".to_owned()),
            };
            self.sink.close();
            refusals += u32::from(matches!(trouble, Trouble::Refused(_)));
            self.complain(&trouble);
            if refusals > REFUSALS_MAX || self.ring.is_closed() {
                self.ring.note_lost(rows.len());
                return;
            }
            self.ring.rest(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    fn note_success(&mut self, count: usize) {
        self.ring.note_written(count);
        if std::mem::take(&mut self.has_complained) {
            tracing::info!("the activity log is written again");
        }
    }

    fn complain(&mut self, trouble: &Trouble) {
        self.ring.counters().note_failure();
        if !std::mem::replace(&mut self.has_complained, true) {
            let (Trouble::Absent(why) | Trouble::Refused(why)) = trouble;
            tracing::warn!(
                why,
                "the activity log is not written: rows wait, then they are dropped"
            );
        }
    }

    /// Removes days that are too old, now and then.
    async fn sweep(&mut self) {
        if self.clock.now() < self.sweep_at {
            return;
        }
        let oldest_day = (self.clock.unix_millis() / DAY_MILLIS).saturating_sub(self.days.into());
        let forgotten = self.sink.forget_before(oldest_day);
        match tokio::time::timeout(ANSWER_WITHIN, forgotten).await {
            // It goes on behind the next batch.
            Ok(Ok(true)) => return,
            Ok(Err(Trouble::Absent(why) | Trouble::Refused(why))) => {
                tracing::debug!(why, "old days of the activity log stay for now");
            }
            Ok(Ok(false)) | Err(_) => {}
        }
        self.sweep_at = self.clock.now().plus_millis(SWEEP_MILLIS);
    }
}

/// Milliseconds of a day.
pub(super) const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;
const SWEEP_MILLIS: u64 = 3_600 * 1_000;
const LINGER: Duration = Duration::from_millis(200);
/// Rows of a batch.
const BATCH_MAX: usize = 4_096;
/// How long the server has for a batch.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How often a batch is tried that the server does not want.
const REFUSALS_MAX: u32 = 3;
