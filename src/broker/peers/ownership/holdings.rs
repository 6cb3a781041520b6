//! What this broker holds, as coordinators are told it: when slots move, when brokers come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::peers::ownership::imports::Import;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Held, Whereabouts};
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;

impl State {
    /// The newest slot map. Every coordinator is told all that is held here of its slots, moved or
    /// not, and asked again for all that is wanted: what was said by an older map counts no more.
    fn adopt(&mut self, peers: &Peers, map: Arc<SlotMap>) {
        if !self.is_news(&map) {
            return;
        }
        let coordinators = map.coordinators();
        let mut awaited: BTreeSet<BootId> = BTreeSet::new();
        if coordinators.contains(&self.me) {
            awaited.extend(peers.live().iter().map(|peer| peer.boot_id()));
            // Some of them we may not have met yet.
            awaited.extend(&coordinators);
        }
        self.outbox.extend(self.coordinator.start_epoch(map.epoch(), awaited));
        self.slots = Some(map);
        self.forget_grants();
        self.report_to(&coordinators);
        self.claim_again(&coordinators);
    }

    fn is_news(&self, map: &SlotMap) -> bool {
        self.slots.as_ref().is_none_or(|known| known.epoch() < map.epoch())
    }

    /// What was granted by an older map, and is not on its way yet, is asked for again: the order to
    /// send it may count no more where it was to be heard. Whoever has it does not part with it
    /// before it is asked for more of it, and that is not done before it is granted again.
    fn forget_grants(&mut self) {
        for pending in self.pending.values_mut().filter(|pending| pending.token.is_some()) {
            if !self.imports.get(&pending.claim).is_some_and(Import::has_begun) {
                pending.token = None;
                self.imports.remove(&pending.claim);
            }
        }
    }

    /// Tells coordinators what is held here of their slots.
    fn report_to(&mut self, coordinators: &[BootId]) {
        let Some(map) = self.slots.clone() else { return };
        let epoch = map.epoch();
        let mut reports: BTreeMap<BootId, Vec<Held>> =
            coordinators.iter().map(|coordinator| (*coordinator, Vec::new())).collect();
        let here =
            self.held.iter().map(|(client_id, token)| (client_id, *token, Whereabouts::Here));
        let coming = self.pending.iter().filter_map(|(client_id, pending)| {
            Some((client_id, pending.token?, Whereabouts::Coming { claim: pending.claim }))
        });
        let going = self.exports.values().filter(|export| !export.is_frozen);
        let going = going.map(|export| (&export.client_id, export.former, Whereabouts::Going));
        for (client_id, token, whereabouts) in here.chain(coming).chain(going) {
            let owner = map.coordinator_of(client_id);
            if let Some(report) = owner.and_then(|owner| reports.get_mut(&owner)) {
                report.push(Held { client_id: client_id.to_string(), token, whereabouts });
            }
        }
        for (coordinator, mut report) in reports {
            while !report.is_empty() {
                let rest = report.split_off(report.len().min(REPORT_MAX));
                self.tell(coordinator, ControlFrame::Report { epoch, held: report });
                report = rest;
            }
            self.tell(coordinator, ControlFrame::ReportComplete { epoch });
        }
    }

    /// A broker has come that may have been told nothing.
    pub(super) fn introduce(&mut self, peer: BootId) {
        let is_coordinator =
            self.slots.as_ref().is_some_and(|map| map.coordinators().contains(&peer));
        if is_coordinator {
            self.report_to(&[peer]);
            self.claim_again(&[peer]);
        }
    }

    /// A broker is dead: nothing comes of what it was to send.
    fn bury(&mut self, dead: BootId) {
        for (claim, import) in self.imports.iter_mut().filter(|(_, one)| one.from == dead) {
            import.is_lost = true;
            self.due_imports.insert(*claim);
        }
        self.exports.bury(dead);
        self.outbox.extend(self.coordinator.bury(dead));
        self.wake_task();
    }
}

impl Turn<'_> {
    /// The slot map has changed. An older one than is known changes nothing.
    pub fn set_slots(&mut self, peers: &Peers, map: Arc<SlotMap>) {
        self.shard.wake_later(peers.wills().set_slots(Arc::clone(&map)));
        self.shard.wake_later(peers.adoptions().set_slots(&map));
        let has_store = self.broker.durable.is_some();
        self.own(peers, |state| {
            if has_store && state.is_news(&map) {
                let _nobody = state.coordinator.await_store(true);
            }
            state.adopt(peers, map);
        });
    }

    pub(crate) fn introduce_owner(&mut self, peers: &Peers, peer: BootId) {
        self.own(peers, |state| state.introduce(peer));
    }

    pub(crate) fn bury_owner(&mut self, peers: &Peers, dead: BootId) {
        self.own(peers, |state| state.bury(dead));
    }
}

/// Client Identifiers of one frame.
const REPORT_MAX: usize = 512;
