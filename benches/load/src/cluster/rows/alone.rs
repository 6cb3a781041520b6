//! What it costs a broker that has nobody beside it to be one of a cluster: the same load on one without
//! ZooKeeper, and on one that is a cluster of its own.

use std::{net::TcpStream, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    brokers::{Broker, Running, Transport},
    cases::findings::Case,
    clock,
    cluster::{
        brokers::{Cluster, Ground},
        stretch::{self, Speed, with_percentiles},
    },
    error::LoadError,
    floor::Side,
    frames::Version,
    measure::{Failure, Reading, SETUP_MAX, Spent, Timing},
    number::{count, float, ratio},
    rows::Closed,
    target::{Ends, Opening, Session, Target, hello},
    usage,
    wire::{Start, digits},
};

/// A closed loop.
pub(super) fn run(ground: &Ground, closed: Closed, timing: Timing) -> Result<Vec<Case>, Failure> {
    both(ground, |name, target, pid| {
        let (ends, plan) = (Ends::from(target), closed.plan());
        let (stretch, _) = stretch::drive(&ends, &[pid], &plan, Speed::Closed, timing)?;
        Ok(stretch.latency_case(name))
    })
}

/// Connections that do nothing, and Subscriptions.
pub(super) fn idle(ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
    both(ground, |name, target, pid| {
        let mut held = Vec::new();
        connect(target, 0..WARM, &mut held)?;
        clock::pause(REST);
        let (before, empty) = (Reading::of(&[pid])?, resident(pid)?);
        let connections = CONNECTIONS / timing.divisor;
        let waits = connect(target, WARM..WARM + connections, &mut held)?;
        clock::pause(SETTLE);
        let connected = Reading::of(&[pid])?;
        clock::pause(REST);
        let (rested, full) = (Reading::of(&[pid])?, resident(pid)?);
        clock::pause(timing.steady);
        let rest = spent(&rested, &Reading::of(&[pid])?);
        let filters = FILTERS / timing.divisor / count(HOLDERS) * count(HOLDERS);
        let _holders = subscribe(target, filters)?;
        clock::pause(SETTLE);
        let each = |bytes: u64, things| float(bytes) / float(things);
        let case = Case::new(name)
            .with("B/connection", each(full.saturating_sub(empty), connections), 0)
            .with("B/filter", each(resident(pid)?.saturating_sub(full), filters), 0)
            .with("us/CONNECT", ratio(spent(&before, &connected).broker, connections) / 1e3, 1)
            .with("ms/s at rest", ratio(rest.broker, rest.time) * 1e3, 2);
        Ok(with_percentiles(case, Some(&waits), CONNECT))
    })
}

/// Measures a broker that is alone, and then one that is a cluster of one.
fn both(
    ground: &Ground,
    measure: impl Fn(&'static str, &Target, u32) -> Result<Case, Failure>,
) -> Result<Vec<Case>, Failure> {
    let broker = Broker::Ours { program: ground.program.clone(), threads: 1 };
    let running = Running::start(&broker, Transport::Plain, ground.pinning, ground.stop)?;
    let alone = measure("alone", &running.target(SETUP_MAX), running.pid())?;
    drop(running);
    let cluster = Cluster::start(ground, 1, &["--no-database"])?;
    let pid = cluster.pids().first().copied().ok_or(LoadError::Closed("starting"))?;
    Ok(vec![alone, measure("cluster of one", &cluster.target(0, SETUP_MAX), pid)?])
}

/// Opens connections, and tells how long each took.
fn connect(
    target: &Target,
    numbers: std::ops::Range<u64>,
    held: &mut Vec<TcpStream>,
) -> Result<Histogram<u64>, Failure> {
    let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
    let mut histogram =
        histogram.map_err(|_| LoadError::Refused("no histogram has these bounds".to_owned()))?;
    for number in numbers {
        let begun = clock::now();
        held.push(open(target, &format!("load-idle-{number}"))?.into_stream());
        histogram.saturating_record(clock::now() - begun);
    }
    Ok(histogram)
}

fn subscribe(target: &Target, filters: u64) -> Result<Vec<Session>, Failure> {
    let holder = |holder: usize| {
        let mut session = open(target, &format!("load-holder-{holder}"))?;
        let filter = |at| format!("load/{holder:02}/{}/+", digits(at));
        let each = filters / count(HOLDERS);
        session.subscribe(&(0..each).map(filter).collect::<Vec<_>>(), 0)?;
        Ok(session)
    };
    (0..HOLDERS).map(holder).collect()
}

fn open(target: &Target, client_id: &str) -> Result<Session, LoadError> {
    let hello = hello(Side::Subscriber, 0, 0);
    target.open(&Opening { version: Version::V311, client_id, start: Start::Clean, hello })
}

fn resident(pid: u32) -> Result<u64, LoadError> {
    usage::resident(pid).map_err(LoadError::io("reading a broker's memory"))
}

fn spent(before: &Reading, after: &Reading) -> Spent {
    let mut spent = Spent::default();
    spent.add(before, after);
    spent
}

const CONNECT: [&str; 3] = ["CONNECT p50 us", "CONNECT p99 us", "CONNECT p99.9 us"];
const WARM: u64 = 100;
const CONNECTIONS: u64 = 10_000;
const FILTERS: u64 = 100_000;
const HOLDERS: usize = 10;
const SETTLE: Duration = Duration::from_millis(500);
/// As long as a connection does nothing before it is parked for certain: twice `park_after_secs`, and more.
const REST: Duration = Duration::from_secs(12);
const LONGEST: u64 = 60_000_000_000;
