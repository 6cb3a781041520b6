//! Which brokers there are: lists and znodes of the others as they are read.

use std::collections::BTreeSet;

use super::desk::Asked;
use super::output::Output;
use super::{Membership, Outcome};
use crate::cluster::identity::{BootId, Member};
use crate::cluster::member_record;
use crate::cluster::slots::MEMBERS_MAX;
use crate::ports::clock::Tick;
use crate::ports::coordination::{ChangeKind, CoordinationError, Reply};

impl Membership {
    /// A watch told of the znode of a broker.
    pub(super) fn handle_broker_changed(&mut self, name: &str, kind: ChangeKind) {
        if *name == *self.own.name {
            return self.handle_own_changed(kind);
        }
        if kind == ChangeKind::Deleted {
            self.roster.doubt(name, &mut self.desk);
        }
        // Also after the end of one: what a watch tells may be late, and the znode there again. Before
        // the list, which holds the name too, there is nothing to read.
        if self.roster.is_listing() {
            self.desk.read(Asked::Member(name.to_owned()));
        }
    }

    pub(super) fn handle_registrations(&mut self, now: Tick, outcome: &Outcome) {
        match outcome {
            Ok(Reply::Data { stat, .. }) => self.roster.note_registrations(stat.version),
            Ok(_) => {}
            Err(error) => self.fail(now, "cannot read how often brokers registered", error),
        }
    }

    pub(super) fn handle_names(&mut self, now: Tick, outcome: &Outcome) {
        let names = match outcome {
            Ok(Reply::Children(names)) => names,
            Ok(_) => return,
            Err(error) => return self.fail(now, "cannot read who is there", error),
        };
        let own_name = &*self.own.name;
        if !names.iter().any(|name| name == own_name) {
            return self.check_own(None);
        }
        if names.len() > MEMBERS_MAX && !self.registration.is_announced {
            let words =
                format!("the cluster has {MEMBERS_MAX} brokers, which is as many as can be");
            return self.end(Output::Fatal(words));
        }
        let others: BTreeSet<String> =
            names.iter().filter(|name| *name != own_name).take(MEMBERS_MAX).cloned().collect();
        self.desk.read(Asked::Member(own_name.to_owned()));
        self.roster.listed(others, &mut self.desk);
        self.announce_once_listed();
    }

    pub(super) fn handle_member(&mut self, now: Tick, name: &str, outcome: &Outcome) {
        let record = match outcome {
            Ok(Reply::Data { data, stat }) => match member_record::decode(name, data) {
                Ok(member) => Some((member, *stat)),
                Err(error) => {
                    self.say_trouble(format!("the znode of broker {name}: {error}"));
                    None
                }
            },
            Ok(_) | Err(CoordinationError::NoNode) => None,
            Err(error) => return self.fail(now, "cannot read the znode of a broker", error),
        };
        if *name == *self.own.name {
            return self.check_own(record.as_ref().map(|(member, stat)| (member, *stat)));
        }
        if let Ok(Reply::Data { data, stat }) = outcome
            && self.withdraws_from(now, name, data, stat.czxid)
        {
            return;
        }
        match record {
            Some((member, _)) => self.see(member),
            None => self.roster.confirm_gone(name, &mut self.desk),
        }
        if self.roster.has_read(name) {
            self.announce_once_listed();
        }
    }

    fn see(&mut self, member: Member) {
        if self.is_known_dead(member.boot_id) {
            return;
        }
        if self.roster.seen(member, &mut self.desk).is_err() {
            self.say_trouble(format!("there are more than {MEMBERS_MAX} brokers"));
        }
    }

    fn is_known_dead(&self, boot_id: BootId) -> bool {
        self.slots.as_ref().is_some_and(|slots| slots.map.is_dead(boot_id))
    }

    /// The joiner's promise: its znode was there before the list of those it must hear from was made.
    fn announce_once_listed(&mut self) {
        if self.registration.is_announced
            || !self.registration.is_in()
            || self.roster.complete_as_of().is_none()
        {
            return;
        }
        self.registration.is_announced = true;
        self.stand_in_line();
        let listed: Vec<Member> = self.roster.present().cloned().collect();
        let is_listed = |id: BootId| listed.iter().any(|member| member.boot_id == id);
        let members = self.slots.iter().flat_map(|slots| slots.map.members());
        let absent =
            members.copied().filter(|id| *id != self.own.boot_id && !is_listed(*id)).collect();
        self.desk.say(Output::Registered { listed, absent });
    }
}
