//! Replay of what was queued for a persistent session while it was away.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::replay;
use crate::{
    brokers::Running,
    check::{Faults, Track},
    error::LoadError,
    floor::Side,
    frames::Version,
    measure::{Failure, Measured, Reading, SETUP_MAX, Spent, Timing},
    target::{Opening, Session, Target, hello},
    wire::{self, PublishOptions, Start, Template},
};

/// Queues and fetches several times over.
pub(super) fn run(running: &Running, timing: Timing) -> Result<Measured, Failure> {
    let target = running.target(SETUP_MAX);
    let messages = MESSAGES / timing.divisor;
    let mut publisher = open(&target, "load-publisher", Start::Clean)?.into_stream();
    let template = Template::new(&PublishOptions {
        version: Version::V311,
        topic: "load/queued".to_owned(),
        varied: None,
        qos: 1,
        retain: false,
        payload_len: 64,
    });
    let mut first = open(&target, SUBSCRIBER, Start::Persistent)?;
    first.subscribe(&["load/queued".to_owned()], 1)?;
    leave(first)?;
    let mut spent = Spent::default();
    let mut faults = Faults::default();
    let mut track = Track::default();
    for cycle in 0..CYCLES {
        replay::publish(&mut publisher, &template, cycle * messages..(cycle + 1) * messages)?;
        let before = Reading::before_burst(running)?;
        let returning = open(&target, SUBSCRIBER, Start::Persistent)?;
        let mut stream = returning.into_stream();
        replay::receive(&mut stream, messages, |stamp| {
            let _ = track.note(stamp.sequence, &mut faults);
        })?;
        spent.add(&before, &Reading::after_burst(running)?);
        stream.write_all(&wire::disconnect()).map_err(LoadError::io("disconnecting"))?;
        closed(stream);
    }
    faults.lost = track.lost(CYCLES * messages);
    spent.figures(running, CYCLES * messages, None, faults)
}

fn leave(mut session: Session) -> Result<(), Failure> {
    session.send(&wire::disconnect(), "disconnecting")?;
    closed(session.into_stream());
    Ok(())
}

/// Waits until the broker has closed its side: the session is away from then on.
fn closed(mut stream: TcpStream) {
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
}

fn open(target: &Target, client_id: &str, start: Start) -> Result<Session, Failure> {
    Ok(target.open(&Opening {
        version: Version::V311,
        client_id,
        start,
        hello: hello(Side::Subscriber, 0, 0),
    })?)
}

const SUBSCRIBER: &str = "load-returning";
const MESSAGES: u64 = 10_000;
const CYCLES: u64 = 5;
