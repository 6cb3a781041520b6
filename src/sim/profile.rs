//! What a simulated client is like, and what it may do: drawn from the seed.

use super::chance::Chance;
use crate::mqtt::{ProtocolVersion, QoS};

/// The nature of one client.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) version: ProtocolVersion,
    /// Whether its Session outlives its connections.
    pub(super) is_persistent: bool,
    /// Whether it never ends its Session while it can help it.
    pub(super) is_stable: bool,
    pub(super) expiry_secs: u32,
    pub(super) keep_alive_secs: u16,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) alias_maximum: u16,
    pub(super) will: Option<WillProfile>,
    pub(super) link: LinkProfile,
    /// Filters it may subscribe to, and the QoS.
    pub(super) wishes: Vec<(usize, QoS)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WillProfile {
    pub(super) delay_secs: u32,
    pub(super) qos: QoS,
}

/// How fast and how steady.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkProfile {
    pub(super) latency_millis: u64,
    pub(super) jitter_millis: u64,
    pub(super) capacity: usize,
}

impl Profile {
    /// The client that only looks for wills: nothing ever goes wrong with it.
    pub(super) fn watcher() -> Self {
        Self {
            version: ProtocolVersion::V5,
            is_persistent: false,
            is_stable: true,
            expiry_secs: 0,
            keep_alive_secs: 0,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            alias_maximum: 0,
            will: None,
            link: LinkProfile { latency_millis: 0, jitter_millis: 0, capacity: 1 << 20 },
            wishes: vec![(WILL_FILTER, QoS::AtLeastOnce)],
        }
    }

    /// The client that subscribes to everything retained, at the end.
    pub(super) fn probe() -> Self {
        Self { wishes: vec![(RETAINED_FILTER, QoS::AtLeastOnce)], ..Self::watcher() }
    }

    /// Whether retained messages are sent to it because it subscribes.
    pub(super) fn is_replayed_to(&self) -> bool {
        self.wishes.iter().any(|(filter, _)| *filter == RETAINED_FILTER)
    }

    pub(super) fn draw(number: usize, chance: &mut Chance) -> Self {
        let version = chance.pick(&[
            ProtocolVersion::V5,
            ProtocolVersion::V5,
            ProtocolVersion::V5,
            ProtocolVersion::V311,
            ProtocolVersion::V311,
        ]);
        let is_v5 = version == ProtocolVersion::V5;
        let is_stable = number.is_multiple_of(3);
        let is_persistent = is_stable || chance.one_in(3);
        let expiry_secs = match (is_persistent, is_v5, is_stable) {
            (false, _, _) => 0,
            (true, true, false) => chance.pick(&[1, 2, 5, 20]),
            (true, _, _) => SESSION_EXPIRY_MAX_SECS,
        };
        let will = chance.one_in(2).then(|| WillProfile {
            delay_secs: if is_v5 { chance.pick(&[0, 0, 1, 3, 30]) } else { 0 },
            qos: chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
        });
        let mut wishes: Vec<_> = (0..chance.between(1, 2))
            .map(|_| (chance.place(SHARED_STABLE), draw_qos(chance)))
            .collect();
        if is_stable && chance.one_in(2) {
            wishes.push((SHARED_STABLE, chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce])));
        }
        if chance.one_in(4) {
            wishes.push((SHARED_LOOSE, draw_qos(chance)));
        }
        let receive_maximum = if is_v5 { chance.pick(&[1, 2, 5, 20, u16::MAX]) } else { u16::MAX };
        // One message per round trip would take long to drain.
        let is_far = receive_maximum > 2;
        wishes.sort_by_key(|(filter, _)| *filter);
        wishes.dedup_by_key(|(filter, _)| *filter);
        Self {
            version,
            is_persistent,
            is_stable,
            expiry_secs,
            keep_alive_secs: chance.pick(&[0, 0, 1, 2, 4]),
            receive_maximum,
            packet_bytes_max: (is_v5 && chance.one_in(8)).then_some(400),
            alias_maximum: if is_v5 { chance.pick(&[0, 2, 8]) } else { 0 },
            will,
            link: LinkProfile {
                latency_millis: if is_far { chance.pick(&[0, 1, 5, 20, 60]) } else { 1 },
                jitter_millis: if is_far { chance.pick(&[0, 0, 3, 50]) } else { 1 },
                capacity: chance.pick(&[600, 2_000, 16_000, 64_000]),
            },
            wishes,
        }
    }
}

fn draw_qos(chance: &mut Chance) -> QoS {
    chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

/// Whether `filter` matches the topic of this number.
pub(super) fn matches(filter: usize, topic: usize) -> bool {
    MATCHES.get(filter).is_some_and(|topics| topics.contains(&topic))
}

/// Topics that may be published to: plain ones, those of two groups, retained ones.
pub(super) const TOPICS: [&str; 14] = [
    "t/a/0", "t/a/1", "t/a/2", "t/b/0", "t/b/1", "t/b/2", "s/a/0", "s/a/1", "s/b/0", "s/b/1",
    "r/0", "r/1", "r/2", "r/3",
];
/// The first of the topics that only Shared Subscriptions match.
pub(super) const FIRST_SHARED: usize = 6;
/// The first of the topics whose messages are retained.
pub(super) const FIRST_RETAINED: usize = 10;

/// Filters that may be subscribed to. Each topic belongs to one group at most.
pub(super) const FILTERS: [&str; 11] = [
    "t/a/0",
    "t/a/+",
    "t/+/1",
    "t/#",
    "t/b/2",
    "t/+/+",
    "t/b/#",
    "r/+",
    "$share/stable/s/a/+",
    "$share/loose/s/b/#",
    "w/+",
];
const MATCHES: [&[usize]; 11] = [
    &[0],
    &[0, 1, 2],
    &[1, 4],
    &[0, 1, 2, 3, 4, 5],
    &[5],
    &[0, 1, 2, 3, 4, 5],
    &[3, 4, 5],
    &[10, 11, 12, 13],
    &[6, 7],
    &[8, 9],
    &[],
];
pub(super) const RETAINED_FILTER: usize = 7;
pub(super) const SHARED_STABLE: usize = 8;
pub(super) const SHARED_LOOSE: usize = 9;
pub(super) const WILL_FILTER: usize = 10;

/// The longest Session Expiry Interval of a simulated broker.
pub(super) const SESSION_EXPIRY_MAX_SECS: u32 = 600;
