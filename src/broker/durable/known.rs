//! Whose the stored Sessions of this broker are: the store names a Session, the registry its client.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::turn::Turn;
use crate::ports::store::{SessionId, SessionRef};

/// The clients of all stored Sessions that are here, and of some that were.
#[derive(Debug, Default)]
pub(crate) struct StoredClients(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clients: BTreeMap<SessionId, Arc<str>>,
    /// With so many those that have gone are forgotten.
    full_at: usize,
}

impl StoredClients {
    /// A Session is here. Of those that `is_gone` tells there are at most as many as of the others.
    fn note(
        &self,
        session: SessionId,
        client_id: &Arc<str>,
        is_gone: impl Fn(SessionId, &str) -> bool,
    ) {
        let mut state = self.0.lock();
        if state.clients.len() >= state.full_at.max(FULL_AT_LEAST) {
            state.clients.retain(|session, client_id| !is_gone(*session, client_id));
            state.full_at = state.clients.len() * 2;
        }
        state.clients.insert(session, Arc::clone(client_id));
    }

    fn client_of(&self, session: SessionId) -> Option<Arc<str>> {
        self.0.lock().clients.get(&session).cloned()
    }
}

impl Turn<'_> {
    /// A Session of this client is stored, and the registry has it, or whoever is to have it.
    pub(crate) fn note_stored(&self, session: SessionId, client_id: &Arc<str>) {
        let Some(durable) = self.broker.durable() else { return };
        durable.clients().note(session, client_id, |session, client_id| {
            let known = self.broker.registry.find(client_id);
            known.is_none_or(|listed| {
                let stored_as = listed.mailbox.and_then(|mailbox| mailbox.stored_as());
                stored_as.is_some_and(|other| other.id != session)
            })
        });
    }

    /// The client of a stored Session, if that is here, and under no later claim.
    pub(super) fn client_of_stored(&self, session: SessionRef) -> Option<Arc<str>> {
        let client_id = self.broker.durable()?.clients().client_of(session.id)?;
        let stored = self.broker.registry.find(&client_id)?.mailbox?.stored_as()?;
        let is_meant = stored.id == session.id && stored.epoch <= session.epoch;
        is_meant.then_some(client_id)
    }
}

/// Fewer are not looked through.
const FULL_AT_LEAST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_gone_are_forgotten_and_no_others() {
        let clients = StoredClients::default();
        let id = |number: u64| Arc::from(number.to_string());
        let stays = |number: u64| number.is_multiple_of(4);
        for number in 0..100_000 {
            clients.note(SessionId(number), &id(number), |session, _| !stays(session.0));
        }
        let count = clients.0.lock().clients.len();
        assert!((25_000..=50_001).contains(&count), "{count}");
        for number in (0..100_000).filter(|number| stays(*number)) {
            assert_eq!(clients.client_of(SessionId(number)), Some(id(number)));
        }
    }
}
