//! What brokers that have lost the ensemble may make of each other's word.
//!
//! Whoever has the ensemble may declare dead who has not, and cannot tell those who have crashed from
//! those who are merely out of its reach. So it is these who must know that nobody has it: they go on
//! only while *every* broker they know says that it has not. A majority is not enough, for the one
//! that is silent may be the one that buries all others (docs/design/0010).

use std::collections::BTreeSet;

use super::output::PeerLease;
use super::{Ending, Membership};
use crate::cluster::identity::BootId;
use crate::cluster::slots::{MEMBERS_MAX, SlotMap};
use crate::ports::clock::Tick;

/// Brokers that were heard and that the tree has not shown us: they came while we were cut off, and
/// may declare us dead.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeSet<BootId>);

impl Strangers {
    fn note(&mut self, boot_id: BootId) {
        if self.0.len() < MEMBERS_MAX {
            self.0.insert(boot_id);
        }
    }

    /// A map was read: the dead bury nobody.
    pub(super) fn bury(&mut self, map: &SlotMap) {
        self.0.retain(|boot_id| !map.is_dead(*boot_id));
    }
}

impl Membership {
    /// What peers say of their leases, each once, in answers no older than a third of the session
    /// timeout. Call it when [`Self::ping_due`] says so while [`Self::own_lease`] is uncommitted, with
    /// everybody who answers, also those that this broker does not know from the tree.
    pub fn peers_answer(&mut self, now: Tick, answers: &[(BootId, PeerLease)]) {
        if self.ending == Ending::Over {
            return;
        }
        let known = self.known();
        let is_dead =
            |boot_id: BootId| self.slots.as_ref().is_some_and(|slots| slots.map.is_dead(boot_id));
        let answers = answers.iter().filter(|(boot_id, _)| !is_dead(*boot_id));
        let mut silent = known.clone();
        let mut is_anybody_committed = false;
        for (boot_id, lease) in answers {
            silent.remove(boot_id);
            is_anybody_committed |= *lease == PeerLease::Committed;
            if *boot_id != self.own.boot_id && !known.contains(boot_id) {
                self.strangers.note(*boot_id);
            }
        }
        if silent.is_empty() && !is_anybody_committed {
            self.lease.freeze(now, &mut self.desk);
        }
    }

    /// A peer said at `at`, by its own link to this broker, that its writes are committed: it is
    /// there, and it knows this one. Tell it of all that say so, at least as often as
    /// [`Self::ping_due`] says.
    pub fn note_vouched(&mut self, boot_id: BootId, at: Tick) {
        self.roster.vouch(boot_id, at);
    }

    /// Everybody who may have the ensemble, as far as this broker knows.
    fn known(&self) -> BTreeSet<BootId> {
        let mut known: BTreeSet<BootId> = self.roster.boot_ids().collect();
        known.extend(self.slots.iter().flat_map(|slots| slots.map.members()));
        known.extend(&self.strangers.0);
        known.remove(&self.own.boot_id);
        known
    }
}
