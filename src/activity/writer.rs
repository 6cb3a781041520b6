//! The task that writes what waits, however long that takes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::portion::{Missing, Portion};
use super::ring::Ring;
use super::sink::{Sink, Trouble};
use super::stock::Stock;
use crate::ports::clock::Tick;
use crate::runtime::Clock;

/// Writes portions, one behind the other.
pub(super) struct Writer {
    sink: Sink,
    stock: Stock,
    days: u32,
    ring: Arc<Ring>,
    clock: Clock,
    /// When what is too old is removed next.
    sweep_at: Tick,
    trouble: Option<Setbacks>,
    /// Whether the last rows were given up.
    has_refused: bool,
    /// Whether it was said what earlier starts have not told.
    is_settled: bool,
    /// The start and the number of the last row that is written.
    told: (i64, i64),
}

/// What went wrong since the last success.
struct Setbacks {
    pause: Duration,
    refusals: u32,
}

/// What writes, and what is written.
pub(super) struct Parts {
    pub(super) sink: Sink,
    pub(super) stock: Stock,
    pub(super) days: u32,
}

impl Writer {
    pub(super) fn new(parts: Parts, ring: Arc<Ring>, clock: Clock) -> Self {
        let (Parts { sink, stock, days }, sweep_at) = (parts, clock.now());
        let (trouble, has_refused, is_settled, told) = Default::default();
        Self { sink, stock, days, ring, clock, sweep_at, trouble, has_refused, is_settled, told }
    }

    pub(super) async fn run(mut self) {
        while self.stock.arrival().await {
            self.rest().await;
            self.stock.keep_what_is_due();
            let Some(mut portion) = self.stock.front() else { continue };
            portion.told = self.told_of(&portion);
            if self.has_refused {
                portion.before = Missing::Refused;
            }
            match self.write(&portion).await {
                Ok(()) => self.note_success(&portion),
                Err(trouble) => self.note_trouble(&trouble, &portion),
            }
            if self.trouble.is_some() && self.ring.is_closed() {
                break;
            }
            self.settle().await;
            self.sweep().await;
        }
        self.note_end();
        self.ring.end();
    }

    /// Rows that come together are written together; trouble is given time to pass.
    async fn rest(&mut self) {
        let Some(Setbacks { pause, .. }) = self.trouble else {
            if self.stock.is_alone() {
                self.ring.rest(LINGER).await;
            }
            return;
        };
        let Self { ring, stock, .. } = self;
        let mut pause = pin!(ring.rest(pause));
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return,
                () = stock.pressure() => stock.keep(),
            }
        }
    }

    async fn write(&mut self, portion: &Portion) -> Result<(), Trouble> {
        let Self { sink, stock, .. } = self;
        tend(stock, sink.write(portion)).await
    }

    /// The last row of its start that we were told is written.
    fn told_of(&self, portion: &Portion) -> i64 {
        let (boot, number) = self.told;
        if boot == portion.start.boot { number } else { 0 }
    }

    fn note_success(&mut self, portion: &Portion) {
        self.ring.note_written(portion.rows_after(portion.told).count());
        self.told = (portion.start.boot, portion.last().max(portion.told));
        self.has_refused = false;
        self.stock.advance(portion);
        if self.trouble.take().is_some() {
            tracing::info!("the activity log is written again");
        }
    }

    /// A portion that is refused again and again is given up.
    fn note_trouble(&mut self, trouble: &Trouble, portion: &Portion) {
        let setbacks = self.note_setback(trouble);
        setbacks.refusals += u32::from(matches!(trouble, Trouble::Refused(_)));
        if setbacks.refusals > REFUSALS_MAX {
            setbacks.refusals = 0;
            self.has_refused = true;
            self.ring.note_lost(portion.rows.len());
            self.stock.advance(portion);
        }
    }

    /// Whatever was begun ends, and what waits is kept.
    fn note_setback(&mut self, trouble: &Trouble) -> &mut Setbacks {
        self.sink.close();
        self.stock.keep();
        self.ring.counters().note_failure();
        let (Trouble::Absent(why) | Trouble::Refused(why)) = trouble;
        if self.trouble.is_none() {
            tracing::warn!(
                why,
                "the activity log is not written: rows wait, then they are dropped"
            );
        }
        let setbacks = self.trouble.get_or_insert(Setbacks { pause: PAUSE_FIRST, refusals: 0 });
        setbacks.pause = (setbacks.pause * 2).min(PAUSE_LONGEST);
        setbacks
    }

    /// When nothing is left of earlier starts, it is said what they have not told.
    async fn settle(&mut self) {
        if self.is_settled || self.trouble.is_some() || self.stock.has_former() {
            return;
        }
        let Self { sink, stock, .. } = self;
        match tend(stock, sink.settle()).await {
            Ok(()) => self.is_settled = true,
            Err(trouble) => {
                // Who may not do so now may not later.
                self.is_settled = matches!(trouble, Trouble::Refused(_));
                self.note_setback(&trouble);
            }
        }
    }

    fn note_end(&mut self) {
        self.stock.keep();
        let left = self.ring.waiting() + self.stock.in_hand();
        if left > 0 {
            tracing::warn!(rows = left, "the last rows of the activity log are lost");
        } else if self.ring.counters().spool_bytes() > 0 {
            tracing::info!(
                "the last rows of the activity log are on the disk: the next start writes them"
            );
        }
    }

    /// Removes days that are too old, now and then.
    async fn sweep(&mut self) {
        if self.clock.now() < self.sweep_at || self.trouble.is_some() {
            return;
        }
        let oldest_day = (self.clock.unix_millis() / DAY_MILLIS).saturating_sub(self.days.into());
        let Self { sink, stock, .. } = self;
        match tend(stock, sink.forget_before(oldest_day)).await {
            // It goes on behind the next portion.
            Ok(true) => return,
            Ok(false) => {}
            Err(trouble) => {
                self.note_setback(&trouble);
            }
        }
        self.sweep_at = self.clock.now().plus_millis(SWEEP_MILLIS);
    }
}

/// Waits for the database, not for ever. What comes meanwhile is kept on the disk when it takes long.
async fn tend<T>(
    stock: &mut Stock,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let mut work = pin!(tokio::time::timeout(ANSWER_WITHIN, work));
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                return done.unwrap_or_else(|_| Err(Trouble::Absent("no answer".to_owned())));
            }
            () = stock.pressure() => stock.keep(),
        }
    }
}

/// Milliseconds of a day.
pub(super) const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;
const SWEEP_MILLIS: u64 = 3_600 * 1_000;
const LINGER: Duration = Duration::from_millis(200);
/// How long the server has for a portion.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How often a portion is tried that the server does not want.
const REFUSALS_MAX: u32 = 3;
