//! Brokers that have lost the ensemble, and one that has not: two sides must never both acknowledge.

use expect_test::expect;

use super::world::{T, World};

/// Three brokers that serve, and whose promises are looked after.
fn three() -> World {
    let mut world = World::checked();
    world.serve("a,b,c");
    world.play_line("run 7000");
    world.trace.clear();
    world
}

/// *The ensemble stands beside one broker, and the network between that and the others is cut.* Those
/// were a majority that agreed that nothing is committed, and went on acknowledging while the one
/// declared them dead and gave their clients' slots away.
#[test]
fn a_majority_that_is_cut_off_ends_before_the_one_that_has_the_ensemble_buries_it() {
    let story = "
        unlink a b
        unlink a c
        cut b,c
        run 4100
        lease b
        lease c
        run 3000
        link a b
        link a c
        heal b,c
        run 10
        set b,c up
        run 10
        lease b
    ";
    let trace = three().play(story);
    expect![[r#"
        unlink a b
        unlink a c
        cut b,c
        run 4100
        lease b
            12110 b1 lease -110 ms more, Uncommitted
        lease c
            12110 c1 lease -110 ms more, Uncommitted
        run 3000
            14010 a1 suspects b1
            14010 a1 suspects c1
            14010 a1 has slots [a1:1024] dead [b1 c1]
            14010 a1 buries b1
            14010 a1 buries c1
        link a b
        link a c
        heal b,c
            15110 b1 has slots [a1:1024] dead [b1 c1]
            15110 b1 buries c1
            15110 b2 learns that it is dead
            15110 b2 has slots [a1:1024] dead [b1 c1]
            15110 a1 sees b2 Joining
            15110 b2 sees a1 Up
            15110 b2 is registered; listed ["a1"] absent []
            15110 c1 has slots [a1:1024] dead [b1 c1]
            15110 c1 buries b1
            15110 c2 learns that it is dead
            15110 c2 has slots [a1:1024] dead [b1 c1]
            15110 a1 sees c2 Joining
            15110 b2 sees c2 Joining
            15110 c2 sees a1 Up
            15110 c2 sees b2 Joining
            15110 c2 is registered; listed ["a1", "b2"] absent []
        run 10
        set b,c up
            15120 a1 sees that b2 is Up
            15120 a1 has slots [a1:512 b2:512] dead [b1 c1]
            15120 b2 has slots [a1:512 b2:512] dead [b1 c1]
            15120 a1 sees that c2 is Up
            15120 a1 has slots [a1:348 b2:321 c2:355] dead [b1 c1]
            15120 b2 sees that c2 is Up
            15120 b2 has slots [a1:348 b2:321 c2:355] dead [b1 c1]
            15120 c2 sees that b2 is Up
            15120 c2 has slots [a1:348 b2:321 c2:355] dead [b1 c1]
        run 10
        lease b
            15130 b2 lease 3980 ms more, Committed
    "#]]
    .assert_eq(&trace);
}

/// The same when it is not the one that leads that has the ensemble.
#[test]
fn a_majority_with_the_leader_in_it_ends_as_well() {
    let mut world = three();
    for line in ["unlink a c", "unlink b c", "cut a,b", "run 30000"] {
        world.play_line(line);
    }
    world.end_faults();
    world.play_line("run 30000");
    world.check_agreement();
}

/// *Heartbeats are almost a beat apart.* Whoever sent its last one later says later that it has none
/// committed. It said so with its next ping, and the other weighed that with its own next ping: after
/// the end of its lease.
#[test]
fn brokers_whose_heartbeats_are_a_beat_apart_hear_of_each_other_in_time() {
    let phases = || (0..T / 6).step_by(190);
    let triples = phases().flat_map(|pings| {
        phases().flat_map(move |beats| phases().map(move |phase| (pings, beats, phase)))
    });
    for (pings, heartbeats, phase) in triples {
        let mut world = World::checked();
        world.serve("a");
        world.play_line(&format!("run {pings}"));
        world.serve("b");
        world.play_line(&format!("run {}", 2 * T + phase));
        // The next heartbeat of each leaves at once.
        for (name, millis) in [('a', heartbeats), ('b', T)] {
            world.play_line(&format!("cut {name}"));
            world.play_line(&format!("heal {name}"));
            world.play_line(&format!("run {millis}"));
        }
        world.play_line("outage");
        world.play_line(&format!("run {T}"));
        for (name, node) in &world.nodes {
            assert!(node.membership.is_frozen(world.now), "{name}\n{}", world.trace);
        }
    }
}

#[test]
fn when_nobody_has_the_ensemble_all_go_on_for_as_long_as_all_say_so() {
    let mut world = three();
    world.play_line("outage");
    for _minute in 0..10 {
        world.play_line("run 60000");
        for (name, node) in &world.nodes {
            assert!(node.membership.is_frozen(world.now), "{name}\n{}", world.trace);
        }
    }
    world.play_line("unlink a b");
    world.play_line(&format!("run {T}"));
    let is_frozen = |name| world.nodes[&name].membership.is_frozen(world.now);
    assert!(!is_frozen('a') && !is_frozen('b') && is_frozen('c'), "{}", world.trace);
    world.end_faults();
    world.play_line("run 30000");
    world.check_agreement();
}

/// It came while the others were cut off, so that they know it from its link alone. That the link is
/// cut as well must not make them forget that it has the ensemble.
#[test]
fn a_newcomer_that_was_heard_once_is_not_forgotten() {
    let mut world = three();
    for line in ["cut a,b,c", "start-if-down d", "run 1000", "unlink a d", "unlink b d"] {
        world.play_line(line);
    }
    world.play_line("unlink c d");
    world.play_line("run 30000");
    world.end_faults();
    world.play_line("run 30000");
    world.check_agreement();
}

/// *A broker alone was cut off, and another one came, to which it had no link.* It was let go on by its
/// own word that nobody has the ensemble, and went on with that when the ensemble had made a session
/// for it, whose answers were slow: until it was declared dead, and behind that.
#[test]
fn whoever_is_given_another_session_knows_that_the_ensemble_is_there() {
    let mut world = World::checked();
    world.serve("a");
    world.play_line("run 7000");
    for line in ["cut a", "start-if-down b"] {
        world.play_line(line);
    }
    // They have never heard of each other.
    world.unlinked.insert(('a', 'b'));
    world.play_line("run 7000");
    assert!(world.nodes[&'a'].membership.is_frozen(world.now), "{}", world.trace);
    for line in ["heal a", "run 3000"] {
        world.node('a').is_slow = true;
        world.play_line(line);
    }
    assert!(!world.nodes[&'a'].membership.is_frozen(world.now), "{}", world.trace);
    world.play_line("run 3000");
    assert!(world.trace.contains("buries a1"), "{}", world.trace);
    world.end_faults();
    world.play_line("run 30000");
    world.check_agreement();
}
