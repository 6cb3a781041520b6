//! A slot map in a tree that was made anew: it goes on where the one of before ended.
//!
//! The transactions of a new tree are counted from the beginning, and the brokers that run go by a map
//! with a higher epoch than any that follows. So the first map that one of them writes there says what
//! is added to its transaction from now on, its *base*, and that is more than all epochs of before.

use bytes::{BufMut, BytesMut};

use super::{Brokers, DEAD_MAX, Death, SlotMap};
use crate::cluster::hash::wire_hash;
use crate::cluster::identity::BootId;

impl SlotMap {
    /// What is added to the transaction that made it. It is 0 in a tree that is the first one, and
    /// higher than the epoch of any map that whoever wrote it knew of other trees.
    #[must_use]
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The transaction that made it.
    #[must_use]
    pub fn mzxid(&self) -> i64 {
        self.epoch.saturating_sub(self.base)
    }

    /// The map by which brokers that go by this one go on in a tree that has `found`: nobody of either
    /// is forgotten, neither the living nor the dead. It has no epoch until it is read back, and then
    /// a higher one than both.
    ///
    /// `writer` is who writes it. Two that go on from different maps must not come to the same epoch.
    #[must_use]
    pub fn following(&self, found: &Self, writer: BootId) -> Self {
        let mut dead = self.dead.clone();
        dead.extend(found.dead.iter().filter(|death| !self.is_dead(death.boot_id)));
        dead.sort_by_key(|death: &Death| death.at_secs);
        dead.drain(..dead.len().saturating_sub(DEAD_MAX));
        let mut brokers = Brokers::default();
        for map in [self, found] {
            for &member in map.members() {
                if map.slots_of(member) > 0 {
                    brokers.up.insert(member);
                } else {
                    brokers.draining.insert(member);
                }
            }
        }
        let last = self.epoch.max(found.epoch);
        let base = last.saturating_add(STRIDE + drawn(last, writer));
        Self { base, dead, ..Self::default() }.with(&brokers)
    }
}

/// Less than [`STRIDE`], and another one for each writer: boot ids are drawn at random.
fn drawn(last: i64, writer: BootId) -> i64 {
    let mut bytes = BytesMut::with_capacity(24);
    bytes.put_u128(writer.0);
    bytes.put_i64(last);
    i64::try_from(wire_hash(&bytes) % STRIDE.unsigned_abs()).expect("it is less than the stride")
}

/// How far apart the epochs of two trees are at least: more than the transactions that one broker may
/// not have heard of, 256 reigns of a leader of the ensemble. It is left for millions of trees.
const STRIDE: i64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slots::Slot;

    const A: BootId = BootId(1);
    const B: BootId = BootId(2);
    const X: BootId = BootId(9);

    fn up(ids: impl IntoIterator<Item = BootId>) -> Brokers {
        Brokers { up: ids.into_iter().collect(), now_secs: 1_000, ..Brokers::default() }
    }

    fn at(mzxid: i64, map: &SlotMap) -> SlotMap {
        SlotMap::decode(mzxid, map.encode()).unwrap()
    }

    #[test]
    fn it_comes_after_both_and_forgets_nobody() {
        let dead = Brokers { dead: [X].into(), ..up([A]) };
        let known = at(7_000, &SlotMap::default().with(&dead));
        let found = at(30, &SlotMap::default().with(&up([B])));
        let next = at(31, &known.following(&found, A));
        assert!(next.base() > known.epoch(), "{next:?}");
        assert_eq!(next.epoch(), next.base() + 31);
        assert_eq!(next.mzxid(), 31);
        assert_eq!(next.members(), [A, B]);
        assert!(next.is_dead(X));
        assert!(Slot::all().all(|slot| next.owner(slot) == slot.highest_of(&[A, B])));
    }

    #[test]
    fn a_map_that_is_made_from_it_keeps_its_base() {
        let known = at(7_000, &SlotMap::default().with(&up([A])));
        let next = at(31, &known.following(&at(3, &SlotMap::default()), A));
        let later = at(40, &next.with(&up([A, B])));
        assert_eq!(later.base(), next.base());
        assert_eq!(later.epoch(), next.epoch() + 9);
        let cleared = at(41, &later.with_dead(&[X].into(), 1_001));
        assert_eq!(cleared.base(), next.base());
    }

    /// Both had the last map of another tree, one of them an older one: each went on from its own, and
    /// with bad luck to the same number.
    #[test]
    fn two_that_go_on_from_different_maps_do_not_come_to_the_same_epoch() {
        let known = |mzxid| at(mzxid, &SlotMap::default().with(&up([A, B])));
        let found = at(3, &SlotMap::default());
        let one = known(5_000).following(&found, A).base();
        let other = known(5_020).following(&found, B).base();
        assert!(one.abs_diff(other) > 1_000_000, "{one} {other}");
    }

    #[test]
    fn a_map_of_the_first_tree_is_written_as_it_always_was() {
        let map = SlotMap::default().with(&up([A]));
        assert_eq!(map.encode().first(), Some(&1));
        assert_eq!(map.following(&SlotMap::default(), A).encode().first(), Some(&2));
    }
}
