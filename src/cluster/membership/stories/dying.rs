use expect_test::expect;

use super::check_serving;
use super::world::{World, boot_id};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::{MembershipOptions, Output};
use crate::cluster::tickets::{Owner, TicketSource};
use crate::ports::clock::Tick;

#[test]
fn a_broker_that_is_killed_is_suspect_when_its_session_ends_and_declared_dead_at_once() {
    let story = "
        run 7000
        crash b
        run 5000
        run 2000
        lease a
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r"
            run 7000
            crash b
            run 5000
            run 2000
                14010 a1 suspects b1
                14010 a1 has slots [a1:509 c1:515] dead [b1]
                14010 a1 buries b1
                14010 c1 suspects b1
                14010 c1 has slots [a1:509 c1:515] dead [b1]
                14010 c1 buries b1
            lease a
                15010 a1 lease 3990 ms more, Committed
        "]],
    );
}

/// *A new leader waits T before it declares whom it has never heard*: such a broker may not know it, and
/// may go on acknowledging by the word of others.
#[test]
fn a_new_leader_waits_before_it_declares_dead_whom_it_has_never_heard() {
    let story = "
        run 7000
        crash a
        crash c
        run 5990
        run 10
        run 5990
        run 10
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r"
            run 7000
            crash a
            crash c
            run 5990
            run 10
                14010 b1 suspects a1
                14010 b1 suspects c1
                14010 b1 leads
            run 5990
            run 10
                20010 b1 has slots [b1:1024] dead [a1 c1]
                20010 b1 buries a1
                20010 b1 buries c1
        "]],
    );
}

/// *A killed leader stalled everybody for two session timeouts*: who led next waited for one more, although
/// each had heard the other all the time, and nobody could go on without its word.
#[test]
fn a_leader_that_is_killed_is_declared_dead_as_soon_as_its_session_has_ended() {
    let story = "
        run 7000
        crash a
        run 5990
        run 10
        run 10
    ";
    let mut world = World::checked();
    world.serve("a,b,c");
    let expected = expect![[r"
        run 7000
        crash a
        run 5990
        run 10
            14010 b1 suspects a1
            14010 b1 leads
            14010 b1 has slots [b1:515 c1:509] dead [a1]
            14010 b1 buries a1
            14010 c1 suspects a1
            14010 c1 has slots [b1:515 c1:509] dead [a1]
            14010 c1 buries a1
        run 10
    "]];
    expected.assert_eq(&world.play(story));
}

/// A session that its own broker ends, or somebody by hand, takes the znode away at once: the broker lives,
/// has its lease, and comes back. The leader had declared it dead within the millisecond.
#[test]
fn whoever_said_a_moment_ago_that_its_lease_stands_is_not_declared_dead() {
    let story = "
        run 7000
        late b
        slow b
        expire b
        run 3000
        lease b
        run 1000
        run 3000
    ";
    let mut world = World::checked();
    world.serve("a,b,c");
    let expected = expect![[r"
        run 7000
        late b
        slow b
        expire b
             8010 a1 suspects b1
             8010 c1 suspects b1
        run 3000
        lease b
            11010 b1 lease 990 ms more, Uncommitted
        run 1000
        run 3000
            14000 a1 has slots [a1:509 c1:515] dead [b1]
            14000 a1 buries b1
            14000 c1 has slots [a1:509 c1:515] dead [b1]
            14000 c1 buries b1
            14250 b1 has slots [a1:509 c1:515] dead [b1]
            14250 b2 learns that it is dead
    "]];
    expected.assert_eq(&world.play(story));
}

/// A rebuilt session is no new broker.
#[test]
fn a_broker_that_loses_its_session_and_comes_back_in_time_goes_on() {
    let story = "
        run 3000
        expire b
        run 10
        cut b
        heal b
        run 10
        run 6000
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r"
            run 3000
            expire b
                 4010 a1 suspects b1
            run 10
            cut b
            heal b
                 4020 a1 has b1 back
            run 10
            run 6000
        "]],
    );
}

/// The leader has seen a znode go, and not yet that it is there again: of the declaration and the
/// return, one is first, and here it is the return.
#[test]
fn a_leader_that_has_not_seen_somebody_come_back_does_not_declare_it_dead() {
    let story = "
        run 7000
        late a
        expire b
        run 10
        cut b
        heal b
        run 10
        deliver a
        run 10
        show a
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            late a
            expire b
            run 10
            cut b
            heal b
            run 10
            deliver a
                 8030 a1 suspects b1
                 8030 a1 has b1 back
            run 10
            show a
                 8040 a1 present ["b1"] suspect []
        "#]],
    );
}

#[test]
fn a_broker_that_slept_until_it_was_dead_begins_a_new_life() {
    let story = "
        run 7000
        pause b
        run 7000
        resume b
        run 10
        reborn b
        run 10
        set b up
        run 10
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            pause b
            run 7000
                14010 a1 suspects b1
                14010 a1 has slots [a1:1024] dead [b1]
                14010 a1 buries b1
            resume b
                15010 b1 has slots [a1:1024] dead [b1]
                15010 b1 learns that it is dead
            run 10
            reborn b
                15020 b2 has slots [a1:1024] dead [b1]
                15020 a1 sees b2 Joining
                15020 b2 sees a1 Up
                15020 b2 is registered; listed ["a1"] absent []
            run 10
            set b up
                15030 a1 sees that b2 is Up
                15030 a1 has slots [a1:512 b2:512] dead [b1]
                15030 b2 has slots [a1:512 b2:512] dead [b1]
            run 10
        "#]],
    );
}

#[test]
fn a_broker_that_leaves_is_dead_at_once_by_its_own_word() {
    let story = "
        run 100
        set a draining
        run 10
        leave a
        run 10
        crash a
        run 7000
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r"
            run 100
            set a draining
                 1110 a1 has slots [a1:0 b1:1024] dead []
                 1110 b1 sees that a1 is Draining
                 1110 b1 has slots [a1:0 b1:1024] dead []
            run 10
            leave a
                 1120 a1 does not lead any more
                 1120 a1 has left
                 1120 b1 suspects a1
                 1120 b1 has slots [b1:1024] dead [a1]
                 1120 b1 buries a1
            run 10
            crash a
            run 7000
                 7130 b1 leads
        "]],
    );
}

/// Nobody has ever seen it, and there is nobody to tell: it waited for an ensemble to leave.
#[test]
fn a_broker_that_was_never_there_leaves_at_once() {
    let options = MembershipOptions {
        name: "a".into(),
        link_address: "a:1".to_owned(),
        zone: String::new(),
        wire: WireVersions::OURS,
        session_timeout_millis: 6_000,
    };
    let tickets = TicketSource::new(Owner::Membership);
    let mut membership = Membership::new(options, BootId(1), tickets, Tick::ZERO);
    membership.leave(Tick::ZERO);
    assert_eq!(membership.poll_output(), Some(Output::Left));
}

/// After an outage all sessions have their whole time again; one that ended is given T to return.
#[test]
fn after_an_outage_the_leader_waits_before_it_declares_anybody_dead() {
    let story = "
        run 7000
        outage
        run 20000
        crash c
        restore
        run 5990
        run 20
        run 6000
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r"
            run 7000
            outage
                 8010 a1 does not lead any more
            run 20000
            crash c
            restore
                28010 a1 leads
            run 5990
            run 20
                34010 a1 suspects c1
                34010 a1 has slots [a1:515 b1:509] dead [c1]
                34010 a1 buries c1
                34010 b1 suspects c1
                34010 b1 has slots [a1:515 b1:509] dead [c1]
                34010 b1 buries c1
            run 6000
        "]],
    );
}

/// Somebody else may lead, and this leader was not told: its write fails.
#[test]
fn a_leader_without_its_place_in_the_line_writes_nothing() {
    let story = "
        run 7000
        late a
        by-hand delete /leader/l-a1000000000000000000000000000000-0000000000000001-0000000000
        set a draining
        run 10
        deliver a
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r"
            run 7000
            late a
            by-hand delete /leader/l-a1000000000000000000000000000000-0000000000000001-0000000000
                 8010 b1 leads
            set a draining
                 8010 a1 does not lead any more
                 8010 b1 sees that a1 is Draining
                 8010 b1 has slots [a1:0 b1:1024] dead []
            run 10
            deliver a
                 8020 a1 has slots [a1:0 b1:1024] dead []
        "]],
    );
}

/// Whether the map was written is seen when it is read again.
#[test]
fn a_declaration_of_which_the_answer_was_lost_is_found() {
    let story = "
        run 7000
        crash b
        run 5990
        cut-after a All([Check { path: \"/leader
        run 10
        show a
        heal a
        show a
        run 7000
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            crash b
            run 5990
            cut-after a All([Check { path: "/leader
            run 10
                14010 a1 suspects b1
                14010 a1 is cut off before it hears that this was committed
                14010 a1 does not lead any more
            show a
                14010 a1 present [] suspect ["b1"]
            heal a
                14010 a1 has slots [a1:1024] dead [b1]
                14010 a1 buries b1
                14010 a1 leads
            show a
                14010 a1 present [] suspect []
            run 7000
        "#]],
    );
}

#[test]
fn a_znode_that_is_deleted_by_hand_is_made_again() {
    let story = "
        run 10
        by-hand delete /brokers/b
        run 10
        show a
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 10
            by-hand delete /brokers/b
                 1020 a1 suspects b1
                 1020 a1 has b1 back
            run 10
            show a
                 1030 a1 present ["b1"] suspect []
        "#]],
    );
}

/// *The leader and a broker that was still joining end together*: whoever leads next never saw the
/// joiner and cannot declare it dead, and no SUBACK of the one that saw it would ever leave.
#[test]
fn a_joiner_that_only_one_broker_saw_is_declared_dead_by_that_one() {
    let story = "
        run 7000
        start c
        crash a
        crash c
        cut b
        run 6000
        start d
        run 100
        heal b
        run 12100
        run 1000
        show b
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            start c
                 8010 c1 has slots [a1:515 b1:509] dead []
                 8010 a1 sees c1 Joining
                 8010 b1 sees c1 Joining
                 8010 c1 sees a1 Up
                 8010 c1 sees b1 Up
                 8010 c1 is registered; listed ["a1", "b1"] absent []
            crash a
            crash c
            cut b
            run 6000
            start d
                14010 d1 has slots [a1:515 b1:509] dead []
                14010 d1 is registered; listed [] absent ["a1", "b1"]
                14010 d1 leads
            run 100
            heal b
                14110 b1 suspects a1
                14110 b1 suspects c1
                14110 b1 sees d1 Joining
                14110 d1 sees b1 Up
            run 12100
                20010 b1 has slots [b1:1024] dead [a1]
                20010 b1 buries a1
                20010 d1 has slots [b1:1024] dead [a1]
                20010 d1 buries a1
                26110 b1 has slots [b1:1024] dead [a1 c1]
                26110 b1 buries c1
                26110 d1 has slots [b1:1024] dead [a1 c1]
                26110 d1 buries c1
            run 1000
            show b
                27210 b1 present ["d1"] suspect []
        "#]],
    );
}

/// The leader has read that a znode is gone, and before it writes so, it is there again: the write
/// checks how often brokers registered, and fails.
#[test]
fn a_leader_that_read_before_somebody_came_back_does_not_declare_it_dead() {
    let story = "
        run 7000
        slow a
        expire b
        cut b
        heal b
        deliver a
        run 10
        show a
        show b
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            slow a
            expire b
                 8010 a1 suspects b1
            cut b
            heal b
            deliver a
                 8010 a1 has b1 back
            run 10
            show a
                 8020 a1 present ["b1"] suspect []
            show b
                 8020 b1 present ["a1"] suspect []
        "#]],
    );
}

/// Answers and what watches tell come by two ways. A list of the line that was older than the news of
/// an end put the ended place back in front, and nobody led any more once the leader died.
#[test]
fn a_line_that_was_read_before_a_place_in_it_ended_is_read_again() {
    let story = "
        run 7000
        cut c
        slow c
        heal c
        answer c
        expire a
        deliver c
        crash b
        run 7000
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r"
        run 7000
        cut c
        slow c
        heal c
        answer c
        expire a
             8010 b1 suspects a1
             8010 b1 leads
             8010 c1 suspects a1
        deliver c
        crash b
        run 7000
            14010 c1 suspects b1
            14010 c1 leads
    "]],
    );
}

/// Somebody deleted the znode of a broker, and it was declared dead while its session stood. Its place
/// in the line stayed, of a life that was over: when it came to be the first, nobody led any more.
#[test]
fn a_place_in_the_line_of_a_former_life_is_given_up() {
    let story = "
        run 7000
        late b
        by-hand delete /brokers/b
        deliver b
        reborn b
        run 10
        set b up
        crash a
        run 7000
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
            run 7000
            late b
            by-hand delete /brokers/b
                 8010 a1 suspects b1
                 8010 a1 has slots [a1:1024] dead [b1]
                 8010 a1 buries b1
            deliver b
                 8010 b1 has slots [a1:1024] dead [b1]
                 8010 b1 learns that it is dead
            reborn b
                 8010 b2 has slots [a1:1024] dead [b1]
                 8010 a1 sees b2 Joining
                 8010 b2 sees a1 Up
                 8010 b2 is registered; listed ["a1"] absent []
            run 10
            set b up
                 8020 a1 sees that b2 is Up
                 8020 a1 has slots [a1:512 b2:512] dead [b1]
                 8020 b2 has slots [a1:512 b2:512] dead [b1]
            crash a
            run 7000
                14020 b2 suspects a1
                14020 b2 leads
        "#]],
    );
}

/// *It slept for longer than deaths are remembered*, or more died meanwhile than there is room for. Nothing
/// in the map said that it was dead, and it went on in its former life, with Sessions that others had been
/// granted.
#[test]
fn a_broker_whose_death_is_forgotten_knows_it_by_having_been_a_member() {
    let mut world = World::new();
    world.serve("a,b,c,d");
    // The clock of the ensemble goes on by more than a day, and the next death makes the list anew.
    for line in ["pause c", "run 20000", "lead 90000000", "run 10000", "crash d", "run 20000"] {
        world.play_line(line);
    }
    let dead = boot_id('c', 1);
    assert!(!world.nodes[&'a'].membership.slots().unwrap().is_dead(dead), "{}", world.trace);
    world.trace.clear();
    for line in ["resume c", "run 1000"] {
        world.play_line(line);
    }
    assert!(world.trace.contains("c1 learns that it is dead"), "{}", world.trace);
}
