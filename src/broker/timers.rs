//! When parked Sessions end and delayed wills are due.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ports::clock::Tick;

/// Times, and the Client Identifiers to look at then. Bounded by twice the number of Sessions.
#[derive(Debug, Default)]
pub struct Timers(Mutex<BTreeSet<(Tick, Arc<str>)>>);

impl Timers {
    /// Remembers to look at `client_id` at these times.
    pub fn schedule(&self, client_id: &Arc<str>, times: [Option<Tick>; 2]) {
        self.schedule_if(client_id, times, || true);
    }

    /// The same of a Session that has just been parked, if `is_parked` says that it still is. Whoever
    /// has taken it meanwhile has nothing to cancel, or waits for this to do so.
    pub fn schedule_if(
        &self,
        client_id: &Arc<str>,
        times: [Option<Tick>; 2],
        is_parked: impl FnOnce() -> bool,
    ) {
        if times.iter().all(Option::is_none) {
            return;
        }
        let mut entries = self.0.lock();
        if is_parked() {
            entries.extend(times.into_iter().flatten().map(|time| (time, Arc::clone(client_id))));
        }
    }

    /// Forgets what was scheduled.
    pub fn cancel(&self, client_id: &Arc<str>, times: [Option<Tick>; 2]) {
        if times.iter().all(Option::is_none) {
            return;
        }
        let mut entries = self.0.lock();
        for time in times.into_iter().flatten() {
            entries.remove(&(time, Arc::clone(client_id)));
        }
    }

    /// Takes out at most `max` Client Identifiers whose time has come.
    #[must_use]
    pub fn take_due(&self, now: Tick, max: usize) -> Vec<Arc<str>> {
        let mut entries = self.0.lock();
        let mut due = Vec::new();
        while due.len() < max && entries.first().is_some_and(|(time, _)| *time <= now) {
            due.extend(entries.pop_first().map(|(_, client_id)| client_id));
        }
        due
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        self.0.lock().first().map(|(time, _)| *time)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
