//! The rows of the table: what is measured, and the bar for each.

mod closed;
mod idle;
mod queued;
pub(crate) mod replay;
mod retained;

use crate::{
    brokers::{Broker, Running, Transport},
    engine::Plan,
    measure::{self, Failure, Measured, Timing},
    target::Dialect,
};

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, for `--rows` and JSON.
    pub id: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// What is done.
    pub kind: Kind,
    /// What this project's broker is to reach.
    pub bar: Bar,
}

/// What is done in a row.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A closed loop.
    Closed(Closed),
    /// Retained messages sent to new subscribers.
    Retained,
    /// Messages queued for a persistent session, sent when it returns.
    Queued,
    /// Memory of connections that do nothing.
    Idle(Transport),
    /// Memory of subscriptions.
    Filters,
}

/// A closed loop.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Who sends to whom.
    pub shape: Shape,
    /// Quality of Service.
    pub qos: u8,
    /// Bytes of payload.
    pub payload_len: usize,
    /// Messages under way per publisher.
    pub window: usize,
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// So many publishers with a subscriber each.
    Pairs(usize),
    /// One publisher to so many subscribers.
    FanOut(usize),
    /// So many publishers to one subscriber.
    FanIn(usize),
    /// Publishers to a shared subscription with so many members.
    Shared(usize),
    /// Pairs in which every message meets another one of so many wildcard filters.
    Filters(u64),
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// A multiple of the floor's figure in the row of that name.
    Floor(f64, &'static str),
    /// So many bytes.
    Bytes(f64),
    /// Printed for comparison only.
    None,
}

impl Row {
    /// Whether the row makes sense with this broker.
    #[must_use]
    pub fn suits(&self, broker: &Broker) -> bool {
        match self.kind {
            Kind::Closed(closed) => broker.dialect() == Dialect::Mqtt || closed.suits_floor(),
            Kind::Idle(transport) => broker.offers(transport),
            Kind::Retained | Kind::Queued | Kind::Filters => broker.dialect() == Dialect::Mqtt,
        }
    }

    /// The way in the broker must open for this row besides plain TCP.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.kind {
            Kind::Idle(transport) => transport,
            Kind::Closed(_) | Kind::Retained | Kind::Queued | Kind::Filters => Transport::Plain,
        }
    }

    /// Whether the figure is bytes, not time.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Idle(_) | Kind::Filters)
    }

    /// Runs the row once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(&self, running: &Running, timing: Timing) -> Result<Measured, Failure> {
        match self.kind {
            Kind::Closed(closed) => measure::steady(running, &closed.plan(), timing),
            Kind::Retained => retained::run(running, timing),
            Kind::Queued => queued::run(running, timing),
            Kind::Idle(transport) => idle::connections(running, transport, timing),
            Kind::Filters => idle::filters(running, timing),
        }
    }
}

impl Closed {
    /// The connections, filters and topics of the row.
    #[must_use]
    pub fn plan(self) -> Plan {
        closed::plan(self)
    }

    /// Whether a byte copier can stand in for a broker: an exchange of four packets or a choice of receiver
    /// needs one that reads packets.
    fn suits_floor(self) -> bool {
        match self.shape {
            Shape::Pairs(_) | Shape::FanIn(_) => self.qos < 2,
            Shape::FanOut(_) => self.qos == 0,
            Shape::Shared(_) | Shape::Filters(_) => false,
        }
    }
}

/// The row whose floor stands for the machine's speed.
pub const REFERENCE: &str = "pairs-64-q0";

/// Microseconds of that floor above which a run says nothing.
pub const REFERENCE_MAX: f64 = 0.25;

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    pairs("pairs-64-q0", "16 pairs, window 64, 64 B, QoS 0", 0, 64, own(4.3, "pairs-64-q0")),
    pairs("pairs-64-q1", "16 pairs, window 64, 64 B, QoS 1", 1, 64, own(4.7, "pairs-64-q1")),
    pairs("pairs-64-q2", "16 pairs, window 64, 64 B, QoS 2", 2, 64, own(10.8, REFERENCE)),
    pairs("pairs-1k-q0", "16 pairs, window 64, 1 KiB, QoS 0", 0, 1024, own(2.5, "pairs-1k-q0")),
    pairs("pairs-1k-q1", "16 pairs, window 64, 1 KiB, QoS 1", 1, 1024, own(2.8, "pairs-1k-q1")),
    pairs("pairs-1k-q2", "16 pairs, window 64, 1 KiB, QoS 2", 2, 1024, own(5.5, "pairs-1k-q0")),
    closed("ping-q0", "64 pairs, window 1, QoS 0", Shape::Pairs(64), 0, 1, own(1.3, "ping-q0")),
    closed("ping-q1", "64 pairs, window 1, QoS 1", Shape::Pairs(64), 1, 1, own(1.45, "ping-q1")),
    closed(
        "fan-out-100",
        "fan-out 1 to 100, QoS 0",
        Shape::FanOut(100),
        0,
        FAN_OUT_WINDOW,
        own(1.9, "fan-out-100"),
    ),
    closed(
        "fan-out-1000",
        "fan-out 1 to 1000, QoS 0",
        Shape::FanOut(1000),
        0,
        FAN_OUT_WINDOW,
        own(1.9, "fan-out-1000"),
    ),
    closed(
        "fan-in-q0",
        "fan-in 100 to 1, QoS 0",
        Shape::FanIn(100),
        0,
        FAN_IN_WINDOW,
        own(1.7, "fan-in-q0"),
    ),
    closed(
        "fan-in-q1",
        "fan-in 100 to 1, QoS 1",
        Shape::FanIn(100),
        1,
        FAN_IN_WINDOW,
        own(2.7, "fan-in-q1"),
    ),
    closed("shared-q1", "shared, 4 members, QoS 1", Shape::Shared(4), 1, 64, own(6.6, REFERENCE)),
    filters("filters-1k", "one match among 1 k wildcard filters", 1_000, 5.5),
    filters("filters-100k", "one match among 100 k wildcard filters", 100_000, 9.0),
    filters("filters-1m", "one match among 1 M wildcard filters", 1_000_000, 11.0),
    Row {
        id: "retained-100k",
        title: "replay of 100 k retained",
        kind: Kind::Retained,
        bar: own(6.6, REFERENCE),
    },
    Row {
        id: "queued-10k",
        title: "replay of 10 k queued, QoS 1",
        kind: Kind::Queued,
        bar: own(5.0, REFERENCE),
    },
    Row {
        id: "idle-plain",
        title: "idle connection, TCP",
        kind: Kind::Idle(Transport::Plain),
        bar: Bar::Bytes(4_000.0),
    },
    Row {
        id: "idle-tls",
        title: "idle connection, TLS",
        kind: Kind::Idle(Transport::Tls),
        bar: Bar::None,
    },
    Row {
        id: "idle-websocket",
        title: "idle connection, WebSocket",
        kind: Kind::Idle(Transport::WebSocket),
        bar: Bar::None,
    },
    Row {
        id: "filter-bytes",
        title: "filter, of 100 k",
        kind: Kind::Filters,
        bar: Bar::Bytes(400.0),
    },
];

const fn own(multiple: f64, row: &'static str) -> Bar {
    Bar::Floor(multiple, row)
}

const fn pairs(
    id: &'static str,
    title: &'static str,
    qos: u8,
    payload_len: usize,
    bar: Bar,
) -> Row {
    let closed = Closed { shape: Shape::Pairs(16), qos, payload_len, window: 64 };
    Row { id, title, kind: Kind::Closed(closed), bar }
}

const fn closed(
    id: &'static str,
    title: &'static str,
    shape: Shape,
    qos: u8,
    window: usize,
    bar: Bar,
) -> Row {
    Row { id, title, kind: Kind::Closed(Closed { shape, qos, payload_len: 64, window }), bar }
}

const fn filters(id: &'static str, title: &'static str, count: u64, multiple: f64) -> Row {
    closed(id, title, Shape::Filters(count), 0, 64, own(multiple, REFERENCE))
}

// Windows at which the byte copier costs what it did where the bars come from.
const FAN_OUT_WINDOW: usize = 16;
const FAN_IN_WINDOW: usize = 24;
