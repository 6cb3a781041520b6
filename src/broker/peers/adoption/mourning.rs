//! Everybody says from when on it holds what is for a dead broker.
//!
//! Whoever takes Sessions of a dead broker is not to be faster than the news of its death: a message
//! that another broker routes to both, the dead one and the one that has the Session by now, would
//! overtake those that the dead one has not answered, and that are offered again later. So nobody
//! restores a Session before all have said that they hold, and what they had routed before has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::broker::peers::Peers;
use crate::broker::peers::adoption::{Adoptions, HEARD_MAX, adopts};
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::ControlFrame;
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;

/// Who holds what for whom.
#[derive(Default)]
pub(super) struct Mourning {
    /// Whether somebody is to be told.
    is_due: bool,
    /// The dead, and whom we have told.
    told: BTreeSet<(BootId, BootId)>,
    /// The dead, and who has told us: how many messages it had routed here before.
    heard: BTreeMap<(BootId, BootId), u64>,
}

impl Mourning {
    /// Somebody has been buried.
    pub(super) fn note_change(&mut self) {
        self.is_due = true;
    }

    /// Another slot map counts. What is heard may be of those who are dead by a later one.
    pub(super) fn follow(&mut self, map: &SlotMap) {
        self.is_due = true;
        self.told.retain(|(dead, _)| map.is_dead(*dead));
        if self.heard.len() >= HEARD_MAX / 2 {
            self.heard.retain(|(dead, _), _| map.is_dead(*dead));
        }
    }

    /// `peer` has lost what we said.
    pub(super) fn forget_told(&mut self, peer: BootId) {
        self.told.retain(|(_, told)| *told != peer);
        self.is_due = true;
    }

    fn hear(&mut self, from: BootId, dead: BootId, data: u64) {
        // Beyond the bound it is heard again with the next slot map of whoever says so.
        if self.heard.len() < HEARD_MAX || self.heard.contains_key(&(dead, from)) {
            self.heard.insert((dead, from), data);
        }
    }
}

impl Adoptions {
    /// Messages of a peer have been received, which somebody may have waited for.
    pub(in crate::broker::peers) fn note_data(&self) -> Option<Waker> {
        if !self.awaits_data.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().task.clone()
    }

    /// Whether all who take publishes hold what is for `dead`, and what they had routed here before
    /// has come.
    pub(super) fn is_mourned_by_all(&self, peers: &Peers, map: &SlotMap, dead: BootId) -> bool {
        // Before the look: what comes meanwhile is not missed.
        self.awaits_data.store(true, Ordering::Release);
        let is_mourned = self.has_heard_all(peers, map, dead);
        self.awaits_data.store(!is_mourned, Ordering::Release);
        is_mourned
    }

    fn has_heard_all(&self, peers: &Peers, map: &SlotMap, dead: BootId) -> bool {
        let mut others = map.coordinators().into_iter().filter(|other| *other != peers.boot_id());
        others.all(|other| {
            // Who is not known here will be, or another slot map comes.
            let Some(peer) = peers.find(other) else { return false };
            let heard = self.state.lock().mourning.heard.get(&(dead, other)).copied();
            let has_come = |data: u64| peer.inbound().lock().received().data >= data;
            !adopts(&peer) || heard.is_some_and(has_come)
        })
    }
}

impl Turn<'_> {
    /// A peer holds from now on what is for a dead one.
    pub(in crate::broker::peers) fn hear_mourned(
        &mut self,
        peers: &Peers,
        peer: &Peer,
        (dead, data): (BootId, u64),
    ) {
        let task = {
            let mut state = peers.adoptions().state.lock();
            state.mourning.hear(peer.boot_id(), dead, data);
            state.task.clone()
        };
        self.shard.wake_later(task);
    }

    /// Tells everybody for whom this broker holds messages, unless it has been told.
    pub(super) fn tell_mourned(&mut self, peers: &Peers) {
        let due = {
            let mut state = peers.adoptions().state.lock();
            let is_due = std::mem::take(&mut state.mourning.is_due);
            state.map.clone().filter(|_| is_due)
        };
        let Some(map) = due else { return };
        // One that is not buried yet is come back to when it is.
        let dead: Vec<_> = map.dead().filter(|dead| peers.find(*dead).is_none()).collect();
        let live = peers.live();
        for peer in live.iter().filter(|peer| adopts(peer)) {
            for dead in &dead {
                self.tell_mourned_to(peers, peer, *dead);
            }
        }
    }

    fn tell_mourned_to(&mut self, peers: &Peers, peer: &Arc<Peer>, dead: BootId) {
        let is_new = peers.adoptions().state.lock().mourning.told.insert((dead, peer.boot_id()));
        if is_new {
            let data = peer.lane().counts().offered.data;
            self.tell(peer, &ControlFrame::Mourned { dead, data });
        }
    }
}
