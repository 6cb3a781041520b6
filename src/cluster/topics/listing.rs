//! Lists everything, as after every reconnect: what changed while there was no connection may go
//! unsaid. Routing never waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::Topics;
use super::path::{part_path, topic_of_name};
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
    /// Until then another broker may say what it has.
    Comparing(Tick),
    /// From now on, tell of changes.
    Watching(Ticket),
    /// The first broker of a cluster makes the parent of all parts.
    Founding(Ticket),
    /// Which parts are there?
    Parents(Ticket),
    /// The parts that were not.
    Parting(BTreeSet<Ticket>),
    /// The topics of parts: those to ask for, and those asked for.
    Parts(VecDeque<u8>, BTreeMap<Ticket, u8>),
}

impl Listing {
    pub(super) fn due(&self) -> Option<Tick> {
        match self {
            Self::Due(due) | Self::Comparing(due) => Some(*due),
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
            Self::Idle | Self::Due(_) | Self::Comparing(_) => false,
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
        let has_asked = matches!(self.listing, Listing::Comparing(_));
        if self.is_watching
            && !has_asked
            && let Some(comparing) = self.compare(now)
        {
            self.listing = comparing;
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
            Listing::Idle | Listing::Due(_) | Listing::Comparing(_) => {}
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
        self.list_parts((0..=u8::MAX).collect());
    }

    pub(super) fn list_parts(&mut self, parts: VecDeque<u8>) {
        self.listing = Listing::Parts(parts, BTreeMap::new());
        self.list_next();
    }

    fn list_next(&mut self) {
        let Listing::Parts(mut next, mut waiting) =
            std::mem::replace(&mut self.listing, Listing::Idle)
        else {
            return;
        };
        while waiting.len() < LISTS_MAX
            && let Some(part) = next.pop_front()
        {
            waiting.insert(self.submit(Request::List(part_path(part))), part);
        }
        if waiting.is_empty() {
            return self.note_listed();
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
