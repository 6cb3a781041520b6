//! What becomes of messages that are collected for a Session on its way into a queue that is stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::session::sync::Mutex;

/// Of one mailbox: their publishers wait for its end.
#[derive(Debug)]
pub struct Gathering {
    state: Mutex<State>,
    /// Looked at where no lock is taken.
    has_ended: AtomicBool,
}

#[derive(Debug)]
enum State {
    Open(Vec<Waker>),
    Ended(GatheringEnd),
}

/// What has become of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GatheringEnd {
    /// They are where the Session is.
    Kept,
    /// The Session has gone, or has stayed where it was: they are to be offered again, to whoever has
    /// it.
    Lost,
    /// The store could not take them.
    Failed,
}

impl Default for Gathering {
    fn default() -> Self {
        let state = Mutex::new(State::Open(Vec::new()));
        Self { state, has_ended: AtomicBool::new(false) }
    }
}

impl Gathering {
    /// This has become of them; what is said first counts. Whoever waits is woken.
    pub fn end(&self, end: GatheringEnd) {
        let mut state = self.state.lock();
        if let State::Open(waiting) = &mut *state {
            let waiting = std::mem::take(waiting);
            *state = State::Ended(end);
            self.has_ended.store(true, Ordering::Release);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether that is known.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// What has become of them; else `waker` is called when that is known.
    pub fn poll(&self, waker: &Waker) -> Option<GatheringEnd> {
        match &mut *self.state.lock() {
            State::Ended(end) => Some(*end),
            State::Open(waiting) => {
                // One for each shard that has publishers who wait.
                if !waiting.iter().any(|known| known.will_wake(waker)) {
                    waiting.push(waker.clone());
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_counts() {
        let gathering = Gathering::default();
        assert_eq!(gathering.poll(Waker::noop()), None);
        gathering.end(GatheringEnd::Kept);
        gathering.end(GatheringEnd::Lost);
        assert_eq!(gathering.poll(Waker::noop()), Some(GatheringEnd::Kept));
    }
}
