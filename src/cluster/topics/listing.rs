//! Lists everything, as after every reconnect: what changed while there was no connection may go
//! unsaid. Routing never waits for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Topics;
use super::path::{PARTS, part_path, topic_of_name};
use crate::cluster::bank::Bank;
use crate::cluster::paths::TOPICS;
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Reply, Request, Ticket};

use CoordinationError::{NoNode, NodeExists};

type Outcome = Result<Reply, CoordinationError>;

/// How far the listing is.
pub(super) enum Listing {
    Idle,
    Due(Tick),
    /// From now on, tell of changes.
    Watching(Ticket),
    /// The first broker of a cluster makes the parent of all parts.
    Founding(Ticket),
    /// Which parts are there?
    Parents(Ticket),
    /// The parts that were not.
    Parting(BTreeSet<Ticket>),
    /// The topics of each part: the next one to ask for, and those asked for.
    Parts(usize, BTreeMap<Ticket, u8>),
}

impl Listing {
    pub(super) fn due(&self) -> Option<Tick> {
        match self {
            Self::Due(due) => Some(*due),
            Self::Idle
            | Self::Watching(_)
            | Self::Founding(_)
            | Self::Parents(_)
            | Self::Parting(_)
            | Self::Parts(..) => None,
        }
    }

    fn awaits(&self, answered: Ticket) -> bool {
        match self {
            Self::Idle | Self::Due(_) => false,
            Self::Watching(ticket) | Self::Founding(ticket) | Self::Parents(ticket) => {
                *ticket == answered
            }
            Self::Parting(waiting) => waiting.contains(&answered),
            Self::Parts(_, waiting) => waiting.contains_key(&answered),
        }
    }
}

impl Topics {
    pub(super) fn list_due(&mut self, now: Tick) {
        if !self.is_connected || self.listing.due().is_none_or(|due| due > now) {
            return;
        }
        self.table.holdings.note_listing();
        self.readings.untracked = 0;
        self.table.holdings.set_untracked(0);
        self.listing = if self.is_watching {
            Listing::Parents(self.submit(Request::List(TOPICS.into())))
        } else {
            Listing::Watching(self.submit(Request::Watch(TOPICS.into())))
        };
    }

    pub(super) fn handle_listed(
        &mut self,
        now: Tick,
        ticket: Ticket,
        outcome: Outcome,
        bank: &mut Bank,
    ) {
        if !self.listing.awaits(ticket) {
            return;
        }
        let is_there = matches!(outcome, Ok(_) | Err(NodeExists));
        match std::mem::replace(&mut self.listing, Listing::Idle) {
            Listing::Idle | Listing::Due(_) => {}
            Listing::Watching(_) => self.handle_watched(now, &outcome),
            Listing::Founding(_) if is_there => self.listing = Listing::Due(now),
            Listing::Founding(_) => self.list_later(now),
            Listing::Parents(_) => self.handle_parents(now, outcome),
            Listing::Parting(mut waiting) => {
                waiting.remove(&ticket);
                if !is_there {
                    return self.list_later(now);
                }
                self.part_next(waiting);
            }
            Listing::Parts(next, mut waiting) => {
                let part = waiting.remove(&ticket);
                let (Ok(Reply::Children(names)), Some(part)) = (outcome, part) else {
                    return self.list_later(now);
                };
                self.listing = Listing::Parts(next, waiting);
                self.note_part(now, part, &names, bank);
                self.list_next();
            }
        }
    }

    fn handle_watched(&mut self, now: Tick, outcome: &Outcome) {
        match outcome {
            Ok(_) => {
                self.is_watching = true;
                self.listing = Listing::Due(now);
            }
            Err(NoNode) => self.found(),
            Err(_) => self.list_later(now),
        }
    }

    fn found(&mut self) {
        self.listing = Listing::Founding(self.submit(founded(TOPICS.into())));
    }

    fn handle_parents(&mut self, now: Tick, outcome: Outcome) {
        if outcome == Err(NoNode) {
            return self.found();
        }
        let Ok(Reply::Children(names)) = outcome else { return self.list_later(now) };
        let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let parts = (0..=u8::MAX).filter(|part| !there.contains(format!("{part:02x}").as_str()));
        let waiting = parts.map(|part| self.submit(founded(part_path(part)))).collect();
        self.part_next(waiting);
    }

    fn part_next(&mut self, waiting: BTreeSet<Ticket>) {
        if !waiting.is_empty() {
            self.listing = Listing::Parting(waiting);
            return;
        }
        self.listing = Listing::Parts(0, BTreeMap::new());
        self.list_next();
    }

    fn list_next(&mut self) {
        let Listing::Parts(mut next, mut waiting) =
            std::mem::replace(&mut self.listing, Listing::Idle)
        else {
            return;
        };
        while next < PARTS && waiting.len() < LISTS_MAX {
            let part = u8::try_from(next).expect("a part is a byte");
            waiting.insert(self.submit(Request::List(part_path(part))), part);
            next += 1;
        }
        if waiting.is_empty() {
            self.table.holdings.note_listed();
            return;
        }
        self.listing = Listing::Parts(next, waiting);
    }

    /// What is there is read, whether it was known or not; what was known and is not there is gone.
    fn note_part(&mut self, now: Tick, part: u8, names: &[String], bank: &mut Bank) {
        let mut there: Vec<String> = names.iter().filter_map(|name| topic_of_name(name)).collect();
        there.sort_unstable();
        let is_gone = |topic: &str| there.binary_search_by(|one| one.as_str().cmp(topic)).is_err();
        let known = self.table.iter_part(part).filter(|(_, known)| known.seen.is_some());
        let mut gone: Vec<_> =
            known.map(|(name, _)| name).filter(|name| is_gone(name)).cloned().collect();
        gone.sort_unstable();
        for topic in gone {
            self.note_absent(now, &topic);
            self.conclude(now, &topic, bank);
        }
        for topic in there {
            self.note_unread(&topic);
        }
    }

    fn list_later(&mut self, now: Tick) {
        self.listing =
            Listing::Due(now.plus_millis(RETRY_MILLIS + self.jitter.below(RETRY_MILLIS)));
    }
}

fn founded(path: String) -> Request {
    let (data, mode) = (Bytes::new(), CreateMode::Persistent);
    Request::Change(Change::Create { path, data, mode })
}

/// How many parts are listed at once: each answer may name thousands of topics.
const LISTS_MAX: usize = 8;
const RETRY_MILLIS: u64 = 500;
