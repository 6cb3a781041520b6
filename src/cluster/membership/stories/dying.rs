use expect_test::expect;

use super::check;

#[test]
fn a_broker_that_is_killed_is_suspect_when_its_session_ends_and_declared_dead_at_once() {
    let story = "
        start a,b,c
        run 10
        set a,b,c up
        run 7000
        crash b
        run 5000
        run 2000
        lease a
    ";
    check(story, &expect![[r""]]);
}

/// *A new leader waits T before declaring*: it does not know since when somebody is gone, and who
/// lost its session with the leader may be on its way back.
#[test]
fn a_new_leader_waits_before_it_declares_anybody_dead() {
    let story = "
        start a,b,c
        run 10
        set a,b,c up
        run 7000
        crash a
        crash c
        run 5990
        run 10
        run 5990
        run 10
    ";
    check(story, &expect![[r""]]);
}

/// A rebuilt session is no new broker.
#[test]
fn a_broker_that_loses_its_session_and_comes_back_in_time_goes_on() {
    let story = "
        start a,b
        run 10
        set a,b up
        run 3000
        expire b
        run 10
        cut b
        heal b
        run 10
        run 6000
    ";
    check(story, &expect![[r""]]);
}

/// The leader has seen a znode go, and not yet that it is there again: of the declaration and the
/// return, one is first, and here it is the return.
#[test]
fn a_leader_that_has_not_seen_somebody_come_back_does_not_declare_it_dead() {
    let story = "
        start a,b
        run 10
        set a,b up
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
    check(story, &expect![[r""]]);
}

#[test]
fn a_broker_that_slept_until_it_was_dead_begins_a_new_life() {
    let story = "
        start a,b
        run 10
        set a,b up
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
    check(story, &expect![[r""]]);
}

#[test]
fn a_broker_that_leaves_is_dead_at_once_by_its_own_word() {
    let story = "
        start a,b
        run 10
        set a,b up
        run 100
        set a draining
        run 10
        leave a
        run 10
        crash a
        run 7000
    ";
    check(story, &expect![[r""]]);
}

/// After an outage all sessions have their whole time again; one that ended is given T to return.
#[test]
fn after_an_outage_the_leader_waits_before_it_declares_anybody_dead() {
    let story = "
        start a,b,c
        run 10
        set a,b,c up
        run 7000
        outage
        run 20000
        crash c
        restore
        run 5990
        run 20
        run 6000
    ";
    check(story, &expect![[r""]]);
}

/// The write of a leader that is not first in line any more fails.
#[test]
fn a_leader_that_slept_writes_nothing() {
    let story = "
        start a,b,c
        run 10
        set a,b,c up
        run 7000
        pause a
        run 5990
        run 6100
        resume a
        run 10
    ";
    check(story, &expect![[r""]]);
}

#[test]
fn a_znode_that_is_deleted_by_hand_is_made_again() {
    let story = "
        start a,b
        run 10
        set a,b up
        run 10
        by-hand delete /brokers/b
        run 10
        show a
    ";
    check(story, &expect![[r""]]);
}
