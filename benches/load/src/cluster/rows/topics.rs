//! A million distinct topics: what the tree of znodes takes of them, and what that costs everybody else.

use std::time::Duration;

use super::{three, writes};
use crate::{
    cases::findings::Case,
    clock,
    cluster::{
        brokers::{Broker, Cluster, Ground},
        metrics::Metrics,
        stretch::PER_SECOND,
    },
    error::LoadError,
    floor::Side,
    frames::Version,
    measure::{Failure, Timing},
    number::{count, float, ratio},
    stamp::Stamp,
    target::{Opening, hello, read_packet},
    wire::{PublishOptions, Start, Template, Varied},
};

/// How everything stands at a moment.
struct Moment {
    time: u64,
    zxid: u64,
    publisher: Metrics,
    peer: Metrics,
    /// Resident bytes of the publisher's broker and of its peer.
    memory: [u64; 2],
}

/// Nothing, and then one publisher, on the same brokers.
pub(super) fn run(ground: &Ground, timing: Timing) -> Result<Vec<Case>, Failure> {
    let cluster = three(ground)?;
    let topics = TOPICS / timing.divisor;
    let start = Moment::now(&cluster)?;
    clock::pause(timing.steady * TIMES);
    let before = Moment::now(&cluster)?;
    let znodes_before = znodes(&cluster)?;
    publish(&cluster, topics)?;
    let after = Moment::now(&cluster)?;
    let mut flood = costs(FLOOD, &before, &after)?;
    flood = flood
        .with(PER_SECOND, ratio(topics, after.time - before.time) * 1e9, 0)
        .with("topics", float(topics), 0)
        .with("znodes before", float(znodes_before), 0)
        .with("znodes after", float(znodes(&cluster)?), 0);
    for (name, metric) in FATES {
        let grown = after.publisher.value(metric)? - before.publisher.value(metric)?;
        flood = flood.with(name, float(grown), 0);
    }
    flood = flood.with("waiting", float(after.publisher.value("topics_waiting")?), 0);
    for (name, at) in [("MiB more, publisher's broker", 0), ("MiB more, its peer", 1)] {
        let of = |moment: &Moment| moment.memory.get(at).copied().unwrap_or(0);
        flood = flood.with(name, (float(of(&after)) - float(of(&before))) / MEBIBYTE, 1);
    }
    Ok(vec![costs(IDLE, &start, &before)?, flood])
}

impl Moment {
    fn now(cluster: &Cluster) -> Result<Self, Failure> {
        let [publisher, peer] = [PUBLISHER, PEER].map(|at| broker(cluster, at));
        let (publisher, peer) = (publisher?, peer?);
        Ok(Self {
            time: clock::now(),
            zxid: writes::zxid(cluster)?,
            publisher: publisher.metrics()?,
            peer: peer.metrics()?,
            memory: [publisher.resident()?, peer.resident()?],
        })
    }
}

/// What ZooKeeper had to do between two moments, and how it answered a broker that has no part in it.
fn costs(name: &'static str, before: &Moment, after: &Moment) -> Result<Case, Failure> {
    let written = writes::between(before.zxid, after.zxid)?;
    let answers = after.peer.answers_since(&before.peer)?;
    Ok(Case::new(name)
        .with(WRITES, ratio(written, after.time - before.time) * 1e9, 2)
        .with("s", float(after.time - before.time) / 1e9, 1)
        .with("answers to the peer", float(answers.count), 0)
        .with("us on average", answers.mean, 0)
        .with("us at most of 99 %", answers.p99_at_most, 0))
}

/// One client, one message of QoS 0 to each topic. Returns when its broker has read the last one.
fn publish(cluster: &Cluster, topics: u64) -> Result<(), Failure> {
    let target = cluster.target(PUBLISHER, PATIENCE);
    let mut session = target.open(&Opening {
        version: Version::V311,
        client_id: "load-publisher",
        start: Start::Clean,
        hello: hello(Side::Publisher, 0, 0),
    })?;
    let template = Template::new(&PublishOptions {
        version: Version::V311,
        topic: "load/distinct/".to_owned(),
        varied: Some(Varied { count: topics, suffix: "", stride: 1 }),
        qos: 0,
        retain: false,
        payload_len: Stamp::LEN,
    });
    let start = clock::now();
    for first in (0..topics).step_by(BATCH) {
        target.patience.check("publishing")?;
        let mut bytes = Vec::new();
        for sequence in first..topics.min(first + count(BATCH)) {
            template.append(&mut bytes, Stamp { flow: 0, sequence, sent: 0 });
        }
        session.send(&bytes, "publishing")?;
        let due = start + first * 1_000_000_000 / PACE;
        clock::pause(Duration::from_nanos(due.saturating_sub(clock::now())));
    }
    session.send(&PINGREQ, "publishing")?;
    let answer = read_packet(&mut session.into_stream(), &mut Vec::new(), "publishing")?;
    if answer == PINGRESP { Ok(()) } else { Err(LoadError::Closed("publishing").into()) }
}

fn broker<'a>(cluster: &'a Cluster, at: usize) -> Result<&'a Broker, LoadError> {
    cluster.broker(at).ok_or(LoadError::Closed("measuring"))
}

/// Of the whole tree.
fn znodes(cluster: &Cluster) -> Result<u64, LoadError> {
    let znodes = cluster.ensemble().znodes();
    znodes.map_err(|error| LoadError::Refused(error.to_string()))
}

/// Nothing is published.
const IDLE: &str = "idle";
/// Every message goes to another topic.
pub(super) const FLOOD: &str = "distinct topics";
/// The figure.
pub(super) const WRITES: &str = "writes/s";
/// What all brokers together may write of topics in a second: `cluster::topics` has it so.
pub(super) const WRITES_MAX: f64 = 100.0;

/// What became of the topics, as the publisher's broker counts it.
const FATES: [(&str, &str); 5] = [
    ("registered", "topics_registered_total"),
    ("refused by rate", "topics_refused_rate_total"),
    ("refused by bank", "topics_refused_bank_total"),
    ("refused by the table", "topics_refused_full_total"),
    ("unheard", "topics_unheard_total"),
];

const PUBLISHER: usize = 0;
const PEER: usize = 1;
const TOPICS: u64 = 1_000_000;
/// Messages a second: long enough for a rate of writes to be told.
const PACE: u64 = 25_000;
const BATCH: usize = 500;
/// Writes are few: it takes a while to tell their rate.
const TIMES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(300);
const MEBIBYTE: f64 = 1_048_576.0;
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: u8 = 0xD0;
