//! Stories: what happens to brokers, and what they make of it.

mod chaos;
mod dying;
mod joining;
mod leases;
mod promises;
mod world;

use expect_test::Expect;

use world::World;

fn check(story: &str, expected: &Expect) {
    expected.assert_eq(&World::new().play(story));
}
