//! The store in memory: for a broker without a database, for the simulation, and as the reference
//! that the others are held against. A batch is carried out as it is submitted.

mod collect;
mod queue;
mod sessions;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::ports::store::{Batch, Completion, Full, Store, StoreHealth, Submitter, Ticket};
use state::State;

/// A store that ends with its last handle. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(Door { store: self.clone(), last: 0, completions: VecDeque::new(), waker: None })
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }
}

struct Door {
    store: MemoryStore,
    last: u64,
    completions: VecDeque<Completion>,
    waker: Option<Waker>,
}

impl Submitter for Door {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        if self.completions.len() >= UNANSWERED_MAX {
            return Err(Full(batch));
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let outcome = self.store.0.lock().apply(batch);
        self.completions.push_back(Completion { ticket, outcome });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(ticket)
    }

    fn poll(&mut self, waker: &Waker) -> Option<Completion> {
        let completion = self.completions.pop_front();
        if completion.is_none() {
            self.waker = Some(waker.clone());
        }
        completion
    }
}

/// Answers that were not fetched.
const UNANSWERED_MAX: usize = 16_384;
