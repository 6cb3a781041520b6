//! Sessions that somebody else has by now, or that the store has lost, and lives that are over.
//!
//! What a batch says of a Session that another broker has taken is left out by the store, which names
//! it and the claim of which the batch spoke. Whoever waited for that is refused, and the Session is let
//! go here, unless it is here under a later claim: it is where it was taken.

use crate::broker::disconnect::Client;
use crate::broker::registry::ParkedFate;
use crate::broker::turn::Turn;
use crate::mqtt::ReasonCode;
use crate::ports::store::{OwnerId, SessionRef};
use crate::session::mailbox::Notice;

impl Turn<'_> {
    /// The store takes nothing of `owner` any more: others go on without this broker, and have what
    /// was its own.
    pub(super) fn lose_life(&mut self, owner: OwnerId) {
        let is_news = self.shard.keeper.as_ref().is_some_and(|it| it.durable().note_refused(owner));
        if is_news && let Some(peers) = self.broker.peers() {
            peers.interest().fall_silent();
            let _let_go = self.end_all_sessions(ReasonCode::SessionTakenOver);
        }
    }

    /// Lets those of the Sessions go that are here under no later claim: one that has come back is ours, whatever
    /// was said of it before it left. Of a broker that is alone nobody takes any: they
    /// are over, and what was late for them is left out, unless the store has lost them.
    pub(super) fn let_go_fenced(&mut self, fenced: &[SessionRef]) {
        if fenced.is_empty() || self.broker.peers().is_none() && !self.has_lost_sessions() {
            return;
        }
        for session in fenced {
            let Some(client_id) = self.client_of_stored(*session) else { continue };
            self.shard.counters.sessions_fenced.increment();
            self.let_client_go(&client_id, ReasonCode::SessionTakenOver);
        }
    }

    fn has_lost_sessions(&self) -> bool {
        self.broker.durable().is_some_and(|durable| durable.store().was_replaced())
    }

    /// Ends a Session here, and the connection that owns it. What is stored of it stays.
    pub(crate) fn let_client_go(&mut self, client_id: &str, reason_code: ReasonCode) {
        let Some(listed) = self.broker.registry.find(client_id) else { return };
        let Some(mailbox) = listed.mailbox else { return };
        if listed.is_connected {
            let notice = Notice::LetGo(reason_code);
            return self.shard.wake_later(mailbox.notify(notice));
        }
        let decided = self.broker.registry.decide_parked(client_id, |parked| {
            if parked.client.session.key() != mailbox.key() {
                return ParkedFate::Stays([None, None]);
            }
            ParkedFate::Ends(parked.times())
        });
        let Some((times, Some(mut client))) = decided else { return };
        self.broker.timers.cancel(&listed.client_id, times);
        if reason_code == ReasonCode::SessionTakenOver {
            client.will = None;
        }
        self.abandon_session(*client);
        self.surrender(client_id);
    }

    /// Ends a Session here. One that is stored stays as it is for whoever takes it.
    pub(crate) fn abandon_session(&mut self, mut client: Client) {
        if client.stored.is_none() {
            return self.end_session(client);
        }
        if let Some(will) = client.will.take() {
            self.publish_will(&will);
        }
        self.withdraw_subscriptions(&client.session);
        let _in_the_store = self.hand_over_stored(&mut client.session);
    }
}
