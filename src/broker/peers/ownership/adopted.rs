//! Client Identifiers of Sessions that were taken from the store because their broker is dead.

use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::turn::Turn;
use crate::cluster::frame::Token;

impl Turn<'_> {
    /// By the slot map of `epoch` all Sessions of the dead have been taken, here and elsewhere.
    pub(in crate::broker::peers) fn note_sessions_taken(&mut self, peers: &Peers, epoch: i64) {
        self.own(peers, |state| {
            if state.coordinator.epoch() == epoch {
                let tellings = state.coordinator.await_store(false);
                state.outbox.extend(tellings);
            }
        });
    }

    /// A token by which this broker, which coordinates their slots, takes Sessions.
    pub(in crate::broker::peers) fn draw_token(&mut self, peers: &Peers) -> Token {
        self.own(peers, |state| state.coordinator.draw_token())
    }

    /// Whether nobody has a Client Identifier under a higher token.
    pub(in crate::broker::peers) fn may_adopt(
        &mut self,
        peers: &Peers,
        client_id: &str,
        token: Token,
    ) -> bool {
        self.own(peers, |state| {
            let granted = state.coordinator.token_of(client_id);
            granted.max(state.held.get(client_id).copied()).is_none_or(|known| known < token)
        })
    }

    /// The Session of a Client Identifier is here, parked, under this token.
    pub(in crate::broker::peers) fn keep_adopted(
        &mut self,
        peers: &Peers,
        client_id: &Arc<str>,
        token: Token,
    ) {
        self.own(peers, |state| {
            if state.held.get(client_id).is_none_or(|known| *known < token) {
                state.keep(client_id, token);
            }
        });
    }
}
