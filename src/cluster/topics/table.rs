//! All topics that are known, in the parts in which the tree holds them.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::boots::Boots;
use super::known::{Kind, Known, Seen};
use super::path::{PARTS, part_of};
use crate::cluster::bank::Holdings;

type Part = HashMap<Arc<str>, Known, FixedState>;

/// The topics, bounded, and the books that follow from them.
pub(super) struct Table {
    parts: Vec<Part>,
    count: usize,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
    registrations: u64,
    pub(super) holdings: Holdings,
    pub(super) boots: Boots,
}

impl Table {
    pub(super) fn new(count_max: usize, bytes_max: usize, hash_seed: u64, boots: Boots) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        Self {
            parts: (0..PARTS).map(|_| Part::with_hasher(hashing.clone())).collect(),
            count: 0,
            bytes: 0,
            count_max,
            bytes_max,
            registrations: 0,
            holdings: Holdings::default(),
            boots,
        }
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Known> {
        self.part(part_of(topic)).get(topic)
    }

    pub(super) fn get_mut(&mut self, topic: &str) -> Option<&mut Known> {
        self.part_mut(part_of(topic)).get_mut(topic)
    }

    /// The topic, new if need be, and its name as the table holds it; `None` when the table is full.
    pub(super) fn get_or_add(&mut self, topic: &str) -> Option<(Arc<str>, &mut Known)> {
        let part = part_of(topic);
        if !self.part(part).contains_key(topic) {
            let bytes = bytes_of(topic);
            if self.count >= self.count_max || self.bytes + bytes > self.bytes_max {
                return None;
            }
            self.count += 1;
            self.bytes += bytes;
            self.part_mut(part).insert(topic.into(), Known::default());
        }
        let (name, known) = self.part_mut(part).get_key_value_mut(topic)?;
        Some((Arc::clone(name), known))
    }

    /// Forgets the topic if there is nothing to remember.
    pub(super) fn tidy(&mut self, topic: &str) {
        let part = part_of(topic);
        if self.part(part).get(topic).is_some_and(Known::is_idle) {
            self.part_mut(part).remove(topic);
            self.count -= 1;
            self.bytes -= bytes_of(topic);
        }
    }

    /// What the znode of a topic holds now. The books follow.
    pub(super) fn note_seen(&mut self, topic: &str, seen: Option<Seen>) {
        let Some(known) = self.get_mut(topic) else { return };
        let before = std::mem::replace(&mut known.seen, seen);
        if let Some(before) = before {
            self.holdings.remove(self.boots.at(before.payer), before.cost());
            self.registrations -= u64::from(before.kind == Kind::Registration);
        }
        if let Some(seen) = seen {
            self.holdings.add(self.boots.at(seen.payer), seen.cost());
            self.registrations += u64::from(seen.kind == Kind::Registration);
        }
    }

    /// The topics of one part, in no order that may be seen outside.
    pub(super) fn iter_part(&self, part: u8) -> impl Iterator<Item = (&Arc<str>, &Known)> {
        self.part(part).iter()
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Znodes without a value, whoever pays for them.
    pub(super) fn registrations(&self) -> u64 {
        self.registrations
    }

    fn part(&self, part: u8) -> &Part {
        self.parts.get(usize::from(part)).expect("there is a part for each byte")
    }

    fn part_mut(&mut self, part: u8) -> &mut Part {
        self.parts.get_mut(usize::from(part)).expect("there is a part for each byte")
    }
}

fn bytes_of(topic: &str) -> usize {
    topic.len() + ENTRY_BYTES
}

/// What an entry takes beside its name: itself, the head of the name, and the slack of the table.
const ENTRY_BYTES: usize = size_of::<Known>() + 2 * size_of::<usize>() + 32;
