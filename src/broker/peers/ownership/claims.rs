//! Claims: this broker's connections ask for Client Identifiers, and it gives them back.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::peers::ownership::admission::{Admission, Admitted};
use crate::broker::peers::ownership::exports::Export;
use crate::broker::peers::ownership::imports::Import;
use crate::broker::places::Place;
use crate::broker::registry::Registry;
use crate::broker::turn::Turn;
use crate::cluster::frame::{Claim, ControlFrame, Grant, Handover, Revoke, Token};
use crate::cluster::identity::BootId;
use crate::ports::auth::SessionUser;

/// A Client Identifier that a connection of ours wants.
#[derive(Debug)]
pub(super) struct PendingClaim {
    /// The number of the claim.
    pub(super) claim: u64,
    wants_session: bool,
    /// Who was the first to want it.
    user: SessionUser,
    /// The newest connection; none when it is gone.
    admission: Option<Arc<Admission>>,
    /// Granted, and the Session is on its way.
    pub(super) token: Option<Token>,
    /// Room for the Session.
    place: Option<Place>,
}

/// What asking for a Client Identifier came to.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This broker holds it.
    Held,
    /// Ask when woken.
    Waiting(Arc<Admission>),
    /// Nobody can be asked, for this reason.
    Unavailable(&'static str),
    /// As many connections wait as may.
    Full,
    /// There are as many Sessions as there may be: it stays where it is.
    NoRoom,
    /// This other user waits for it.
    Foreign(SessionUser),
}

impl State {
    fn ask(
        &mut self,
        registry: &Registry,
        client_id: &Arc<str>,
        (wants_session, user): (bool, &SessionUser),
        waker: &Waker,
    ) -> Asked {
        if self.coordinator_of(client_id).is_none() {
            return Asked::Unavailable(NO_COORDINATOR);
        }
        if self.held.contains_key(client_id) {
            return Asked::Held;
        }
        let admission = Arc::new(Admission::new(waker));
        if let Some(pending) = self.pending.get_mut(client_id) {
            if pending.admission.is_some() && !pending.user.admits(user) {
                return Asked::Foreign(pending.user.clone());
            }
            let earlier = pending.admission.replace(Arc::clone(&admission));
            let wake = earlier.and_then(|earlier| earlier.settle(Admitted::Superseded));
            self.wakes.extend(wake);
            return Asked::Waiting(admission);
        }
        if self.pending.len() >= PENDING_MAX {
            return Asked::Full;
        }
        let Some(place) = registry.reserve() else { return Asked::NoRoom };
        let claim = self.draw_number();
        let pending = PendingClaim {
            claim,
            wants_session,
            user: user.clone(),
            admission: Some(Arc::clone(&admission)),
            token: None,
            place: Some(place),
        };
        let frame = pending.frame(client_id);
        self.pending.insert(Arc::clone(client_id), pending);
        self.tell_coordinator(client_id, frame);
        Asked::Waiting(admission)
    }

    /// Asks coordinators again that may not have been asked, or may have forgotten.
    pub(super) fn claim_again(&mut self, coordinators: &[BootId]) {
        let ungranted = self.pending.iter().filter(|(_, pending)| pending.token.is_none());
        let frames: Vec<_> = ungranted
            .filter_map(|(client_id, pending)| {
                let coordinator = self.slots.as_ref()?.coordinator_of(client_id)?;
                coordinators.contains(&coordinator).then(|| (coordinator, pending.frame(client_id)))
            })
            .collect();
        for (coordinator, frame) in frames {
            self.tell(coordinator, frame);
        }
    }

    pub(super) fn note_grant(&mut self, peers: &Peers, from: BootId, grant: Grant) {
        if !self.goes_by(from, &grant.client_id, grant.token) {
            return;
        }
        let pending = self.pending.get_mut(&grant.client_id);
        let Some(pending) = pending.filter(|pending| pending.claim == grant.claim) else {
            return self.note_further_grant(from, grant);
        };
        if pending.token >= Some(grant.token) {
            // It was told twice.
            return;
        }
        pending.token = Some(grant.token);
        let client_id: Arc<str> = Arc::from(grant.client_id);
        let me = self.me;
        let is_live = |former: &BootId| *former == me || peers.find(*former).is_some();
        match (self.imports.get_mut(&grant.claim), grant.from.filter(is_live)) {
            (Some(import), former) => import.expect_from(former, grant.token),
            (None, Some(former)) => {
                let import = Import::new(client_id, former, grant.token);
                self.imports.insert(grant.claim, import);
            }
            (None, None) => self.complete(&client_id, grant.from.is_some()),
        }
        // Parts of it may have come before.
        self.due_imports.insert(grant.claim);
        self.wake_task();
    }

    /// What nobody here waits for any more is granted: it is here, or goes back.
    fn note_further_grant(&mut self, from: BootId, grant: Grant) {
        let Grant { client_id, token, .. } = grant;
        let Some(held) = self.held.get_mut(&*client_id) else {
            return self.tell(from, ControlFrame::Released { client_id, token });
        };
        *held = token.max(*held);
        if grant.from.is_some() {
            self.tell(from, ControlFrame::Settled { client_id, token });
        }
    }

    pub(super) fn note_refusal(&mut self, from: BootId, claim: u64, reason: &str) {
        let Some(client_id) = self.pending.client_of(claim).cloned() else { return };
        let has_begun = self.pending.get(&client_id).is_some_and(|one| one.token.is_some())
            && self.imports.get(&claim).is_some_and(Import::has_begun);
        // What has begun to come is not refused by one that was asked again.
        if has_begun || self.coordinator_of(&client_id) != Some(from) {
            return;
        }
        self.imports.remove(&claim);
        let pending = self.pending.remove(&client_id);
        let admission = pending.and_then(|pending| pending.admission);
        let refusal = Admitted::Refused(reason.to_owned());
        self.wakes.extend(admission.and_then(|admission| admission.settle(refusal)));
    }

    /// Whoever has the Session keeps it for its user. That the claim comes to nothing is up to who
    /// coordinates it.
    pub(super) fn note_foreign(&mut self, from: BootId, claim: u64, holder: SessionUser) {
        let Some(client_id) = self.pending.client_of(claim).cloned() else { return };
        let is_expected = self.imports.get(&claim).is_none_or(|import| import.from == from);
        let Some(pending) = self.pending.get_mut(&client_id).filter(|_| is_expected) else {
            return;
        };
        // Somebody else may have come in its place.
        if pending.user.admits(&holder) {
            return;
        }
        let admission = pending.admission.take();
        let refused = Admitted::Foreign(holder);
        self.wakes.extend(admission.and_then(|admission| admission.settle(refused)));
    }

    /// The room that was set aside for the Session of a claim.
    pub(super) fn take_place(&mut self, claim: u64, client_id: &str) -> Option<Place> {
        let pending = self.pending.get_mut(client_id).filter(|pending| pending.claim == claim);
        pending.and_then(|pending| pending.place.take())
    }

    /// The Session of a claim is here, or there is none.
    pub(super) fn note_arrival(&mut self, claim: u64, client_id: &Arc<str>) {
        self.imports.remove(&claim);
        self.wake_task();
        if self.pending.get(client_id).is_some_and(|pending| pending.claim == claim) {
            self.complete(client_id, true);
        }
    }

    /// What a claim asked for is here. Whoever coordinates is told if it waits for that.
    fn complete(&mut self, client_id: &Arc<str>, is_awaited: bool) {
        let Some(token) = self.pending.get(client_id).and_then(|pending| pending.token) else {
            // It is not granted any more, and asked for again.
            return;
        };
        let pending = self.pending.remove(client_id);
        self.held.insert(Arc::clone(client_id), token);
        if is_awaited {
            self.tell_settled(client_id, token);
        }
        match pending.and_then(|pending| pending.admission) {
            Some(admission) => self.wakes.extend(admission.settle(Admitted::Here)),
            None => self.unattended.push(Arc::clone(client_id)),
        }
    }

    /// A Session that was to leave stays, under the token of whoever was to have it.
    pub(super) fn keep(&mut self, client_id: &Arc<str>, token: Token) {
        self.held.insert(Arc::clone(client_id), token);
        self.tell_settled(client_id, token);
        // Whoever waits for it here need not wait for the answer.
        let Some(pending) = self.pending.remove(client_id) else { return };
        self.imports.remove(&pending.claim);
        let admission = pending.admission;
        self.wakes.extend(admission.and_then(|admission| admission.settle(Admitted::Here)));
    }

    fn tell_settled(&mut self, client_id: &str, token: Token) {
        let settled = ControlFrame::Settled { client_id: client_id.to_owned(), token };
        self.tell_coordinator(client_id, settled);
    }

    pub(super) fn note_revoke(&mut self, from: BootId, revoke: &Revoke) {
        if !self.goes_by(from, &revoke.client_id, revoke.token) {
            return;
        }
        let client_id: Arc<str> = Arc::from(revoke.client_id.as_str());
        if self.exports.have_heard(&client_id, revoke) {
            // It was told twice.
            return;
        }
        // What is on its way elsewhere may go another way, unless it is gone.
        let Some(number) = self.exports.open_of(&client_id) else {
            return self.part_with(&client_id, revoke);
        };
        if self.exports.redirect(number, revoke) {
            self.wake_task();
        }
    }

    /// Gives up what is here, to whom the order says.
    pub(super) fn part_with(&mut self, client_id: &Arc<str>, revoke: &Revoke) {
        match self.held.get(client_id).copied() {
            Some(former) if revoke.to != self.me => {
                self.held.remove(client_id);
                let number = self.draw_number();
                self.exports.insert(number, Export::new(Arc::clone(client_id), former, revoke));
                self.wake_task();
            }
            // It was to go and has stayed, or it was never here.
            Some(_) | None => self.tell_empty(revoke.to, revoke.claim, client_id, revoke.token),
        }
    }

    pub(super) fn tell_empty(&mut self, to: BootId, claim: u64, client_id: &str, token: Token) {
        if claim == NO_CLAIM {
            return;
        }
        let (client_id, state) = (client_id.to_owned(), bytes::Bytes::new());
        let handover = Handover { claim, client_id, token, is_last: true, state };
        self.tell(to, ControlFrame::Handover(handover));
    }

    /// Gives an identifier back.
    fn give_back(&mut self, client_id: &str) {
        if let Some(token) = self.held.remove(client_id) {
            let released = ControlFrame::Released { client_id: client_id.to_owned(), token };
            self.tell_coordinator(client_id, released);
        }
    }
}

impl PendingClaim {
    fn frame(&self, client_id: &str) -> ControlFrame {
        ControlFrame::Claim(Claim {
            claim: self.claim,
            client_id: client_id.to_owned(),
            wants_session: self.wants_session,
            user: self.user.clone(),
        })
    }
}

impl Turn<'_> {
    /// A connection with this Client Identifier is at the door.
    pub(crate) fn ask_for(
        &mut self,
        peers: &Peers,
        client_id: &Arc<str>,
        wish: (bool, &SessionUser),
        waker: &Waker,
    ) -> Asked {
        if !peers.has_lease(self.now) {
            return Asked::Unavailable(NO_LEASE);
        }
        let registry = self.broker.registry();
        self.own(peers, |state| state.ask(registry, client_id, wish, waker))
    }

    /// The connection that waited is gone.
    pub(crate) fn withdraw_admission(
        &mut self,
        peers: &Peers,
        client_id: &Arc<str>,
        admission: &Arc<Admission>,
    ) {
        self.own(peers, |state| match state.pending.get_mut(client_id) {
            Some(pending) => {
                pending.admission.take_if(|kept| Arc::ptr_eq(kept, admission));
            }
            None => state.unattended.push(Arc::clone(client_id)),
        });
    }

    /// A Client Identifier is not needed here any more, unless somebody has come who needs it.
    pub(crate) fn surrender(&mut self, client_id: &str) {
        let Some(peers) = self.broker.peers() else { return };
        let registry = self.broker.registry();
        self.own(peers, |state| {
            // Looked at under the lock: who comes later is in the registry first and asks then.
            if !registry.contains(client_id) {
                state.give_back(client_id);
            }
        });
    }
}

/// No claim: two brokers held the same, and nobody waits for the Session of the one that loses.
pub(super) const NO_CLAIM: u64 = 0;
/// Client Identifiers that connections may wait for. More: CONNACK 0x89.
const PENDING_MAX: usize = 65_536;
const NO_COORDINATOR: &str = "this broker does not know yet who coordinates the client identifier";
const NO_LEASE: &str = "this broker has lost touch with the cluster";
