//! Publishers and sleepers, and a broker that is killed again and again: what was acknowledged comes,
//! in order, and QoS 2 once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::{Mortal, take};
use crate::conformance::{Client, Publish, Stage, Target, Version, ack, kind};

const DEATHS: usize = 8;

/// Publishes numbers in a row, each until it is acknowledged, through every death; returns how many
/// were.
pub(super) fn publish_through(
    target: &Target,
    unique: &str,
    is_over: &AtomicBool,
    acked: &AtomicU64,
) {
    let mut stage = Stage::new(target.clone(), Version::V5);
    unique.clone_into(&mut stage.unique);
    let connect = stage.connect("publisher").kept();
    let (mut number, mut is_received) = (0_u64, false);
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut client) = stage.enter(&connect) else {
            thread::yield_now();
            continue;
        };
        client.set_patience(Duration::from_secs(5));
        while !is_over.load(Ordering::Relaxed) {
            let id = u16::try_from(number % 60_000).unwrap() + 1;
            let message = stage.message("t/n", number.to_string()).qos(2, id);
            if !complete(&mut client, &message, &mut is_received) {
                break;
            }
            is_received = false;
            number += 1;
            acked.store(number, Ordering::Relaxed);
        }
    }
}

/// Goes on with a message where the last connection left it. The test once sent PUBLISH again also
/// after PUBREC had come: where the broker was killed between the last commit and PUBCOMP, that was a
/// new message to it, as it had to be.
fn complete(client: &mut Client, message: &Publish, is_received: &mut bool) -> bool {
    if !*is_received {
        client.send(&message.bytes());
        let received = client.expect_ack(kind::PUBREC, message.id);
        *is_received = received.is_ok_and(|answer| answer.code < 0x80);
    }
    if *is_received {
        client.send(&ack(kind::PUBREL, message.id));
        return client.expect_ack(kind::PUBCOMP, message.id).is_ok();
    }
    false
}

#[test]
pub(super) fn nothing_acknowledged_is_lost_and_qos_2_comes_once() {
    let mut mortal = Mortal::start(&[]);
    {
        let mut sleeper = mortal.keeper("sleeper");
        sleeper.subscribe("t/#", 2).unwrap();
        sleeper.leave().unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let publisher = thread::spawn({
        let (target, unique) = (mortal.stage.target.clone(), mortal.stage.unique.clone());
        let (is_over, acked) = (Arc::clone(&is_over), Arc::clone(&acked));
        move || publish_through(&target, &unique, &is_over, &acked)
    });
    for death in 1..=DEATHS {
        let enough = death as u64 * 40;
        while acked.load(Ordering::Relaxed) < enough {
            thread::yield_now();
        }
        mortal.die_and_rise();
    }
    is_over.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    let acked = acked.load(Ordering::Relaxed);

    let mut sleeper = mortal.keeper("sleeper");
    let messages = take(&mut sleeper, usize::try_from(acked).unwrap());
    for (number, message) in (0..acked).zip(messages) {
        assert_eq!(message.payload, number.to_string().as_bytes(), "of {acked}");
    }
}
