//! Sessions of the dead that are here although others were granted them.
//!
//! What is published comes to them here until whoever was granted one has taken it from the store. Nobody says
//! when that was, and the store tells a former holder only that writes: of one that gets no message it would be
//! here for good. So the store is asked now and then whose each is, by taking it once more as it was taken.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::durable::{Taking, TakingEnd};
use crate::broker::peers::Peers;
use crate::broker::turn::Turn;
use crate::mqtt::ReasonCode;
use crate::ports::clock::Tick;
use crate::ports::store::SessionRef;

/// All of them.
#[derive(Default)]
pub(super) struct Promised {
    sessions: Vec<PromisedSession>,
    /// None is asked for before this moment.
    again_at: Option<Tick>,
}

struct PromisedSession {
    client_id: Arc<str>,
    /// As it is here.
    session: SessionRef,
    /// What the store was asked.
    asked: Option<Arc<Taking>>,
}

impl Promised {
    pub(super) fn add(&mut self, client_id: &Arc<str>, session: SessionRef) {
        let client_id = Arc::clone(client_id);
        self.sessions.push(PromisedSession { client_id, session, asked: None });
    }
}

impl Turn<'_> {
    /// Lets those go that others have by now, or that are over.
    pub(super) fn let_promised_go(
        &mut self,
        peers: &Peers,
        promised: &mut Promised,
        waker: &Waker,
    ) {
        if promised.sessions.is_empty() {
            return;
        }
        promised.sessions.retain_mut(|one| {
            if !self.is_promised(peers, one) {
                return false;
            }
            match one.asked.as_ref().map(|asked| asked.poll(waker)) {
                None | Some(None) => true,
                Some(Some(TakingEnd::Found(_) | TakingEnd::Failed)) => {
                    one.asked = None;
                    true
                }
                Some(Some(TakingEnd::Nobody | TakingEnd::Fenced)) => {
                    self.let_client_go(&one.client_id, ReasonCode::SessionTakenOver);
                    false
                }
            }
        });
        if promised.again_at.is_some_and(|at| self.now < at) {
            return;
        }
        promised.again_at = Some(self.now.plus_millis(PAUSE_MILLIS));
        for one in promised.sessions.iter_mut().filter(|one| one.asked.is_none()) {
            one.asked = self.take_from_store(&one.client_id, one.session.epoch);
        }
    }

    /// Whether a Session is here still, and not ours.
    fn is_promised(&self, peers: &Peers, one: &PromisedSession) -> bool {
        let mailbox = self.broker.registry().find(&one.client_id).and_then(|listed| listed.mailbox);
        let is_here = mailbox.is_some_and(|mailbox| mailbox.stored_as() == Some(one.session));
        is_here && peers.ownership().token(&one.client_id).is_none()
    }
}

/// How long the store is left alone with each.
const PAUSE_MILLIS: u64 = 500;
