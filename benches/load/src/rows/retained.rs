//! Replay of retained messages to subscribers that come one after the other.

use super::replay;
use crate::{
    brokers::Running,
    check::Faults,
    floor::Side,
    frames::Version,
    measure::Timing,
    measure::{Failure, Measured, Reading, SETUP_MAX, Spent},
    number::index,
    target::{Opening, Session, Target, hello},
    wire::{self, PublishOptions, Start, Template, Varied},
};

/// Publishes the messages once and has them replayed several times.
pub(super) fn run(running: &Running, timing: Timing) -> Result<Measured, Failure> {
    let target = running.target(SETUP_MAX);
    let messages = MESSAGES / timing.divisor;
    let mut publisher = open(&target, "load-publisher")?.into_stream();
    let template = Template::new(&PublishOptions {
        version: Version::V311,
        topic: "load/retained/".to_owned(),
        varied: Some(Varied { count: messages, suffix: "", stride: 1 }),
        qos: 1,
        retain: true,
        payload_len: 64,
    });
    replay::publish(&mut publisher, &template, 0..messages)?;
    let mut spent = Spent::default();
    let mut faults = Faults::default();
    for _ in 0..CYCLES {
        faults.add(cycle(running, &target, messages, &mut spent)?);
    }
    spent.figures(running, messages * CYCLES, None, faults)
}

fn cycle(
    running: &Running,
    target: &Target,
    messages: u64,
    spent: &mut Spent,
) -> Result<Faults, Failure> {
    let mut subscriber = open(target, "load-subscriber")?;
    let packet = wire::subscribe(Version::V311, 1, &["load/retained/#".to_owned()], 0);
    let mut seen = vec![false; index(messages)];
    let mut faults = Faults::default();
    let before = Reading::before_burst(running)?;
    subscriber.send(&packet, "subscribing")?;
    // The order of topics is the broker's to choose: only completeness counts.
    replay::receive(&mut subscriber.into_stream(), messages, |stamp| {
        match seen.get_mut(index(stamp.sequence)) {
            None => faults.strays += 1,
            Some(true) => faults.duplicates += 1,
            Some(seen) => *seen = true,
        }
    })?;
    spent.add(&before, &Reading::after_burst(running)?);
    faults.lost = crate::number::count(seen.iter().filter(|&&seen| !seen).count());
    Ok(faults)
}

fn open(target: &Target, client_id: &str) -> Result<Session, Failure> {
    Ok(target.open(&Opening {
        version: Version::V311,
        client_id,
        start: Start::Clean,
        hello: hello(Side::Subscriber, 0, 0),
    })?)
}

const MESSAGES: u64 = 100_000;
const CYCLES: u64 = 3;
