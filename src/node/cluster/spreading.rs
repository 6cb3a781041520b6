//! Slot maps that brokers tell each other while the tree of znodes is out of reach.

use std::sync::Arc;
use std::task::Waker;

use super::task::ClusterTask;
use crate::cluster::membership::output::PeerLease;

impl ClusterTask {
    /// What this broker goes by can be told to others.
    pub(super) fn note_own_slots(&self) {
        let Some(peers) = self.broker.peers() else { return };
        if let Some((map, record)) = self.membership.slots().zip(self.membership.slot_record()) {
            peers.slot_news().set_own(map.epoch(), record);
        }
    }

    /// Takes the maps that others have told, and asks for later ones while none can be read.
    pub(super) fn spread_slots(&mut self, waker: &Waker) {
        let broker = Arc::clone(&self.broker);
        let Some(peers) = broker.peers() else { return };
        for record in peers.slot_news().take_told(waker) {
            self.tell(|membership, now| membership.hear_slots(now, &record));
        }
        let now = self.clock.now();
        if self.membership.own_lease(now) == PeerLease::Committed || now < self.slots_wanted_at {
            return;
        }
        self.slots_wanted_at = now.plus_millis(self.options.session_timeout_millis / QUESTIONS);
        self.context.run(&self.broker, now, |turn| turn.ask_for_slots(peers));
    }
}

/// In the time of a session.
const QUESTIONS: u64 = 6;
