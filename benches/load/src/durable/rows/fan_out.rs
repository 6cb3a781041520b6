//! One message to a thousand Sessions that are away: a body, and a thousand places in queues.

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

/// Messages, some at a time; then a kill, and a look at what some of the receivers have.
pub(super) fn run(ground: &Ground, kind: Kind, timing: Timing) -> Result<Case, Failure> {
    let mut server = Server::start(ground, kind, &[])?;
    let target = server.target(SETUP_MAX);
    for receiver in 0..RECEIVERS {
        receiver::leave(receiver::subscribe(&target, &name(receiver))?)?;
    }
    let messages = MESSAGES / timing.divisor;
    let mut publisher = receiver::open(&target, "load-publisher", Start::Clean)?.into_stream();
    let before = Reading::of(&[server.pid()])?;
    replay::publish(&mut publisher, &template(), 0..messages)?;
    let mut spent = Spent::default();
    spent.add(&before, &Reading::of(&[server.pid()])?);
    server.kill();
    server.start_again()?;
    let looked_at = clock::now();
    for receiver in (0..RECEIVERS).step_by(LOOK_AT_EVERY) {
        let mut account = Account::default();
        receiver::fetch(&target, &name(receiver), messages, &mut account)?;
        let faults = Faults { lost: account.lost(messages), ..Faults::default() };
        if kind.promises() && !faults.is_clean() {
            return Err(Failure::Faults(faults));
        }
        if !kind.promises() {
            // One tells enough: each is waited for until nothing comes.
            break;
        }
    }
    let deliveries = messages * RECEIVERS;
    Ok(Case::new(kind.name())
        .with("queued/s", ratio(deliveries, spent.time) * 1e9, 0)
        .with("ms per message", ratio(spent.time, messages) / 1e6, 2)
        .with("us broker per place", ratio(spent.broker, deliveries) / 1e3, 3)
        .with("s to fetch from ten", float(clock::now() - looked_at) / 1e9, 2))
}

fn name(receiver: u64) -> String {
    format!("load-receiver-{receiver}")
}

const RECEIVERS: u64 = 1_000;
const MESSAGES: u64 = 1_000;
const LOOK_AT_EVERY: usize = 100;
