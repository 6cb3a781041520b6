//! Memory: of connections that do nothing, and of subscriptions.

use std::{net::TcpStream, time::Duration};

use crate::{
    brokers::{Running, Transport},
    clock,
    error::LoadError,
    holders::Holders,
    measure::{self, Failure, Measured, SETUP_MAX, Timing},
    number::float,
    transport::Door,
};

/// Bytes of resident memory per connection.
pub(super) fn connections(
    running: &Running,
    transport: Transport,
    timing: Timing,
) -> Result<Measured, Failure> {
    let target = running.target(SETUP_MAX);
    let full = match transport {
        Transport::Plain => PLAIN,
        // A handshake takes a hundred times as long.
        Transport::Tls | Transport::WebSocket => DRESSED,
    };
    let number = full / timing.divisor;
    let door = Door::new(running.launch().ports.extra)?;
    let mut held: Vec<TcpStream> = Vec::new();
    for at in 0..WARM {
        held.push(door.open(&target, &format!("load-warm-{at}"))?);
    }
    let before = rested(running, transport)?;
    for at in 0..number {
        held.push(door.open(&target, &format!("load-idle-{at}"))?);
    }
    let after = rested(running, transport)?;
    per_thing(running, after.saturating_sub(before), number)
}

/// Bytes of resident memory per subscription.
pub(super) fn filters(running: &Running, timing: Timing) -> Result<Measured, Failure> {
    let target = running.target(SETUP_MAX);
    let mut holders = Holders::open(&target)?;
    let before = settled(running)?;
    let held = holders.subscribe(FILTERS / timing.divisor)?;
    let after = settled(running)?;
    per_thing(running, after.saturating_sub(before), held)
}

/// Resident memory once the broker has had a moment for what it does later.
fn settled(running: &Running) -> Result<u64, LoadError> {
    clock::pause(SETTLE);
    measure::resident(running)
}

/// Resident memory once the connections have done nothing for a while, where a broker may make use
/// of that.
fn rested(running: &Running, transport: Transport) -> Result<u64, LoadError> {
    match transport {
        Transport::Plain => clock::pause(REST),
        Transport::Tls | Transport::WebSocket => {}
    }
    settled(running)
}

fn per_thing(running: &Running, bytes: u64, things: u64) -> Result<Measured, Failure> {
    Ok(Measured {
        value: float(bytes) / float(things.max(1)),
        throughput: None,
        latency: None,
        peak: measure::peak(running)?,
        load_cores: 0.0,
        load_cost: None,
    })
}

const WARM: u64 = 100;
const PLAIN: u64 = 10_000;
const DRESSED: u64 = 2_000;
const FILTERS: u64 = 100_000;
const SETTLE: Duration = Duration::from_millis(400);
/// As long as a connection does nothing before it counts as idle, for every broker alike.
const REST: Duration = Duration::from_secs(8);
