use expect_test::expect;

use super::check;
use super::world::World;

#[test]
fn a_broker_that_is_alone_leads_and_has_all_slots_once_it_is_up() {
    let story = "
        start a
        run 10
        set a up
        run 100
        lease a
    ";
    check(story, &expect![[r""]]);
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
    check(story, &expect![[r""]]);
}

#[test]
fn an_ensemble_without_ttl_nodes_is_told_from_one_with() {
    expect![[r""]].assert_eq(&World::without_ttl().play("start a\nrun 10"));
}

/// *A pod that is restarted within T finds its own old znode.*
#[test]
fn a_broker_whose_name_is_taken_by_its_former_life_waits_for_its_end() {
    let story = "
        start a
        run 10
        set a up
        run 10
        start b
        run 10
        crash b
        run 2000
        start b
        run 3000
        run 3000
    ";
    check(story, &expect![[r""]]);
}

#[test]
fn a_broker_whose_name_is_taken_by_a_live_one_stops() {
    let story = "
        start a
        run 10
        crash a
        start a
        answered a
        run 10000
    ";
    check(story, &expect![[r""]]);
}

/// The connection ends after the znode was made and before we are told. It is found to be ours, and
/// not made anew: peers see nothing.
#[test]
fn a_registration_of_which_the_answer_was_lost_is_found() {
    let story = "
        start a
        run 10
        deaf b
    ";
    let story = story.replace("deaf b", "start b\ndeaf b\nrun 10\ncut b\nheal b\nrun 10\nshow a");
    check(&story, &expect![[r""]]);
}

/// A joiner must hear from a broker that has clients and lost its session just now.
#[test]
fn a_joiner_learns_of_brokers_that_are_absent_and_not_dead() {
    let story = "
        start a,b
        run 10
        set a,b up
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
    check(story, &expect![[r""]]);
}
