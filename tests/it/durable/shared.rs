//! Members of a Shared Subscription whose Sessions are kept, one of which takes nothing more.

use std::collections::BTreeSet;

use super::{Mortal, take};
use crate::conformance::{Client, Publish, ack, kind, prop};

/// More than the broker keeps of two queues in memory.
const COUNT: usize = 3_000;

fn worker(mortal: &Mortal, name: &str) -> Client {
    let connect = mortal.stage.connect(name).kept().with(&prop::two(prop::RECEIVE_MAXIMUM, 1));
    let mut worker = mortal.stage.enter(&connect).unwrap();
    worker.subscribe("$share/g/t", 1).unwrap();
    worker
}

/// Two members wait for each other's messages, as it were: what is queued for the one that acknowledges
/// nothing goes to the other, what only the store has of it as well, and none comes again after the
/// broker was killed.
#[test]
pub(super) fn what_is_stored_for_a_member_that_is_full_goes_to_another() {
    let mut mortal = Mortal::start(&[]);
    let [mut full, mut other] = ["full", "other"].map(|name| worker(&mortal, name));
    let mut publisher = mortal.stage.client("publisher").unwrap();
    for number in 0..COUNT {
        publisher.publish("t", &number.to_string(), 1).unwrap();
    }
    let sent = full.packet().unwrap().publish().unwrap();
    let taken = take(&mut other, COUNT - 1);
    let numbers: BTreeSet<_> = taken.iter().map(Publish::text).collect();
    assert_eq!(numbers.len(), COUNT - 1, "one came twice");
    assert!(!numbers.contains(&sent.text()));
    // Whatever the broker has heard before is in the store when it answers this.
    other.subscribe("elsewhere", 1).unwrap();
    mortal.die_and_rise();
    mortal.keeper("other").quiet().unwrap();
    let mut full = mortal.keeper("full");
    let again = full.packet().unwrap().publish().unwrap();
    assert_eq!(again.text(), sent.text());
    full.send(&ack(kind::PUBACK, again.id));
    full.quiet().unwrap();
}
