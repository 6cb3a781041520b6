//! A bar for sends that take a while, on a terminal only.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::stats::Stats;

/// The bar, or nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    /// A bar for `total` messages if somebody is there to see it.
    pub(super) fn new(total: Option<u64>, is_quiet: bool, now: Instant) -> Self {
        let is_wanted = !is_quiet && total.is_some() && std::io::stderr().is_terminal();
        let bar = is_wanted.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} {eta}");
            let bar = ProgressBar::hidden();
            bar.set_length(total.unwrap_or(0));
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, began: now, is_shown: false }
    }

    /// Shows how far it is; a short send never shows anything.
    pub(super) fn update(&mut self, done: u64, stats: &Stats, now: Instant) {
        let Some(bar) = &self.bar else { return };
        let elapsed = now.duration_since(self.began);
        if elapsed < SHOW_AFTER {
            return;
        }
        if !self.is_shown {
            self.is_shown = true;
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        let figures = stats.figures(elapsed);
        let mut words = format!("{:.0}/s", figures.messages_per_second);
        if let (Some(p50), Some(p99)) =
            (figures.acknowledged_p50_micros, figures.acknowledged_p99_micros)
        {
            words = format!("{words}, acknowledged p50 {p50} us p99 {p99} us");
        }
        bar.set_message(words);
        bar.set_position(done);
    }

    /// Leaves the last figures on the screen.
    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.bar.take()
            && self.is_shown
        {
            bar.abandon();
        }
    }
}

/// Sends shorter than this need no bar.
const SHOW_AFTER: Duration = Duration::from_millis(500);
