//! What the leader does: it declares brokers dead, and gives slots to those that are up. (There is one
//! death that only somebody else can declare: see [`Membership::cleared`].)
//!
//! A broker whose session ended may come back in a new one, in the same life. So a leader that was
//! without the ensemble for a while waits a whole session timeout, and one that is new waits as
//! long for whoever may not know it; and the write fails when anybody has registered since it was
//! read who is there: of a declaration and a return, one is first (docs/design/0010).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::desk::Asked;
use super::roster::Depth;
use super::{Membership, Outcome};
use crate::cluster::identity::{BootId, MemberState};
use crate::cluster::paths::{BROKERS, SLOTS};
use crate::cluster::slots::{Brokers, SlotMap};
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CoordinationError, Request};

impl Membership {
    /// Writes a new map, if there is a reason and this broker may.
    pub(super) fn steer(&mut self, now: Tick) {
        self.steer_at = None;
        let Some(slots) = &self.slots else { return };
        let Some(registrations) = self.roster.complete_as_of() else {
            self.orphans_since = None;
            return;
        };
        let Some(now_secs) = self.lease.ensemble_secs(now) else { return };
        if self.desk.is_asked(&Asked::Steer) || self.desk.is_asked(&Asked::Slots) {
            return;
        }
        let (version, former) = (Some(slots.stat.version), slots.ground(self.own.boot_id));
        let lock = self.lock.check();
        let map =
            if lock.is_some() { self.led(now, now_secs) } else { self.cleared(now, now_secs) };
        let Some(map) = map else { return };
        let set = Change::Set { path: SLOTS.to_owned(), data: map.encode(), version };
        let is_declaring = map.dead().any(|boot_id| !former.is_dead(boot_id));
        let nobody_came = Change::Check { path: BROKERS.to_owned(), version: registrations };
        let nobody_came = is_declaring.then_some(nobody_came);
        let changes = lock.into_iter().chain([set]).chain(nobody_came).collect();
        self.desk.ask(Asked::Steer, Request::All(changes));
    }

    /// The map that a leader wants, if it is another one.
    fn led(&mut self, now: Tick, now_secs: u32) -> Option<SlotMap> {
        let mut brokers = Brokers { now_secs, ..self.brokers() };
        for boot_id in self.gone() {
            match self.may_declare_at(now, boot_id) {
                Some(at) if at <= now => {
                    brokers.dead.insert(boot_id);
                }
                at => self.steer_at = self.steer_at.into_iter().chain(at).min(),
            }
        }
        let slots = self.slots.as_ref()?;
        let ground = slots.ground(self.own.boot_id);
        let wanted = ground.with(&brokers);
        (slots.is_displaced() || !wanted.says_the_same(&ground)).then_some(wanted)
    }

    /// The map without brokers that only this one knows of: they came and went, and so did whoever
    /// led, before they were in a map. Who leads now cannot declare them dead.
    ///
    /// Or a map that follows the one of before, in a tree whose map does not: who leads there may be a
    /// newcomer that knows of none.
    fn cleared(&mut self, now: Tick, now_secs: u32) -> Option<SlotMap> {
        let slots = self.slots.as_ref()?;
        if slots.is_displaced() {
            let brokers = Brokers { now_secs, ..self.brokers() };
            return Some(slots.ground(self.own.boot_id).with(&brokers));
        }
        let map = Arc::clone(&slots.map);
        let mut orphans = self.gone();
        orphans.retain(|boot_id| !map.is_member(*boot_id));
        if orphans.is_empty() {
            self.orphans_since = None;
            return None;
        }
        let since = *self.orphans_since.get_or_insert(now);
        // Twice what a leader takes at most.
        let at = since.plus_millis(2 * self.session_timeout_millis);
        if now < at {
            self.steer_at = Some(at);
            return None;
        }
        self.orphans_since = None;
        Some(map.with_dead(&orphans, now_secs))
    }

    pub(super) fn handle_steered(&mut self, now: Tick, outcome: &Outcome) {
        let error = match outcome {
            Ok(_) => return self.desk.read(Asked::Slots),
            Err(CoordinationError::Part { error, .. }) => &**error,
            Err(error) => error,
        };
        if *error == CoordinationError::NoNode && self.lock.leading_since().is_some() {
            // The place in the line is gone.
            self.lock.stop(&mut self.desk);
            self.desk.read(Asked::Contenders);
        } else if *error == CoordinationError::BadVersion {
            // There is another map, or somebody has come, or come back.
            self.desk.read(Asked::Slots);
            self.roster.list(Depth::NewNames, &mut self.desk);
        } else {
            self.fail(now, "cannot write the slot map", error);
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
        let ground = slots.ground(self.own.boot_id);
        for &boot_id in ground.members() {
            if brokers.up.contains(&boot_id) || brokers.draining.contains(&boot_id) {
                continue;
            }
            // It was gone before this broker came, so that nobody can say how far it was.
            if ground.slots_of(boot_id) > 0 {
                brokers.up.insert(boot_id);
            } else {
                brokers.draining.insert(boot_id);
            }
        }
        brokers
    }

    /// When a broker that is gone may be declared dead; not before a commit while those are late.
    ///
    /// While this broker tells its peers that its writes are not committed, one of them may go on
    /// acknowledging because of it, for less than a session timeout. Whoever has told us of its
    /// lease knows us, and does not go on without our word: whether this broker leads is nothing to
    /// it. But its znode may have gone for another reason than its silence. It goes with the whole
    /// tree, which costs us our connection; or somebody ends the session, and then the last word of
    /// the broker is to be older than any lease that it stood for: a sixth of T lies between two.
    fn may_declare_at(&self, now: Tick, boot_id: BootId) -> Option<Tick> {
        let (timeout, leading) = (self.session_timeout_millis, self.lock.leading_since()?);
        let prompt = self.lease.prompt_since(now)?.max(self.connected_since);
        Some(match self.roster.vouched_at(boot_id) {
            Some(vouched) => prompt.plus_millis(timeout).max(vouched.plus_millis(timeout * 5 / 6)),
            None => leading.max(prompt).plus_millis(timeout),
        })
    }
}
