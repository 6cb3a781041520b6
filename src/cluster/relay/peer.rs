//! One other broker: which lane is right for it, and both ways through the tree of znodes.

use std::sync::Arc;

use super::Relay;
use super::choice::Facts;
use super::output::{LaneInUse, RelayOutput};
use super::receiver::PartReceiver;
use super::sender::PartSender;
use crate::cluster::identity::{BootId, Member, WireVersions};
use crate::cluster::lane::Lane;
use crate::ports::clock::Tick;

/// One life of another broker.
pub(super) struct RelayPeer {
    pub(super) boot_id: BootId,
    pub(super) name: Arc<str>,
    pub(super) facts: Facts,
    pub(super) sender: PartSender,
    pub(super) receiver: PartReceiver,
    /// Whether its windows are read, and since when.
    pub(super) is_attended: bool,
    attended_since: Tick,
    /// Whether its lane may have something that finds room.
    pub(super) has_work: bool,
}

impl RelayPeer {
    pub(super) fn new(now: Tick, member: &Member, lane: Arc<Lane>) -> Self {
        Self {
            boot_id: member.boot_id,
            name: Arc::clone(&member.name),
            facts: Facts::new(now, WireVersions::OURS.common(member.wire)),
            sender: PartSender::new(lane),
            receiver: PartReceiver::default(),
            is_attended: false,
            attended_since: now,
            has_work: false,
        }
    }

    pub(super) fn lane_in_use(&self) -> LaneInUse {
        match (self.sender.is_carrying(), self.sender.is_open(), self.facts.is_up()) {
            (true, true, _) => LaneInUse::Relay,
            (false, _, true) => LaneInUse::Link,
            (true, false, _) | (false, _, false) => LaneInUse::None,
        }
    }
}

impl Relay {
    /// Sees to it that each broker is sent to by the right lane, and read where nothing else comes.
    pub(super) fn look(&mut self, now: Tick) {
        self.look_at = now.plus_millis(self.options.look_millis());
        let boot_ids: Vec<BootId> = self.peers.keys().copied().collect();
        for boot_id in boot_ids {
            self.choose_lane(now, boot_id);
            self.choose_reading(now, boot_id);
        }
        self.read_next();
    }

    fn choose_lane(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        let is_carrying = peer.sender.is_carrying();
        peer.facts.note_progress(now, &peer.sender.lane.counts());
        let wants_relay = peer.facts.wants_relay(now, &self.options, is_carrying);
        if !self.is_connected {
            // A link that has come back is better than a tree that cannot be reached.
            if is_carrying && peer.facts.is_up() {
                self.give_to_link(now, boot_id);
            }
            return;
        }
        match (is_carrying, wants_relay) {
            (false, false) => {}
            (false, true) => self.give_to_relay(now, boot_id),
            (true, true) => {
                peer.sender.reopen();
                self.keep_moving(now, boot_id);
            }
            (true, false) => {
                let is_still = peer.sender.is_still(now, self.options.silence_millis());
                if peer.sender.close() || is_still {
                    self.give_to_link(now, boot_id);
                }
            }
        }
    }

    /// The link goes on when all that was relayed has been read.
    pub(super) fn close_if_read(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        if !peer.facts.wants_relay(now, &self.options, true) && peer.sender.close() {
            self.give_to_link(now, boot_id);
        }
    }

    fn give_to_relay(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        if peer.facts.is_up() {
            // Nothing gets through: what dials again proves that something does.
            peer.facts.note_link(now, false);
            self.outputs.push_back(RelayOutput::CutLink(boot_id));
        }
        peer.sender.begin(now);
        peer.has_work = true;
        self.reading.want_header(peer);
        self.readings.changes_to_relay += 1;
    }

    fn give_to_link(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        peer.facts.note_return(now);
        let waker = peer.sender.end();
        self.writing.ring.drop_parts(boot_id);
        self.readings.changes_to_link += 1;
        let lane = LaneInUse::Link;
        self.outputs.push_back(RelayOutput::Changed { peer: boot_id, lane });
        self.stir();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Begins another run for a reader that cannot go on, or does not.
    fn keep_moving(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        let is_still = peer.sender.is_still(now, self.options.session_timeout_millis);
        if !is_still && !peer.sender.is_refused() {
            return;
        }
        self.readings.left_out += u64::from(is_still);
        self.readings.rewinds += 1;
        peer.sender.begin_run(now);
        self.writing.ring.drop_parts(boot_id);
        self.stir();
    }

    fn choose_reading(&mut self, now: Tick, boot_id: BootId) {
        let Some(peer) = self.peers.get_mut(&boot_id) else { return };
        let is_wanted = self.is_reading && peer.facts.wants_reading(now, &self.options);
        if is_wanted && !peer.is_attended {
            (peer.is_attended, peer.attended_since) = (true, now);
            self.reading.want_all(peer, true);
        }
        // Not at the first word: a link that comes and goes would make us read all again each time.
        let attended = now.saturating_since(peer.attended_since);
        if !is_wanted && attended >= self.options.session_timeout_millis {
            peer.is_attended = false;
        }
    }

    /// There is room in the ring again, or something in a lane.
    pub(super) fn stir(&mut self) {
        for peer in self.peers.values_mut() {
            peer.has_work = peer.sender.is_carrying();
        }
    }
}
