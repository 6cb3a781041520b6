//! A load between two brokers of a cluster, and what it costs all of them.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::brokers::Cluster;
use crate::{
    cases::findings::Case,
    engine::{Engine, Pace, Plan},
    error::LoadError,
    measure::{Failure, Reading, SETUP_MAX, Spent, Timing, percentiles},
    number::ratio,
    target::Ends,
};

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The broker of the publishers.
    pub from: usize,
    /// The broker of the subscribers.
    pub to: usize,
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    /// As fast as the windows allow.
    Closed,
    /// So many messages a second.
    Paced(u64),
}

/// What a load brought.
#[derive(Debug)]
pub struct Stretch {
    /// Messages that arrived.
    pub delivered: u64,
    /// What was spent meanwhile; the brokers' time is that of all of them.
    pub spent: Spent,
    /// What the publishers' broker and the subscribers' broker have spent of it.
    ends: [u64; 2],
    latency: Option<Histogram<u64>>,
    answer_latency: Option<Histogram<u64>>,
}

/// Runs a load and measures its middle.
///
/// # Errors
/// It cannot be set up or driven, or its messages do not all arrive once and in order.
pub fn run(
    cluster: &Cluster,
    way: Way,
    plan: &Plan,
    speed: Speed,
    timing: Timing,
) -> Result<Stretch, Failure> {
    let ends = cluster.ends(way.from, way.to, SETUP_MAX + timing.warm + timing.steady);
    let (stretch, each) = drive(&ends, &cluster.pids(), plan, speed, timing)?;
    let ends = [way.from, way.to].map(|at| each.get(at).copied().unwrap_or(0));
    Ok(Stretch { ends, ..stretch })
}

/// The same between any two ends, with what each of the processes has spent.
///
/// # Errors
/// As [`run`].
pub fn drive(
    ends: &Ends,
    pids: &[u32],
    plan: &Plan,
    speed: Speed,
    timing: Timing,
) -> Result<(Stretch, Vec<u64>), Failure> {
    let mut engine = Engine::open(ends, plan)?;
    if matches!(speed, Speed::Closed) {
        engine.start()?;
    }
    let mut pace = go(&mut engine, speed, timing.warm)?;
    let delivered_before = engine.delivered();
    let before = Reading::of(pids)?;
    engine.record_latency();
    if pace == Pace::Steady {
        pace = go(&mut engine, speed, timing.steady)?;
    }
    let after = Reading::of(pids)?;
    let delivered = engine.delivered() - delivered_before;
    let (latency, answer_latency) = (engine.take_latency(), engine.take_answer_latency());
    let faults = engine.finish()?;
    if !faults.is_clean() {
        return Err(Failure::Faults(faults));
    }
    if pace == Pace::Stalled || delivered == 0 {
        return Err(Failure::Nothing);
    }
    let mut spent = Spent::default();
    spent.add(&before, &after);
    let stretch = Stretch { delivered, spent, ends: [0; 2], latency, answer_latency };
    Ok((stretch, after.each_since(&before)))
}

fn go(engine: &mut Engine, speed: Speed, time: Duration) -> Result<Pace, LoadError> {
    match speed {
        Speed::Closed => engine.run(time),
        Speed::Paced(rate) => engine.run_paced(rate, time),
    }
}

impl Stretch {
    /// Messages that arrived per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        ratio(self.delivered, self.spent.time) * 1e9
    }

    /// The case of this name, with what a message costs and how long it takes.
    #[must_use]
    pub fn case(&self, name: &'static str) -> Case {
        let case = Case::new(name)
            .with(US, ratio(self.spent.broker, self.delivered) / 1e3, 3)
            .with(PER_CPU_SECOND, ratio(self.delivered, self.spent.broker) * 1e9, 0)
            .with(PER_SECOND, self.rate(), 0);
        let [from, to] = self.ends.map(|spent| ratio(spent, self.delivered) / 1e3);
        let case =
            case.with("us publishers' broker", from, 3).with("us subscribers' broker", to, 3);
        let case = with_percentiles(case, self.latency.as_ref(), LATENCY);
        case.with(LOAD, ratio(self.spent.load, self.spent.time), 2)
    }

    /// The case of this name, with how long messages and their acknowledgements take.
    #[must_use]
    pub fn latency_case(&self, name: &'static str) -> Case {
        let case = Case::new(name)
            .with(US, ratio(self.spent.broker, self.delivered) / 1e3, 3)
            .with(PER_SECOND, self.rate(), 0);
        let case = with_percentiles(case, self.latency.as_ref(), LATENCY);
        with_percentiles(case, self.answer_latency.as_ref(), ANSWER)
    }
}

/// Adds median, 99th and 99.9th percentile under these names.
#[must_use]
pub fn with_percentiles(
    case: Case,
    latency: Option<&Histogram<u64>>,
    names: [&'static str; 3],
) -> Case {
    let Some(latency) = latency.filter(|latency| !latency.is_empty()) else { return case };
    let figures = names.into_iter().zip(percentiles(latency));
    figures.fold(case, |case, (name, value)| case.with(name, value, 1))
}

/// Microseconds of all brokers per delivered message.
pub const US: &str = "us/delivery";
/// Delivered messages per second of processor time of all brokers.
pub const PER_CPU_SECOND: &str = "msgs/CPU-s";
/// Delivered messages per second.
pub const PER_SECOND: &str = "msgs/s";
/// From the publisher's socket to the subscriber's.
pub const LATENCY: [&str; 3] = ["p50 us", "p99 us", "p99.9 us"];
/// From the publisher's socket back to it.
const ANSWER: [&str; 3] = ["PUBACK p50 us", "PUBACK p99 us", "PUBACK p99.9 us"];
/// The part of a core that the load used.
const LOAD: &str = "load cores";
