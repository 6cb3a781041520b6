//! The slot map that a broker goes by, and what stands in the tree where that is another one.
//!
//! A map is later than another of the same tree when its epoch is higher. One of another tree counts
//! only if whoever wrote it went on from a map that is as late as the own one: its base says so. Else
//! it is *found*. The broker keeps to the map it has, and one that follows both is written.

use std::sync::Arc;

use bytes::Bytes;

use super::output::Output;
use super::{Ending, Membership, RETRY_MILLIS};
use crate::cluster::identity::BootId;
use crate::cluster::slot_record::{Home, SlotRecord};
use crate::cluster::slots::SlotMap;
use crate::ports::clock::Tick;
use crate::ports::coordination::Stat;

/// What is known of slots.
#[derive(Debug)]
pub(super) struct KnownSlots {
    /// What this broker goes by.
    pub(super) map: Arc<SlotMap>,
    /// Where it stands, or stood.
    home: Home,
    /// Of the znode, when it was last read.
    pub(super) stat: Stat,
    /// What was read then, if it does not follow the map.
    found: Option<Arc<SlotMap>>,
}

/// A map, beside the one that this broker goes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Weight {
    /// From a server that lags behind. Nothing that it says is to be built on.
    Earlier,
    /// The same, or a later one.
    Later,
    /// Of another tree, in which nobody knew of this one.
    Foreign,
}

impl KnownSlots {
    fn weigh(&self, home: Home, map: &SlotMap) -> Weight {
        if home != self.home {
            let follows = map.base() > self.map.epoch();
            return if follows { Weight::Later } else { Weight::Foreign };
        }
        if map.epoch() < self.map.epoch() { Weight::Earlier } else { Weight::Later }
    }

    /// What a new map is made from.
    pub(super) fn ground(&self, writer: BootId) -> Arc<SlotMap> {
        match &self.found {
            Some(found) => Arc::new(self.map.following(found, writer)),
            None => Arc::clone(&self.map),
        }
    }

    /// Whether the tree has a map that does not follow the one of before.
    pub(super) fn is_displaced(&self) -> bool {
        self.found.is_some()
    }
}

impl Membership {
    /// The map that this broker goes by, for brokers that cannot read it.
    #[must_use]
    pub fn slot_record(&self) -> Option<SlotRecord> {
        self.slots.as_ref().map(|known| SlotRecord::new(known.home, &known.map))
    }

    /// Another broker goes by this map, which it has read or was told. Whatever is later than the own
    /// one is taken as if it had been read.
    pub fn hear_slots(&mut self, now: Tick, record: &SlotRecord) {
        debug_assert!(self.desk.is_drained(), "outputs of the previous input were not drained");
        if self.ending == Ending::Over {
            return;
        }
        let is_doubtful = now >= self.doubtful_at();
        let Some(known) = &mut self.slots else { return };
        let map = match record.map() {
            Ok(map) => Arc::new(map),
            Err(error) => {
                return self
                    .say_trouble(format!("cannot use a slot map of another broker: {error}"));
            }
        };
        let is_later = map.epoch() > known.map.epoch();
        if !is_later || known.weigh(record.home, &map) != Weight::Later {
            return;
        }
        if record.home != known.home && is_doubtful {
            self.give_up();
            return;
        }
        // What was read last is still to be read again, and is what a write has to begin with.
        let stat = known.stat;
        let found = known.found.take().filter(|_| record.home != Home::of(stat));
        if self.adopt(now, &map, record.home, stat)
            && let Some(known) = &mut self.slots
        {
            known.found = found;
        }
    }

    /// Takes a map that was read. Returns whether to go on.
    pub(super) fn take_slots(&mut self, now: Tick, data: &Bytes, stat: Stat) -> bool {
        let home = Home::of(stat);
        let known = self.slots.as_ref();
        if known.is_some_and(|known| known.stat == stat) {
            return true;
        }
        if known.is_some_and(|known| Home::of(known.stat) == home && known.stat.mzxid > stat.mzxid)
        {
            self.retry_at = Some(now.plus_millis(RETRY_MILLIS));
            return false;
        }
        let map = match SlotMap::decode(stat.mzxid, data.clone()) {
            Ok(map) => Arc::new(map),
            Err(error) => {
                self.say_trouble(format!("cannot use the slot map: {error}"));
                self.retry_at = Some(now.plus_millis(RETRY_MILLIS));
                return false;
            }
        };
        let is_doubtful = now >= self.doubtful_at();
        let Some(known) = &mut self.slots else { return self.adopt(now, &map, home, stat) };
        match known.weigh(home, &map) {
            Weight::Earlier => {
                self.retry_at = Some(now.plus_millis(RETRY_MILLIS));
                false
            }
            Weight::Later if known.home == home => self.adopt(now, &map, home, stat),
            Weight::Later | Weight::Foreign if is_doubtful => self.give_up(),
            Weight::Later => {
                self.say_trouble(ANOTHER_TREE.to_owned());
                self.adopt(now, &map, home, stat)
            }
            Weight::Foreign => {
                let is_dead = map.is_dead(self.own.boot_id);
                (known.stat, known.found) = (stat, Some(map));
                self.say_trouble(ANOTHER_TREE.to_owned());
                if is_dead { self.give_up() } else { true }
            }
        }
    }

    /// Goes by this map from now on. Returns whether to go on.
    fn adopt(&mut self, now: Tick, map: &Arc<SlotMap>, home: Home, stat: Stat) -> bool {
        let own = self.own.boot_id;
        let is_dead = map.is_dead(own) || self.is_forgotten(now, map, home);
        let newly_dead: Vec<BootId> = self.slots.as_ref().map_or_else(Vec::new, |known| {
            map.dead().filter(|boot_id| !known.map.is_dead(*boot_id)).collect()
        });
        self.strangers.bury(map);
        self.slots = Some(KnownSlots { map: Arc::clone(map), home, stat, found: None });
        self.desk.say(Output::Slots(Arc::clone(map)));
        for boot_id in newly_dead.into_iter().filter(|boot_id| *boot_id != own) {
            self.roster.bury(boot_id);
            self.desk.say(Output::MemberDead(boot_id));
        }
        if is_dead { self.give_up() } else { true }
    }

    /// Whether this broker was declared dead so long ago that the map does not say so any more: deaths are
    /// kept for a day, and there is an end to their list. Whoever lives stays a member.
    fn is_forgotten(&self, now: Tick, map: &SlotMap, home: Home) -> bool {
        let own = self.own.boot_id;
        let was_member = |known: &KnownSlots| known.home == home && known.map.is_member(own);
        now >= self.doubtful_at()
            && self.slots.as_ref().is_some_and(was_member)
            && !map.is_member(own)
    }

    /// Before this moment nobody has declared this broker dead: not within T of its last commit, nor of
    /// having said that nobody has the ensemble.
    fn doubtful_at(&self) -> Tick {
        self.lease.until().plus_millis(self.session_timeout_millis / 6)
    }

    /// This broker is dead to the others. Also where nobody can know: its lease has ended, and the map
    /// that may have said so is gone with its tree.
    fn give_up(&mut self) -> bool {
        self.end(match self.ending {
            Ending::No | Ending::Over => Output::DeclaredDead,
            Ending::Leaving => Output::Left,
        });
        false
    }
}

const ANOTHER_TREE: &str = "somebody has made the slot map anew";
