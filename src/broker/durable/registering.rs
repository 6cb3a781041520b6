//! A broker of a cluster makes itself known to the store, once in each life.
//!
//! It is told of the tree of znodes that the cluster lives in: where that is another one than the store
//! knows, another era begins. Clients are taken only when the store has answered.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::durable::Durable;
use crate::cluster::hash::wire_hash;
use crate::cluster::slot_record::Home;
use crate::ports::clock::Tick;
use crate::ports::store::{
    Batch, Completion, Full, Operation, OwnerId, Reply, StoreError, Submitter,
};

/// Asks the store until it has answered, and again when another life begins.
pub struct Registrar {
    durable: Arc<Durable>,
    submitter: Box<dyn Submitter>,
    /// Who was made known, and is not answered.
    asked: Option<OwnerId>,
    again_at: Tick,
}

impl Registrar {
    /// One that has asked nothing.
    #[must_use]
    pub fn new(durable: Arc<Durable>) -> Self {
        let submitter = durable.store().submitter();
        Self { durable, submitter, asked: None, again_at: Tick::ZERO }
    }

    /// Whether the store knows this life of the broker.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.durable.is_registered()
    }

    /// Does what is to be done; `waker` is called when there is more. `home` is where the slot map
    /// stands: it tells one tree from the next.
    pub fn poll(&mut self, now: Tick, home: Option<Home>, waker: &Waker) {
        while let Some(completion) = self.submitter.poll(waker) {
            self.hear(now, completion);
        }
        let Some(home) = home.filter(|_| !self.is_done() && now >= self.again_at) else { return };
        if self.asked.is_some() {
            return;
        }
        let owner = self.durable.owner();
        let now_millis = self.durable.unix_millis(now);
        let operations = vec![Operation::Register { root: Some(root_of(home)) }];
        match self.submitter.submit(Batch { owner, now_millis, operations }) {
            Ok(_ticket) => self.asked = Some(owner),
            Err(Full(_batch)) => self.again_at = now.plus_millis(AGAIN_MILLIS),
        }
    }

    fn hear(&mut self, now: Tick, completion: Completion) {
        let asked = self.asked.take();
        match completion.outcome.map(|done| done.replies.into_iter().next()) {
            // Another life may have begun meanwhile.
            Ok(Some(Reply::Registered(registered))) if asked == Some(self.durable.owner()) => {
                self.durable.note_registered(registered);
            }
            // One that the store says is dead is declared dead by others as well, and begins anew.
            Ok(_) | Err(StoreError::Fenced | StoreError::Transient(_) | StoreError::Broken(_)) => {
                self.again_at = now.plus_millis(AGAIN_MILLIS);
            }
        }
    }
}

/// Two trees may have made the znode by the same transaction.
fn root_of(home: Home) -> i64 {
    let mut bytes = [0; 16];
    let (first, last) = bytes.split_at_mut(8);
    first.copy_from_slice(&home.czxid.to_be_bytes());
    last.copy_from_slice(&home.ctime_millis.to_be_bytes());
    wire_hash(&bytes).cast_signed()
}

/// How long the store is left alone that could not do it.
const AGAIN_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::stories::store::{Answers, Slow};
    use crate::ports::store::{Done, Registered};

    fn registered(number: u64) -> Done {
        let registered = Registered { number, era: 3 };
        Done { replies: vec![Reply::Registered(registered)], ..Done::default() }
    }

    /// The owners that were made known so far.
    fn owners(store: &Slow) -> Vec<u128> {
        store.owners().into_iter().map(|owner| owner.0).collect()
    }

    #[test]
    fn each_life_is_made_known_once_and_an_answer_to_a_former_one_counts_for_nobody() {
        let store = Slow::default();
        store.answer(Answers::None);
        let durable = Arc::new(Durable::new(Arc::new(store.clone()), OwnerId(1), 0));
        let mut registrar = Registrar::new(Arc::clone(&durable));
        let home = Some(Home::default());
        let mut poll = |secs, home| registrar.poll(Tick::ZERO.plus_secs(secs), home, Waker::noop());
        poll(0, None);
        assert_eq!(owners(&store), [] as [u128; 0], "nobody knows the tree yet");
        poll(0, home);
        poll(0, home);
        assert_eq!(owners(&store), [1]);
        durable.begin_life(OwnerId(2));
        store.answer_with(Ok(registered(7)));
        poll(1, home);
        assert!(!durable.is_registered(), "it was the former life that was made known");
        poll(3, home);
        assert_eq!(owners(&store), [1, 2]);
        store.answer_with(Err(StoreError::Transient(String::new())));
        poll(3, home);
        assert_eq!(owners(&store), [1, 2], "a store in trouble is left alone for a while");
        poll(5, home);
        store.answer_with(Ok(registered(8)));
        poll(5, home);
        poll(9, home);
        assert_eq!(owners(&store), [1, 2, 2]);
        assert!(durable.is_registered());
    }

    #[test]
    fn trees_that_were_made_by_the_same_transaction_are_told_apart() {
        let made = |ctime_millis| root_of(Home { czxid: 5, ctime_millis });
        assert_ne!(made(1), made(2));
        assert_eq!(made(1), made(1));
    }
}
