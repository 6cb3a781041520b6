//! Plays many scripts against one server, some at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Outcome, Script, Target, differs};

/// Plays the scripts with `threads` threads and calls `finished` for each, in no particular order.
pub(crate) fn play_all(
    target: &Target,
    scripts: &[&'static Script],
    threads: usize,
    finished: impl Fn(&'static Script, Outcome) + Sync,
) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    finished(script, play(target, script));
                }
            });
        }
    });
}

/// Plays one; a script that panics has failed.
fn play(target: &Target, script: &Script) -> Outcome {
    let played = catch_unwind(AssertUnwindSafe(|| target.play(script)));
    played.unwrap_or_else(|_| differs("the script panicked"))
}
