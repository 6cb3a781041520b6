//! What is measured of the cluster.

use std::sync::Arc;

use super::status::Status;
use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::cluster::bank::Funds;
use crate::cluster::relay::LaneInUse;
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
        self.registry(peers, readings);
        interest(peers, readings);
        wills(peers, readings);
        lanes(peers, readings);
        self.relay(peers, readings);
        let (links, counts) = self.status.links();
        super::link_metrics::read(&links, &counts, readings);
        readings.gauge(
            "link_unreached",
            "1 while this broker's links stand and no other broker reaches it by one.",
            self.status.is_unreached().into(),
        );
    }
}

impl ClusterSource {
    fn membership(&self, peers: &Peers, readings: &mut Readings) {
        let now = self.clock.now();
        let (members, suspect) = self.status.member_counts();
        let (clock_error, clock_off, clock_alarm) = self.status.clock();
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
                "cluster_clock_error_milliseconds",
                "By how much the time of the cluster may be wrong here.",
                clock_error,
            ),
            (
                "cluster_clock_own_difference_milliseconds",
                "By how much the clock of this node differs from that of the cluster.",
                clock_off,
            ),
            (
                "cluster_clock_alarm",
                "1 while a clock is wrong by half a second.",
                clock_alarm.into(),
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

    fn registry(&self, peers: &Peers, readings: &mut Readings) {
        let (topics, bank) = self.status.registry();
        for (name, help, value) in [
            ("topics_known", "Topics that have a znode, or are about to.", topics.known),
            ("topics_waiting", "Topics that wait to be registered.", topics.backlog),
            ("bank_lease_topics", "Znodes this broker may pay for.", bank.lease.topics),
            (
                "bank_lease_bytes",
                "Bytes of znodes this broker may pay for.",
                bank.lease.znode_bytes,
            ),
            (
                "bank_lease_relay_bytes",
                "Bytes of relays this broker may pay for.",
                bank.lease.relay_bytes,
            ),
            ("bank_used_topics", "Znodes this broker pays for.", bank.used.topics),
            ("bank_used_bytes", "Bytes of znodes this broker pays for.", bank.used.znode_bytes),
            (
                "bank_used_relay_bytes",
                "Bytes of relays this broker pays for.",
                bank.used.relay_bytes,
            ),
            (
                "bank_over_budget_topics",
                "Znodes beyond the budget in the last audit of this broker.",
                bank.over_budget.topics,
            ),
        ] {
            readings.gauge(name, help, value);
        }
        bank_free(bank.free, readings);
        for (name, help, value) in [
            ("topics_registered", "Topics registered by this broker.", topics.registered),
            ("topic_values_written", "Values written into znodes.", topics.values_written),
            (
                "topic_values_early",
                "Latest values sent by link, for their turn to be written was not soon.",
                topics.values_early,
            ),
            ("topics_swept", "Expired znodes deleted.", topics.swept),
            ("topics_evicted", "Own registrations deleted to make room.", topics.evicted),
            (
                "topics_orphans_evicted",
                "Registrations of dead brokers deleted to make room.",
                topics.orphans_evicted,
            ),
            ("topics_compared", "Times parts were compared with a peer.", topics.comparisons),
            ("topics_parts_differing", "Parts that differed.", topics.parts_differing),
            ("topics_skipped_system", "Topics that begin with $.", topics.skipped_system),
            ("topics_skipped_long", "Topics whose names are too long.", topics.skipped_long),
            ("topics_refused_rate", "Topics refused: too many waited.", topics.refused_rate),
            ("topics_refused_bank", "Topics refused: no credit.", topics.refused_bank),
            ("topics_refused_full", "Topics refused: too many are known.", topics.refused_full),
            ("topics_unheard", "Topics the registry never heard of.", peers.topics().dropped()),
            ("bank_refusals", "Wishes for which there was no room.", bank.refusals),
            ("bank_top_ups", "Times the lease grew.", bank.top_ups),
            ("bank_refunds", "Times the lease shrank.", bank.refunds),
            ("bank_audits", "Times this broker counted everything.", bank.audits),
            ("bank_corrections", "Audits that corrected the free budget.", bank.corrections),
            ("bank_late_charges", "Znodes charged without asking.", bank.late_charges),
            ("bank_evictions", "Registrations deleted to make room.", bank.evictions),
        ] {
            readings.counter(name, help, value);
        }
    }

    fn relay(&self, peers: &Peers, readings: &mut Readings) {
        let (relay, lanes) = self.status.relay();
        let is_relayed = |peer: &crate::broker::peers::peer::Peer| {
            u64::from(lanes.get(&peer.boot_id()) == Some(&LaneInUse::Relay))
        };
        let live = peers.live();
        let relayed: Vec<_> =
            live.iter().map(|peer| (peer.name().to_string(), is_relayed(peer))).collect();
        readings.gauges(
            "peer_relayed",
            "1 while frames to a peer go through ZooKeeper.",
            "peer",
            relayed,
        );
        readings.gauge(
            "relay_unread_bytes",
            "Bytes in this broker's windows that peers have not read.",
            relay.ring_bytes as u64,
        );
        for (name, help, value) in [
            ("relay_writes", "Writes of windows to ZooKeeper.", relay.writes),
            ("relay_writes_failed", "Those that failed.", relay.failed_writes),
            ("relay_sent_bytes", "Bytes put into this broker's windows.", relay.sent_bytes),
            ("relay_sent_frames", "Frames put into this broker's windows.", relay.sent_frames),
            ("relay_received_bytes", "Bytes of frames taken from windows.", relay.received_bytes),
            ("relay_received_frames", "Frames taken from windows.", relay.received_frames),
            ("relay_begun", "Times a peer's link was given up.", relay.changes_to_relay),
            ("relay_ended", "Times frames went back to a link.", relay.changes_to_link),
            ("relay_rewinds", "Times what was relayed was sent again.", relay.rewinds),
            ("relay_dropped", "Messages of QoS 0 too large to be relayed.", relay.dropped),
            ("relay_left_out", "Times a reader did not move and was left out.", relay.left_out),
            ("relay_stuck", "Times what was relayed made no sense.", relay.stuck),
            ("relay_unfunded", "Times the bank had no room for windows.", relay.unfunded),
            ("relay_unreadable", "Windows that could not be read.", relay.unreadable),
            ("relay_removed", "Windows of dead brokers removed.", relay.removed_rings),
        ] {
            readings.counter(name, help, value);
        }
    }

    fn zookeeper(&self, readings: &mut Readings) {
        let Some(counters) = self.status.zookeeper() else { return };
        readings.gauge(
            "zookeeper_outstanding",
            "Requests that ZooKeeper has not answered.",
            counters.outstanding(),
        );
        readings.gauge(
            "zookeeper_session_timeout_milliseconds",
            "How long ZooKeeper lets the session live without a word from us.",
            u64::try_from(counters.session_timeout().as_millis()).unwrap_or(u64::MAX),
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
        readings.counters(
            "zookeeper_answers_within",
            "Answers of ZooKeeper that took at most so many microseconds.",
            "le",
            latency.buckets.iter().map(|(bound, count)| {
                let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_micros().to_string());
                (bound, *count)
            }),
        );
        readings.counter("zookeeper_answers", "Answers of ZooKeeper.", answers);
        readings.counter(
            "zookeeper_answer_microseconds",
            "How long they took together.",
            u64::try_from(latency.sum.as_micros()).unwrap_or(u64::MAX),
        );
    }
}

/// What may still be had, once this broker has read it: before, nothing could be told from an empty
/// bank.
fn bank_free(free: Option<Funds>, readings: &mut Readings) {
    let Some(Funds { topics, znode_bytes, relay_bytes }) = free else { return };
    for (name, help, value) in [
        ("bank_free_topics", "Znodes of topics that nobody had taken when last read.", topics),
        ("bank_free_bytes", "Bytes of znodes that nobody had taken when last read.", znode_bytes),
        ("bank_free_relay_bytes", "Bytes of relays that nobody had taken then.", relay_bytes),
    ] {
        readings.gauge(name, help, value);
    }
}

fn interest(peers: &Peers, readings: &mut Readings) {
    let (version, _, filters) = peers.interest().summary();
    readings.gauge("interest_filters", "Distinct filters announced to peers.", filters as u64);
    readings.gauge("interest_version", "Changes of them.", version);
    let waiting = peers.interest().waiting_count() as u64;
    readings.gauge("subacks_waiting", "Clients whose SUBACK waits for other brokers.", waiting);
}

fn wills(peers: &Peers, readings: &mut Readings) {
    let counts = peers.wills().counts();
    for (name, help, value) in [
        ("wills_own", "Wills of clients of this broker.", counts.own as u64),
        ("wills_secured", "Those of them that another broker has.", counts.secured as u64),
        ("wills_of_others", "Wills kept for other brokers.", counts.kept as u64),
        ("wills_of_others_bytes", "Their bytes.", counts.kept_bytes),
    ] {
        readings.gauge(name, help, value);
    }
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
        (
            "peer_controls_withheld",
            "Control frames withheld from a peer that does not take them, and told later.",
            each(|peer| peer.lane().counts().withheld),
        ),
        (
            "peer_control_cuts",
            "Times all that was to be told to a peer was given up.",
            each(|peer| peer.lane().counts().cuts),
        ),
    ] {
        readings.counters(name, help, "peer", values);
    }
}
