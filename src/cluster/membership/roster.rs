//! The other brokers, as their znodes show them.
//!
//! A watch tells that a znode has gone; only a read confirms it, for what a watch tells may be late,
//! and the znode may be there again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::desk::{Asked, Desk};
use super::output::Output;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::slots::MEMBERS_MAX;
use crate::ports::clock::Tick;

/// The other brokers that are not known to be dead.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<BootId, Entry>,
    /// Whose znode was seen under which name.
    names: BTreeMap<Arc<str>, BootId>,
    listing: Listing,
    /// The version of `/brokers` when the last listing began. It goes up with each registration.
    registrations: Option<i32>,
    /// Goes up when what is shown of the others changes.
    revision: u64,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    presence: Presence,
    /// When it last said by its link that its writes are committed.
    vouched_at: Option<Tick>,
}

/// Whether the znode of a broker is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Presence {
    Seen,
    /// A watch said that it has gone.
    Doubted,
    /// A read said so.
    Gone,
}

/// How far the list of all brokers is.
#[derive(Debug, Default, Eq, PartialEq)]
enum Listing {
    /// Changes may have been missed.
    #[default]
    Due,
    /// It is asked for.
    Asked(Depth),
    /// These names are to be read.
    Reading(BTreeSet<String>),
    /// What is not in it is not there.
    Complete,
}

/// How much of a list is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Depth {
    /// Everything: changes may have gone unsaid.
    Full,
    /// Names that are not known.
    NewNames,
}

impl Roster {
    /// Asks for the list of all brokers.
    pub(super) fn list(&mut self, depth: Depth, desk: &mut Desk) {
        self.listing = Listing::Asked(depth);
        self.registrations = None;
        // In this order: who registers after the first is answered makes its number differ.
        desk.read(Asked::Registrations);
        desk.read(Asked::Names);
    }

    /// What is known may be old.
    pub(super) fn forget_list(&mut self) {
        self.listing = Listing::Due;
        self.registrations = None;
    }

    /// Whether a list is there or asked for.
    pub(super) fn is_listing(&self) -> bool {
        self.listing != Listing::Due
    }

    /// The number of registrations that the list takes into account, once it is complete.
    pub(super) fn complete_as_of(&self) -> Option<i32> {
        self.registrations.filter(|_| self.listing == Listing::Complete)
    }

    /// What `/brokers` has counted. Only before its names are read: a later number would vouch for
    /// names that are older.
    pub(super) fn note_registrations(&mut self, version: i32) {
        if matches!(self.listing, Listing::Asked(_)) {
            self.registrations = Some(version);
        }
    }

    /// These are all names there are, the own one left out.
    pub(super) fn listed(&mut self, names: BTreeSet<String>, desk: &mut Desk) {
        let Listing::Asked(depth) = self.listing else { return };
        let gone: Vec<Arc<str>> =
            self.names.keys().filter(|name| !names.contains(&***name)).cloned().collect();
        for name in gone {
            self.confirm_gone(&name, desk);
        }
        // Whoever is doubted has no name any more: its name is read again.
        let to_read: BTreeSet<String> = names
            .into_iter()
            .filter(|name| depth == Depth::Full || !self.names.contains_key(name.as_str()))
            .collect();
        for entry in self.entries.values_mut() {
            let is_named = to_read.contains(&*entry.member.name);
            if entry.presence == Presence::Doubted && !is_named {
                entry.presence = Presence::Gone;
            }
        }
        for name in &to_read {
            desk.read(Asked::Member(name.clone()));
        }
        self.listing =
            if to_read.is_empty() { Listing::Complete } else { Listing::Reading(to_read) };
    }

    /// A name of the list has been read. Returns whether that was the last one.
    pub(super) fn has_read(&mut self, name: &str) -> bool {
        let Listing::Reading(names) = &mut self.listing else { return false };
        names.remove(name);
        let is_last = names.is_empty();
        if is_last {
            self.listing = Listing::Complete;
        }
        is_last
    }

    /// The znode of a broker was read.
    pub(super) fn seen(&mut self, member: Member, desk: &mut Desk) -> Result<(), RosterFull> {
        let boot_id = member.boot_id;
        if !self.entries.contains_key(&boot_id) && self.entries.len() + 1 >= MEMBERS_MAX {
            return Err(RosterFull);
        }
        if self.names.get(&member.name) != Some(&boot_id) {
            // One znode has one content: whoever else had the name has it no more.
            self.confirm_gone(&member.name, desk);
        }
        self.names.insert(Arc::clone(&member.name), boot_id);
        let Some(entry) = self.entries.get_mut(&boot_id) else {
            let (presence, vouched_at) = (Presence::Seen, None);
            let entry = Entry { member: member.clone(), presence, vouched_at };
            self.entries.insert(boot_id, entry);
            self.revision += 1;
            desk.say(Output::MemberJoined(member));
            return Ok(());
        };
        if entry.presence != Presence::Seen {
            entry.presence = Presence::Seen;
            self.revision += 1;
            desk.say(Output::MemberBack(boot_id));
        }
        if entry.member != member {
            entry.member = member.clone();
            self.revision += 1;
            desk.say(Output::MemberChanged(member));
        }
        Ok(())
    }

    /// A watch said that the znode of this name is gone.
    pub(super) fn doubt(&mut self, name: &str, desk: &mut Desk) {
        self.lose(name, Presence::Doubted, desk);
    }

    /// A read said so.
    pub(super) fn confirm_gone(&mut self, name: &str, desk: &mut Desk) {
        self.lose(name, Presence::Gone, desk);
        for entry in self.entries.values_mut() {
            if &*entry.member.name == name && entry.presence == Presence::Doubted {
                entry.presence = Presence::Gone;
            }
        }
    }

    fn lose(&mut self, name: &str, presence: Presence, desk: &mut Desk) {
        let Some(boot_id) = self.names.remove(name) else { return };
        let Some(entry) = self.entries.get_mut(&boot_id) else { return };
        if entry.presence == Presence::Seen {
            entry.presence = presence;
            self.revision += 1;
            desk.say(Output::MemberSuspect(boot_id));
        }
    }

    /// A broker said that its writes are committed.
    pub(super) fn vouch(&mut self, boot_id: BootId, at: Tick) {
        if let Some(entry) = self.entries.get_mut(&boot_id) {
            entry.vouched_at = entry.vouched_at.max(Some(at));
        }
    }

    /// When it last said so. Nothing from one of which it is not certain that it knows this broker.
    pub(super) fn vouched_at(&self, boot_id: BootId) -> Option<Tick> {
        self.entries.get(&boot_id)?.vouched_at
    }

    /// A broker has been declared dead.
    pub(super) fn bury(&mut self, boot_id: BootId) {
        self.revision += u64::from(self.entries.remove(&boot_id).is_some());
        self.names.retain(|_, named| *named != boot_id);
    }

    /// Those whose znode is there.
    pub(super) fn present(&self) -> impl Iterator<Item = &Member> {
        let seen = |entry: &&Entry| entry.presence == Presence::Seen;
        self.entries.values().filter(seen).map(|entry| &entry.member)
    }

    /// Those whose znode was there, and is not, or may not be.
    pub(super) fn suspect(&self) -> impl Iterator<Item = &Member> {
        let missed = |entry: &&Entry| entry.presence != Presence::Seen;
        self.entries.values().filter(missed).map(|entry| &entry.member)
    }

    /// Goes up when [`Self::present`] or [`Self::suspect`] change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the znode of a broker is known not to be there.
    pub(super) fn is_gone(&self, boot_id: BootId) -> bool {
        self.entries.get(&boot_id).is_none_or(|entry| entry.presence == Presence::Gone)
    }

    /// All that are not known to be dead.
    pub(super) fn boot_ids(&self) -> impl Iterator<Item = BootId> {
        self.entries.keys().copied()
    }
}

/// There are as many brokers as one cluster can have.
#[derive(Debug)]
pub(super) struct RosterFull;
