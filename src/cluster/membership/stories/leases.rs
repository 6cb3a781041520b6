use expect_test::expect;

use super::check;

/// *A ping, or a read from a follower that is cut off, proves nothing; a commit does.*
#[test]
fn the_lease_runs_from_the_last_committed_write() {
    let story = "
        start a,b
        run 10
        lease a
        run 900
        lease a
        run 100
        lease a
        deaf a
        run 1900
        lease a
        run 2000
        lease a
    ";
    check(story, &expect![[r""]]);
}

#[test]
fn a_broker_that_is_cut_off_alone_lets_its_lease_end() {
    let story = "
        start a,b,c
        run 2010
        cut a
        run 2000
        hears a b=yes c=yes
        lease a
        hears a b=no c=yes
        lease a
        run 2000
        lease a
    ";
    check(story, &expect![[r""]]);
}

#[test]
fn when_the_ensemble_is_gone_for_all_the_lease_goes_on_while_a_majority_says_so() {
    let story = "
        start a,b,c
        run 2010
        outage
        run 1900
        hears a b=no c=no
        lease a
        run 1900
        hears a b=no
        lease a
        run 2900
        hears a
        lease a
        hears b a=no c=no
        run 1000
        restore
        run 10
        lease a
    ";
    check(story, &expect![[r""]]);
}

/// A leader that told its peers a moment ago that nothing is committed gives them T: one of them may
/// acknowledge until then because of it.
#[test]
fn a_leader_whose_commits_were_late_waits_before_it_declares_anybody_dead() {
    let story = "
        start a,b,c
        run 10
        set a,b,c up
        run 7000
        crash b
        run 3500
        deaf a
        run 1500
        cut a
        heal a
        run 10
        lease a
        run 1000
        run 5000
        run 1000
    ";
    check(story, &expect![[r""]]);
}
