//! Programs that are too far apart: they have no version of the link protocol in common.

use expect_test::expect;

use super::{check, check_serving};

/// It came in, every SUBACK waited for it, no link to it could stand, and it relayed what nobody could
/// read.
#[test]
fn a_broker_without_a_common_version_stays_outside_until_there_is_one() {
    let story = "
        speaks c 6 7
        start c
        run 5000
        show a
        crash c
        speaks c 5 6
        start c
        run 10
    ";
    check_serving(
        "a,b",
        story,
        &expect![[r#"
        speaks c 6 7
        start c
             1010 c1 has slots [a1:515 b1:509] dead []
             1010 c1 complains: this broker stays outside: broker a speaks versions 1 to 5 of the link protocol and this one 6 to 7: upgrade by way of a program that speaks a version of the one and a version of the other
        run 5000
        show a
             6010 a1 present ["b1"] suspect []
        crash c
        speaks c 5 6
        start c
             6010 c2 has slots [a1:515 b1:509] dead []
             6010 a1 sees c2 Joining
             6010 b1 sees c2 Joining
             6010 c2 sees a1 Up
             6010 c2 sees b1 Up
             6010 c2 is registered; listed ["a1", "b1"] absent []
        run 10
    "#]],
    );
}

/// What is to be said of a broker of another cluster is that, whatever it speaks.
#[test]
fn of_another_cluster_is_said_before_of_another_version() {
    let story = "
        start a
        run 10
        speaks f 6 7
        start f
        run 5000
    ";
    check(
        story,
        &expect![[r"
        start a
             1000 a1 has slots [] dead []
             1000 a1 is registered; listed [] absent []
             1000 a1 leads
        run 10
        speaks f 6 7
        start f
             1010 f1 has slots [] dead []
             1010 f1 complains: this broker stays outside: a is of another cluster
        run 5000
    "]],
    );
}

/// Both found nobody at the door.
#[test]
fn of_two_without_a_common_version_that_come_in_together_the_later_one_withdraws() {
    let story = "
        speaks b 6 7
        outage
        start a,b
        slow a,b
        restore
        answer a,b
        answer a,b
        deliver b
        run 10
        deliver a
        run 10
        reborn b
        run 5000
        set a up
        run 10
    ";
    check(
        story,
        &expect![[r"
        speaks b 6 7
        outage
        start a,b
        slow a,b
        restore
        answer a,b
             1000 a1 has slots [] dead []
             1000 b1 has slots [] dead []
        answer a,b
        deliver b
             1000 b1 complains: this broker withdraws: broker a speaks versions 1 to 5 of the link protocol and this one 6 to 7: upgrade by way of a program that speaks a version of the one and a version of the other
        run 10
             1000 b1 has withdrawn
        deliver a
             1010 a1 has slots [] dead [b1]
             1010 a1 buries b1
             1010 a1 is registered; listed [] absent []
             1010 a1 leads
        run 10
        reborn b
             1020 b2 has slots [] dead [b1]
             1020 b2 complains: this broker stays outside: broker a speaks versions 1 to 5 of the link protocol and this one 6 to 7: upgrade by way of a program that speaks a version of the one and a version of the other
        run 5000
        set a up
             6020 a1 has slots [a1:1024] dead [b1]
             6020 b2 has slots [a1:1024] dead [b1]
        run 10
    "]],
    );
}
