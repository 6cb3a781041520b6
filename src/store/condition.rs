//! How a store is: what its last try came to, and how long the present one has taken.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ports::clock::Tick;
use crate::ports::store::StoreHealth;
use crate::runtime::Clock;
use crate::store::counters::StoreCounters;

/// Told by the one who carries out, asked by everybody.
#[derive(Debug)]
pub(super) struct Condition {
    clock: Clock,
    counters: Arc<StoreCounters>,
    /// The server, where there is one.
    place: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    health: StoreHealth,
    /// Whether it was replaced by what could be read of a damaged one.
    was_replaced: bool,
    /// What is acknowledged outlives this.
    promise: Option<String>,
    /// When the try that is under way began.
    busy_since: Option<Tick>,
}

impl Condition {
    pub(super) fn new(clock: Clock, counters: Arc<StoreCounters>) -> Self {
        Self { clock, counters, place: None, state: Mutex::default() }
    }

    /// The same of a server, which the log names.
    pub(super) fn of_server(clock: Clock, counters: Arc<StoreCounters>, place: String) -> Self {
        Self { place: Some(place), ..Self::new(clock, counters) }
    }

    /// What a server has said of its commits.
    pub(super) fn set_promise(&self, promise: String) {
        self.state.lock().promise = Some(promise);
    }

    /// The same, for whoever asks.
    pub(super) fn promise(&self) -> Option<String> {
        self.state.lock().promise.clone()
    }

    /// What it had was damaged, and replaced by what could be read.
    pub(super) fn note_replaced(&self) {
        self.state.lock().was_replaced = true;
    }

    /// The same, for whoever asks.
    pub(super) fn was_replaced(&self) -> bool {
        self.state.lock().was_replaced
    }

    /// A try begins.
    pub(super) fn begin(&self) {
        self.state.lock().busy_since = Some(self.clock.now());
    }

    /// It has ended, however.
    pub(super) fn end(&self) {
        let since = self.state.lock().busy_since.take();
        if since.is_some_and(|since| self.clock.now().saturating_since(since) >= STALL_MILLIS) {
            self.counters.note_stall();
        }
    }

    /// What a try came to. A change is told to the log.
    pub(super) fn set(&self, health: StoreHealth) {
        let mut state = self.state.lock();
        if state.health == health {
            return;
        }
        match &health {
            StoreHealth::Good => tracing::info!("the store is good again"),
            StoreHealth::Degraded(why) | StoreHealth::Broken(why) => {
                if state.health == StoreHealth::Good {
                    self.counters.note_degraded();
                }
                let place = self.place.as_deref();
                tracing::error!(why, place, "the store is degraded: what must be stored waits");
            }
        }
        state.health = health;
    }

    /// Whether the last try did what it was to do.
    pub(super) fn is_good(&self) -> bool {
        self.state.lock().health == StoreHealth::Good
    }

    /// How it is now: also one that never says anything does not answer.
    pub(super) fn health(&self) -> StoreHealth {
        let state = self.state.lock();
        let busy_millis = state.busy_since.map_or(0, |at| self.clock.now().saturating_since(at));
        if state.health == StoreHealth::Good && busy_millis >= STALL_MILLIS {
            let secs = busy_millis / 1_000;
            return StoreHealth::Degraded(format!("it has not answered for {secs} s"));
        }
        state.health.clone()
    }
}

/// A transaction that takes longer keeps everybody waiting.
const STALL_MILLIS: u64 = 2_000;
