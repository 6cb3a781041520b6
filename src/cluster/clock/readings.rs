//! Readings: at some moment between sending and answer the clock of the ensemble showed this.

use std::collections::VecDeque;

use super::skew::SkewTable;
use crate::cluster::membership::output::Heartbeat;
use crate::ports::clock::Tick;

/// The last readings.
#[derive(Debug, Default)]
pub(super) struct Readings {
    latest_last: VecDeque<Reading>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) zxid: i64,
    /// Half way between sending and answer.
    pub(super) at: Tick,
    pub(super) mtime_millis: i64,
    pub(super) error_millis: u64,
}

/// How the clock of the cluster stands to the own ticks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Estimate {
    /// What is to be added to a tick.
    pub(super) offset_millis: i64,
    /// How wrong that may have been at the moment of the reading.
    error_millis: u64,
    at: Tick,
}

impl Readings {
    /// Keeps the reading that a heartbeat is.
    pub(super) fn push(&mut self, heartbeat: &Heartbeat) {
        if self.latest_last.len() >= READINGS_MAX {
            self.latest_last.pop_front();
        }
        self.latest_last.push_back(Reading::of(heartbeat));
    }

    /// Forgets what the own ticks do not fit to any more.
    pub(super) fn forget_before(&mut self, zxid: i64) {
        self.latest_last.retain(|reading| reading.zxid >= zxid);
    }

    pub(super) fn latest(&self) -> Option<Reading> {
        self.latest_last.back().copied()
    }

    /// The best estimate among the readings of the latest stretch, where it is known, that are not
    /// further from `held` than is believed.
    pub(super) fn best(
        &self,
        now: Tick,
        table: &SkewTable,
        held: Option<Estimate>,
    ) -> Option<Estimate> {
        let latest = self.latest()?;
        let stretch = table.start_of(latest.zxid)?;
        let skew_millis = table.skew_at(latest.zxid)?;
        self.latest_last
            .iter()
            .filter(|reading| table.start_of(reading.zxid) == Some(stretch))
            .map(|reading| reading.estimate(skew_millis))
            .filter(|estimate| held.is_none_or(|held| !estimate.is_jump_from(held)))
            .min_by_key(|estimate| estimate.error_millis(now))
    }
}

impl Reading {
    fn of(heartbeat: &Heartbeat) -> Self {
        let half_millis = heartbeat.answered.saturating_since(heartbeat.sent) / 2;
        Self {
            zxid: heartbeat.stat.mzxid,
            at: heartbeat.sent.plus_millis(half_millis),
            mtime_millis: heartbeat.stat.mtime_millis,
            // Both clocks cut off a part of a millisecond, and so does the half.
            error_millis: half_millis + 2,
        }
    }

    pub(super) fn estimate(&self, skew_millis: i64) -> Estimate {
        let tick_millis = i64::try_from(self.at.as_millis()).unwrap_or(i64::MAX);
        Estimate {
            offset_millis: self
                .mtime_millis
                .saturating_add(skew_millis)
                .saturating_sub(tick_millis),
            error_millis: self.error_millis,
            at: self.at,
        }
    }
}

impl Estimate {
    /// The clock of the cluster at `now`, in milliseconds since 1970.
    pub(super) fn millis_at(&self, now: Tick) -> i64 {
        let tick_millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.offset_millis.saturating_add(tick_millis)
    }

    /// How wrong it may be by now: clocks do not go at quite the same pace.
    pub(super) fn error_millis(&self, now: Tick) -> u64 {
        let drift_millis = now.saturating_since(self.at).saturating_mul(DRIFT_PER_MILLION);
        self.error_millis.saturating_add(drift_millis.div_ceil(1_000_000))
    }

    /// Whether this is further from an earlier one than their errors and [`JUMP_MILLIS`] explain.
    pub(super) fn is_jump_from(&self, held: Self) -> bool {
        let errors = self.error_millis.saturating_add(held.error_millis(self.at));
        self.offset_millis.abs_diff(held.offset_millis) > JUMP_MILLIS.saturating_add(errors)
    }
}

/// Beyond this nobody follows, and somebody should look.
pub(super) const JUMP_MILLIS: u64 = 500;

/// About a minute of them.
const READINGS_MAX: usize = 64;

/// Quartz is ten times better.
const DRIFT_PER_MILLION: u64 = 200;
