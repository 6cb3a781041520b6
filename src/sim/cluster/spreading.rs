//! Slot maps that brokers tell each other, as `node` has it done.

use std::task::Waker;

use crate::cluster::membership::output::PeerLease;
use crate::ports::clock::Tick;
use crate::sim::cluster::ensemble::SESSION_MILLIS;
use crate::sim::cluster::process::Process;

impl Process {
    /// What this broker goes by can be told to others.
    pub(super) fn note_own_slots(&self) {
        if let Some((map, record)) = self.membership.slots().zip(self.membership.slot_record()) {
            self.peers().slot_news().set_own(map.epoch(), record);
        }
    }

    /// Takes the maps that others have told, and asks for later ones while none can be read.
    pub(super) fn spread_slots(&mut self, now: u64) {
        for record in self.peers().slot_news().take_told(Waker::noop()) {
            self.tell(now, |membership, tick| membership.hear_slots(tick, &record));
        }
        let own_lease = self.membership.own_lease(Tick::from_millis(now));
        if own_lease == PeerLease::Committed || now < self.slots_wanted_at {
            return;
        }
        self.slots_wanted_at = now + SESSION_MILLIS / QUESTIONS;
        self.turn(now, |turn, peers| {
            turn.ask_for_slots(peers);
        });
    }
}

/// In the time of a session.
const QUESTIONS: u64 = 6;
