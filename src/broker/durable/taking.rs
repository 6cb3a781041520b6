//! The Session that a client may have had elsewhere: with a broker that is gone, and in the store.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::connect::Former;
use crate::broker::durable::flights::Flight;
use crate::broker::durable::keeper::Awaiting;
use crate::broker::turn::Turn;
use crate::ports::store::{Epoch, Operation, Reply, SessionRecord};

/// Where the answer is left.
#[derive(Debug)]
pub(crate) struct Taking {
    /// Under which the store was asked.
    epoch: Epoch,
    state: Mutex<State>,
    /// Until what has come is in effect, and this is let go of.
    flight: Arc<Flight>,
}

#[derive(Debug)]
enum State {
    Asked(Option<Waker>),
    Answered(TakingEnd),
    Told,
}

/// What asking for a Session came to.
#[derive(Debug)]
pub(crate) enum TakingEnd {
    /// There is none.
    Nobody,
    /// It is ours now.
    Found(Box<SessionRecord>),
    /// Somebody has it under a later claim.
    Fenced,
    /// The store could not say.
    Failed,
}

impl Taking {
    /// The store has answered, or could not; whether it named Sessions of others.
    pub(super) fn give(&self, reply: Option<Reply>, has_fenced: bool) -> Option<Waker> {
        let end = match reply {
            Some(Reply::Session(Some(record))) => TakingEnd::Found(record),
            Some(Reply::Session(None)) if has_fenced => TakingEnd::Fenced,
            Some(Reply::Session(None)) => TakingEnd::Nobody,
            _ => TakingEnd::Failed,
        };
        match std::mem::replace(&mut *self.state.lock(), State::Answered(end)) {
            State::Asked(waker) => waker,
            State::Answered(_) | State::Told => None,
        }
    }

    /// What it has come to, once; `waker` is kept while it waits.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<TakingEnd> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Told) {
            State::Asked(_) => {
                *state = State::Asked(Some(waker.clone()));
                None
            }
            State::Answered(end) => Some(end),
            State::Told => Some(TakingEnd::Failed),
        }
    }
}

impl Turn<'_> {
    /// Asks the store for the Session of a client whom nobody alive has. `None` where there is no
    /// store.
    pub(crate) fn take_from_store(
        &mut self,
        client_id: &Arc<str>,
        epoch: Epoch,
    ) -> Option<Arc<Taking>> {
        let flight = Arc::new(self.shard.keeper.as_ref()?.durable().flights().begin());
        self.ask_for_session(client_id, epoch, flight)
    }

    /// Asks again, where the store could not say: it is the same Session that is waited for.
    pub(crate) fn take_again(
        &mut self,
        client_id: &Arc<str>,
        epoch: Epoch,
        former: &Taking,
    ) -> Option<Arc<Taking>> {
        self.ask_for_session(client_id, epoch, Arc::clone(&former.flight))
    }

    fn ask_for_session(
        &mut self,
        client_id: &Arc<str>,
        epoch: Epoch,
        flight: Arc<Flight>,
    ) -> Option<Arc<Taking>> {
        let keeper = self.shard.keeper.as_mut()?;
        keeper.push(Operation::TakeSession { client_id: Arc::clone(client_id), epoch });
        let taking = Arc::new(Taking { epoch, state: Mutex::new(State::Asked(None)), flight });
        keeper.await_batch(Awaiting::Taking(Arc::clone(&taking)));
        Some(taking)
    }

    /// The connection that asked has gone. The Session may be ours all the same, or become so: what is
    /// published from then on is to come to it.
    pub(crate) fn await_taking(&mut self, client_id: &Arc<str>, taking: Arc<Taking>) {
        match &mut self.shard.keeper {
            Some(keeper) => keeper.unattended.push((Arc::clone(client_id), taking)),
            None => self.abandon_claim(client_id, Former::None),
        }
    }

    pub(super) fn poll_unattended(&mut self, waker: &Waker) {
        let Some(keeper) = &mut self.shard.keeper else { return };
        for (client_id, taking) in std::mem::take(&mut keeper.unattended) {
            match taking.poll(waker) {
                None => self.await_taking(&client_id, taking),
                Some(TakingEnd::Found(record)) => {
                    let former = self.bring_back(&record);
                    let former = former.map_or(Former::None, |(client, _)| Former::Kept(client));
                    self.abandon_claim(&client_id, former);
                }
                Some(TakingEnd::Failed) => self.take_unattended(&client_id, &taking, waker),
                // It was this broker that took it, from one that is dead.
                Some(TakingEnd::Fenced) if self.epoch_held(&client_id) > Some(taking.epoch) => {
                    self.take_unattended(&client_id, &taking, waker);
                }
                Some(TakingEnd::Nobody | TakingEnd::Fenced) => {
                    self.abandon_claim(&client_id, Former::None);
                }
            }
        }
    }

    /// The store may have given it to us, and could not say so.
    fn take_unattended(&mut self, client_id: &Arc<str>, former: &Taking, waker: &Waker) {
        let epoch = self.epoch_held(client_id);
        match epoch.and_then(|epoch| self.take_again(client_id, epoch, former)) {
            Some(taking) => {
                let _asked = taking.poll(waker);
                self.await_taking(client_id, taking);
            }
            None => self.abandon_claim(client_id, Former::None),
        }
    }

    /// Somebody has a Session under a later claim than a broker was granted that everybody believes
    /// alive: the era has changed since this one registered, or the grant is of no worth any more.
    pub(crate) fn ask_for_era(&mut self) {
        let Some(keeper) = &mut self.shard.keeper else { return };
        keeper.push(Operation::Register { root: None });
        keeper.await_batch(Awaiting::Era);
    }

    pub(super) fn learn_era(&mut self, reply: Option<Reply>) {
        if let (Some(Reply::Registered(registered)), Some(keeper)) = (reply, &self.shard.keeper) {
            keeper.durable().note_era(registered.era);
        }
    }
}
