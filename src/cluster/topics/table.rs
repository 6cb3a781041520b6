//! All topics that are known, in the parts in which the tree holds them.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::boots::Boots;
use super::known::{Kind, Known, Seen};
use super::path::{PARTS, part_of};
use crate::cluster::bank::Holdings;
use crate::cluster::frame::PartDigest;
use crate::cluster::hash::wire_hash;

type Part = HashMap<Arc<str>, Known, FixedState>;

/// The topics, bounded, and the books that follow from them.
pub(super) struct Table {
    parts: Vec<Part>,
    count: usize,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
    registrations: u64,
    /// Of the znodes of each part.
    digests: Vec<PartDigest>,
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
            digests: vec![PartDigest::default(); PARTS],
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
        self.note_digest(topic, before, seen);
        if let Some(before) = before {
            self.holdings.remove(self.boots.at(before.payer), before.cost());
            self.registrations -= u64::from(before.kind == Kind::Registration);
        }
        if let Some(seen) = seen {
            self.holdings.add(self.boots.at(seen.payer), seen.cost());
            self.registrations += u64::from(seen.kind == Kind::Registration);
        }
    }

    /// What there is, part by part, as brokers compare it.
    pub(super) fn digests(&self) -> &[PartDigest] {
        &self.digests
    }

    fn note_digest(&mut self, topic: &str, before: Option<Seen>, after: Option<Seen>) {
        let hash = |seen: Option<Seen>| seen.map(|seen| hash_of(topic, &seen, &self.boots));
        let (before, after) = (hash(before), hash(after));
        let part = self.digests.get_mut(usize::from(part_of(topic)));
        let part = part.expect("there is a part for each byte");
        if let Some(hash) = before {
            part.count -= 1;
            part.sum = part.sum.wrapping_sub(hash);
        }
        if let Some(hash) = after {
            part.count += 1;
            part.sum = part.sum.wrapping_add(hash);
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

/// A znode that has changed in any way has another one: a constant of the wire.
fn hash_of(topic: &str, seen: &Seen, boots: &Boots) -> u64 {
    let version = seen.version(boots);
    let mut bytes = BytesMut::with_capacity(8 + 8 + 16 + 16 + 4);
    bytes.put_u64(wire_hash(topic.as_bytes()));
    bytes.put_u64(version.time);
    bytes.put_u128(version.boot_id.0);
    bytes.put_u128(boots.at(seen.payer).0);
    bytes.put_i32(seen.znode_version);
    wire_hash(&bytes)
}

fn bytes_of(topic: &str) -> usize {
    topic.len() + ENTRY_BYTES
}

/// What an entry takes beside its name: itself, the head of the name, and the slack of the table.
const ENTRY_BYTES: usize = size_of::<Known>() + 2 * size_of::<usize>() + 32;
