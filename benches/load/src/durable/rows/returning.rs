//! A Session returns to what was queued for it before the broker was killed.

use crate::{
    cases::findings::Case,
    check::Faults,
    clock,
    durable::{
        Ground,
        publisher::template,
        receiver::{self, Account},
        server::{Kind, Server},
    },
    measure::{Failure, Reading, SETUP_MAX, Spent, Timing},
    number::{float, ratio},
    rows::replay,
    wire::Start,
};

/// Queues, kills, starts, fetches.
pub(super) fn run(ground: &Ground, kind: Kind, timing: Timing) -> Result<Case, Failure> {
    let mut server = Server::start(ground, kind, &[])?;
    let target = server.target(SETUP_MAX);
    let messages = MESSAGES / timing.divisor;
    receiver::leave(receiver::subscribe(&target, RECEIVER)?)?;
    let mut publisher = receiver::open(&target, "load-publisher", Start::Clean)?.into_stream();
    replay::publish(&mut publisher, &template(), 0..messages)?;
    server.kill();
    let start = clock::now();
    server.start_again()?;
    let started = clock::now() - start;
    let idle = server.resident()?;
    let before = Reading::of(&[server.pid()])?;
    let mut account = Account::default();
    receiver::fetch(&target, RECEIVER, messages, &mut account)?;
    let mut spent = Spent::default();
    spent.add(&before, &Reading::of(&[server.pid()])?);
    let grown = server.resident()?.saturating_sub(idle);
    let lost = account.lost(messages);
    let faults = Faults { lost, inversions: account.inversions, ..Faults::default() };
    if kind.promises() && !faults.is_clean() {
        return Err(Failure::Faults(faults));
    }
    let case = Case::new(kind.name()).with("s to start", float(started) / 1e9, 2);
    if lost == messages {
        return Ok(case.with("lost", float(lost), 0));
    }
    Ok(case
        .with("messages/s", ratio(messages - lost, spent.time) * 1e9, 0)
        .with("us broker", ratio(spent.broker, messages - lost) / 1e3, 2)
        .with("MB grown", float(grown) / 1e6, 1)
        .with("lost", float(lost), 0))
}

const RECEIVER: &str = "load-receiver";
const MESSAGES: u64 = 100_000;
