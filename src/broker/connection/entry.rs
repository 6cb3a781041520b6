//! How a client that is who it says comes by its Session: from other brokers, from another
//! connection, or from nobody.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::connect::{ConnectError, Entrant, Former};
use crate::broker::connection::{Connection, Stage};
use crate::broker::event::Event;
use crate::broker::peers::ownership::admission::{Admission, Admitted};
use crate::broker::peers::ownership::claims::Asked;
use crate::broker::peers::ticket::RemoteOutcome;
use crate::broker::registry::{ClaimProgress, Claimed};
use crate::broker::turn::Turn;
use crate::broker::wills::KeptWill;
use crate::mqtt::{Connect, ProtocolVersion, ReasonCode};
use crate::ports::auth::{Identity, SessionUser};
use crate::ports::clock::Tick;
use crate::ports::store::SessionRecord;

/// A client that waits for its Session.
pub(super) struct Newcomer {
    pub(super) connect: Box<Connect>,
    pub(super) identity: Identity,
    /// Kept first: no other connection is to end for one that is refused.
    will: Option<Arc<KeptWill>>,
    /// Whether the store was asked for its Session.
    pub(super) has_asked_store: bool,
    pub(super) deadline: Tick,
}

impl Newcomer {
    fn user(&self) -> SessionUser {
        SessionUser::from(&self.identity)
    }

    /// Whether it wants nothing of a former Session, and keeps none.
    pub(super) fn leaves_nothing(&self) -> bool {
        let Connect { clean_start, protocol_version, properties, .. } = &*self.connect;
        let expiry_secs = properties.session_expiry_interval_secs.unwrap_or(0);
        *clean_start && (*protocol_version != ProtocolVersion::V5 || expiry_secs == 0)
    }

    /// Whether a former Session ends because it is here [MQTT-3.1.2-4].
    pub(super) fn ends(&self, former: &SessionRecord) -> bool {
        self.connect.clean_start && former.user.admits(&self.user())
    }

    /// It waits no more for other brokers.
    pub(super) fn leave(&self, turn: &mut Turn<'_>, admission: &Arc<Admission>) {
        if let Some(peers) = turn.broker.peers() {
            turn.withdraw_admission(peers, &self.identity.client_id, admission);
        }
    }
}

impl Connection {
    /// The client is who it says: claims its Client Identifier.
    pub(super) fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        connect: Box<Connect>,
        identity: Identity,
        waker: &Waker,
    ) {
        if let Err(error) = turn.authorize_connect(&connect, &identity) {
            turn.shard.counters.publishes_denied.increment();
            return self.refuse(turn, &connect, &error);
        }
        if let Err(error) = turn.check_connack(&connect, &identity.client_id, &self.options) {
            return self.refuse(turn, &connect, &error);
        }
        let will = match turn.keep_will(&connect) {
            Ok(will) => will,
            Err(error) => return self.refuse(turn, &connect, &error),
        };
        let deadline = turn.now.plus_millis(self.options.auth_timeout_millis);
        let has_asked_store = false;
        let newcomer = Newcomer { connect, identity, will, has_asked_store, deadline };
        let newcomer = Box::new(newcomer);
        self.enter(turn, newcomer, waker);
    }

    /// The broker must have the Client Identifier, before a connection of it may.
    fn enter(&mut self, turn: &mut Turn<'_>, newcomer: Box<Newcomer>, waker: &Waker) {
        let Some(peers) = turn.broker.peers() else { return self.claim(turn, newcomer, waker) };
        let user = newcomer.user();
        let wish = (!newcomer.connect.clean_start, &user);
        match turn.ask_for(peers, &newcomer.identity.client_id, wish, waker) {
            Asked::Held => self.claim(turn, newcomer, waker),
            Asked::Waiting(admission) => {
                self.stage = Stage::Entering { newcomer, admission };
                self.poll_admission(turn, waker);
            }
            Asked::Unavailable(reason) => {
                self.refuse(turn, &newcomer.connect, &ConnectError::Apart(reason));
            }
            Asked::NoRoom => self.refuse(turn, &newcomer.connect, &ConnectError::TooManySessions),
            Asked::Full => self.refuse(turn, &newcomer.connect, &ConnectError::Busy),
            Asked::Foreign(holder) => self.refuse_foreign(turn, &newcomer, holder),
        }
    }

    pub(super) fn poll_admission(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let Stage::Entering { admission, .. } = &self.stage else { return };
        let Some(admitted) = admission.poll(waker) else { return };
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Entering { newcomer, .. } = stage else { return };
        match admitted {
            Admitted::Here => self.claim(turn, newcomer, waker),
            Admitted::Superseded => {
                self.refuse(turn, &newcomer.connect, &ConnectError::Superseded);
            }
            Admitted::Foreign(holder) => self.refuse_foreign(turn, &newcomer, holder),
            Admitted::Refused(reason) => {
                self.refuse(turn, &newcomer.connect, &ConnectError::ClaimRefused(reason));
            }
        }
    }

    fn claim(&mut self, turn: &mut Turn<'_>, newcomer: Box<Newcomer>, waker: &Waker) {
        let client_id = &newcomer.identity.client_id;
        match turn.broker.registry().claim(client_id, &newcomer.user(), waker) {
            Claimed::Free => self.open(turn, newcomer, Former::None, waker),
            Claimed::Parked(parked) => {
                turn.broker.timers.cancel(client_id, parked.times());
                let former = turn.former(*parked);
                self.open(turn, newcomer, former, waker);
            }
            Claimed::Waiting(claim, owner) => {
                turn.shard.wake_later(owner);
                self.stage = Stage::Claiming { newcomer, claim };
            }
            Claimed::Full => {
                turn.surrender(client_id);
                self.refuse(turn, &newcomer.connect, &ConnectError::TooManySessions);
            }
            Claimed::Foreign(holder) => self.refuse_foreign(turn, &newcomer, holder),
        }
    }

    /// The Session is another user's. It goes on as if nobody had come.
    fn refuse_foreign(&mut self, turn: &mut Turn<'_>, newcomer: &Newcomer, holder: SessionUser) {
        turn.shard.events.push(Event::Foreign {
            origin: self.origin.clone(),
            client_id: Arc::clone(&newcomer.identity.client_id),
            user: newcomer.user(),
            holder: holder.clone(),
        });
        self.refuse(turn, &newcomer.connect, &ConnectError::SessionOfAnother(holder));
    }

    pub(super) fn poll_claim(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let Stage::Claiming { claim, .. } = &self.stage else { return };
        let progress = claim.poll(waker);
        if matches!(progress, ClaimProgress::Waiting) {
            return;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Claiming { newcomer, .. } = stage else { return };
        match progress {
            ClaimProgress::Granted(Some(client)) => {
                self.open(turn, newcomer, Former::Kept(client), waker);
            }
            ClaimProgress::Granted(None) => self.open(turn, newcomer, Former::None, waker),
            ClaimProgress::Superseded | ClaimProgress::Waiting => {
                self.refuse(turn, &newcomer.connect, &ConnectError::Superseded);
            }
        }
    }

    pub(super) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        mut newcomer: Box<Newcomer>,
        former: Former,
        waker: &Waker,
    ) {
        if turn.broker.is_draining() {
            turn.abandon_claim(&newcomer.identity.client_id, former);
            return self.refuse(turn, &newcomer.connect, &ConnectError::ShuttingDown);
        }
        let Some(epoch) = turn.epoch_held(&newcomer.identity.client_id) else {
            // Another broker got it since we asked. Had it got it later, it would wait for us in the
            // registry.
            turn.abandon_claim(&newcomer.identity.client_id, former);
            newcomer.has_asked_store = false;
            return self.enter(turn, newcomer, waker);
        };
        if !turn.may_acknowledge() {
            turn.abandon_claim(&newcomer.identity.client_id, former);
            return self.refuse(turn, &newcomer.connect, &ConnectError::Apart(NO_LEASE));
        }
        if let Former::Kept(client) = &former
            && let holder = client.card.session_user()
            && !holder.admits(&newcomer.user())
        {
            // The claim was for one that nobody knew of, and this is what came of it.
            turn.abandon_claim(&newcomer.identity.client_id, former);
            return self.refuse_foreign(turn, &newcomer, holder);
        }
        if matches!(former, Former::None) {
            let Some(here) = self.fetch(turn, newcomer, waker) else { return };
            newcomer = here;
        }
        let (identity, origin) = (newcomer.identity.clone(), self.origin.clone());
        let before = (former, newcomer.will.take(), epoch);
        let entrant = turn.prepare(&newcomer.connect, identity, origin, &self.options, before);
        if entrant.stored.is_none() {
            return self.let_in(turn, &newcomer.connect, entrant);
        }
        newcomer.deadline = turn.now.plus_millis(turn.broker.options().store_wait_millis);
        self.stage = Stage::Storing { newcomer, entrant: Box::new(entrant) };
        self.poll_stored(turn, waker);
    }

    pub(super) fn poll_stored(&mut self, turn: &mut Turn<'_>, waker: &Waker) {
        let Stage::Storing { entrant, .. } = &self.stage else { return };
        let Some(outcome) = entrant.stored.as_ref().and_then(|ticket| ticket.poll(waker)) else {
            return;
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        let Stage::Storing { newcomer, entrant } = stage else { return };
        let error = match outcome {
            RemoteOutcome::Enqueued | RemoteOutcome::NoMatch if turn.broker.is_draining() => {
                ConnectError::ShuttingDown
            }
            RemoteOutcome::Enqueued | RemoteOutcome::NoMatch if !turn.may_acknowledge() => {
                ConnectError::Apart(NO_LEASE)
            }
            RemoteOutcome::Enqueued | RemoteOutcome::NoMatch => {
                return self.let_in(turn, &newcomer.connect, *entrant);
            }
            RemoteOutcome::Refused(ReasonCode::SessionTakenOver) => {
                turn.give_away(*entrant);
                return self.refuse(turn, &newcomer.connect, &ConnectError::Unstored);
            }
            RemoteOutcome::Refused(_) | RemoteOutcome::Full | RemoteOutcome::Unknown => {
                ConnectError::Unstored
            }
        };
        turn.turn_away(*entrant);
        self.refuse(turn, &newcomer.connect, &error);
    }

    fn let_in(&mut self, turn: &mut Turn<'_>, connect: &Connect, entrant: Entrant) {
        let client = turn.let_in(connect, entrant, &self.options);
        self.heard_at = turn.now;
        self.stage = Stage::Open(client);
    }
}

const NO_LEASE: &str = "this broker has lost touch with the cluster";
