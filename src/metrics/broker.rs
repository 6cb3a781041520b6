//! What the broker counts and holds, and the bounds it runs with.

use std::sync::Arc;

use super::readings::{Readings, Source};
use crate::broker::Broker;
use crate::broker::counters::Totals;

/// The counters, levels and limits of a broker.
#[derive(Debug)]
pub struct BrokerSource(Arc<Broker>);

impl BrokerSource {
    /// Those of `broker`.
    #[must_use]
    pub fn new(broker: Arc<Broker>) -> Self {
        Self(broker)
    }

    fn levels(&self, totals: &Totals, readings: &mut Readings) {
        let broker = &self.0;
        let (retained, retained_bytes) = broker.retained_counts();
        let (latest, latest_bytes) = broker.latest_counts();
        for (name, help, value) in [
            ("clients_connected", "Connections that have a CONNACK.", totals.connected()),
            ("sessions", "Sessions, connected and parked.", wide(broker.registry().len())),
            ("subscriptions", "Subscriptions.", wide(broker.subscription_count())),
            (
                "shared_subscriptions",
                "Subscriptions that are shared.",
                wide(broker.shared_subscription_count()),
            ),
            (
                "index_nodes",
                "Levels of Topic Filters that the index keeps.",
                wide(broker.index_node_count()),
            ),
            ("retained_messages", "Retained messages.", wide(retained)),
            ("retained_bytes", "Bytes of the retained messages.", wide(retained_bytes)),
            ("latest_values", "Latest values that are kept.", wide(latest)),
            ("latest_values_bytes", "Bytes of the latest values.", wide(latest_bytes)),
            ("queued_bytes", "Bytes that queues hold or have leased.", broker.queued_bytes()),
            (
                "partial_packets_bytes",
                "Bytes of packets that are not whole yet, beyond 8 KiB of each connection.",
                broker.part_budget().used(),
            ),
            ("wills_bytes", "Bytes of the Will Messages that are kept.", broker.will_bytes()),
            (
                "timers",
                "Times at which parked Sessions end or their wills are due.",
                wide(broker.timers().len()),
            ),
            ("draining", "1 while the broker is on its way out.", broker.is_draining().into()),
            (
                "memory_short",
                "1 while memory is above its high-water mark and publishers wait.",
                broker.is_short_of_memory().into(),
            ),
        ] {
            readings.gauge(name, help, value);
        }
    }

    fn limits(&self, readings: &mut Readings) {
        let options = self.0.options();
        let queue = &options.persistent_queue;
        for (name, help, value) in [
            ("limit_sessions", "Sessions there may be.", wide(options.sessions_max)),
            (
                "limit_session_expiry_seconds",
                "Longest Session Expiry Interval.",
                options.session_expiry_max_secs.into(),
            ),
            ("limit_subscriptions", "Subscriptions there may be.", wide(options.subscriptions_max)),
            (
                "limit_subscriptions_per_client",
                "Subscriptions a client may have.",
                wide(options.subscriptions_per_client_max),
            ),
            (
                "limit_subscription_bytes_per_client",
                "Bytes the Topic Filters of a client may have.",
                wide(options.subscription_bytes_per_client_max),
            ),
            (
                "limit_topic_levels",
                "Levels a Topic Name or Topic Filter may have.",
                wide(options.topic_levels_max),
            ),
            (
                "limit_retained_messages",
                "Retained messages there may be.",
                wide(options.retained_messages_max),
            ),
            (
                "limit_retained_bytes",
                "Bytes retained messages may have.",
                wide(options.retained_bytes_max),
            ),
            ("limit_latest_values", "Latest values there may be.", wide(options.latest.values_max)),
            ("limit_latest_values_bytes", "Bytes they may have.", wide(options.latest.bytes_max)),
            (
                "limit_partial_packets_bytes",
                "Bytes packets that are not whole yet may have.",
                options.partial_packets_bytes_max,
            ),
            ("limit_wills_bytes", "Bytes wills may have.", options.wills_bytes_max),
            ("limit_queued_bytes", "Bytes all queues together may have.", options.queued_bytes_max),
            (
                "limit_queue_messages",
                "QoS 1 and 2 messages one queue may have.",
                wide(queue.messages_max),
            ),
            ("limit_queue_bytes", "Bytes of those.", wide(queue.bytes_max)),
            (
                "limit_queue_qos0_messages",
                "QoS 0 messages that may wait in one queue.",
                wide(queue.qos0_messages_max),
            ),
            ("limit_queue_qos0_bytes", "Bytes of those.", wide(queue.qos0_bytes_max)),
        ] {
            readings.gauge(name, help, value);
        }
    }
}

impl Source for BrokerSource {
    fn read(&self, readings: &mut Readings) {
        let totals = self.0.counters().totals();
        for ((name, value), (_, meaning)) in totals.named().into_iter().zip(Totals::MEANINGS) {
            readings.counter(unit_last(name), meaning.trim(), value);
        }
        readings.counter(
            "queues_exceeded",
            "Times a queue was full because all queues together were.",
            self.0.queue_budget_refusals(),
        );
        readings.counter(
            "queue_reserves",
            "Times a queue that held nothing got room although all queues together had too much.",
            self.0.queue_budget_reserves(),
        );
        readings.counter(
            "moved_messages_known",
            "Messages that came to a Session that had them already, from where it was before.",
            self.0.known_messages(),
        );
        readings.counter(
            "moved_messages_forgotten",
            "Messages that a Session forgot it had taken, because it took too many since.",
            self.0.forgotten_messages(),
        );
        self.levels(&totals, readings);
        self.limits(readings);
    }
}

/// `bytes_received` as `received_bytes`: what Prometheus expects, and what lines units up.
fn unit_last(name: &str) -> String {
    let (units, words): (Vec<_>, Vec<_>) = name.split('_').partition(|word| *word == "bytes");
    words.into_iter().chain(units).collect::<Vec<_>>().join("_")
}

fn wide(count: usize) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_last() {
        assert_eq!(unit_last("publish_bytes_received"), "publish_received_bytes");
        assert_eq!(unit_last("takeovers"), "takeovers");
    }
}
