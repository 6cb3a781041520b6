//! Running one row once against one broker.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    brokers::{Running, StartError},
    check::Faults,
    clock,
    engine::{Engine, Pace, Plan},
    error::LoadError,
    number::{float, ratio},
    target::Ends,
    usage::{self, Cpu},
};

/// How long the phases of a row last.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Running before anything is measured.
    pub warm: Duration,
    /// Measuring.
    pub steady: Duration,
    /// How many connections, cycles and so on a row makes, in parts of the full number.
    pub divisor: u64,
}

/// What one run of a row yields.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Microseconds of broker time per delivery, or bytes per thing.
    pub value: f64,
    /// Deliveries per second.
    pub throughput: Option<f64>,
    /// Microseconds from sending to arrival: median, 99th and 99.9th percentile.
    pub latency: Option<[f64; 3]>,
    /// Most resident memory of the broker, in bytes.
    pub peak: u64,
    /// The part of its core the load has used.
    pub load_cores: f64,
    /// Microseconds of the load's time per delivery.
    pub load_cost: Option<f64>,
}

/// Why a run yields nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Messages were lost, doubled or reordered.
    #[error("{0}")]
    Faults(Faults),
    /// The row could not be run to its end.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The broker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nothing was delivered.
    #[error("nothing arrived while measuring")]
    Nothing,
}

/// The accounts at one moment of a row.
#[derive(Clone, Debug)]
pub struct Reading {
    /// One per process.
    cpu: Vec<Cpu>,
    load: u64,
    time: u64,
}

impl Reading {
    /// Reads them.
    ///
    /// # Errors
    /// The broker is gone.
    pub fn take(running: &Running) -> Result<Self, LoadError> {
        Self::of(&[running.pid()])
    }

    /// Reads those of several processes that are one broker together.
    ///
    /// # Errors
    /// One is gone.
    pub fn of(pids: &[u32]) -> Result<Self, LoadError> {
        let cpu = pids.iter().map(|&pid| Cpu::of(pid)).collect::<Result<_, _>>();
        let cpu = cpu.map_err(LoadError::io("reading the broker's usage"))?;
        Ok(Self { cpu, load: clock::thread_cpu(), time: clock::now() })
    }

    /// Reads those of processes of which some may end, such as the workers of a database server: what
    /// these have used is not told.
    #[must_use]
    pub fn of_workers(pids: &[u32]) -> Self {
        let cpu = pids.iter().map(|&pid| Cpu::of(pid).unwrap_or(Cpu::NONE)).collect();
        Self { cpu, load: clock::thread_cpu(), time: clock::now() }
    }

    /// Nanoseconds that each process has used since `earlier`.
    #[must_use]
    pub fn each_since(&self, earlier: &Self) -> Vec<u64> {
        let both = self.cpu.iter().zip(&earlier.cpu);
        both.map(|(now, earlier)| now.since(*earlier)).collect()
    }

    /// Reads them at the start of a burst, with the broker at rest.
    ///
    /// # Errors
    /// The broker is gone.
    pub fn before_burst(running: &Running) -> Result<Self, LoadError> {
        clock::pause(REST);
        Self::take(running)
    }

    /// Reads them at the end of a burst: the time now, and what the broker has used once it has
    /// also dealt with the last acknowledgements. A thread's account is brought up to date when
    /// it goes to sleep, so a reading of a busy one would miss the milliseconds of a short burst.
    ///
    /// # Errors
    /// The broker is gone.
    pub fn after_burst(running: &Running) -> Result<Self, LoadError> {
        let (load, time) = (clock::thread_cpu(), clock::now());
        clock::pause(REST);
        Ok(Self { load, time, ..Self::take(running)? })
    }
}

/// Processor time and wall-clock time between readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Nanoseconds of the broker.
    pub broker: u64,
    /// Nanoseconds of the load.
    pub load: u64,
    /// Nanoseconds on the wall.
    pub time: u64,
}

impl Spent {
    /// Adds what was spent between two readings.
    pub fn add(&mut self, before: &Reading, after: &Reading) {
        self.broker += after.each_since(before).iter().sum::<u64>();
        self.load += after.load.saturating_sub(before.load);
        self.time += after.time.saturating_sub(before.time);
    }

    /// The figures of a row in which `delivered` messages arrived.
    ///
    /// # Errors
    /// None arrived, some went astray, or the broker is gone.
    pub fn figures(
        self,
        running: &Running,
        delivered: u64,
        latency: Option<&Histogram<u64>>,
        faults: Faults,
    ) -> Result<Measured, Failure> {
        if !faults.is_clean() {
            return Err(Failure::Faults(faults));
        }
        if delivered == 0 {
            return Err(Failure::Nothing);
        }
        Ok(Measured {
            value: ratio(self.broker, delivered) / MICRO,
            throughput: Some(ratio(delivered, self.time) * 1e9),
            latency: latency.map(percentiles),
            peak: peak(running)?,
            load_cores: ratio(self.load, self.time),
            load_cost: Some(ratio(self.load, delivered) / MICRO),
        })
    }
}

/// Runs a closed loop and measures its middle.
///
/// # Errors
/// The row cannot be set up or driven, or its messages do not all arrive once and in order.
pub fn steady(running: &Running, plan: &Plan, timing: Timing) -> Result<Measured, Failure> {
    let target = running.target(SETUP_MAX + timing.warm + timing.steady);
    let mut engine = Engine::open(&Ends::from(&target), plan)?;
    engine.start()?;
    let mut pace = engine.run(timing.warm)?;
    let delivered_before = engine.delivered();
    let before = Reading::take(running)?;
    engine.record_latency();
    if pace == Pace::Steady {
        pace = engine.run(timing.steady)?;
    }
    let after = Reading::take(running)?;
    let delivered = engine.delivered() - delivered_before;
    let latency = engine.take_latency();
    let faults = engine.finish()?;
    if pace == Pace::Stalled && faults.is_clean() {
        return Err(Failure::Nothing);
    }
    let mut spent = Spent::default();
    spent.add(&before, &after);
    spent.figures(running, delivered, latency.as_ref(), faults)
}

/// The broker's most resident memory.
///
/// # Errors
/// The broker is gone.
pub fn peak(running: &Running) -> Result<u64, LoadError> {
    usage::peak(running.pid()).map_err(LoadError::io("reading the broker's memory"))
}

/// The broker's resident memory.
///
/// # Errors
/// The broker is gone.
pub fn resident(running: &Running) -> Result<u64, LoadError> {
    usage::resident(running.pid()).map_err(LoadError::io("reading the broker's memory"))
}

/// Percentiles in microseconds: median, 99th and 99.9th.
#[must_use]
pub fn percentiles(latency: &Histogram<u64>) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|part| float(latency.value_at_quantile(part)) / MICRO)
}

/// Longest time a row may take to be prepared.
pub const SETUP_MAX: Duration = Duration::from_secs(120);
const REST: Duration = Duration::from_millis(50);
const MICRO: f64 = 1_000.0;
