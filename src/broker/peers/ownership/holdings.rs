//! What this broker holds, as coordinators are told it: when slots move, when brokers come and go.

use std::collections::BTreeMap;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::peers::ownership::claims::NO_CLAIM;
use crate::broker::peers::ownership::imports::Import;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Held, Token};
use crate::cluster::identity::BootId;
use crate::cluster::slot_table::SlotTable;

impl State {
    /// The newest slot map. Every coordinator is told all that is held here of its slots, moved or
    /// not: whoever slept through a map may have lost a slot and got it back without our notice.
    fn adopt(&mut self, peers: &Peers, table: SlotTable) {
        if self.slots.as_ref().is_some_and(|known| known.epoch() >= table.epoch()) {
            return;
        }
        let me = self.me;
        let live: Vec<_> = peers.live().iter().map(|peer| peer.boot_id()).chain([me]).collect();
        let is_ours = |client_id: &str| table.owner(client_id) == Some(me);
        self.coordinator.start_epoch(table.epoch(), is_ours, live);
        let coordinators = table.coordinators();
        let former = self.slots.replace(table);
        for (from, claim) in std::mem::take(&mut self.early) {
            if self.coordinator_of(&claim.client_id) == Some(me) {
                self.coordinate(from, claim);
            }
        }
        self.forget_grants(former.as_ref());
        self.report_to(&coordinators);
        self.claim_again(&coordinators);
    }

    /// What was granted by who does not coordinate it any more, and is not on its way yet, is asked
    /// for again: the order to send it may be lost.
    fn forget_grants(&mut self, former: Option<&SlotTable>) {
        for (client_id, pending) in &mut self.pending {
            let owner = |table: &SlotTable| table.owner(client_id);
            let has_begun = self.imports.get(&pending.claim).is_some_and(Import::has_begun);
            if !has_begun && former.and_then(owner) != self.slots.as_ref().and_then(owner) {
                pending.token = None;
                self.imports.remove(&pending.claim);
            }
        }
    }

    /// Tells coordinators what is held here of their slots.
    fn report_to(&mut self, coordinators: &[BootId]) {
        let Some(table) = self.slots.clone() else { return };
        let mut reports: BTreeMap<BootId, Vec<Held>> =
            coordinators.iter().map(|coordinator| (*coordinator, Vec::new())).collect();
        let here = self.held.iter().map(|(client_id, token)| held(client_id, *token, NO_CLAIM));
        let granted = self.pending.iter().filter_map(|(client_id, pending)| {
            Some(held(client_id, pending.token?, pending.claim))
        });
        let leaving = self.exports.values().filter(|export| !export.is_frozen).map(|export| {
            let import = export.import().filter(|claim| self.imports.contains_key(claim));
            let claim = import.unwrap_or(NO_CLAIM);
            Held { is_leaving: true, ..held(&export.client_id, export.former, claim) }
        });
        for held in here.chain(granted).chain(leaving) {
            let owner = table.owner(&held.client_id);
            if let Some(report) = owner.and_then(|owner| reports.get_mut(&owner)) {
                report.push(held);
            }
        }
        for (coordinator, mut report) in reports {
            while !report.is_empty() {
                let rest = report.split_off(report.len().min(REPORT_MAX));
                self.tell(coordinator, ControlFrame::Report(report));
                report = rest;
            }
            let epoch = table.epoch();
            self.tell(coordinator, ControlFrame::ReportComplete { epoch });
        }
    }

    /// A broker has come that may have been told nothing.
    fn introduce(&mut self, peer: BootId) {
        let is_coordinator =
            self.slots.as_ref().is_some_and(|table| table.coordinators().contains(&peer));
        if is_coordinator {
            self.report_to(&[peer]);
            self.claim_again(&[peer]);
        }
    }

    /// A broker is dead: nothing comes of what it was to send.
    fn bury(&mut self, dead: BootId) {
        self.early.retain(|(from, _)| *from != dead);
        for import in self.imports.values_mut().filter(|import| import.from == dead) {
            import.is_lost = true;
        }
        self.outbox.extend(self.coordinator.bury(dead));
        self.wake_task();
    }
}

pub(super) fn held(client_id: &str, token: Token, claim: u64) -> Held {
    Held { client_id: client_id.to_owned(), token, claim, is_leaving: false }
}

impl Turn<'_> {
    /// The slot map has changed. An older one than is known changes nothing.
    pub fn set_slots(&mut self, peers: &Peers, table: SlotTable) {
        peers.wills().set_slots(&table);
        self.own(peers, |state| state.adopt(peers, table));
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
