//! Two shards against one: what it costs when half of the pairs span shards.
//!
//! A broker that places each connection on the less loaded of its shards alternates between them
//! when connections come one by one. Opening the connections of four pairs in the order below
//! leaves the ends of two of them on the same shard.

use crate::{
    brokers::{Broker, Running, Transport},
    child::Pinning,
    engine::{Plan, Role},
    measure::{self, Failure, Measured, Timing},
    number::median,
    rows::{Closed, Kind, ROWS},
    stop::Stop,
};

/// The figures of a row with one shard and with two.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The row's name.
    pub row: &'static str,
    /// Microseconds per delivery with one shard.
    pub one: f64,
    /// Microseconds per delivery with two.
    pub two: f64,
}

impl Comparison {
    /// How much more a delivery costs with two.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.two / self.one
    }
}

/// Runs the rows of small messages in pairs, in turns, on the two brokers.
///
/// # Errors
/// A broker does not start, or a row fails.
pub fn compare(
    brokers: [&Broker; 2],
    repetitions: u32,
    timing: Timing,
    stop: &Stop,
) -> Result<Vec<Comparison>, Failure> {
    let mut comparisons = Vec::new();
    for row in ROWS.iter().filter(|row| row.id.starts_with("pairs-64")) {
        let Kind::Closed(closed) = row.kind else { continue };
        let [mut one, mut two] = [Vec::new(), Vec::new()];
        for _ in 0..repetitions {
            for (broker, values) in brokers.iter().zip([&mut one, &mut two]) {
                let running = Running::start(broker, Transport::Plain, Pinning::Free, stop)?;
                let measured: Measured = measure::steady(&running, &plan(closed), timing)?;
                eprintln!("{} {}: {:.3} us", row.id, broker.name(), measured.value);
                values.push(measured.value);
            }
        }
        if let (Some(one), Some(two)) = (median(&one), median(&two)) {
            comparisons.push(Comparison { row: row.id, one, two });
        }
    }
    Ok(comparisons)
}

fn plan(closed: Closed) -> Plan {
    let mut plan = closed.plan();
    plan.order = (0..plan.flows.len()).step_by(4).flat_map(four_pairs).collect();
    plan
}

/// Ends of pairs `first` and `first + 1` are neighbours, so they alternate; those of the next two
/// are two places apart.
fn four_pairs(first: usize) -> [Role; 8] {
    let [a, b, c, d] = [first, first + 1, first + 2, first + 3];
    [
        Role::Receiver(a),
        Role::Publisher(a),
        Role::Receiver(b),
        Role::Publisher(b),
        Role::Receiver(c),
        Role::Receiver(d),
        Role::Publisher(c),
        Role::Publisher(d),
    ]
}

/// How much more a delivery may cost with two shards.
pub const RATIO_MAX: f64 = 1.25;
