//! A bar for sends that take a while, on a terminal only.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, Interval, interval};

use super::stats::Stats;

/// The bar, or nothing.
#[derive(Debug)]
pub(super) struct Progress {
    shown: Option<Shown>,
    began: Instant,
}

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    ticks: Interval,
    is_visible: bool,
}

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// That many messages.
    Messages(u64),
    /// One message of that many bytes.
    Bytes(u64),
    /// Too little, or nobody knows.
    Unknown,
}

impl Extent {
    /// What is worth a bar: several messages, or a big one.
    pub(super) fn of(messages: Option<u64>, payload_len: u64) -> Self {
        match messages {
            Some(2..) => Self::Messages(messages.unwrap_or_default()),
            Some(1) if payload_len >= BIG => Self::Bytes(payload_len),
            Some(_) | None => Self::Unknown,
        }
    }
}

impl Progress {
    /// A bar if there is something to count and somebody to see it. Within a runtime.
    pub(super) fn new(extent: Extent, is_quiet: bool, now: Instant) -> Self {
        let (total, template) = match extent {
            Extent::Messages(total) => (total, "{bar:24} {pos}/{len} {msg} {eta}"),
            Extent::Bytes(total) => (total, "{bar:24} {bytes}/{total_bytes} {msg}"),
            Extent::Unknown => (0, ""),
        };
        let is_wanted = !is_quiet && total > 0 && std::io::stderr().is_terminal();
        let shown = is_wanted.then(|| {
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::hidden();
            bar.set_length(total);
            let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            Shown { bar, ticks: interval(TICK), is_visible: false }
        });
        Self { shown, began: now }
    }

    /// When to update the bar; never without one. Cancel safe.
    pub(super) async fn tick(&mut self) {
        match &mut self.shown {
            Some(shown) => {
                shown.ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Shows how far it is; a short send never shows anything.
    pub(super) fn update(&mut self, done: u64, stats: &Stats, now: Instant) {
        let Some(shown) = &mut self.shown else { return };
        let elapsed = now.duration_since(self.began);
        if elapsed < SHOW_AFTER {
            return;
        }
        if !shown.is_visible {
            shown.is_visible = true;
            shown.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        shown.bar.set_message(describe(stats, elapsed));
        shown.bar.set_position(done);
    }

    /// Leaves the last figures on the screen.
    pub(super) fn finish(&mut self) {
        if let Some(shown) = self.shown.take()
            && shown.is_visible
        {
            shown.bar.abandon();
        }
    }
}

fn describe(stats: &Stats, elapsed: Duration) -> String {
    let figures = stats.figures(elapsed);
    let rate = format!("{:.0}/s", figures.messages_per_second);
    match (figures.acknowledged_p50_micros, figures.acknowledged_p99_micros) {
        (Some(p50), Some(p99)) => format!("{rate}, acknowledged p50 {p50} us p99 {p99} us"),
        _ => rate,
    }
}

/// Sends shorter than this need no bar.
const SHOW_AFTER: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);
/// A payload that may take a while.
const BIG: u64 = 1024 * 1024;
