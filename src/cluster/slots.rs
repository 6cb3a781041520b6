//! Slots: which broker coordinates a Client Identifier, and who is dead.
//!
//! Both stand in one znode, `/slots`, so that a death and the slots it moves are one change. Whoever
//! has the same map and the same brokers makes the same new map: each slot goes to the broker whose
//! hash with it is the highest, so only the slots of a broker that goes move, and only those that it
//! gets move to one that comes.

mod following;

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::cluster::hash::wire_hash;
use crate::cluster::identity::BootId;

/// One of the parts that all Client Identifiers fall into.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u16);

impl Slot {
    /// Where a Client Identifier belongs.
    #[must_use]
    pub fn of(client_id: &str) -> Self {
        let hash = wire_hash(client_id.as_bytes()) % SLOTS as u64;
        Self(u16::try_from(hash).expect("there are 1,024 slots"))
    }

    /// The one of these brokers that it would belong to.
    #[must_use]
    pub fn highest_of(self, brokers: &[BootId]) -> Option<BootId> {
        highest(self, brokers)
    }

    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(SLOTS)
    }

    /// From 0 to 1,023.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Who coordinates which slot, and who is dead.
///
/// Invariant: an owner is a member, no member is dead, and the written form has no more than 8 KiB.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotMap {
    epoch: i64,
    /// The part of the epoch that does not come from the tree it stands in.
    base: i64,
    /// In order.
    members: Vec<BootId>,
    /// A place in `members` for each slot; empty when no broker is up.
    owners: Vec<u8>,
    /// The latest last.
    dead: Vec<Death>,
}

/// A broker was declared dead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Death {
    boot_id: BootId,
    /// Seconds since 1970, on the clock of the ensemble.
    at_secs: u32,
}

/// Why the content of `/slots` is not a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SlotMapError {
    /// It was written by a later program.
    #[error("the slot map has format {0}, which this program does not know")]
    Format(u8),
    /// It ends too early, or goes on too long.
    #[error("the slot map is cut off, or has something behind its end")]
    Length,
    /// It is too large, or names a broker that is not in it.
    #[error("the slot map contradicts itself")]
    Contradiction,
}

/// What a new map is made from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Brokers {
    /// Those that serve: they get slots.
    pub up: BTreeSet<BootId>,
    /// Those that still have clients, and get no slots any more.
    pub draining: BTreeSet<BootId>,
    /// Those that are dead from now on.
    pub dead: BTreeSet<BootId>,
    /// When that is, in seconds since 1970 on the clock of the ensemble.
    pub now_secs: u32,
}

impl SlotMap {
    /// Reads the content of `/slots`. The epoch is its mzxid, and what the map says is to be added.
    ///
    /// # Errors
    ///
    /// The content is not that of a map. An empty znode is an empty map.
    pub fn decode(mzxid: i64, mut bytes: Bytes) -> Result<Self, SlotMapError> {
        if bytes.is_empty() {
            return Ok(Self { epoch: mzxid, ..Self::default() });
        }
        let base = match bytes.get_u8() {
            FORMAT => 0,
            FORMAT_WITH_BASE => take_base(&mut bytes)?,
            other => return Err(SlotMapError::Format(other)),
        };
        let ids = take_counted(&mut bytes, size_of::<u128>(), MEMBERS_MAX)?;
        let owners = take_counted(&mut bytes, 1, SLOTS)?;
        let deaths = take_counted(&mut bytes, DEATH_BYTES, DEAD_MAX)?;
        if bytes.has_remaining() {
            return Err(SlotMapError::Length);
        }
        let map = Self {
            epoch: base.saturating_add(mzxid),
            base,
            members: ids
                .chunks_exact(size_of::<u128>())
                .map(|mut id| BootId(id.get_u128()))
                .collect(),
            owners: owners.to_vec(),
            dead: deaths.chunks_exact(DEATH_BYTES).map(Death::read).collect(),
        };
        if map.is_consistent() { Ok(map) } else { Err(SlotMapError::Contradiction) }
    }

    /// What `/slots` is to hold.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(BYTES_MAX);
        if self.base == 0 {
            // As programs write and read it that know of no other trees.
            bytes.put_u8(FORMAT);
        } else {
            bytes.put_u8(FORMAT_WITH_BASE);
            bytes.put_i64(self.base);
        }
        put_count(&mut bytes, self.members.len());
        self.members.iter().for_each(|id| bytes.put_u128(id.0));
        put_count(&mut bytes, self.owners.len());
        bytes.put_slice(&self.owners);
        put_count(&mut bytes, self.dead.len());
        for death in &self.dead {
            bytes.put_u128(death.boot_id.0);
            bytes.put_u32(death.at_secs);
        }
        assert!(bytes.len() <= BYTES_MAX, "the bounds of its parts bound it");
        bytes.freeze()
    }

    /// The map that these brokers make of this one. It has no epoch until it is read back.
    ///
    /// A death of more than a day ago is forgotten, and the oldest of more than there is room for.
    #[must_use]
    pub fn with(&self, brokers: &Brokers) -> Self {
        let lives = |id: &BootId| !self.is_dead(*id) && !brokers.dead.contains(id);
        let up: Vec<BootId> = brokers.up.iter().copied().filter(lives).take(MEMBERS_MAX).collect();
        let draining = brokers.draining.difference(&brokers.up).copied().filter(lives);
        let members: BTreeSet<BootId> =
            up.iter().copied().chain(draining.take(MEMBERS_MAX - up.len())).collect();
        let members: Vec<BootId> = members.into_iter().collect();
        let place = |owner: BootId| {
            let place = members.binary_search(&owner).expect("whoever is up is a member");
            u8::try_from(place).expect("there are at most 256 members")
        };
        let owners = Slot::all().filter_map(|slot| highest(slot, &up)).map(place).collect();
        let dead = self.deaths_with(&brokers.dead, brokers.now_secs);
        Self { epoch: 0, base: self.base, owners, dead, members }
    }

    /// The map in which these are dead too, which coordinate nothing.
    #[must_use]
    pub fn with_dead(&self, dead: &BTreeSet<BootId>, now_secs: u32) -> Self {
        debug_assert!(!dead.iter().any(|boot_id| self.is_member(*boot_id)), "they have slots");
        Self { epoch: 0, dead: self.deaths_with(dead, now_secs), ..self.clone() }
    }

    fn deaths_with(&self, dead: &BTreeSet<BootId>, at_secs: u32) -> Vec<Death> {
        let new = dead.iter().filter(|id| !self.is_dead(**id));
        let new = new.map(|&boot_id| Death { boot_id, at_secs });
        let mut dead: Vec<Death> =
            self.dead.iter().filter(|death| death.is_recent(at_secs)).copied().chain(new).collect();
        dead.drain(..dead.len().saturating_sub(DEAD_MAX));
        dead
    }

    /// Whether two maps say the same, whenever they were written.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let ids = |map: &Self| map.dead.iter().map(|death| death.boot_id).collect::<BTreeSet<_>>();
        self.members == other.members
            && self.owners == other.owners
            // What is forgotten alone is no reason to write: it would make a new epoch.
            && ids(self).is_subset(&ids(other))
    }

    /// From the transaction that made it: of two maps, the later has the higher.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The broker that coordinates a slot; nobody while no broker is up.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<BootId> {
        let place = self.owners.get(slot.index())?;
        self.members.get(usize::from(*place)).copied()
    }

    /// The broker that coordinates a Client Identifier; nobody while no broker is up.
    #[must_use]
    pub fn coordinator_of(&self, client_id: &str) -> Option<BootId> {
        self.owner(Slot::of(client_id))
    }

    /// All that coordinate any slot, each once, in order.
    #[must_use]
    pub fn coordinators(&self) -> Vec<BootId> {
        let places: BTreeSet<u8> = self.owners.iter().copied().collect();
        places.iter().filter_map(|place| self.members.get(usize::from(*place)).copied()).collect()
    }

    /// Those that serve or still have clients, in order.
    #[must_use]
    pub fn members(&self) -> &[BootId] {
        &self.members
    }

    /// Whether a broker is a member.
    #[must_use]
    pub fn is_member(&self, boot_id: BootId) -> bool {
        self.members.binary_search(&boot_id).is_ok()
    }

    /// Whether a broker has been declared dead.
    #[must_use]
    pub fn is_dead(&self, boot_id: BootId) -> bool {
        self.dead.iter().any(|death| death.boot_id == boot_id)
    }

    /// Those of them that nobody may forget yet. The map itself forgets the others with its next change.
    pub fn dead_within_a_day(&self, now_secs: u32) -> impl Iterator<Item = BootId> {
        let recent = self.dead.iter().filter(move |death| death.is_recent(now_secs));
        recent.map(|death| death.boot_id)
    }

    /// Those that had been declared dead within a day when it was written, the latest last.
    pub fn dead(&self) -> impl Iterator<Item = BootId> {
        self.dead.iter().map(|death| death.boot_id)
    }

    /// How many slots a broker coordinates.
    #[must_use]
    pub fn slots_of(&self, boot_id: BootId) -> usize {
        Slot::all().filter(|slot| self.owner(*slot) == Some(boot_id)).count()
    }

    /// The map of an epoch in which these members, in order, have the slots in turn.
    #[cfg(test)]
    pub(crate) fn in_turn(epoch: i64, members: Vec<BootId>) -> Self {
        let owners = (0..SLOTS).map(|slot| u8::try_from(slot % members.len()).unwrap()).collect();
        let map = Self { epoch, members, owners, ..Self::default() };
        assert!(map.is_consistent(), "the members are in order");
        map
    }

    /// The same, in which these are dead.
    #[cfg(test)]
    pub(crate) fn burying(self, dead: &BTreeSet<BootId>) -> Self {
        Self { epoch: self.epoch, ..self.with_dead(dead, 0) }
    }

    fn is_consistent(&self) -> bool {
        (self.owners.is_empty() || self.owners.len() == SLOTS)
            && self.owners.iter().all(|place| usize::from(*place) < self.members.len())
            && self.members.is_sorted_by(|one, next| one < next)
            && !self.members.iter().any(|member| self.is_dead(*member))
    }
}

impl Death {
    fn read(mut bytes: &[u8]) -> Self {
        Self { boot_id: BootId(bytes.get_u128()), at_secs: bytes.get_u32() }
    }

    /// Whether the broker may come back and not know of it.
    fn is_recent(&self, now_secs: u32) -> bool {
        now_secs.saturating_sub(self.at_secs) < DEAD_KEPT_SECS
    }
}

/// The broker that a slot belongs to: of equal hashes the higher boot id.
fn highest(slot: Slot, up: &[BootId]) -> Option<BootId> {
    up.iter().copied().max_by_key(|&boot_id| {
        let mut bytes = [0; 18];
        let (id, number) = bytes.split_at_mut(16);
        id.copy_from_slice(&boot_id.0.to_be_bytes());
        number.copy_from_slice(&slot.0.to_be_bytes());
        (wire_hash(&bytes), boot_id)
    })
}

fn put_count(bytes: &mut BytesMut, count: usize) {
    bytes.put_u16(u16::try_from(count).expect("no part has more than 1,024"));
}

/// The bytes of a part: a count, and as many pieces of one size.
fn take_counted(bytes: &mut Bytes, size: usize, most: usize) -> Result<Bytes, SlotMapError> {
    let count = usize::from(bytes.try_get_u16().map_err(|_| SlotMapError::Length)?);
    if count > most {
        return Err(SlotMapError::Contradiction);
    }
    if bytes.len() < count * size {
        return Err(SlotMapError::Length);
    }
    Ok(bytes.split_to(count * size))
}

/// Only a map that has a base is written with one.
fn take_base(bytes: &mut Bytes) -> Result<i64, SlotMapError> {
    let base = bytes.try_get_i64().map_err(|_| SlotMapError::Length)?;
    if base > 0 { Ok(base) } else { Err(SlotMapError::Contradiction) }
}

/// How many slots there are: a constant of the wire.
pub const SLOTS: usize = 1_024;

/// How many brokers one cluster has at most: a place is one byte.
pub const MEMBERS_MAX: usize = 256;

const FORMAT: u8 = 1;
const FORMAT_WITH_BASE: u8 = 2;
const DEATH_BYTES: usize = 20;
const DEAD_KEPT_SECS: u32 = 24 * 60 * 60;

/// As many as fit. A death that is forgotten early matters only to a broker that slept that long.
const DEAD_MAX: usize = 150;

const BYTES_MAX: usize = 8 * 1_024;
const HEAD_BYTES: usize = 9;
const COUNTS_BYTES: usize = 6;
const _: () = assert!(
    HEAD_BYTES + COUNTS_BYTES + MEMBERS_MAX * 16 + SLOTS + DEAD_MAX * DEATH_BYTES <= BYTES_MAX,
    "the largest map fits"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn up(ids: impl IntoIterator<Item = u128>) -> Brokers {
        Brokers { up: ids.into_iter().map(BootId).collect(), ..Brokers::default() }
    }

    fn map(ids: impl IntoIterator<Item = u128>) -> SlotMap {
        SlotMap::default().with(&up(ids))
    }

    #[test]
    fn the_slot_of_a_client_identifier_is_a_constant_of_the_wire() {
        // The hash of nothing stands in the reference implementation.
        assert_eq!(wire_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(Slot::of("").index(), 0x0c2);
        assert_eq!(Slot::of("sensor-17").index(), 254);
    }

    #[test]
    fn nobody_coordinates_while_no_broker_is_up() {
        assert_eq!(map([]).owner(Slot::of("a")), None);
        let draining = Brokers { draining: [BootId(7)].into(), ..Brokers::default() };
        let map = SlotMap::default().with(&draining);
        assert_eq!(map.owner(Slot::of("a")), None);
        assert_eq!(map.members(), [BootId(7)]);
        assert_eq!(SlotMap::decode(0, map.encode()), Ok(map));
    }

    #[test]
    fn a_client_identifier_has_one_coordinator() {
        let map = SlotMap::in_turn(3, vec![BootId(7), BootId(9)]);
        for client_id in ["", "a", "sensor-17"] {
            let is_even = Slot::of(client_id).index().is_multiple_of(2);
            let coordinator = BootId(if is_even { 7 } else { 9 });
            assert_eq!(map.coordinator_of(client_id), Some(coordinator));
        }
    }

    #[test]
    fn a_broker_that_drains_coordinates_nothing() {
        let brokers = Brokers { draining: [BootId(7)].into(), ..up([3, 9]) };
        let map = SlotMap::default().with(&brokers);
        assert_eq!(map.members(), [BootId(3), BootId(7), BootId(9)]);
        assert_eq!(map.coordinators(), [BootId(3), BootId(9)]);
    }

    #[test]
    fn the_largest_map_has_no_more_than_eight_kibibytes() {
        let mut brokers = up((0..300).map(|id| u128::MAX - id));
        brokers.dead = (0..1_000).map(BootId).collect();
        let map = SlotMap::default().with(&brokers);
        assert_eq!(map.members().len(), MEMBERS_MAX);
        assert_eq!(map.dead().count(), DEAD_MAX);
        assert!(map.encode().len() <= BYTES_MAX);
        assert_eq!(SlotMap::decode(0, map.encode()), Ok(map));
    }

    #[test]
    fn the_dead_are_remembered_for_a_day_and_forgotten_with_the_next_change() {
        let died = |id: u128, now_secs| Brokers { dead: [BootId(id)].into(), now_secs, ..up([9]) };
        let first = SlotMap::default().with(&died(1, 1_000));
        let day_later = Brokers { now_secs: 1_000 + DEAD_KEPT_SECS, ..up([9]) };
        assert!(first.with(&day_later).says_the_same(&first), "forgetting alone is no change");
        let shown = |now_secs| first.dead_within_a_day(now_secs).count();
        let day = 1_000 + DEAD_KEPT_SECS;
        assert_eq!([shown(1_000), shown(day - 1), shown(day)], [1, 1, 0], "in the same map");
        let second = first.with(&died(2, 999 + DEAD_KEPT_SECS));
        assert!(second.is_dead(BootId(1)) && second.is_dead(BootId(2)));
        let third = second.with(&died(3, 1_000 + DEAD_KEPT_SECS));
        assert_eq!(third.dead().collect::<Vec<_>>(), [BootId(2), BootId(3)]);
    }

    #[test]
    fn what_is_not_a_map_is_told_from_one() {
        let good = map([1, 2]).encode();
        let decode = |bytes: Vec<u8>| SlotMap::decode(0, bytes.into()).unwrap_err();
        assert_eq!(decode(good[..good.len() - 1].to_vec()), SlotMapError::Length);
        assert_eq!(decode([&good[..], b"x"].concat()), SlotMapError::Length);
        assert_eq!(decode(vec![9]), SlotMapError::Format(9));
        let mut place_beyond = good.to_vec();
        place_beyond[40] = 2;
        assert_eq!(decode(place_beyond), SlotMapError::Contradiction);
        assert_eq!(decode(vec![1, 0xff, 0xff]), SlotMapError::Contradiction);
    }

    proptest! {
        /// A broker's share is binomial: no more than six standard deviations away from even.
        #[test]
        fn slots_are_spread_evenly(ids in proptest::collection::btree_set(any::<u128>(), 1..40)) {
            let map = map(ids.clone());
            let share = 1.0 / f64::from(u32::try_from(ids.len()).unwrap());
            let even = 1_024.0 * share;
            let spread = 6.0 * (even * (1.0 - share)).sqrt() + 2.0;
            for id in ids {
                let own = f64::from(u32::try_from(map.slots_of(BootId(id))).unwrap());
                prop_assert!((own - even).abs() <= spread, "{own} of {even} +- {spread}");
            }
        }

        #[test]
        fn only_the_slots_of_whoever_goes_move(
            ids in proptest::collection::btree_set(any::<u128>(), 2..40),
            pick in any::<proptest::sample::Index>(),
        ) {
            let before = map(ids.clone());
            let gone = *pick.get(&ids.iter().copied().collect::<Vec<_>>());
            let mut brokers = up(ids.into_iter().filter(|id| *id != gone));
            brokers.dead.insert(BootId(gone));
            let after = before.with(&brokers);
            prop_assert!(after.is_dead(BootId(gone)));
            for slot in Slot::all() {
                if before.owner(slot) == Some(BootId(gone)) {
                    prop_assert!(after.owner(slot).is_some_and(|owner| owner != BootId(gone)));
                } else {
                    prop_assert_eq!(before.owner(slot), after.owner(slot));
                }
            }
        }

        #[test]
        fn written_and_read_it_is_the_same(
            ids in proptest::collection::btree_set(any::<u128>(), 0..40),
            dead in proptest::collection::btree_set(any::<u128>(), 0..200),
            now_secs in any::<u32>(),
        ) {
            let mut brokers = up(ids.difference(&dead).copied());
            brokers.dead = dead.into_iter().map(BootId).collect();
            brokers.now_secs = now_secs;
            let map = SlotMap::default().with(&brokers);
            let bytes = map.encode();
            prop_assert!(bytes.len() <= BYTES_MAX);
            prop_assert_eq!(SlotMap::decode(0, bytes).unwrap(), map);
        }

        #[test]
        fn any_bytes_are_a_map_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..9_000)) {
            if let Ok(map) = SlotMap::decode(0, bytes.clone().into()) {
                prop_assert!(bytes.is_empty() || map.encode() == bytes);
            }
        }
    }
}
