use expect_test::expect;

use super::{check_joined, check_serving};

/// *A ping, or a read from a follower that is cut off, proves nothing; a commit does.*
#[test]
fn the_lease_runs_from_the_last_committed_write() {
    let story = "
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
    check_joined(
        "a,b",
        story,
        &expect![[r"
            lease a
                 1010 a1 lease 3990 ms more, Committed
            run 900
            lease a
                 1910 a1 lease 3090 ms more, Committed
            run 100
            lease a
                 2010 a1 lease 3990 ms more, Committed
            deaf a
            run 1900
            lease a
                 3910 a1 lease 2090 ms more, Committed
            run 2000
            lease a
                 5910 a1 lease 90 ms more, Uncommitted
        "]],
    );
}

#[test]
fn a_broker_that_is_cut_off_alone_lets_its_lease_end() {
    let story = "
        run 2000
        cut a
        run 2000
        hears a b=yes c=yes
        lease a
        hears a b=no c=yes
        lease a
        run 2000
        lease a
    ";
    check_joined(
        "a,b,c",
        story,
        &expect![[r"
            run 2000
            cut a
                 3010 a1 does not lead any more
            run 2000
            hears a b=yes c=yes
            lease a
                 5010 a1 lease 1990 ms more, Uncommitted
            hears a b=no c=yes
            lease a
                 5010 a1 lease 1990 ms more, Uncommitted
            run 2000
            lease a
                 7010 a1 lease -10 ms more, Uncommitted
        "]],
    );
}

#[test]
fn when_the_ensemble_is_gone_for_all_the_lease_goes_on_while_all_say_so() {
    let story = "
        run 2000
        outage
        run 1900
        hears a b=no c=no
        lease a
        run 1900
        hears a b=no c=no
        lease a
        run 2900
        hears a b=no
        lease a
        hears b a=no c=no
        run 1000
        restore
        run 10
        lease a
    ";
    check_joined(
        "a,b,c",
        story,
        &expect![[r"
            run 2000
            outage
                 3010 a1 does not lead any more
            run 1900
            hears a b=no c=no
            lease a
                 4910 a1 lease 2090 ms more, Committed
            run 1900
            hears a b=no c=no
            lease a
                 6810 a1 lease 3000 ms more, Uncommitted, frozen
            run 2900
            hears a b=no
            lease a
                 9710 a1 lease 100 ms more, Uncommitted, frozen
            hears b a=no c=no
            run 1000
            restore
                10710 a1 leads
            run 10
            lease a
                10720 a1 lease 3990 ms more, Committed
        "]],
    );
}

/// A leader that told its peers a moment ago that nothing is committed gives them T: one of them may
/// acknowledge until then because of it.
#[test]
fn a_leader_whose_commits_were_late_waits_before_it_declares_anybody_dead() {
    let story = "
        run 7000
        crash b
        run 3000
        slow a
        run 2500
        lease a
        deliver a
        lease a
        run 5990
        run 20
    ";
    check_serving(
        "a,b,c",
        story,
        &expect![[r"
            run 7000
            crash b
            run 3000
            slow a
            run 2500
            lease a
                13510 a1 lease 1490 ms more, Uncommitted
            deliver a
            lease a
                13510 a1 lease 2490 ms more, Committed
            run 5990
                14010 a1 suspects b1
                14010 c1 suspects b1
            run 20
                19510 a1 has slots [a1:509 c1:515] dead [b1]
                19510 a1 buries b1
                19510 c1 has slots [a1:509 c1:515] dead [b1]
                19510 c1 buries b1
        "]],
    );
}

#[test]
fn a_broker_without_peers_is_its_own_majority() {
    let story = "
        outage
        run 2500
        hears a
        lease a
    ";
    check_joined(
        "a",
        story,
        &expect![[r"
            outage
                 1010 a1 does not lead any more
            run 2500
            hears a
            lease a
                 3510 a1 lease 3000 ms more, Uncommitted, frozen
        "]],
    );
}

#[test]
fn a_broker_that_never_had_a_lease_gets_none_from_its_peers() {
    let story = "
        outage
        start b
        run 5000
        hears b a=no
        lease b
    ";
    check_joined(
        "a",
        story,
        &expect![[r"
            outage
                 1010 a1 does not lead any more
            start b
            run 5000
            hears b a=no
            lease b
                 6010 b1 lease -5000 ms more, Uncommitted
        "]],
    );
}

/// *A broker was cut off, lost its lease and was declared dead; then the ensemble is gone for all.*
/// The others report no commits any more, and that must not wake it.
#[test]
fn a_lease_that_has_ended_is_not_taken_up_again() {
    let story = "
        cut a
        run 6500
        outage
        run 2500
        hears a b=no
        lease a
    ";
    check_joined(
        "a,b",
        story,
        &expect![[r"
            cut a
                 1010 a1 does not lead any more
            run 6500
                 7010 b1 suspects a1
                 7010 b1 leads
            outage
                 7510 b1 does not lead any more
            run 2500
            hears a b=no
            lease a
                10010 a1 lease -5010 ms more, Uncommitted
        "]],
    );
}

/// *A broker came while we were cut off, and declares us dead*: we know it from its link alone.
#[test]
fn a_broker_that_nobody_has_listed_can_tell_that_the_ensemble_is_there() {
    let story = "
        cut a
        start b
        run 2500
        hears a b=yes
        lease a
    ";
    check_joined(
        "a",
        story,
        &expect![[r#"
            cut a
                 1010 a1 does not lead any more
            start b
                 1010 b1 has slots [] dead []
                 1010 b1 sees a1 Joining
                 1010 b1 is registered; listed ["a1"] absent []
            run 2500
            hears a b=yes
            lease a
                 3510 a1 lease 1490 ms more, Uncommitted
        "#]],
    );
}

/// The ensemble granted half of what was asked for: the lease went on after a session that had been
/// declared dead.
#[test]
fn the_lease_and_heartbeats_follow_the_time_that_the_ensemble_grants() {
    let story = "
        lease a
        grant a 3000
        lease a
        run 490
        lease a
        run 501
        lease a
        deaf a
        run 1000
        lease a
    ";
    check_joined(
        "a",
        story,
        &expect![[r"
            lease a
                 1010 a1 lease 3990 ms more, Committed
            grant a 3000
            lease a
                 1010 a1 lease 2000 ms more, Committed
            run 490
            lease a
                 1500 a1 lease 1510 ms more, Committed
            run 501
            lease a
                 2001 a1 lease 1999 ms more, Committed
            deaf a
            run 1000
            lease a
                 3001 a1 lease 999 ms more, Uncommitted
        "]],
    );
}
