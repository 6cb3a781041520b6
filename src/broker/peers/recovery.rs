//! What is lost of a control stream is told again.
//!
//! A stream that grows because its receiver does not take it is bounded in two steps. Beyond the first
//! bound nothing is told that can be told later: changes of interest, and that others' interest is in
//! effect. It comes, as it is then, once the receiver has caught up. Beyond the second one all is given
//! up, and receiver and sender begin again as far as they can: neither knows then what came of the
//! messages between them, so whoever published one is let go without an answer. What it sends again goes
//! to the broker whose answer is lost, and of QoS 2 to no other.

use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::peers::again::LeftOut;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::ticket::RemoteOutcome;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Cursors};

impl Turn<'_> {
    /// `peer` dials, and cannot send again what is up to `gone`. How far its streams have been
    /// received.
    pub fn greet(&mut self, peers: &Peers, peer: &Arc<Peer>, gone: Cursors) -> Cursors {
        let (received, has_lost) = {
            let mut inbound = peer.inbound().lock();
            let has_lost = inbound.resume(gone) && !inbound.is_closed();
            (inbound.received(), has_lost)
        };
        if has_lost {
            self.recover(peers, peer);
        }
        received
    }

    /// Frames of `peer` will never come. Nothing of its interest is confirmed before all of it has
    /// come anew, and what it may have answered is asked again.
    fn recover(&mut self, peers: &Peers, peer: &Arc<Peer>) {
        self.shard.counters.peer_controls_lost.increment();
        peer.interest().lock().await_snapshot();
        self.tell(peer, &ControlFrame::InterestWanted);
        if !peer.has_told_retained() {
            self.tell(peer, &ControlFrame::RetainedWanted { after: None });
        }
        for unanswered in peer.take_unanswered() {
            let left_out = LeftOut::of_answer(peer, &unanswered);
            let waker = unanswered.ticket.leave_out(RemoteOutcome::Unknown, left_out);
            self.shard.wake_later(waker);
        }
        self.lose_words_of(peers, peer.boot_id());
        peers.wills().lose_words_of(peer.boot_id());
        self.repeat_words_to(peers, peer.boot_id());
        self.shard.wake_later(peers.wills().repeat_to(peer.boot_id()));
    }

    /// `peer` wants to be told all again: it has lost frames of ours, or disagrees.
    pub(crate) fn tell_again(&mut self, peers: &Peers, peer: &Arc<Peer>) {
        let mut wakes = Vec::new();
        peers.interest().repeat(peer.boot_id(), &mut wakes);
        self.shard.wake_each(wakes);
        self.confirm_interest(peer);
        self.repeat_adopted(peers, peer);
        self.repeat_words_to(peers, peer.boot_id());
        self.shard.wake_later(peers.wills().repeat_to(peer.boot_id()));
    }

    /// Tells `peer` that we are there, unless it is told too much already.
    pub fn ping(&mut self, peer: &Peer, ping: &ControlFrame) {
        if let Ok(wake) = peer.tell_unless_behind(ping) {
            self.shard.wake_later(wake);
        }
    }

    /// Tells every peer that keeps up again what was withheld from it. To be called now and then.
    pub fn catch_up(&mut self, peers: &Peers) {
        let mut wakes = Vec::new();
        if !self.is_life_over() {
            peers.interest().speak();
        }
        peers.interest().catch_up(&mut wakes);
        self.shard.wake_each(wakes);
        self.tell_legacies(peers);
        for peer in peers.live().iter().filter(|peer| peer.lane().has_control_room()) {
            if peer.take_owed_confirmation() {
                self.confirm_interest(peer);
            }
        }
    }
}
