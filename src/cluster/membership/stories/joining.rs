use expect_test::expect;

use super::world::World;
use super::{check, check_joined, check_serving};

#[test]
fn a_broker_that_is_alone_leads_and_has_all_slots_once_it_is_up() {
    let story = "
        start a
        run 10
        set a up
        run 100
        lease a
    ";
    check(
        story,
        &expect![[r"
        start a
             1000 a1 has slots [] dead []
             1000 a1 is registered; listed [] absent []
             1000 a1 leads
        run 10
        set a up
             1010 a1 has slots [a1:1024] dead []
        run 100
        lease a
             1110 a1 lease 3890 ms more, Committed
    "]],
    );
}

/// *Of two joiners the later always sees the earlier*: each lists behind its own znode.
#[test]
fn of_two_joiners_the_later_sees_the_earlier() {
    let story = "
        start a,b
        run 10
        set a,b up
        run 10
        start c
        run 10
        set c up
        run 10
        set b draining
        run 10
        show a
    ";
    check(
        story,
        &expect![[r#"
        start a,b
             1000 a1 has slots [] dead []
             1000 a1 is registered; listed [] absent []
             1000 a1 leads
             1000 b1 has slots [] dead []
             1000 a1 sees b1 Joining
             1000 b1 sees a1 Joining
             1000 b1 is registered; listed ["a1"] absent []
        run 10
        set a,b up
             1010 a1 has slots [a1:1024] dead []
             1010 a1 sees that b1 is Up
             1010 a1 has slots [a1:515 b1:509] dead []
             1010 b1 sees that a1 is Up
             1010 b1 has slots [a1:515 b1:509] dead []
        run 10
        start c
             1020 c1 has slots [a1:515 b1:509] dead []
             1020 a1 sees c1 Joining
             1020 b1 sees c1 Joining
             1020 c1 sees a1 Up
             1020 c1 sees b1 Up
             1020 c1 is registered; listed ["a1", "b1"] absent []
        run 10
        set c up
             1030 a1 sees that c1 is Up
             1030 a1 has slots [a1:348 b1:346 c1:330] dead []
             1030 b1 sees that c1 is Up
             1030 b1 has slots [a1:348 b1:346 c1:330] dead []
             1030 c1 has slots [a1:348 b1:346 c1:330] dead []
        run 10
        set b draining
             1040 a1 sees that b1 is Draining
             1040 a1 has slots [a1:509 b1:0 c1:515] dead []
             1040 b1 has slots [a1:509 b1:0 c1:515] dead []
             1040 c1 sees that b1 is Draining
             1040 c1 has slots [a1:509 b1:0 c1:515] dead []
        run 10
        show a
             1050 a1 present ["b1", "c1"] suspect []
    "#]],
    );
}

#[test]
fn an_ensemble_without_ttl_nodes_is_told_from_one_with() {
    expect![[r"
        start a
             1000 a1 has slots [] dead []
             1000 a1 is registered; listed [] absent []
             1000 a1 misses TTL nodes
             1000 a1 leads
        run 10
    "]]
    .assert_eq(&World::without_ttl().play("start a\nrun 10"));
}

/// *A pod that is restarted within T finds its own old znode.*
#[test]
fn a_broker_whose_name_is_taken_by_its_former_life_waits_for_its_end() {
    let story = "
        run 10
        start b
        run 10
        crash b
        run 2000
        start b
        run 3000
        run 3000
    ";
    check_serving(
        "a",
        story,
        &expect![[r#"
            run 10
            start b
                 1020 b1 has slots [a1:1024] dead []
                 1020 a1 sees b1 Joining
                 1020 b1 sees a1 Up
                 1020 b1 is registered; listed ["a1"] absent []
            run 10
            crash b
            run 2000
            start b
                 3030 b2 has slots [a1:1024] dead []
                 3030 b2 complains: the name b is taken by boot-b1000000 at b:1884: waiting for its znode to end
                 3030 b2 asks b1, who has its name
            run 3000
            run 3000
                 7030 a1 suspects b1
                 7030 a1 has slots [a1:1024] dead [b1]
                 7030 a1 buries b1
                 7030 b2 has slots [a1:1024] dead [b1]
                 7030 b2 buries b1
                 7030 a1 sees b2 Joining
                 7030 b2 sees a1 Up
                 7030 b2 is registered; listed ["a1"] absent []
        "#]],
    );
}

#[test]
fn a_broker_whose_name_is_taken_by_a_live_one_stops() {
    let story = "
        crash a
        start a
        answered a
        run 10000
    ";
    check_joined(
        "a",
        story,
        &expect![[r"
            crash a
            start a
                 1010 a2 has slots [] dead []
                 1010 a2 complains: the name a is taken by boot-a1000000 at a:1884: waiting for its znode to end
                 1010 a2 asks a1, who has its name
            answered a
                 1010 a2 stops: the name a is taken by a live broker at a:1884 (boot-a1000000): give one of the two another --name
            run 10000
        "]],
    );
}

/// The connection ends after the znode was made and before we are told. It is found to be ours, and
/// not made anew: peers see nothing.
#[test]
fn a_registration_of_which_the_answer_was_lost_is_found() {
    let story = "
        start b cut-after mode: Ephemeral }
        run 10
        heal b
        run 10
        show a
    ";
    check_joined(
        "a",
        story,
        &expect![[r#"
            start b cut-after mode: Ephemeral }
                 1010 b1 has slots [] dead []
                 1010 b1 is cut off before it hears that this was committed
                 1010 a1 sees b1 Joining
            run 10
            heal b
                 1020 b1 sees a1 Joining
                 1020 b1 is registered; listed ["a1"] absent []
            run 10
            show a
                 1030 a1 present ["b1"] suspect []
        "#]],
    );
}

/// A joiner must hear from a broker that has clients and lost its session just now.
#[test]
fn a_joiner_learns_of_brokers_that_are_absent_and_not_dead() {
    let story = "
        run 7000
        outage
        run 1000
        restore
        cut b
        run 5999
        expire b
        start c
        run 10
        heal b
        run 10
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            outage
                 8010 a1 does not lead any more
            run 1000
            restore
                 9010 a1 leads
            cut b
            run 5999
            expire b
                15009 a1 suspects b1
            start c
                15009 c1 has slots [a1:515 b1:509] dead []
                15009 a1 sees c1 Joining
                15009 c1 sees a1 Up
                15009 c1 is registered; listed ["a1"] absent ["b1"]
            run 10
                15010 a1 has slots [a1:1024] dead [b1]
                15010 a1 buries b1
                15010 c1 has slots [a1:1024] dead [b1]
                15010 c1 buries b1
            heal b
                15019 b1 has slots [a1:1024] dead [b1]
                15019 b1 learns that it is dead
            run 10
        "#]],
    );
}

/// *Watches can be lost across reconnects*: everything is listed again.
#[test]
fn what_happened_while_a_broker_was_cut_off_is_found_when_it_is_back() {
    let story = "
        run 7000
        cut b
        start d
        crash c
        run 3000
        set a draining
        run 2500
        heal b
        run 1000
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r#"
            run 7000
            cut b
            start d
                 8010 d1 has slots [a1:348 b1:346 c1:330] dead []
                 8010 a1 sees d1 Joining
                 8010 c1 sees d1 Joining
                 8010 d1 sees a1 Up
                 8010 d1 sees b1 Up
                 8010 d1 sees c1 Up
                 8010 d1 is registered; listed ["a1", "b1", "c1"] absent []
            crash c
            run 3000
            set a draining
                11010 a1 has slots [a1:0 b1:515 c1:509] dead []
                11010 d1 sees that a1 is Draining
                11010 d1 has slots [a1:0 b1:515 c1:509] dead []
            run 2500
            heal b
                13510 b1 has slots [a1:0 b1:515 c1:509] dead []
                13510 b1 sees that a1 is Draining
                13510 b1 sees d1 Joining
            run 1000
                14010 a1 suspects c1
                14010 a1 has slots [a1:0 b1:1024] dead [c1]
                14010 a1 buries c1
                14010 b1 suspects c1
                14010 b1 has slots [a1:0 b1:1024] dead [c1]
                14010 b1 buries c1
                14010 d1 suspects c1
                14010 d1 has slots [a1:0 b1:1024] dead [c1]
                14010 d1 buries c1
        "#]],
    );
}

/// The client gave its session up, and the ensemble has not yet: everything ephemeral is made anew,
/// and the end of the old session takes nothing away.
#[test]
fn znodes_of_an_own_session_that_has_not_ended_are_replaced() {
    let story = "
        run 7000
        renew a
        run 100
        show b
        run 7000
        show b
        lease a
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            renew a
                 8010 a1 does not lead any more
                 8010 b1 suspects a1
                 8010 b1 has a1 back
                 8010 b1 leads
            run 100
            show b
                 8110 b1 present ["a1"] suspect []
            run 7000
            show b
                15110 b1 present ["a1"] suspect []
            lease a
                15110 a1 lease 3900 ms more, Committed
        "#]],
    );
}

#[test]
fn an_ensemble_that_was_emptied_is_filled_again_and_nobody_dies() {
    let story = "
        run 7000
        wipe
        run 1000
        show a
        show b
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            wipe
                 8010 a1 does not lead any more
                 8010 a1 complains: somebody has made the slot map anew
                 8010 a1 suspects b1
                 8010 a1 has slots [a1:515 b1:509] dead []
                 8010 a1 leads
                 8010 b1 complains: somebody has made the slot map anew
                 8010 b1 has slots [a1:515 b1:509] dead []
                 8010 a1 has b1 back
            run 1000
            show a
                 9010 a1 present ["b1"] suspect []
            show b
                 9010 b1 present ["a1"] suspect []
        "#]],
    );
}

#[test]
fn a_slot_map_that_nobody_can_read_is_said_once() {
    let story = "
        by-hand spoil /slots
        run 5000
    ";
    check_joined(
        "a",
        story,
        &expect![[r"
            by-hand spoil /slots
                 1010 a1 complains: cannot use the slot map: the slot map has format 115, which this program does not know
            run 5000
        "]],
    );
}

#[test]
fn a_broker_too_many_stops() {
    let story = "
        start a
        run 10
        crash a
        fill 255
        start b
        run 10
    ";
    let trace = World::new().play(story);
    let last_event = trace.lines().rev().nth(1).unwrap();
    expect!["1010 b1 stops: the cluster has 256 brokers, which is as many as can be"]
        .assert_eq(last_event.trim());
}

/// The others would wait for it with everything, and it for them.
#[test]
fn a_broker_of_another_kind_stays_outside_until_there_is_nobody_else() {
    let story = "
        start a,b
        run 10
        set a,b up
        run 10
        start f
        run 5000
        show a
        crash a,b
        run 7000
        show f
    ";
    check(
        story,
        &expect![[r#"
            start a,b
                 1000 a1 has slots [] dead []
                 1000 a1 is registered; listed [] absent []
                 1000 a1 leads
                 1000 b1 has slots [] dead []
                 1000 a1 sees b1 Joining
                 1000 b1 sees a1 Joining
                 1000 b1 is registered; listed ["a1"] absent []
            run 10
            set a,b up
                 1010 a1 has slots [a1:1024] dead []
                 1010 a1 sees that b1 is Up
                 1010 a1 has slots [a1:515 b1:509] dead []
                 1010 b1 sees that a1 is Up
                 1010 b1 has slots [a1:515 b1:509] dead []
            run 10
            start f
                 1020 f1 has slots [a1:515 b1:509] dead []
                 1020 f1 complains: this broker stays outside: a is of another cluster
            run 5000
            show a
                 6020 a1 present ["b1"] suspect []
            crash a,b
            run 7000
                12020 f1 is registered; listed [] absent ["a1", "b1"]
                12020 f1 leads
            show f
                13020 f1 present [] suspect []
        "#]],
    );
}

/// Both found nobody at the door, and the one whose znode is the later one had stood in the line of
/// those who want to lead before it saw the other and withdrew. Its session lived on, its place with
/// it, and nobody led: the other one stayed outside of its own cluster for good.
#[test]
fn of_two_strangers_that_come_in_together_the_later_one_is_in_nobodys_way() {
    let story = "
        outage
        start a,f
        slow a,f
        restore
        answer a,f
        answer a,f
        deliver f
        run 10
        deliver a
        run 10
        reborn f
        run 5000
        set a up
        run 5000
    ";
    check(
        story,
        &expect![[r"
            outage
            start a,f
            slow a,f
            restore
            answer a,f
                 1000 a1 has slots [] dead []
                 1000 f1 has slots [] dead []
            answer a,f
            deliver f
                 1000 f1 complains: this broker withdraws: a is of another cluster
            run 10
                 1000 f1 has withdrawn
            deliver a
                 1010 a1 has slots [] dead [f1]
                 1010 a1 buries f1
                 1010 a1 is registered; listed [] absent []
                 1010 a1 leads
            run 10
            reborn f
                 1020 f2 has slots [] dead [f1]
                 1020 f2 complains: this broker stays outside: a is of another cluster
            run 5000
            set a up
                 6020 a1 has slots [a1:1024] dead [f1]
                 6020 f2 has slots [a1:1024] dead [f1]
            run 5000
        "]],
    );
}
