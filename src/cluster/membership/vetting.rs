//! Whether this broker belongs to those that are there, before its own znode is.
//!
//! The others wait for every broker that has a znode: with each SUBACK until it knows the filter,
//! and when they start until it has told them its own. One that they refuse as a peer would hold
//! all of them up, so whoever is not of their kind stays outside, and says why. Two that come in
//! together see each other inside: the one whose znode is the later one withdraws, which is why
//! nobody stands in line to lead before it is certain that it stays. So it is with programs that are
//! too far apart: no link can stand between two brokers without a common version of its protocol.

use std::collections::BTreeSet;
use std::fmt;

use super::desk::Asked;
use super::output::Output;
use super::{Ending, Membership, Outcome};
use crate::cluster::identity::{BootId, Member, WireVersions};
use crate::cluster::member_record::{self, Seal};
use crate::cluster::slots::MEMBERS_MAX;
use crate::ports::clock::Tick;
use crate::ports::coordination::{CoordinationError, Reply};

/// Tells brokers of the same kind by what their znodes say.
pub trait Guard: Send + Sync {
    /// What the znode of this broker is to say.
    fn seal(&self, name: &str, boot_id: BootId) -> Seal;

    /// Why the broker with this seal and this one cannot be one cluster, and what to do; nothing when
    /// they can. A broker of an earlier program has no seal.
    fn objection(&self, name: &str, boot_id: BootId, seal: &Seal) -> Option<String>;

    /// What is odd about the two, although they can be one cluster.
    fn remark(&self, _name: &str, _seal: &Seal) -> Option<String> {
        None
    }
}

/// The guard, if there is one.
#[derive(Default)]
pub(super) struct Door {
    guard: Option<Box<dyn Guard>>,
    step: Step,
    /// What is odd about somebody who is there: one line is enough.
    remark: Option<String>,
}

/// How far the look at the others is.
#[derive(Debug, Default, Eq, PartialEq)]
enum Step {
    #[default]
    Outside,
    Listing,
    Reading(BTreeSet<String>),
    Inside,
}

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Door").field("step", &self.step).finish_non_exhaustive()
    }
}

impl Door {
    /// An answer may not come. Who was let in once is one of the others.
    pub(super) fn interrupt(&mut self) {
        if self.step != Step::Inside {
            self.step = Step::Outside;
        }
    }

    /// Without a guard everybody is one of the others.
    pub(super) fn is_passed(&self) -> bool {
        self.guard.is_none() || self.step == Step::Inside
    }

    pub(super) fn seal(&self, name: &str, boot_id: BootId) -> Option<Seal> {
        self.guard.as_ref().map(|guard| guard.seal(name, boot_id))
    }

    fn objection(&mut self, ours: WireVersions, name: &str, data: &[u8]) -> Option<String> {
        // What is no record at all is said when it is met as that of a broker.
        let (member, seal) = member_record::decode_sealed(name, data).ok()?;
        let guard = self.guard.as_ref()?;
        let of_seal = seal.as_ref().and_then(|seal| guard.objection(name, member.boot_id, seal));
        let objection = of_seal.or_else(|| objection_to_wire(ours, &member));
        if objection.is_none() && self.remark.is_none() {
            self.remark = seal.and_then(|seal| guard.remark(name, &seal));
        }
        objection
    }
}

impl Membership {
    /// What the seal of this broker is made from has changed: its znode is to say so.
    pub fn renew_record(&mut self, now: Tick) {
        self.registration.is_record_old = true;
        self.go_on(now);
    }

    /// The znode of somebody who is there was read when this broker had just come in. Returns
    /// whether this one withdraws, since the other was there before it and is not of its kind.
    pub(super) fn withdraws_from(&mut self, now: Tick, name: &str, data: &[u8], made: i64) -> bool {
        let is_later = self.registration.made.is_some_and(|own| made < own);
        if self.registration.is_announced || self.ending != Ending::No || !is_later {
            return false;
        }
        let objection = self.door.objection(self.own.wire, name, data);
        let Some(objection) = objection else { return false };
        self.say_trouble(format!("this broker withdraws: {objection}"));
        self.is_withdrawing = true;
        self.leave(now);
        true
    }

    /// Has this guard look at the others before this broker is one of them.
    pub fn set_guard(&mut self, guard: Box<dyn Guard>) {
        self.door.guard = Some(guard);
    }

    /// Looks who is there.
    pub(super) fn knock(&mut self) {
        if self.door.step == Step::Outside {
            self.door.step = Step::Listing;
            self.desk.read(Asked::Around);
        }
    }

    pub(super) fn handle_around(&mut self, now: Tick, outcome: &Outcome) {
        let names = match outcome {
            Ok(Reply::Children(names)) => names.iter().take(MEMBERS_MAX).cloned(),
            Ok(_) => return,
            Err(error) => return self.fail(now, "cannot read who is there", error),
        };
        let own_name = self.own.name.to_string();
        let others: BTreeSet<_> = names.filter(|name| *name != own_name).collect();
        for name in &others {
            self.desk.read(Asked::Neighbour(name.clone()));
        }
        self.door.step = Step::Reading(others);
        self.go_in_when_all_are_read(now);
    }

    pub(super) fn handle_neighbour(&mut self, now: Tick, name: &str, outcome: &Outcome) {
        // One objection is enough to stay outside, and to be said.
        if !matches!(self.door.step, Step::Reading(_)) {
            return;
        }
        let objection = match outcome {
            Ok(Reply::Data { data, .. }) => self.door.objection(self.own.wire, name, data),
            Ok(_) | Err(CoordinationError::NoNode) => None,
            Err(CoordinationError::NoAuth) => Some(format!(
                "the access list of the znode of broker {name} keeps this broker out: give all brokers \
                 the same --zookeeper-auth-file"
            )),
            Err(error) => return self.fail(now, "cannot read the znode of a broker", error),
        };
        if let Some(objection) = objection {
            self.say_trouble(format!("this broker stays outside: {objection}"));
            (self.door.step, self.door.remark) = (Step::Outside, None);
            return self.look_again_later(now);
        }
        if let Step::Reading(names) = &mut self.door.step {
            names.remove(name);
        }
        self.go_in_when_all_are_read(now);
    }

    fn go_in_when_all_are_read(&mut self, now: Tick) {
        if matches!(&self.door.step, Step::Reading(names) if names.is_empty()) {
            self.door.step = Step::Inside;
            if let Some(remark) = self.door.remark.take() {
                self.desk.say(Output::Trouble(remark));
            }
            self.go_on_registering(now);
        }
    }
}

/// Why a broker of these versions and another one could tell each other nothing, and what to do; nothing
/// when they have a version of the link protocol in common.
#[must_use]
pub fn objection_to_wire(ours: WireVersions, other: &Member) -> Option<String> {
    let (name, theirs) = (&other.name, other.wire);
    ours.common(theirs).is_none().then(|| {
        format!(
            "broker {name} speaks versions {} to {} of the link protocol and this one {} to {}: upgrade \
             by way of a program that speaks a version of the one and a version of the other",
            theirs.oldest, theirs.newest, ours.oldest, ours.newest
        )
    })
}
