//! Stories: what happens to brokers, and what they make of it.

mod chaos;
mod dying;
mod joining;
mod leases;
mod promises;
mod silence;
mod spreading;
mod versions;
mod wiped;
mod world;

use expect_test::Expect;

use world::World;

fn check(story: &str, expected: &Expect) {
    expected.assert_eq(&World::new().play(story));
}

/// A story that begins when these brokers have joined.
fn check_joined(names: &str, story: &str, expected: &Expect) {
    let mut world = World::new();
    world.join(names);
    expected.assert_eq(&world.play(story));
}

/// A story that begins when these brokers serve.
fn check_serving(names: &str, story: &str, expected: &Expect) {
    let mut world = World::new();
    world.serve(names);
    expected.assert_eq(&world.play(story));
}
