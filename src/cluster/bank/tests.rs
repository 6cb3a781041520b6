mod world;

use world::{Plant, World};

/// Plays `seed` and says what the checker found.
fn play(seed: u64, plant: Plant) -> Result<World, String> {
    let mut world = World::new(seed, 3 + usize::try_from(seed % 4).unwrap(), plant);
    for step in 0..4_000 {
        world.step(true).map_err(|fault| format!("seed {seed} step {step}: {fault}"))?;
    }
    world.settle().map_err(|fault| format!("seed {seed}: {fault}"))?;
    Ok(world)
}

#[test]
fn the_books_balance_through_crashes_lost_answers_and_new_leaders() {
    let (mut bought, mut restored) = (0, 0);
    for seed in 0..20 {
        let mut world = play(seed, Plant::None).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(world.faults > 10, "seed {seed}: nothing went wrong");
        let (leases, brokers) = world.leases_and_brokers();
        assert_eq!(leases, brokers, "seed {seed}: everybody has a lease in the end");
        bought += world.last_node;
        restored += world.restored;
    }
    assert!(bought > 1_500, "little was bought: {bought}");
    assert!(restored > 50, "few leases were made again under what was held: {restored}");
}

/// The story: the leader looked once a second whether what nobody pays for had changed, and each time
/// it was polled for something else it put that off by a second; a leader with work to do never
/// looked at all, and what was swept was never given to anybody again.
#[test]
fn a_leader_that_is_polled_all_the_time_still_looks() {
    let mut world = World::new(1, 2, Plant::None);
    world.leave_an_orphan();
    world.settle().unwrap();
    world.end_all_nodes();
    for _ in 0..300 {
        world.poll_all_after(10);
    }
    assert!(world.is_at_rest(), "free was not counted anew");
}

/// The story: a value that costs more than the four chunks that may lie idle was granted, and what was
/// granted was given back before the value was tried again; it was never written, and never refused.
#[test]
fn a_wish_of_more_than_may_lie_idle_is_granted_and_waits() {
    let mut world = World::new(1, 1, Plant::None);
    world.settle().unwrap();
    let before = world.room();
    assert!(!world.take_bytes(LARGE), "there is room from the beginning");
    for _ in 0..20 {
        world.poll_all_after(10);
    }
    assert!(world.take_bytes(LARGE), "of {LARGE} bytes {} are left", world.room());
    world.give_back_bytes(LARGE);
    assert!(!world.take_bytes(2 * LARGE), "as much again has been granted");
    for _ in 0..30 {
        world.poll_all_after(100);
    }
    assert!(world.room() <= before.max(LARGE), "nobody came for it, and {} are left", world.room());
}

/// The story: whoever asked before the leader had counted took it for a failure and paused twice as long
/// each time. In an ensemble that was slow to list, the relay took over many seconds after there was
/// something to pay it with.
#[test]
fn who_waits_for_the_first_count_asks_soon_after_it() {
    let mut world = World::new(2, 1, Plant::None);
    world.depose();
    assert!(!world.take_bytes(1), "nothing was counted yet");
    for _ in 0..100 {
        world.poll_all_after(100);
    }
    assert!(!world.take_bytes(1), "nobody leads");
    world.elect(0);
    for _ in 0..60 {
        world.poll_all_after(20);
    }
    assert!(world.take_bytes(1), "it was counted a second ago");
}

/// More bytes than lie idle in a lease.
const LARGE: u64 = 2_000;

/// N brokers that each refund what one of them left behind print money.
#[test]
fn a_refund_by_each_is_caught() {
    assert_caught(Plant::RefundByEach);
}

/// A broker that believes in a top-up that was never made has more than its lease.
#[test]
fn believing_in_a_lost_answer_is_caught() {
    assert_caught(Plant::LostMeansDone);
}

/// A leader that counts without reading what has changed gives away what is taken.
#[test]
fn counting_without_reading_is_caught() {
    assert_caught(Plant::TallyWithoutReading);
}

fn assert_caught(plant: Plant) {
    let missed = (0..20).all(|seed| play(seed, plant).is_ok());
    assert!(!missed, "{plant:?} went unnoticed in twenty runs");
}
