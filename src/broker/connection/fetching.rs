//! A client whose Session may be in the store, because the broker that had it is gone.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::connect::{ConnectError, Former};
use crate::broker::connection::entry::Newcomer;
use crate::broker::connection::{Connection, Stage};
use crate::broker::disconnect::Client;
use crate::broker::durable::{Taking, TakingEnd};
use crate::broker::turn::Turn;
use crate::ports::store::Operation;

/// How far it is.
pub(super) enum Fetching {
    /// The store has been asked.
    Asked(Arc<Taking>),
    /// It is here, and others are to know what it wants, up to this version.
    Announced { client: Box<Client>, version: u64 },
}

impl Fetching {
    /// The connection waits no more; what has come stays, and so does what will.
    pub(super) fn leave(self, turn: &mut Turn<'_>, client_id: &Arc<str>) {
        match self {
            Self::Asked(taking) => turn.await_taking(client_id, taking),
            Self::Announced { client, .. } => turn.abandon_claim(client_id, Former::Kept(client)),
        }
    }
}

impl Connection {
    /// Asks the store, when nobody has and there is a Session to be resumed. Gives the newcomer back
    /// when there is nothing to wait for.
    pub(super) fn fetch(
        &mut self,
        turn: &mut Turn<'_>,
        mut newcomer: Box<Newcomer>,
        waker: &Waker,
    ) -> Option<Box<Newcomer>> {
        let client_id = &newcomer.identity.client_id;
        let Some(epoch) = turn.epoch_held(client_id) else { return Some(newcomer) };
        let is_new = newcomer.connect.client_id.is_empty();
        if newcomer.has_asked_store || is_new || turn.broker.peers().is_none() {
            return Some(newcomer);
        }
        newcomer.has_asked_store = true;
        if newcomer.leaves_nothing() && !turn.is_store_at_ease() {
            // There may be many of those at a time, and seldom one that has left anything before.
            return Some(newcomer);
        }
        let Some(taking) = turn.take_from_store(client_id, epoch) else { return Some(newcomer) };
        newcomer.deadline = turn.now.plus_millis(turn.broker.options().store_wait_millis);
        self.stage = Stage::Fetching { newcomer, fetching: Fetching::Asked(taking) };
        self.poll_fetching(turn, waker);
        None
    }

    pub(super) fn poll_fetching(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let Stage::Fetching { newcomer, fetching } = &mut self.stage else { return };
        if let Fetching::Asked(taking) = fetching {
            match taking.poll(waker) {
                None => return,
                Some(TakingEnd::Found(record)) if newcomer.ends(&record) => {
                    turn.keep(Operation::EndSession(record.session));
                    return self.go_on(turn, waker);
                }
                Some(TakingEnd::Found(record)) => {
                    // Of another user, if it is not wanted: nobody but its own ends it.
                    if let Some((client, version)) = turn.bring_back(&record) {
                        *fetching = Fetching::Announced { client, version };
                    } else {
                        return self.go_on(turn, waker);
                    }
                }
                Some(TakingEnd::Nobody) => return self.go_on(turn, waker),
                Some(TakingEnd::Fenced) => {
                    turn.ask_for_era();
                    return self.refuse_unfetched(turn);
                }
                Some(TakingEnd::Failed) if newcomer.leaves_nothing() => {
                    return self.go_on(turn, waker);
                }
                Some(TakingEnd::Failed) => return self.refuse_unfetched(turn),
            }
        }
        let Fetching::Announced { version, .. } = fetching else { return };
        let peers = turn.broker.peers();
        if peers.is_some_and(|peers| !peers.interest().is_applied(*version, waker)) {
            return;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Fetching { newcomer, fetching } = stage else { return };
        if let Fetching::Announced { client, .. } = fetching {
            turn.shard.counters.sessions_taken_from_store.increment();
            self.open(turn, newcomer, Former::Kept(client), waker);
        }
    }

    /// There is no Session.
    fn go_on(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Fetching { newcomer, .. } = stage else { return };
        self.open(turn, newcomer, Former::None, waker);
    }

    /// Nobody knows whether there is one.
    pub(super) fn refuse_unfetched(&mut self, turn: &mut Turn<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Fetching { newcomer, fetching } = stage else { return };
        fetching.leave(turn, &newcomer.identity.client_id);
        self.refuse(turn, &newcomer.connect, &ConnectError::Unstored);
    }
}
