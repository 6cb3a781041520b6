//! The broker starts with many Sessions that are away.

use std::{ops::Range, thread};

use crate::{
    cases::findings::Case,
    clock,
    durable::{
        Ground,
        publisher::TOPIC,
        receiver,
        server::{Kind, Server},
    },
    error::LoadError,
    measure::{Failure, SETUP_MAX, Timing},
    number::float,
    target::{Target, share},
    wire::Start,
};

/// Makes them, kills, and starts.
pub(super) fn run(ground: &Ground, kind: Kind, timing: Timing) -> Result<Case, Failure> {
    let mut server = Server::start(ground, kind, &[])?;
    let target = server.target(4 * SETUP_MAX);
    let sessions = SESSIONS / timing.divisor;
    let made = clock::now();
    make(&target, sessions)?;
    let made = clock::now() - made;
    server.kill();
    let start = clock::now();
    server.start_again()?;
    let started = clock::now() - start;
    Ok(Case::new(kind.name())
        .with("s to CONNACK", float(started) / 1e9, 2)
        .with("MB resident", float(server.resident()?) / 1e6, 0)
        .with("s to make them", float(made) / 1e9, 1))
}

/// Many at a time, so that they are stored together.
fn make(target: &Target, sessions: u64) -> Result<(), LoadError> {
    thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| scope.spawn(move || make_share(target, share(sessions, MAKERS, maker))))
            .collect();
        let ended = || LoadError::Refused("a thread ended".to_owned());
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| ended())?)
    })
}

fn make_share(target: &Target, share: Range<u64>) -> Result<(), LoadError> {
    for sleeper in share {
        let mut session = receiver::open(target, &name(sleeper), Start::Persistent)?;
        session.subscribe(&[format!("{TOPIC}/{sleeper}")], 1)?;
        receiver::leave(session)?;
    }
    Ok(())
}

fn name(session: u64) -> String {
    format!("load-sleeper-{session}")
}

const SESSIONS: u64 = 100_000;
const MAKERS: u64 = 64;
