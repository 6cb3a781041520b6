//! Anything may happen in any order: what must never be, and what must be once it is over.

use proptest::prelude::{ProptestConfig, Strategy, prop_oneof, proptest};

use super::world::{T, World};

/// A broker, by its place in the alphabet, and what becomes of it.
fn event() -> impl Strategy<Value = String> {
    let names = || (0..5_u8).prop_map(|place| char::from(b'a' + place));
    prop_oneof![
        12 => (1..9_000_u32).prop_map(|millis| format!("run {millis}")),
        6 => names().prop_map(|name| format!("start-if-down {name}")),
        6 => names().prop_map(|name| format!("set {name} up")),
        1 => names().prop_map(|name| format!("set {name} draining")),
        1 => names().prop_map(|name| format!("leave {name}")),
        2 => names().prop_map(|name| format!("crash {name}")),
        2 => names().prop_map(|name| format!("pause {name}")),
        3 => names().prop_map(|name| format!("resume {name}")),
        3 => names().prop_map(|name| format!("cut {name}")),
        4 => names().prop_map(|name| format!("heal {name}")),
        3 => (names(), names()).prop_map(|(one, other)| format!("unlink {one} {other}")),
        3 => (names(), names()).prop_map(|(one, other)| format!("link {one} {other}")),
        1 => (names(), 0..=T).prop_map(|(name, millis)| format!("renew {name} {millis}")),
        2 => names().prop_map(|name| format!("deaf {name}")),
        2 => names().prop_map(|name| format!("slow {name}")),
        2 => names().prop_map(|name| format!("late {name}")),
        3 => names().prop_map(|name| format!("deliver {name}")),
        1 => (0..1_u8).prop_map(|_| "outage".to_owned()),
        2 => (0..1_u8).prop_map(|_| "restore".to_owned()),
        1 => (0..1_u8).prop_map(|_| "wipe".to_owned()),
        1 => (-9_000..9_000_i32).prop_map(|ahead| format!("lead {ahead}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Nobody is declared dead while it may acknowledge, and nobody that is dead serves; and when
    /// faults stop, all agree in the end.
    #[test]
    fn the_dead_do_not_acknowledge_and_the_living_agree(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut world = World::checked();
        for event in &events {
            world.play_line(event);
        }
        world.end_faults();
        world.play_line("run 30000");
        world.check_agreement();
        world.check_succession();
        world.check_nobody_returned();
    }
}
