//! Claims: this broker's connections ask for Client Identifiers, and it gives them back.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::peers::ownership::admission::{Admission, Admitted};
use crate::broker::peers::ownership::exports::{Export, Source};
use crate::broker::peers::ownership::imports::Import;
use crate::broker::turn::Turn;
use crate::cluster::frame::{Claim, ControlFrame, Grant, Handover, Revoke, Token};
use crate::cluster::identity::BootId;

/// A Client Identifier that a connection of ours wants.
#[derive(Debug)]
pub(super) struct PendingClaim {
    /// The number of the claim.
    pub(super) claim: u64,
    wants_session: bool,
    /// The newest connection; none when it is gone.
    admission: Option<Arc<Admission>>,
    /// Granted, and the Session is on its way.
    pub(super) token: Option<Token>,
    /// The Session has come, or nothing comes; the grant has not.
    has_arrived: bool,
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
}

impl State {
    fn ask(&mut self, client_id: &Arc<str>, wants_session: bool, waker: &Waker) -> Asked {
        if self.coordinator_of(client_id).is_none() {
            return Asked::Unavailable(NO_COORDINATOR);
        }
        if self.held.contains_key(client_id) {
            return Asked::Held;
        }
        let admission = Arc::new(Admission::new(waker));
        if let Some(pending) = self.pending.get_mut(client_id) {
            let earlier = pending.admission.replace(Arc::clone(&admission));
            let wake = earlier.and_then(|earlier| earlier.settle(Admitted::Superseded));
            self.wakes.extend(wake);
            return Asked::Waiting(admission);
        }
        if self.pending.len() >= PENDING_MAX {
            return Asked::Full;
        }
        let claim = self.draw_number();
        let pending = PendingClaim {
            claim,
            wants_session,
            admission: Some(Arc::clone(&admission)),
            token: None,
            has_arrived: false,
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
                let coordinator = self.slots.as_ref()?.owner(client_id)?;
                coordinators.contains(&coordinator).then(|| (coordinator, pending.frame(client_id)))
            })
            .collect();
        for (coordinator, frame) in frames {
            self.tell(coordinator, frame);
        }
    }

    /// A claim of `from` for a slot of ours, or one that `from` takes for ours.
    pub(super) fn coordinate(&mut self, from: BootId, claim: Claim) {
        if self.coordinator_of(&claim.client_id) == Some(self.me) {
            self.outbox.extend(self.coordinator.claim(from, claim));
        } else if self.early.len() < EARLY_MAX {
            self.early.push_back((from, claim));
        } else {
            let frame =
                ControlFrame::ClaimRefused { claim: claim.claim, reason: TOO_EARLY.to_owned() };
            self.tell(from, frame);
        }
    }

    pub(super) fn note_grant(&mut self, peers: &Peers, from: BootId, grant: Grant) {
        if self.coordinator_of(&grant.client_id) != Some(from) {
            // Who coordinates it now is asked as well.
            return;
        }
        let Some(pending) = self.pending.get_mut(&*grant.client_id) else {
            return self.note_further_grant(from, grant);
        };
        if pending.claim != grant.claim {
            return;
        }
        pending.token = pending.token.max(Some(grant.token));
        let has_arrived = pending.has_arrived;
        let client_id: Arc<str> = Arc::from(grant.client_id);
        if self.imports.contains_key(&grant.claim) {
            return;
        }
        match grant.from.filter(|former| peers.find(*former).is_some()) {
            Some(former) if !has_arrived => {
                self.imports.insert(grant.claim, Import::new(client_id, former));
            }
            Some(_) | None => self.complete(&client_id),
        }
    }

    /// A claim that was made twice is granted twice; the later token counts.
    fn note_further_grant(&mut self, from: BootId, grant: Grant) {
        if let Some(token) = self.held.get_mut(&*grant.client_id) {
            *token = grant.token.max(*token);
            return;
        }
        let (client_id, token) = (grant.client_id, grant.token);
        self.tell(from, ControlFrame::Released { client_id, token });
    }

    pub(super) fn note_refusal(&mut self, claim: u64, reason: &str) {
        let refused = self.pending.extract_if(|_, pending| {
            // What has begun to come is not refused by one that was asked again.
            pending.claim == claim && pending.token.is_none()
        });
        for (_, pending) in refused {
            let refusal = Admitted::Refused(reason.to_owned());
            self.wakes.extend(pending.admission.and_then(|admission| admission.settle(refusal)));
        }
    }

    /// The Session of a claim is here, or there is none.
    pub(super) fn note_arrival(&mut self, claim: u64) {
        let Some(import) = self.imports.remove(&claim) else { return };
        self.wake_task();
        let Some(pending) = self.pending.get_mut(&import.client_id) else { return };
        if pending.claim != claim {
            return;
        }
        if pending.token.is_some() {
            self.complete(&import.client_id);
        } else {
            pending.has_arrived = true;
        }
    }

    fn complete(&mut self, client_id: &Arc<str>) {
        let Some(pending) = self.pending.remove(client_id) else { return };
        let Some(token) = pending.token else { return };
        self.held.insert(Arc::clone(client_id), token);
        match pending.admission {
            Some(admission) => self.wakes.extend(admission.settle(Admitted::Here)),
            None => self.unattended.push(Arc::clone(client_id)),
        }
    }

    pub(super) fn note_revoke(&mut self, from: BootId, revoke: &Revoke) {
        if self.coordinator_of(&revoke.client_id) != Some(from) || revoke.to == self.me {
            return;
        }
        let client_id: Arc<str> = Arc::from(revoke.client_id.as_str());
        let held = self.held.get(&client_id).copied();
        let granted = self.pending.get(&client_id).and_then(|one| Some((one.claim, one.token?)));
        let (former, source) = match (held, granted) {
            (Some(token), _) => (token, Source::Registry),
            (None, Some((claim, token))) => (token, Source::Import(claim)),
            (None, None) => return self.redirect(&client_id, revoke),
        };
        if former > revoke.token {
            return;
        }
        self.held.remove(&client_id);
        if let Source::Import(_) = source
            && let Some(pending) = self.pending.remove(&client_id)
        {
            let admission = pending.admission;
            let wake = admission.and_then(|admission| admission.settle(Admitted::Superseded));
            self.wakes.extend(wake);
        }
        let number = self.draw_number();
        self.exports.insert(number, Export::new(client_id, former, source, revoke));
        self.wake_task();
    }

    /// What we were told to give up is on its way elsewhere already, or was never here.
    fn redirect(&mut self, client_id: &Arc<str>, revoke: &Revoke) {
        let mut exports = self.exports.values_mut().filter(|one| one.client_id == *client_id);
        let Some(latest) = exports.next_back() else {
            return self.tell_empty(revoke.to, revoke.claim, client_id);
        };
        if !latest.is_frozen && latest.redirect(revoke) {
            self.wake_task();
        }
    }

    pub(super) fn tell_empty(&mut self, to: BootId, claim: u64, client_id: &str) {
        if claim == NO_CLAIM {
            return;
        }
        let client_id = client_id.to_owned();
        let handover = Handover { claim, client_id, is_last: true, state: bytes::Bytes::new() };
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
        })
    }
}

impl Turn<'_> {
    /// A connection with this Client Identifier is at the door.
    pub(crate) fn ask_for(
        &mut self,
        peers: &Peers,
        client_id: &Arc<str>,
        wants_session: bool,
        waker: &Waker,
    ) -> Asked {
        if !peers.has_lease(self.now) {
            return Asked::Unavailable(NO_LEASE);
        }
        self.own(peers, |state| state.ask(client_id, wants_session, waker))
    }

    /// Whether this broker holds a Client Identifier. To be asked by who owns it in the registry:
    /// whoever takes it away from here finds them there.
    pub(crate) fn holds(&self, client_id: &str) -> bool {
        let Some(peers) = self.broker.peers() else { return true };
        peers.ownership().token(client_id).is_some()
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
/// Claims kept for slots that may become ours. More are refused, and come again.
const EARLY_MAX: usize = 65_536;
const NO_COORDINATOR: &str = "this broker does not know yet who coordinates the client identifier";
const NO_LEASE: &str = "this broker has lost touch with the cluster";
const TOO_EARLY: &str = "too many clients wait for a broker that does not coordinate them yet";
