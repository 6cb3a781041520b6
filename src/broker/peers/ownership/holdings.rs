//! What this broker holds, as coordinators are told it: when slots move, when brokers come and go.

use std::collections::BTreeMap;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::State;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Held};
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
        self.slots = Some(table);
        for (from, claim) in std::mem::take(&mut self.early) {
            if self.coordinator_of(&claim.client_id) == Some(me) {
                self.coordinate(from, claim);
            }
        }
        // What is not on its way yet is asked for again: who granted it may be gone, and with it the
        // order to send it.
        let begun: Vec<_> = self.imports.iter().filter(|(_, import)| !import.has_begun()).collect();
        let lost: Vec<_> = begun.into_iter().map(|(claim, _)| *claim).collect();
        for claim in lost {
            if let Some(pending) = self.pending.values_mut().find(|one| one.claim == claim) {
                pending.token = None;
                self.imports.remove(&claim);
            }
        }
        self.report_to(&coordinators);
        self.claim_again(&coordinators);
    }

    /// Tells coordinators what is held here of their slots.
    fn report_to(&mut self, coordinators: &[BootId]) {
        let Some(table) = self.slots.clone() else { return };
        let mut reports: BTreeMap<BootId, Vec<Held>> =
            coordinators.iter().map(|coordinator| (*coordinator, Vec::new())).collect();
        let held = self.held.iter().map(|(client_id, token)| (client_id, *token));
        let granted = self
            .pending
            .iter()
            .filter_map(|(client_id, pending)| Some((client_id, pending.token?)));
        let leaving = self
            .exports
            .values()
            .filter(|export| !export.is_frozen)
            .map(|export| (&export.client_id, export.former));
        for (client_id, token) in held.chain(granted).chain(leaving) {
            let owner = table.owner(client_id);
            if let Some(report) = owner.and_then(|owner| reports.get_mut(&owner)) {
                report.push(Held { client_id: client_id.to_string(), token });
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

impl Turn<'_> {
    /// The slot map has changed. An older one than is known changes nothing.
    pub fn set_slots(&mut self, peers: &Peers, table: SlotTable) {
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
