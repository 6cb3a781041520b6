//! What is measured of the cluster.

use std::sync::Arc;

use super::status::Status;
use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::metrics::{Readings, Source};
use crate::runtime::Clock;

/// Links, interest, the lease, and the way to ZooKeeper.
pub(in crate::node) struct ClusterSource {
    pub(in crate::node) status: Arc<Status>,
    pub(in crate::node) broker: Arc<Broker>,
    pub(in crate::node) clock: Clock,
}

impl Source for ClusterSource {
    fn read(&self, readings: &mut Readings) {
        let Some(peers) = self.broker.peers() else { return };
        self.membership(peers, readings);
        self.zookeeper(readings);
        interest(peers, readings);
        lanes(peers, readings);
    }
}

impl ClusterSource {
    fn membership(&self, peers: &Peers, readings: &mut Readings) {
        let now = self.clock.now();
        let (members, suspect) = self.status.member_counts();
        let [reaches_zookeeper, is_leading, is_frozen] = self.status.flags();
        for (name, help, value) in [
            ("cluster_members", "Brokers there are, this one included.", members as u64),
            ("cluster_suspects", "Brokers that are in doubt.", suspect as u64),
            (
                "cluster_zookeeper_reached",
                "1 while writes to ZooKeeper are committed.",
                reaches_zookeeper.into(),
            ),
            ("cluster_leading", "1 while this broker leads.", is_leading.into()),
            (
                "cluster_membership_frozen",
                "1 while no broker reaches ZooKeeper and the lease stands all the same.",
                is_frozen.into(),
            ),
            (
                "cluster_lease_milliseconds",
                "How long this broker may still acknowledge.",
                self.status.lease_millis(now),
            ),
            (
                "cluster_clock_milliseconds",
                "The time of the cluster since 1970.",
                peers.cluster_millis(now),
            ),
        ] {
            readings.gauge(name, help, value);
        }
    }

    fn zookeeper(&self, readings: &mut Readings) {
        let Some(counters) = self.status.zookeeper() else { return };
        readings.gauge(
            "zookeeper_outstanding",
            "Requests that ZooKeeper has not answered.",
            counters.outstanding(),
        );
        for (name, help, value) in [
            ("zookeeper_requests", "Requests to ZooKeeper.", counters.requests()),
            ("zookeeper_sessions", "Sessions made with ZooKeeper.", counters.sessions()),
            ("zookeeper_sessions_expired", "Sessions that ended.", counters.expired()),
            ("zookeeper_reconnects", "Times a session went on elsewhere.", counters.reconnects()),
            ("zookeeper_changes", "Changes of znodes that were told.", counters.changes()),
            ("zookeeper_gaps", "Times changes were lost and all was listed.", counters.gaps()),
        ] {
            readings.counter(name, help, value);
        }
        readings.counters(
            "zookeeper_errors",
            "Answers of ZooKeeper that were errors, by kind.",
            "kind",
            counters.errors(),
        );
        let latency = counters.latency();
        let answers = latency.buckets.last().map_or(0, |&(_, count)| count);
        readings.counter("zookeeper_answers", "Answers of ZooKeeper.", answers);
        readings.counter(
            "zookeeper_answer_microseconds",
            "How long they took together.",
            u64::try_from(latency.sum.as_micros()).unwrap_or(u64::MAX),
        );
    }
}

fn interest(peers: &Peers, readings: &mut Readings) {
    let (version, _, filters) = peers.interest().summary();
    readings.gauge("interest_filters", "Distinct filters announced to peers.", filters as u64);
    readings.gauge("interest_version", "Changes of them.", version);
    let waiting = peers.interest().waiting_count() as u64;
    readings.gauge("subacks_waiting", "Clients whose SUBACK waits for other brokers.", waiting);
}

fn lanes(peers: &Peers, readings: &mut Readings) {
    let live = peers.live();
    let each = |value: fn(&crate::broker::peers::peer::Peer) -> u64| {
        live.iter().map(move |peer| (peer.name().to_string(), value(peer))).collect::<Vec<_>>()
    };
    for (name, help, values) in [
        (
            "peer_interest_filters",
            "Distinct filters of a peer's clients.",
            each(|peer| peer.interest_len() as u64),
        ),
        (
            "peer_unanswered_messages",
            "Messages of QoS 1 and 2 that a peer has not answered for.",
            each(|peer| peer.unanswered_count() as u64),
        ),
        (
            "peer_unreceived_bytes",
            "Bytes of messages that a peer has not received.",
            each(|peer| peer.lane().counts().data_bytes as u64),
        ),
    ] {
        readings.gauges(name, help, "peer", values);
    }
    for (name, help, values) in [
        (
            "peer_frames",
            "Messages that were to be sent to a peer.",
            each(|peer| peer.lane().counts().offered.data),
        ),
        (
            "peer_frames_dropped",
            "Messages of QoS 0 that were dropped on the way to a peer.",
            each(|peer| peer.lane().counts().dropped),
        ),
        (
            "peer_frames_resent",
            "Frames sent once more after a link was lost.",
            each(|peer| peer.lane().counts().resent),
        ),
    ] {
        readings.counters(name, help, "peer", values);
    }
}
