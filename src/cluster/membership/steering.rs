//! What the leader does: it declares brokers dead, and gives slots to those that are up.
//!
//! A broker whose session ended may come back in a new one, in the same life. So a leader that is new,
//! or was without the ensemble for a while, waits a whole session timeout, and its write fails when
//! anybody has registered since it read who is there: of a declaration and a return, one is first.

use std::collections::BTreeSet;

use super::desk::Asked;
use super::roster::Depth;
use super::{Membership, Outcome};
use crate::cluster::identity::{BootId, MemberState};
use crate::cluster::paths::{BROKERS, SLOTS};
use crate::cluster::slots::Brokers;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CoordinationError, Request};

impl Membership {
    /// Writes a new map, if this broker leads and there is a reason.
    pub(super) fn steer(&mut self, now: Tick) {
        self.steer_at = None;
        let Some(lock) = self.lock.check() else { return };
        let Some(slots) = &self.slots else { return };
        let Some(registrations) = self.roster.complete_as_of() else { return };
        let Some(now_secs) = self.lease.ensemble_secs(now) else { return };
        if self.desk.is_asked(&Asked::Steer) || self.desk.is_asked(&Asked::Slots) {
            return;
        }
        let gone = self.gone();
        let mut brokers = Brokers { now_secs, ..self.brokers() };
        if !gone.is_empty() {
            match self.may_declare_at(now) {
                Some(at) if at <= now => brokers.dead = gone,
                at => self.steer_at = at,
            }
        }
        let map = slots.map.with(&brokers);
        if map.says_the_same(&slots.map) {
            return;
        }
        let mut changes = vec![lock];
        changes.push(Change::Set {
            path: SLOTS.to_owned(),
            data: map.encode(),
            version: Some(slots.stat.version),
        });
        if !brokers.dead.is_empty() {
            changes.push(Change::Check { path: BROKERS.to_owned(), version: registrations });
        }
        self.desk.ask(Asked::Steer, Request::All(changes));
    }

    pub(super) fn handle_steered(&mut self, now: Tick, outcome: &Outcome) {
        let (part, error) = match outcome {
            Ok(_) => return self.desk.read(Asked::Slots),
            Err(CoordinationError::Part { part, error }) => (*part, &**error),
            Err(error) => (usize::MAX, error),
        };
        match (part, error) {
            (PART_LOCK, CoordinationError::NoNode) => {
                self.lock.stop(&mut self.desk);
                self.desk.read(Asked::Contenders);
            }
            (PART_SLOTS, CoordinationError::BadVersion) => self.desk.read(Asked::Slots),
            // Somebody has come, or come back.
            (PART_REGISTRATIONS, CoordinationError::BadVersion) => {
                self.roster.list(Depth::NewNames, &mut self.desk);
            }
            (_, error) => self.fail(now, "cannot write the slot map", error),
        }
    }

    /// Those whose znode is known not to be there.
    fn gone(&self) -> BTreeSet<BootId> {
        let known = self.slots.iter().flat_map(|slots| slots.map.members()).copied();
        let all = known.chain(self.roster.boot_ids());
        all.filter(|id| *id != self.own.boot_id && self.roster.is_gone(*id)).collect()
    }

    /// Those that get slots and those that do not: whoever is gone keeps what it has for now.
    pub(super) fn brokers(&self) -> Brokers {
        let mut brokers = Brokers::default();
        let everybody = self.roster.present().chain(self.roster.suspect()).chain([&self.own]);
        for member in everybody {
            match member.state {
                MemberState::Joining => continue,
                MemberState::Up => brokers.up.insert(member.boot_id),
                MemberState::Draining => brokers.draining.insert(member.boot_id),
            };
        }
        let Some(slots) = &self.slots else { return brokers };
        for &boot_id in slots.map.members() {
            if brokers.up.contains(&boot_id) || brokers.draining.contains(&boot_id) {
                continue;
            }
            // It was gone before this broker came, so that nobody can say how far it was.
            if slots.map.slots_of(boot_id) > 0 {
                brokers.up.insert(boot_id);
            } else {
                brokers.draining.insert(boot_id);
            }
        }
        brokers
    }

    /// When whoever is gone may be declared dead; not before a commit while those are late.
    ///
    /// While this broker tells its peers that its writes are not committed, one of them may go on
    /// acknowledging because of it, for less than a session timeout.
    fn may_declare_at(&self, now: Tick) -> Option<Tick> {
        let since = self.lock.leading_since()?.max(self.lease.prompt_since(now)?);
        Some(since.plus_millis(self.session_timeout_millis))
    }
}

const PART_LOCK: usize = 0;
const PART_SLOTS: usize = 1;
const PART_REGISTRATIONS: usize = 2;
