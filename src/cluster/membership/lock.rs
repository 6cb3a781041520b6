//! The line of those who want to lead: whoever stands first leads.
//!
//! A name tells whose it is, and of which session, so that a broker that did not hear whether its
//! place was made finds it. Everybody keeps the line in mind, and only who comes first acts.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::desk::{Asked, Desk};
use super::output::Output;
use crate::cluster::identity::BootId;
use crate::cluster::paths::{LEADER, below};
use crate::ports::clock::Tick;
use crate::ports::coordination::{Change, CreateMode, Request};

/// The line as this broker knows it.
#[derive(Debug)]
pub(super) struct Lock {
    boot_id: BootId,
    /// How the names of all our places begin.
    boot_prefix: String,
    /// How the name of the one of this session begins.
    prefix: String,
    /// What all places of this session have in their names.
    session_mark: String,
    places: BTreeSet<Place>,
    leading_since: Option<Tick>,
}

/// In the order of their numbers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    number: u64,
    name: String,
}

impl Lock {
    pub(super) fn new(boot_id: BootId) -> Self {
        let boot_prefix = format!("l-{boot_id}-");
        Self {
            boot_id,
            prefix: boot_prefix.clone(),
            session_mark: boot_prefix.clone(),
            boot_prefix,
            places: BTreeSet::new(),
            leading_since: None,
        }
    }

    /// Places of former sessions do not count.
    pub(super) fn open_session(&mut self, session: i64) {
        self.session_mark = format!("-{session:016x}-");
        self.prefix = format!("l-{}{}", self.boot_id, self.session_mark);
        self.places.clear();
    }

    /// The line was read.
    pub(super) fn listed(&mut self, now: Tick, names: &[String], desk: &mut Desk) {
        self.places = names.iter().filter_map(|name| Place::parse(name)).take(PLACES_MAX).collect();
        let mut is_there = false;
        for place in &self.places {
            if place.name.starts_with(&self.prefix) {
                is_there = true;
            } else if self.is_former(place) {
                let path = below(LEADER, &place.name);
                let change = Change::Delete { path, version: None };
                desk.ask(Asked::OldLock, Request::Change(change));
            }
        }
        if !is_there && !desk.is_asked(&Asked::Lock) {
            let path = below(LEADER, &self.prefix);
            let data = Bytes::from(self.boot_id.to_string());
            let mode = CreateMode::EphemeralSequential;
            desk.ask(Asked::Lock, Request::Change(Change::Create { path, data, mode }));
        }
        if self.is_first() {
            self.lead(now, desk);
        } else {
            self.stop(desk);
        }
    }

    /// Somebody has come.
    pub(super) fn appeared(&mut self, name: &str, desk: &mut Desk) {
        desk.outdate(Asked::Contenders);
        if self.places.len() < PLACES_MAX {
            self.places.extend(Place::parse(name));
        }
    }

    /// Somebody has gone.
    pub(super) fn gone(&mut self, name: &str, desk: &mut Desk) {
        desk.outdate(Asked::Contenders);
        let was_own = name.starts_with(&self.prefix);
        self.places.retain(|place| place.name != name);
        if was_own && !self.is_first() {
            self.stop(desk);
        }
        // Nobody but the next one, and who lost its place, goes and looks.
        if was_own || (self.leading_since.is_none() && self.is_first()) {
            desk.read(Asked::Contenders);
        }
    }

    fn lead(&mut self, now: Tick, desk: &mut Desk) {
        if self.leading_since.is_none() {
            self.leading_since = Some(now);
            desk.say(Output::Leading(true));
        }
    }

    /// We do not lead, or cannot.
    pub(super) fn stop(&mut self, desk: &mut Desk) {
        if self.leading_since.take().is_some() {
            desk.say(Output::Leading(false));
        }
    }

    /// Whether it is a place of ours from another session, or of our last life in this one: nobody
    /// else ends that, and nobody leads while it is the first.
    fn is_former(&self, place: &Place) -> bool {
        place.name.starts_with(&self.boot_prefix) || place.name.contains(&self.session_mark)
    }

    fn is_first(&self) -> bool {
        self.places.first().is_some_and(|place| place.name.starts_with(&self.prefix))
    }

    /// Whose place is the first.
    pub(super) fn first(&self) -> Option<BootId> {
        let (boot_id, _) = self.places.first()?.name.strip_prefix("l-")?.split_once('-')?;
        BootId::parse(boot_id)
    }

    pub(super) fn leading_since(&self) -> Option<Tick> {
        self.leading_since
    }

    /// What every write of a leader has to contain, while we lead: it fails once we do not.
    pub(super) fn check(&self) -> Option<Change> {
        self.leading_since?;
        let place = self.places.first()?;
        Some(Change::Check { path: below(LEADER, &place.name), version: 0 })
    }
}

impl Place {
    fn parse(name: &str) -> Option<Self> {
        let (_, number) = name.rsplit_once('-')?;
        Some(Self { number: number.parse().ok()?, name: name.to_owned() })
    }
}

/// More than there can be brokers, each with a place of a session that has not ended yet.
const PLACES_MAX: usize = 1_024;
