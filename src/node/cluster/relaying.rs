//! The relay of the task of the cluster: what it wants done is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bell::Bell;
use super::task::ClusterTask;
use crate::broker::peers::Peers;
use crate::broker::peers::relaying::RelayChore;
use crate::broker::turn::Turn;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::lane::Lane;
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
        self.registry.attend_relay(now, peers, &mut self.relay);
        while let Some(output) = self.relay.poll_output(now) {
            let relay = &mut self.relay;
            let hear = |turn: &mut Turn<'_>| turn.hear_relay(peers, relay, output);
            if let Some(chore) = self.context.run(&self.broker, now, hear) {
                self.carry_out_relay(peers, chore);
            }
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

    fn carry_out_relay(&self, peers: &Peers, chore: RelayChore) {
        let name = |boot_id| peers.find(boot_id).map(|peer| peer.name().to_string());
        match chore {
            RelayChore::Submit(ticket, request) => self.coordination.submit(ticket, request),
            RelayChore::CutLink(boot_id) => self.links.redial(boot_id),
            RelayChore::Changed(peer, lane) => {
                let peer = name(peer).unwrap_or_default();
                tracing::info!(peer, lane = lane.as_str(), "frames go by another lane");
            }
            RelayChore::NotTaken(peer, error) => {
                let peer = name(peer).unwrap_or_default();
                tracing::warn!(%peer, %error, "what is relayed is not taken");
            }
        }
    }
}
