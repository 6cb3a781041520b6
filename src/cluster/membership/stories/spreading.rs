//! Slot maps that brokers tell each other while none of them reaches the ensemble.
//!
//! *Some had read the last map before the ensemble was lost to all, and others had not.* They
//! disagreed about who coordinates what until it was back, and claims of these slots waited.

use super::super::output::PeerLease;
use super::world::{World, pair};
use crate::cluster::identity::BootId;
use crate::cluster::slot_record::{Home, SlotRecord};
use crate::cluster::slots::{Brokers, SlotMap};

impl World {
    /// Whoever is without the ensemble hears from all it is linked with by which map they go.
    pub(super) fn spread_slots(&mut self) {
        if !self.is_checked {
            return;
        }
        let now = self.now;
        let running: Vec<char> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.is_running())
            .map(|(name, _)| *name)
            .collect();
        for &hearer in &running {
            for &teller in running.iter().filter(|teller| **teller != hearer) {
                let own_lease = self.nodes[&hearer].membership.own_lease(now);
                if own_lease == PeerLease::Committed
                    || self.unlinked.contains(&pair(hearer, teller))
                {
                    continue;
                }
                if let Some(record) = self.nodes[&teller].membership.slot_record() {
                    self.node(hearer).membership.hear_slots(now, &record);
                    self.settle();
                }
            }
        }
    }
}

fn epoch(world: &World, name: char) -> i64 {
    world.nodes[&name].membership.slots().expect("it was read").epoch()
}

/// Of a, b and c only a has read the map that has d in it, and then nobody reads anything.
fn divided() -> World {
    let mut world = World::checked();
    world.serve("a,b,c");
    for line in ["run 7000", "start-if-down d", "run 10", "late b,c", "set d up"] {
        world.play_line(line);
    }
    assert!(epoch(&world, 'a') > epoch(&world, 'b'), "{}", world.trace);
    world.play_line("outage");
    world
}

fn map_of(world: &World, name: char) -> &SlotMap {
    world.nodes[&name].membership.slots().unwrap()
}

#[test]
fn the_newest_map_that_anybody_has_read_is_known_to_all() {
    let mut world = divided();
    world.play_line("run 5000");
    for name in ['b', 'c', 'd'] {
        assert_eq!(map_of(&world, name), map_of(&world, 'a'), "{name}\n{}", world.trace);
        assert!(world.nodes[&name].membership.is_frozen(world.now), "{}", world.trace);
    }
    world.end_faults();
    world.play_line("run 30000");
    world.check_agreement();
}

/// The link to the one that has it does not stand.
#[test]
fn it_goes_from_one_to_the_next() {
    let mut world = divided();
    for line in ["unlink a b", "unlink b d", "run 4000"] {
        world.play_line(line);
    }
    assert_eq!(map_of(&world, 'b'), map_of(&world, 'a'), "by c\n{}", world.trace);
}

/// What it says is believed as if it had been read, also where it is a death.
#[test]
fn a_broker_that_was_declared_dead_hears_of_it() {
    let mut world = World::checked();
    world.serve("a,b,c");
    let dead = world.boot_id_of('c');
    for line in ["run 7000", "cut c", "late b", "run 9000"] {
        world.play_line(line);
    }
    assert!(map_of(&world, 'a').is_dead(dead), "{}", world.trace);
    assert_eq!(world.nodes[&'c'].life, 2, "{}", world.trace);
}

/// A map that the broker has later itself, one of another tree that does not follow, and what is no
/// map.
#[test]
fn what_does_not_follow_is_not_taken() {
    let mut world = World::checked();
    world.serve("a,b");
    world.play_line("run 7000");
    world.play_line("outage");
    let (now, known) = (world.now, epoch(&world, 'b'));
    let own = world.nodes[&'b'].membership.slot_record().unwrap();
    let brokers = Brokers { up: [BootId(99)].into(), ..Brokers::default() };
    let content = SlotMap::default().with(&brokers).encode();
    let elsewhere = Home { czxid: own.home.czxid, ctime_millis: own.home.ctime_millis + 1 };
    let records = [
        SlotRecord { mzxid: own.mzxid - 1, content: content.clone(), ..own.clone() },
        SlotRecord { content: content.clone(), ..own.clone() },
        SlotRecord { home: elsewhere, mzxid: own.mzxid + 9, content: content.clone() },
        SlotRecord { mzxid: own.mzxid + 9, content: b"spoilt".as_slice().into(), ..own.clone() },
    ];
    for record in records {
        world.node('b').membership.hear_slots(now, &record);
        world.settle();
        assert_eq!(epoch(&world, 'b'), known, "{record:?}");
        assert!(!map_of(&world, 'b').is_member(BootId(99)), "{record:?}");
    }
    let later = SlotRecord { mzxid: own.mzxid + 9, content, ..own };
    world.node('b').membership.hear_slots(now, &later);
    world.settle();
    assert!(map_of(&world, 'b').is_member(BootId(99)), "this one follows");
}
