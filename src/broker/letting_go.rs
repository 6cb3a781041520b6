//! Use cases of a broker that has lost touch with its cluster: it lets its clients go, and keeps their
//! Sessions until it is known to be dead to the others. Then it leaves those that are stored to whoever
//! takes them from the store.

use std::sync::Arc;

use crate::broker::administer::Ending;
use crate::broker::turn::Turn;
use crate::mqtt::ReasonCode;
use crate::session::mailbox::{Mailbox, Notice};

/// Whom a broker has let go, and what becomes of the Sessions it has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct LetGo {
    /// Connections that end.
    pub clients: usize,
    /// Sessions that stay here, of these clients and of those that were away.
    pub sessions_kept: usize,
    /// Sessions that are gone from here, and in the store for whoever takes them.
    pub sessions_left: usize,
    /// Sessions that end.
    pub sessions_ended: usize,
}

impl Turn<'_> {
    /// Closes all connections; a Session that outlives its connection stays.
    ///
    /// For a broker without a lease: it may be dead to the others, and hands no Session out before it
    /// knows. What is published elsewhere for those it has waits with whoever published it, as long as
    /// they do not take this broker for dead, or comes here; the store takes it until then.
    pub fn let_clients_go(&mut self, reason_code: ReasonCode) -> LetGo {
        let (mut let_go, mut connected) = (LetGo::default(), Vec::new());
        self.broker.registry().for_each(|listed| {
            if !listed.is_connected {
                let_go.sessions_kept += 1;
                return;
            }
            // One that is moving between connections is let in by nobody who has no lease.
            let (Some(mailbox), Some(card)) = (listed.mailbox, listed.card) else { return };
            connected.push(mailbox);
            if card.session_expiry_secs > 0 {
                let_go.sessions_kept += 1;
            } else {
                let_go.sessions_ended += 1;
            }
        });
        let_go.clients = connected.len();
        for mailbox in connected {
            self.shard.wake_later(mailbox.notify(Notice::Disconnect(reason_code)));
        }
        self.shard.counters.clients_let_go.add(let_go.clients as u64);
        let_go
    }

    /// Ends all Sessions here, connected or not: this broker is dead to the others, who may have
    /// granted their Client Identifiers anew. What is stored of them stays.
    pub fn end_all_sessions(&mut self, reason_code: ReasonCode) -> LetGo {
        let mut let_go = LetGo::default();
        if let Some(peers) = self.broker.peers() {
            peers.note_declared_dead();
        }
        self.leave_stored(reason_code, &mut let_go);
        let mut client_ids = Vec::new();
        self.broker.registry().for_each(|listed| {
            if !listed.mailbox.as_deref().is_some_and(is_stored) {
                client_ids.push(Arc::clone(&listed.client_id));
            }
        });
        for client_id in client_ids {
            match self.end_client_for(&client_id, None, reason_code) {
                Ending::Told(_) => {
                    let_go.clients += 1;
                    let_go.sessions_ended += 1;
                }
                Ending::Ended => let_go.sessions_ended += 1,
                // One that is moving between connections is let in by nobody who has no lease.
                Ending::Unknown | Ending::Moving => {}
            }
        }
        self.shard.counters.clients_let_go.add(let_go.clients as u64);
        let_go
    }

    /// Another life has begun: what nobody could see when the former one ended goes as well.
    pub(crate) fn leave_what_was_held(&mut self) {
        let mut let_go = LetGo::default();
        self.leave_stored(ReasonCode::SessionTakenOver, &mut let_go);
        self.shard.counters.clients_let_go.add(let_go.clients as u64);
    }

    /// Lets the Sessions go that are stored: here they end.
    fn leave_stored(&mut self, reason_code: ReasonCode, let_go: &mut LetGo) {
        if self.broker.durable.is_none() {
            return;
        }
        let mut stored = Vec::new();
        self.broker.registry().for_each(|listed| {
            if listed.mailbox.as_deref().is_some_and(is_stored) {
                stored.push((Arc::clone(&listed.client_id), listed.is_connected));
            }
        });
        for (client_id, is_connected) in stored {
            let_go.clients += usize::from(is_connected);
            let_go.sessions_left += 1;
            self.let_client_go(&client_id, reason_code);
        }
    }

    /// Counts a Session that ends before its time.
    pub(crate) fn count_end(&self, reason_code: ReasonCode) {
        let counters = &self.shard.counters;
        if reason_code == ReasonCode::AdministrativeAction {
            counters.sessions_ended_by_operator.increment();
        } else {
            counters.sessions_ended_by_death.increment();
        }
    }
}

fn is_stored(mailbox: &Mailbox) -> bool {
    mailbox.stored_as().is_some()
}
