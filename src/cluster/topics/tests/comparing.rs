//! What is listed again after a reconnect: no more than what may have changed.

use super::world::{MINUTE, ROOMY, World};

/// A world with topics that all know, long enough for each to answer for the others.
fn settled(brokers: usize) -> World {
    let mut world = World::new(brokers, ROOMY);
    for number in 0..40 {
        world.publish(number % brokers, &format!("t/{number}"), "x", None);
    }
    world.run(2 * MINUTE);
    world
}

/// What `broker` lists when its connection ends and something changes meanwhile.
fn lists_after(world: &mut World, broker: usize, changes: impl FnOnce(&mut World)) -> usize {
    let before = world.brokers[broker].lists;
    changes(world);
    world.run_without(broker, 1_000);
    world.lose(broker, true);
    world.run(10_000);
    world.brokers[broker].lists - before
}

#[test]
fn nothing_is_listed_again_where_nothing_has_changed() {
    let mut world = settled(3);
    assert_eq!(lists_after(&mut world, 1, |_| ()), 0);
    let readings = world.brokers[1].topics.readings();
    assert_eq!((readings.comparisons, readings.parts_differing), (1, 0));
    assert_eq!(world.audit().unwrap(), world.budget());
}

#[test]
fn parts_that_differ_are_listed_and_what_was_missed_is_known() {
    let mut world = settled(3);
    let listed = lists_after(&mut world, 1, |world| {
        world.publish(0, "t/1", "changed", None);
        world.publish(2, "new", "made", None);
    });
    assert!((1..=2).contains(&listed), "{listed} parts were listed");
    assert_eq!(world.value(1, "t/1").as_deref(), Some("changed"));
    assert_eq!(world.value(1, "new").as_deref(), Some("made"));
    assert_eq!(world.audit().unwrap(), world.budget());
}

/// Whoever was cut off as well may have missed the same.
#[test]
fn who_was_cut_off_as_well_does_not_answer() {
    let mut world = settled(2);
    world.lose(0, true);
    world.run(10_000);
    assert_eq!(lists_after(&mut world, 1, |_| ()), 256);
    let declined = world.brokers[0].topics.readings().questions_declined;
    assert_eq!((declined, world.brokers[1].topics.readings().comparisons), (1, 0));
}

/// A session that ended took the watches with it, and what was registered is known all the same.
#[test]
fn a_new_session_compares_as_well() {
    let mut world = settled(3);
    let before = world.brokers[1].lists;
    world.publish(0, "t/1", "changed", None);
    world.run_without(1, 1_000);
    world.renew(1);
    world.run(10_000);
    assert!(world.brokers[1].lists - before <= 1);
    assert_eq!(world.value(1, "t/1").as_deref(), Some("changed"));
}
