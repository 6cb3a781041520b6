//! The tree is gone with the disks of the ensemble, and brokers run that know what was in it.
//!
//! *The transactions of the new tree were counted from the beginning.* Whoever had the map of before
//! took none of those that followed for a later one, and newcomers had no other: each side went by
//! its own owners of slots, and the slots of a broker that died went to nobody.

use super::world::World;
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;

impl World {
    /// Whatever became of the tree: tokens are ordered by the map under which they were given.
    pub(super) fn nobody_goes_back(&mut self, name: char, map: &SlotMap) {
        let former = self.epochs.insert(self.boot_id_of(name), map.epoch());
        assert!(former <= Some(map.epoch()), "{name} goes back\n{}", self.trace);
        self.buried.extend(map.dead());
    }

    /// Nobody lives that was dead by any map that anybody has read.
    pub(super) fn check_nobody_returned(&self) {
        for (name, node) in self.nodes.iter().filter(|(_, node)| !node.is_dead) {
            let is_buried = self.buried.contains(&self.boot_id_of(*name));
            assert!(!is_buried || node.has_let_go, "{name} was dead\n{}", self.trace);
        }
    }
}

/// Brokers that have served for a while: the map of before has a high epoch.
fn serving(names: &str) -> World {
    let mut world = World::checked();
    world.serve(names);
    for line in ["run 60000", "lead 0", "run 60000"] {
        world.play_line(line);
    }
    world.trace.clear();
    world
}

fn epochs(world: &World) -> Vec<i64> {
    let running = world.nodes.values().filter(|node| node.is_running());
    running.map(|node| node.membership.slots().expect("it was read").epoch()).collect()
}

/// They go by one map, and it is later than this epoch.
fn check_followed(world: &World, before: i64) {
    world.check_agreement();
    world.check_nobody_returned();
    assert!(epochs(world).iter().all(|epoch| *epoch > before), "{}", world.trace);
}

fn lives(world: &World) -> Vec<BootId> {
    world.names().into_iter().map(|name| world.boot_id_of(name)).collect()
}

#[test]
fn all_that_run_go_on_by_one_map_that_is_later_than_the_one_of_before() {
    let mut world = serving("a,b,c");
    let (before, living) = (epochs(&world)[0], lives(&world));
    for line in ["wipe", "run 1000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
    assert_eq!(lives(&world), living, "nobody has died of it");
    // It is told from an old one by what was added, as often as it happens.
    let before = epochs(&world)[0];
    for line in ["wipe", "run 1000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
}

#[test]
fn the_slots_of_a_broker_that_dies_after_it_go_to_others() {
    let mut world = serving("a,b,c");
    let before = epochs(&world)[0];
    for line in ["wipe", "run 1000", "crash b", "run 15000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
    let dead = super::world::boot_id('b', 1);
    assert!(world.nodes[&'a'].membership.slots().unwrap().is_dead(dead), "{}", world.trace);
}

/// The newcomer leads, and has never heard of the others.
#[test]
fn a_newcomer_that_was_first_in_the_new_tree_follows_the_others() {
    let mut world = serving("a,b");
    let (before, living) = (epochs(&world)[0], lives(&world));
    for line in ["pause a,b", "wipe", "start-if-down d", "run 10", "set d up", "run 100"] {
        world.play_line(line);
    }
    for line in ["resume a,b", "run 1000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
    assert_eq!(lives(&world)[..2], living, "{}", world.trace);
    assert_eq!(world.nodes[&'d'].membership.slots().unwrap().members().len(), 3);
}

/// One of them had not read the last map.
#[test]
fn what_only_some_had_read_of_the_former_tree_is_no_reason_to_disagree() {
    let mut world = serving("a,b");
    world.play_line("late b");
    world.play_line("start-if-down d");
    world.play_line("run 10");
    world.play_line("set d up");
    world.play_line("run 10");
    let known = epochs(&world);
    assert!(known[0] > known[1], "{known:?}");
    for line in ["pause a,d", "wipe", "run 100", "resume a,d", "run 1000"] {
        world.play_line(line);
    }
    check_followed(&world, known[0]);
}

/// It was declared dead while it slept, and nothing says so any more: its clients' Sessions may be
/// with others.
#[test]
fn a_broker_whose_lease_had_ended_begins_a_new_life() {
    let mut world = serving("a,b,c");
    let before = epochs(&world)[0];
    for line in ["pause c", "run 20000", "wipe", "run 1000", "resume c", "run 15000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
    assert_eq!(world.nodes[&'c'].life, 2, "{}", world.trace);
    assert_eq!((world.nodes[&'a'].life, world.nodes[&'b'].life), (1, 1), "{}", world.trace);
}

/// All of them went on without the ensemble, and their leases stand when it comes back empty.
#[test]
fn an_outage_that_ends_with_an_empty_tree_costs_nobody_its_clients() {
    let mut world = serving("a,b,c");
    let (before, living) = (epochs(&world)[0], lives(&world));
    for line in ["outage", "run 60000", "wipe", "restore", "run 15000"] {
        world.play_line(line);
    }
    check_followed(&world, before);
    assert_eq!(lives(&world), living, "{}", world.trace);
}
