//! A store that answers as it is told to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::ports::store::{
    Batch, Completion, Done, Full, Operation, OwnerId, Store, StoreError, StoreHealth, Submitter,
    Ticket,
};

/// It takes everything.
#[derive(Clone, Default)]
pub(in crate::broker) struct Slow(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What it answers first.
    told: VecDeque<Result<Done, StoreError>>,
    answers: Answers,
    taken: Vec<Batch>,
    answered: usize,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub(in crate::broker) enum Answers {
    #[default]
    Good,
    None,
    Failure,
}

impl Store for Slow {
    fn submitter(&self) -> Box<dyn Submitter> {
        Box::new(self.clone())
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }
}

impl Submitter for Slow {
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full> {
        let mut state = self.0.lock();
        state.taken.push(batch);
        Ok(Ticket(state.taken.len() as u64))
    }

    fn poll(&mut self, _waker: &Waker) -> Option<Completion> {
        let mut state = self.0.lock();
        if state.answered == state.taken.len() {
            return None;
        }
        let outcome = match (state.told.pop_front(), state.answers) {
            (Some(outcome), _) => outcome,
            (None, Answers::None) => return None,
            (None, Answers::Failure) => Err(StoreError::Transient("it fails".to_owned())),
            (None, Answers::Good) => Ok(Done::default()),
        };
        state.answered += 1;
        Some(Completion { ticket: Ticket(state.answered as u64), outcome })
    }
}

impl Slow {
    /// From now on it answers like this.
    pub(in crate::broker) fn answer(&self, answers: Answers) {
        self.0.lock().answers = answers;
    }

    /// It answers like this once.
    pub(in crate::broker) fn answer_with(&self, outcome: Result<Done, StoreError>) {
        self.0.lock().told.push_back(outcome);
    }

    /// On whose behalf each batch was that it has taken.
    pub(in crate::broker) fn owners(&self) -> Vec<OwnerId> {
        self.0.lock().taken.iter().map(|batch| batch.owner).collect()
    }

    pub(in crate::broker) fn operations(&self) -> Vec<Operation> {
        self.0.lock().taken.iter().flat_map(|batch| batch.operations.clone()).collect()
    }

    pub(super) fn count(&self, is_wanted: impl Fn(&Operation) -> bool) -> usize {
        self.operations().iter().filter(|operation| is_wanted(operation)).count()
    }
}
