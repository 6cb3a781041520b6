//! A broker that was declared dead holds nothing any more, and nothing is on its way to or from it.

use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::peers::ownership::exports::Outgoing;
use crate::broker::turn::Turn;
use crate::cluster::identity::BootId;

impl State {
    /// That of the next life. Numbers are not used twice: a late answer must not meet another
    /// question.
    fn of_next_life(&self, me: BootId, hash_seed: u64) -> Self {
        let task = self.task.clone();
        Self { next_number: self.next_number, task, ..Self::new(me, hash_seed) }
    }
}

impl Turn<'_> {
    /// Begins a new life with nothing. Sessions that were on their way end: others may have granted
    /// their identifiers anew.
    pub(in crate::broker::peers) fn begin_life_of_ownership(&mut self, peers: &Peers, me: BootId) {
        let ownership = peers.ownership();
        let mut work = ownership.work.lock();
        let former = {
            let mut state = ownership.state.lock();
            let next = state.of_next_life(me, peers.hash_seed);
            std::mem::replace(&mut *state, next)
        };
        let work = std::mem::take(&mut *work);
        for client in work.incoming.into_values().filter_map(|incoming| incoming.client) {
            self.abandon_session(*client);
        }
        for (number, outgoing) in work.outgoing {
            if let Some(export) = former.exports.get(number) {
                self.end_outgoing(&export.client_id, outgoing);
            }
        }
        for mailbox in work.rounds.into_arrived() {
            mailbox.forget_moved();
        }
    }

    /// An export goes no further: what of it is in our hands ends.
    fn end_outgoing(&mut self, client_id: &Arc<str>, outgoing: Outgoing) {
        let client = match outgoing {
            Outgoing::Claiming(claim) => {
                let granted = self.broker.registry().withdraw(client_id, &claim);
                let Some(client) = granted else { return };
                client
            }
            Outgoing::Offered { mut client, .. } | Outgoing::Marking { mut client, .. } => {
                // Its client is at another broker by now, or whoever keeps it publishes it.
                client.will = None;
                Some(client)
            }
            // The store has it.
            Outgoing::Leaving(leaving) => {
                let _over = self.forget_wanted(&leaving.wanted);
                None
            }
            // The registry has nothing of it.
            Outgoing::Parting { wanted, .. } | Outgoing::Reclaiming { wanted, .. } => {
                let _over = self.forget_wanted(&wanted);
                return;
            }
            Outgoing::Start | Outgoing::Sending { .. } => return,
        };
        if let Some(client) = client {
            self.abandon_session(*client);
        }
        self.let_go(client_id);
    }
}
