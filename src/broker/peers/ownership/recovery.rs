//! Words about Client Identifiers that were lost with a control stream.

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::turn::Turn;
use crate::cluster::frame::ControlFrame;
use crate::cluster::identity::BootId;

impl State {
    /// Tells and asks `peer` again what it may have missed, or answered in vain: each of these
    /// changes nothing where it is known.
    fn repeat_to(&mut self, peer: BootId) {
        self.introduce(peer);
        self.outbox.extend(self.coordinator.repeat_orders(peer));
        let rounds: Vec<_> = self.rounds.keys().copied().collect();
        let imports = self.imports.iter().filter(|(_, one)| one.from == peer && one.has_begun());
        let imports: Vec<_> = imports.map(|(claim, _)| *claim).collect();
        for mark in rounds {
            self.tell(peer, ControlFrame::MarkWanted { mark });
        }
        for claim in imports {
            self.tell(peer, ControlFrame::HandoverTaken { claim });
        }
    }

    /// Parts of what `peer` hands over are lost: those Sessions do not come whole.
    fn lose_words_of(&mut self, peer: BootId) {
        let imports = self.imports.iter_mut();
        for (claim, import) in imports.filter(|(_, one)| one.from == peer && one.has_begun()) {
            import.is_lost = true;
            self.due_imports.insert(*claim);
        }
        self.wake_task();
    }
}

impl Turn<'_> {
    pub(in crate::broker::peers) fn repeat_words_to(&mut self, peers: &Peers, peer: BootId) {
        self.own(peers, |state| state.repeat_to(peer));
    }

    pub(in crate::broker::peers) fn lose_words_of(&mut self, peers: &Peers, peer: BootId) {
        self.own(peers, |state| state.lose_words_of(peer));
    }
}
