//! The rows of `--cluster`.

mod across;
mod alone;
mod interest;
mod suback;
mod topics;
mod writes;

use super::{
    brokers::{Cluster, Ground},
    stretch::{PER_CPU_SECOND, PER_SECOND, Speed},
};
use crate::{
    cases::{
        findings::{Bar, Case, Limit},
        outcome::{self, Heading},
    },
    measure::{Failure, Timing},
    rows::{Closed, Shape},
};

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is said of it.
    pub heading: Heading,
    /// What is done.
    pub kind: Kind,
}

/// What is done in a row.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Publishers and subscribers on one broker, then on two.
    Across(Closed, Speed),
    /// Writes to ZooKeeper while nothing, something and as much as possible is published.
    Writes,
    /// Writes to ZooKeeper while every message goes to another topic.
    Topics,
    /// A broker joins when there is no interest, and when there is much of it.
    Interest,
    /// How long a SUBSCRIBE waits for its answer, with other brokers and without.
    Suback,
    /// Everything between brokers goes through znodes.
    Relay(Closed),
    /// A broker without ZooKeeper, then a cluster of one.
    Alone(Closed),
    /// The same where connections do nothing.
    AloneIdle,
}

impl Row {
    /// Runs it once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(&self, ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
        match self.kind {
            Kind::Across(closed, speed) => across::run(ground, closed, speed, timing),
            Kind::Writes => writes::run(ground, timing),
            Kind::Topics => topics::run(ground, timing),
            Kind::Interest => interest::run(ground, timing),
            Kind::Suback => suback::run(ground, timing),
            Kind::Relay(closed) => across::relay(ground, closed, timing),
            Kind::Alone(closed) => alone::run(ground, closed, timing),
            Kind::AloneIdle => alone::idle(ground, timing),
        }
    }

    /// Whether a broker whose `--help` says this can run the row.
    #[must_use]
    pub fn is_possible(&self, help: &str) -> bool {
        match self.kind {
            Kind::Relay(_) => help.contains(RELAY_FLAG),
            Kind::Across(..)
            | Kind::Writes
            | Kind::Topics
            | Kind::Interest
            | Kind::Suback
            | Kind::Alone(_)
            | Kind::AloneIdle => true,
        }
    }
}

impl outcome::Row for Row {
    fn heading(&self) -> Heading {
        self.heading
    }
}

/// Three brokers, as every row has them.
fn three<'a>(ground: &'a Ground<'a>) -> Result<Cluster<'a>, Failure> {
    Ok(Cluster::start(ground, BROKERS, &[])?)
}

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    across("across-64-q0", "16 pairs, window 64, 64 B, QoS 0", pairs(0, 64), Some(EFFICIENCY)),
    across("across-64-q1", "16 pairs, window 64, 64 B, QoS 1", pairs(1, 64), None),
    across("across-64-q2", "16 pairs, window 64, 64 B, QoS 2", pairs(2, 64), None),
    across("across-1k-q0", "16 pairs, window 64, 1 KiB, QoS 0", pairs(0, 1024), None),
    Row {
        heading: Heading {
            id: "paced-q1",
            title: "16 pairs, 2,000 messages a second in all, 64 B, QoS 1",
            bar: Some(Bar {
                figure: "p99 us",
                of: ACROSS,
                per: Some(LOCAL),
                limit: Limit::AtMost(3.0),
            }),
        },
        kind: Kind::Across(pairs(1, 64), Speed::Paced(2_000)),
    },
    Row {
        heading: Heading {
            id: "writes",
            title: "writes to ZooKeeper by the rate of publishing",
            bar: Some(Bar {
                figure: writes::WRITES,
                of: writes::FULL,
                per: Some(writes::IDLE),
                limit: Limit::AtMost(1.25),
            }),
        },
        kind: Kind::Writes,
    },
    Row {
        heading: Heading {
            id: "topics-1m",
            title: "one client publishes to 1,000,000 distinct topics, QoS 0",
            bar: Some(Bar {
                figure: topics::WRITES,
                of: topics::FLOOD,
                per: None,
                limit: Limit::AtMost(topics::WRITES_MAX),
            }),
        },
        kind: Kind::Topics,
    },
    Row {
        heading: Heading {
            id: "interest-1m",
            title: "1,000,000 distinct filters, and a broker that joins",
            bar: Some(Bar {
                figure: interest::SECONDS,
                of: interest::WITH,
                per: None,
                limit: Limit::AtMost(10.0),
            }),
        },
        kind: Kind::Interest,
    },
    Row {
        heading: Heading {
            id: "suback",
            title: "SUBSCRIBE with one filter, one after the other",
            bar: None,
        },
        kind: Kind::Suback,
    },
    relay("relay-q0", "through znodes: 16 pairs, window 64, 256 B, QoS 0", pairs(0, 256)),
    relay("relay-q1", "through znodes: 16 pairs, window 64, 256 B, QoS 1", pairs(1, 256)),
    alone("alone-q0", "one broker: 16 pairs, window 64, 64 B, QoS 0", Kind::Alone(pairs(0, 64))),
    alone("alone-q1", "one broker: 16 pairs, window 64, 64 B, QoS 1", Kind::Alone(pairs(1, 64))),
    alone("alone-idle", "one broker: 10 k connections, 100 k distinct filters", Kind::AloneIdle),
];

const EFFICIENCY: Bar =
    Bar { figure: PER_CPU_SECOND, of: ACROSS, per: Some(LOCAL), limit: Limit::AtLeast(0.6) };

const fn across(id: &'static str, title: &'static str, closed: Closed, bar: Option<Bar>) -> Row {
    Row { heading: Heading { id, title, bar }, kind: Kind::Across(closed, Speed::Closed) }
}

const fn relay(id: &'static str, title: &'static str, closed: Closed) -> Row {
    let limit = Limit::AtLeast(10_000.0);
    let bar = Some(Bar { figure: PER_SECOND, of: ACROSS, per: None, limit });
    Row { heading: Heading { id, title, bar }, kind: Kind::Relay(closed) }
}

const fn alone(id: &'static str, title: &'static str, kind: Kind) -> Row {
    Row { heading: Heading { id, title, bar: None }, kind }
}

const fn pairs(qos: u8, payload_len: usize) -> Closed {
    Closed { shape: Shape::Pairs(16), qos, payload_len, window: 64 }
}

/// Publishers and subscribers on one broker of the cluster.
pub const LOCAL: &str = "local";
/// Publishers on one broker, subscribers on another.
pub const ACROSS: &str = "across";

const BROKERS: usize = 3;
/// The flag that sends everything through znodes.
const RELAY_FLAG: &str = "--propagation";
