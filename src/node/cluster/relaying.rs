//! The relay of the task of the cluster: what it wants done is done, and who pays for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bell::Bell;
use super::task::ClusterTask;
use crate::cluster::bank::Funds;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::Lane;
use crate::cluster::relay::{RING_BYTES, RelayOutput};
use crate::cluster::wire::Batch;
use crate::ports::clock::Tick;

/// Which links have come up or broken since the task last looked: one entry for each peer.
#[derive(Debug, Default)]
pub(super) struct LinkNews {
    bell: Arc<Bell>,
    changed: Mutex<BTreeMap<BootId, LinkTurn>>,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LinkTurn {
    Up,
    Down,
    /// It does not stand, since the two do not trust each other.
    Mistrusted,
}

impl LinkNews {
    pub(super) fn new(bell: &Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { bell: Arc::clone(bell), changed: Mutex::default() })
    }

    pub(super) fn note(&self, boot_id: BootId, turn: LinkTurn) {
        self.changed.lock().insert(boot_id, turn);
        self.bell.waker().wake();
    }

    fn take(&self) -> BTreeMap<BootId, LinkTurn> {
        std::mem::take(&mut *self.changed.lock())
    }
}

impl ClusterTask {
    /// Tells the relay what is known of links, and does what it wants done.
    pub(super) fn keep_relay(&mut self) {
        let broker = Arc::clone(&self.broker);
        let Some(peers) = broker.peers() else { return };
        let now = self.clock.now();
        for (boot_id, turn) in self.link_news.take() {
            match turn {
                LinkTurn::Up => self.relay.note_link(now, boot_id, true),
                LinkTurn::Down => self.relay.note_link(now, boot_id, false),
                LinkTurn::Mistrusted => self.relay.mistrust(now, boot_id),
            }
        }
        for peer in peers.live().iter() {
            self.relay.note_heard(peer.boot_id(), peer.heard().at);
        }
        if peers.knows_time() {
            self.relay.begin_reading(now);
        }
        if self.relay.wants_funds(now) {
            let is_funded = self.registry.pay(now, RING_COST);
            self.relay.fund(now, is_funded);
        }
        self.relay.handle_timeout(now);
        while let Some(output) = self.relay.poll_output(now) {
            self.carry_out_relay(now, output);
        }
        self.registry.keep_relay(now, &mut self.relay);
        self.status.note_relay(&self.relay, peers);
    }

    /// A broker is there: it is dialled, unless all goes through the tree of znodes.
    pub(super) fn open_lane(&mut self, now: Tick, member: &Member, lane: Arc<Lane>) {
        self.relay.meet(now, member, Arc::clone(&lane));
        if self.has_links {
            self.links.open(member, lane);
        }
    }

    /// A broker is gone for good.
    pub(super) fn close_lane(&mut self, boot_id: BootId) {
        self.links.close(boot_id);
        self.relay.bury(boot_id);
    }

    fn carry_out_relay(&mut self, now: Tick, output: RelayOutput) {
        match output {
            RelayOutput::Submit(ticket, request) => self.coordination.submit(ticket, request),
            RelayOutput::Resume { from, gone } => {
                let Some(peers) = self.broker.peers() else { return };
                let Some(peer) = peers.find(from) else { return };
                let received =
                    self.context.run(&self.broker, now, |turn| turn.greet(peers, &peer, gone));
                self.relay.note_received(from, received);
            }
            RelayOutput::Batch { from, batch } => self.take_relayed(now, from, &batch),
            RelayOutput::CutLink(boot_id) => self.links.redial(boot_id),
            RelayOutput::Changed { peer, lane } => {
                let peer = self.broker.peers().and_then(|peers| peers.find(peer));
                let peer = peer.map(|peer| peer.name().to_string()).unwrap_or_default();
                tracing::info!(peer, lane = lane.as_str(), "frames go by another lane");
            }
        }
    }

    fn take_relayed(&mut self, now: Tick, from: BootId, batch: &Batch) {
        let Some(peers) = self.broker.peers() else { return };
        let Some(peer) = peers.find(from) else { return };
        let taken =
            self.context.run(&self.broker, now, |turn| turn.receive_relayed(peers, &peer, batch));
        match taken {
            Ok(()) => {
                let received = peer.inbound().lock().received();
                self.relay.note_received(from, received);
            }
            Err(error) => {
                tracing::warn!(peer = %peer.name(), %error, "what is relayed is not taken");
                self.relay.refuse(from);
            }
        }
    }
}

/// What the ring of this broker may come to.
const RING_COST: Funds = Funds { topics: 0, znode_bytes: 0, relay_bytes: RING_BYTES };
