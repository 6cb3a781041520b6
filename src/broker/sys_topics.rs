//! Use case: the broker tells about itself under `$SYS`, in Mosquitto's topics and units.
//!
//! [`SysTopics::round`] turns a reading into the messages to publish: those whose value has changed,
//! retained, so that a subscriber finds the whole tree. They are QoS 0: a queue of a client that is
//! away is for what cannot be read again later.

mod bank;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::counters::Totals;
use crate::broker::publish::DEAD_LETTER_PREFIX;
use crate::cluster::bank::BankReadings;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::message::Message;

/// What the broker, and the process around it, look like at one moment.
#[derive(Clone, Debug, Default)]
pub struct SysReading {
    /// The moment.
    pub now: Tick,
    /// What has been counted.
    pub totals: Totals,
    /// Sockets accepted since the start.
    pub sockets_accepted: u64,
    /// Memory the process holds.
    pub resident_bytes: u64,
    /// Sessions, connected and parked.
    pub sessions: u64,
    /// Subscriptions, shared ones included.
    pub subscriptions: u64,
    /// Shared Subscriptions.
    pub shared_subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Bytes that queues hold or have leased.
    pub queued_bytes: u64,
    /// Bytes of wills.
    pub wills_bytes: u64,
    /// Levels of Topic Filters in the index.
    pub index_nodes: u64,
    /// Times at which something of a parked Session is due.
    pub timers: u64,
    /// The bank, where the broker is one of several.
    pub bank: Option<BankReadings>,
}

impl SysReading {
    /// Reads `broker`. What the process around it knows is given: the sockets accepted since the
    /// start, and the memory it holds.
    #[must_use]
    pub fn of(broker: &Broker, now: Tick, sockets_accepted: u64, resident_bytes: u64) -> Self {
        let (retained_messages, retained_bytes) = broker.retained_counts();
        Self {
            now,
            totals: broker.counters().totals(),
            sockets_accepted,
            resident_bytes,
            sessions: broker.registry().len() as u64,
            subscriptions: broker.subscription_count() as u64,
            shared_subscriptions: broker.shared_subscription_count() as u64,
            retained_messages: retained_messages as u64,
            retained_bytes: retained_bytes as u64,
            queued_bytes: broker.queued_bytes(),
            wills_bytes: broker.will_bytes(),
            index_nodes: broker.index_node_count() as u64,
            timers: broker.timers().len() as u64,
            bank: None,
        }
    }

    /// Sessions without a connection. A connect may be counted before its Session is.
    fn parked(&self) -> u64 {
        self.sessions.saturating_sub(self.totals.connected())
    }
}

/// The `$SYS` tree: what was published, and what the averages remember.
#[derive(Debug)]
pub struct SysTopics {
    /// By their names below [`ROOT`]. One may come later than others, when there is a value.
    topics: BTreeMap<String, Topic>,
    version: String,
    earlier: Option<SysReading>,
    connected_max: u64,
    resident_bytes_max: u64,
    /// One for each of [`LOADS`].
    loads: Vec<[f64; AVERAGES.len()]>,
}

/// One topic, and what is retained there.
#[derive(Debug)]
struct Topic {
    name: TopicName,
    published: String,
}

impl SysTopics {
    /// A tree of which nothing has been published. `version` names the program and its version.
    #[must_use]
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            topics: BTreeMap::new(),
            version: version.into(),
            earlier: None,
            connected_max: 0,
            resident_bytes_max: 0,
            loads: vec![[0.0; AVERAGES.len()]; LOADS.len()],
        }
    }

    /// The messages of one round. The first one has every topic there is; averages begin at zero.
    pub fn round(&mut self, reading: SysReading) -> Vec<Message> {
        self.connected_max = self.connected_max.max(reading.totals.connected());
        self.resident_bytes_max = self.resident_bytes_max.max(reading.resident_bytes);
        self.average(&reading);
        let values = self.values(&reading);
        self.earlier = Some(reading);
        let publish = |(name, value): (String, String)| {
            let topic = self.topics.entry(name).or_insert_with_key(|name| Topic::new(name));
            topic.publish(value)
        };
        values.into_iter().filter_map(publish).collect()
    }

    /// Moves the averages on, as Mosquitto does: what happened since the last reading, as a rate per
    /// minute, with a weight that fades exponentially.
    fn average(&mut self, reading: &SysReading) {
        let Some(earlier) = &self.earlier else { return };
        let millis = reading.now.saturating_since(earlier.now);
        if millis == 0 {
            return;
        }
        let minutes = approximate(millis) / 60_000.0;
        for ((_, count), averages) in LOADS.iter().zip(&mut self.loads) {
            let happened = count(reading).saturating_sub(count(earlier));
            let rate = approximate(happened) / minutes;
            for ((_, window), average) in AVERAGES.iter().zip(averages) {
                *average = rate + (-minutes / window).exp() * (*average - rate);
            }
        }
    }

    fn values(&self, reading: &SysReading) -> Vec<(String, String)> {
        let mut values = vec![
            ("version".to_owned(), self.version.clone()),
            ("uptime".to_owned(), format!("{} seconds", reading.now.as_millis() / 1_000)),
            ("clients/maximum".to_owned(), self.connected_max.to_string()),
            ("heap/maximum".to_owned(), self.resident_bytes_max.to_string()),
        ];
        for (name, value) in VALUES {
            values.push((name.to_owned(), value(reading).to_string()));
        }
        for ((name, _), averages) in LOADS.iter().zip(&self.loads) {
            for ((window, _), average) in AVERAGES.iter().zip(averages) {
                values.push((format!("load/{name}/{window}"), format!("{average:.2}")));
            }
        }
        values.extend(reading.bank.iter().flat_map(bank::values));
        for (name, value) in reading.totals.named() {
            values.push((format!("mqttzoo/{name}"), value.to_string()));
        }
        values
    }
}

impl Topic {
    /// Nothing is retained there yet.
    fn new(name: &str) -> Self {
        let name = TopicName::parse(format!("{ROOT}{name}").into());
        let name = name.expect("our own names are topic names");
        Self { name, published: String::new() }
    }

    /// The message that puts `value` there, unless it is there already.
    fn publish(&mut self, value: String) -> Option<Message> {
        if self.published == value {
            return None;
        }
        self.published.clone_from(&value);
        let message = Message::of_broker(self.name.clone(), Bytes::from(value));
        Some(Message { retain: true, ..message })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average with two decimals is not exact anyway")]
fn approximate(count: u64) -> f64 {
    count as f64
}

/// Something to read off.
type Read = fn(&SysReading) -> u64;

/// Whether only the broker publishes to this topic, whatever a client may otherwise.
pub(crate) fn is_reserved(topic: &str) -> bool {
    let reserved = [SYS_PREFIX, "$share/", DEAD_LETTER_PREFIX];
    topic.starts_with('$') && reserved.iter().any(|prefix| topic.starts_with(prefix))
}

/// What the broker's own topics start with: all of them are below.
pub(crate) const SYS_PREFIX: &str = "$SYS/";
const ROOT: &str = "$SYS/broker/";

/// The averages: their names, and their windows in minutes.
const AVERAGES: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// What is averaged.
const LOADS: [(&str, Read); 9] = [
    ("messages/received", |now| now.totals.packets_received),
    ("messages/sent", |now| now.totals.packets_sent + now.totals.publishes_sent),
    ("publish/dropped", |now| now.totals.deliveries_dropped),
    ("publish/received", |now| now.totals.publishes_received),
    ("publish/sent", |now| now.totals.publishes_sent),
    ("bytes/received", |now| now.totals.bytes_received),
    ("bytes/sent", |now| now.totals.bytes_sent),
    ("sockets", |now| now.sockets_accepted),
    ("connections", |now| now.totals.connects_accepted + now.totals.connects_refused),
];

/// What is published as it is read: first Mosquitto's topics, then our own.
const VALUES: [(&str, Read); 30] = [
    ("clients/total", |now| now.sessions),
    ("clients/connected", |now| now.totals.connected()),
    ("clients/disconnected", SysReading::parked),
    // Mosquitto's older names of the two.
    ("clients/active", |now| now.totals.connected()),
    ("clients/inactive", SysReading::parked),
    ("clients/expired", |now| now.totals.sessions_expired),
    ("messages/received", |now| now.totals.packets_received),
    ("messages/sent", |now| now.totals.packets_sent + now.totals.publishes_sent),
    // Mosquitto's older name of store/messages/count.
    ("messages/stored", |now| now.retained_messages),
    ("store/messages/count", |now| now.retained_messages),
    ("store/messages/bytes", |now| now.retained_bytes),
    ("retained messages/count", |now| now.retained_messages),
    ("publish/messages/dropped", |now| now.totals.deliveries_dropped),
    ("publish/messages/received", |now| now.totals.publishes_received),
    ("publish/messages/sent", |now| now.totals.publishes_sent),
    ("publish/bytes/received", |now| now.totals.publish_bytes_received),
    ("publish/bytes/sent", |now| now.totals.publish_bytes_sent),
    ("bytes/received", |now| now.totals.bytes_received),
    ("bytes/sent", |now| now.totals.bytes_sent),
    ("subscriptions/count", |now| now.subscriptions.saturating_sub(now.shared_subscriptions)),
    ("shared_subscriptions/count", |now| now.shared_subscriptions),
    ("heap/current", |now| now.resident_bytes),
    ("mqttzoo/sessions", |now| now.sessions),
    ("mqttzoo/sessions_parked", SysReading::parked),
    ("mqttzoo/sockets_accepted", |now| now.sockets_accepted),
    ("mqttzoo/queued_bytes", |now| now.queued_bytes),
    ("mqttzoo/retained_bytes", |now| now.retained_bytes),
    ("mqttzoo/wills_bytes", |now| now.wills_bytes),
    ("mqttzoo/index_nodes", |now| now.index_nodes),
    ("mqttzoo/timers", |now| now.timers),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::QoS;

    fn at(secs: u32, publishes_received: u64) -> SysReading {
        let totals = Totals { publishes_received, connects_accepted: 2, ..Totals::default() };
        SysReading { now: Tick::ZERO.plus_secs(secs), totals, sessions: 3, ..SysReading::default() }
    }

    fn value(messages: &[Message], name: &str) -> Option<String> {
        let topic = format!("{ROOT}{name}");
        let message = messages.iter().find(|message| message.topic.as_str() == topic)?;
        Some(String::from_utf8(message.payload.to_vec()).unwrap())
    }

    #[test]
    fn the_first_round_has_everything_and_a_later_one_what_has_changed() {
        let mut topics = SysTopics::new("mqttzoo version 1");
        let first = topics.round(at(0, 0));
        assert!(first.iter().all(|message| message.retain && message.qos == QoS::AtMostOnce));
        assert_eq!(value(&first, "version").unwrap(), "mqttzoo version 1");
        assert_eq!(value(&first, "uptime").unwrap(), "0 seconds");
        assert_eq!(value(&first, "clients/connected").unwrap(), "2");
        assert_eq!(value(&first, "clients/disconnected").unwrap(), "1");
        assert_eq!(value(&first, "load/publish/received/1min").unwrap(), "0.00");
        assert_eq!(value(&first, "mqttzoo/publishes_refused").unwrap(), "0");
        let second = topics.round(at(10, 0));
        assert_eq!(second.len(), 1, "only the time has changed");
        assert_eq!(value(&second, "uptime").unwrap(), "10 seconds");
    }

    /// 100 publishes in 10 s are 600 a minute; after 10 s the average of a minute has come to
    /// 600 * (1 - e^(-1/6)) of it.
    #[test]
    fn loads_are_rates_per_minute_that_fade() {
        let mut topics = SysTopics::new("");
        drop(topics.round(at(0, 0)));
        let round = topics.round(at(10, 100));
        assert_eq!(value(&round, "load/publish/received/1min").unwrap(), "92.11");
        assert_eq!(value(&round, "load/publish/received/5min").unwrap(), "19.67");
        assert_eq!(value(&round, "load/publish/received/15min").unwrap(), "6.63");
        let round = topics.round(at(70, 100));
        assert_eq!(value(&round, "load/publish/received/1min").unwrap(), "33.89", "92.11 / e");
    }

    #[test]
    fn maxima_stay() {
        let mut topics = SysTopics::new("");
        let high = SysReading { resident_bytes: 7, ..at(0, 0) };
        drop(topics.round(high));
        let round = topics.round(SysReading { resident_bytes: 5, ..at(1, 0) });
        assert_eq!(value(&round, "heap/current").unwrap(), "5");
        assert_eq!(value(&round, "heap/maximum"), None, "7 is retained");
    }

    #[test]
    fn no_topic_is_there_twice() {
        let mut names: Vec<_> =
            SysTopics::new("x").round(at(0, 0)).into_iter().map(|m| m.topic).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
