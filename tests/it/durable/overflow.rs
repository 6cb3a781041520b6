//! Queues that are full, whose oldest messages are in the store alone.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Mortal, take};
use crate::conformance::{Publish, kind};

const KEPT: usize = 200;
const PUBLISHED_AT_A_TIME: usize = 50;

fn asleep(policy: &str) -> Mortal {
    let max = KEPT.to_string();
    let policy = ["--queue-messages-max", &max, "--overflow-persistent", policy];
    let mortal = Mortal::start(&[&policy[..], &["--admin-port", "0"]].concat());
    let mut sleeper = mortal.keeper("sleeper");
    sleeper.subscribe("t", 1).unwrap();
    sleeper.leave().unwrap();
    mortal
}

fn publish(mortal: &Mortal, numbers: Range<usize>) {
    let mut publisher = mortal.stage.client("publisher").unwrap();
    let numbers: Vec<_> = numbers.collect();
    for numbers in numbers.chunks(PUBLISHED_AT_A_TIME) {
        for (id, number) in (1..).zip(numbers) {
            let message = mortal.stage.message("t", number.to_string()).qos(1, id);
            publisher.send(&message.bytes());
        }
        for (id, _) in (1..).zip(numbers) {
            assert!(publisher.expect_ack(kind::PUBACK, id).unwrap().code < 0x80);
        }
    }
}

fn texts(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(Publish::text).collect()
}

/// It dropped the newest as soon as its oldest were not in memory: beyond 64 of them while the client was
/// away, and after a start at once.
#[test]
pub(super) fn a_queue_that_drops_its_oldest_keeps_the_newest() {
    let mut mortal = asleep("drop_oldest");
    publish(&mortal, 0..600);
    // What exceeds the bound gives way as soon as it has been read.
    let is_right = |dropped| dropped == 600 - KEPT as u64;
    mortal.broker.wait_for_metric("deliveries_dropped_total", is_right);
    // What was dropped before is gone from the store when it answers this.
    mortal.keeper("other").leave().unwrap();
    mortal.die_and_rise();
    publish(&mortal, 600..1_000);
    mortal.broker.wait_for_metric("deliveries_dropped_total", |dropped| dropped == 400);
    let mut sleeper = mortal.keeper("sleeper");
    let taken = take(&mut sleeper, KEPT);
    let expected: Vec<_> = (800..1_000).map(|number| number.to_string()).collect();
    assert_eq!(texts(&taken), expected);
    sleeper.quiet().unwrap();
}

#[test]
pub(super) fn what_gives_way_in_the_store_becomes_a_dead_letter() {
    let mortal = asleep("dead_letter");
    let mut undertaker = mortal.stage.client("undertaker").unwrap();
    undertaker.subscribe("$dead-letter/#", 1).unwrap();
    publish(&mortal, 0..KEPT);
    let mut dead = BTreeSet::new();
    for first in (KEPT..600).step_by(PUBLISHED_AT_A_TIME) {
        publish(&mortal, first..first + PUBLISHED_AT_A_TIME);
        dead.extend(take(&mut undertaker, PUBLISHED_AT_A_TIME).iter().map(Publish::text));
    }
    assert_eq!(dead, (0..400).map(|number| number.to_string()).collect());
    let mut sleeper = mortal.keeper("sleeper");
    let taken = take(&mut sleeper, KEPT);
    assert_eq!(texts(&taken), (400..600).map(|it| it.to_string()).collect::<Vec<_>>());
}
