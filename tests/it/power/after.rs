//! A broker that is started on what the disk has left, and the clients that go on where they were.

use std::path::Path;

use super::disk::{Journal, Unsynced};
use super::story::{View, connect, id_of, message, number_of, qos_of};
use crate::conformance::{Client, Publish, Stage, Version, ack, kind};
use crate::harness::Broker;

/// Starts a broker on the first `steps` of the journal and checks what the clients were promised.
pub(super) fn check(
    (journal, steps, unsynced): (&Journal, usize, Unsynced),
    view: &View,
    unique: &str,
) {
    let broker = Broker::start_with(|directory: &Path| {
        journal.cut(steps, unsynced, directory);
        Vec::new()
    });
    let mut stage = broker.stage(Version::V5);
    unique.clone_into(&mut stage.unique);
    let case = format!("{steps} steps, {unsynced:?}, {view:?}");
    go_on_publishing(&stage, view, &case);
    if view.is_subscribed {
        let delivered = wake(&stage, view, &case);
        check_delivered(&delivered, view, &case);
    }
    check_retained(&stage, view, &case);
    assert_eq!(broker.count_in_log("is damaged"), 0, "{case}\n{}", broker.log());
}

/// The publisher sends again what it has no answer to, in its order, and one message more.
fn go_on_publishing(stage: &Stage, view: &View, case: &str) {
    let mut publisher = stage.enter(&connect(stage, "publisher")).unwrap();
    assert!(publisher.connack.session_present || !view.is_publisher_kept, "{case}");
    let is_open = |number: &u32| !view.completed.contains(number);
    let open: Vec<u32> = (0..view.sent).filter(is_open).collect();
    let (received, unsent): (Vec<u32>, Vec<u32>) =
        open.iter().partition(|number| view.received.contains(number));
    for number in &unsent {
        let mut bytes = message(stage, *number);
        bytes[0] |= DUP;
        publisher.send(&bytes);
    }
    for number in &unsent {
        let expected = if qos_of(*number) == 1 { kind::PUBACK } else { kind::PUBREC };
        publisher.expect_ack(expected, id_of(*number)).unwrap_or_else(|it| panic!("{it:?} {case}"));
    }
    for number in received.into_iter().chain(unsent).filter(|number| qos_of(*number) == 2) {
        publisher.send(&ack(kind::PUBREL, id_of(number)));
        publisher.expect_ack(kind::PUBCOMP, id_of(number)).unwrap();
    }
    let last = stage.message("q/x", LAST.to_string()).qos(1, LAST_ID);
    publisher.complete(&last).unwrap();
    publisher.leave().unwrap();
}

/// The sleeper takes all there is; returns the numbers that are new to it.
fn wake(stage: &Stage, view: &View, case: &str) -> Vec<u32> {
    let mut sleeper = stage.enter(&connect(stage, "sleeper")).unwrap();
    assert!(sleeper.connack.session_present, "{case}");
    let mut delivered = Vec::new();
    while delivered.last() != Some(&LAST) {
        let packet = sleeper.packet().unwrap_or_else(|it| panic!("{it:?} {delivered:?} {case}"));
        if packet.kind() == kind::PUBREL {
            sleeper.send(&ack(kind::PUBCOMP, packet.acknowledgement().unwrap().id));
            continue;
        }
        let message = packet.publish().unwrap();
        answer(&mut sleeper, &message);
        // What it has, and was not released, it knows by its identifier [MQTT-4.3.3-10].
        if message.qos == 1 || !view.unreleased.contains(&message.id) {
            delivered.push(number_of(&message.payload));
        }
    }
    sleeper.leave().unwrap();
    delivered
}

fn answer(sleeper: &mut Client, message: &Publish) {
    let kind = if message.qos == 1 { kind::PUBACK } else { kind::PUBREC };
    sleeper.send(&ack(kind, message.id));
}

/// All that was sent is there, in order of first arrival, and QoS 2 once.
fn check_delivered(delivered: &[u32], view: &View, case: &str) {
    let mut first = Vec::new();
    for number in view.got.iter().chain(delivered) {
        if first.contains(number) {
            assert_eq!(qos_of(*number), 1, "{number} came twice: {delivered:?} {case}");
        } else {
            first.push(*number);
        }
    }
    let expected: Vec<u32> = (0..view.sent).chain([LAST]).collect();
    assert_eq!(first, expected, "{case}");
}

fn check_retained(stage: &Stage, view: &View, case: &str) {
    let mut reader = stage.client("reader").unwrap();
    reader.subscribe("r/v", 0).unwrap();
    if view.retained > 0 {
        let number = number_of(&reader.message().unwrap().payload);
        assert!((view.retained..=view.retains).contains(&number), "{number} {case}");
    }
    reader.leave().unwrap();
}

/// In the first byte of a PUBLISH.
const DUP: u8 = 8;
/// Comes behind all that the story published; of QoS 1, as its number says.
const LAST: u32 = 1_000;
const LAST_ID: u16 = 50;
