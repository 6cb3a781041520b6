//! The broker starts with many Sessions that are away.

use std::{
    io::{Read, Write},
    thread,
};

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
    frames::Version,
    measure::{Failure, SETUP_MAX, Timing},
    number::float,
    target::{Target, share},
    wire::{self, Start},
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
    // Listening is not enough: one of them is let in.
    let session = receiver::open(&target, &name(sessions / 2), Start::Persistent)?;
    let started = clock::now() - start;
    drop(session);
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

/// Each connects, subscribes and leaves in one breath.
fn make_share(target: &Target, share: std::ops::Range<u64>) -> Result<(), LoadError> {
    for session in share {
        target.patience.check(DOING)?;
        let mut stream = target.connect(Version::V311)?;
        let mut packets = wire::connect(Version::V311, &name(session), Start::Persistent);
        packets.extend(wire::subscribe(Version::V311, 1, &[format!("{TOPIC}/{session}")], 1));
        packets.extend(wire::disconnect());
        stream.write_all(&packets).map_err(LoadError::io(DOING))?;
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).map_err(LoadError::io(DOING))?;
        // CONNACK and SUBACK.
        if answers.len() != ANSWERS_LEN {
            return Err(LoadError::Refused(format!("a Session: {answers:?}")));
        }
    }
    Ok(())
}

fn name(session: u64) -> String {
    format!("load-sleeper-{session}")
}

const SESSIONS: u64 = 100_000;
const MAKERS: u64 = 64;
const ANSWERS_LEN: usize = 4 + 5;
const DOING: &str = "making Sessions";
