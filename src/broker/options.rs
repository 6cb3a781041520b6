//! The bounds of a broker. Every one has a counter in [`crate::broker::counters`] and a documented
//! answer.

use std::sync::Arc;

use crate::broker::acknowledge::{Level, TopicLevel};
use crate::broker::latest::LatestOptions;
use crate::broker::telling::Telling;
use crate::session::mailbox::{MailboxOptions, Overflow};

/// What a SUBACK does when another broker takes long to apply the filters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SubackBarrier {
    /// It waits: who has it gets what is published from then on, wherever that is.
    #[default]
    Strict,
    /// It is sent after [`SUBACK_WAIT_MILLIS`] all the same, without that promise.
    Bounded,
}

/// How long a SUBACK waits for other brokers before somebody is told of it.
pub const SUBACK_WAIT_MILLIS: u64 = 500;

/// Bounds and defaults of one broker; what the configuration calls `[limits]`.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Longest Session Expiry Interval; a longer one is shortened and CONNACK says so.
    pub session_expiry_max_secs: u32,
    /// Subscriptions of one client. More: SUBACK 0x97.
    pub subscriptions_per_client_max: usize,
    /// Bytes of the Topic Filters of one client. More: SUBACK 0x97.
    pub subscription_bytes_per_client_max: usize,
    /// Subscriptions of all clients. More: SUBACK 0x97.
    pub subscriptions_max: usize,
    /// Sessions, connected or not. More: CONNACK 0x97.
    pub sessions_max: usize,
    /// Levels of a Topic Name or Topic Filter. More: 0x90 and 0x8F.
    pub topic_levels_max: usize,
    /// Retained messages. More: 0x97.
    pub retained_messages_max: usize,
    /// Bytes of retained messages. More: 0x97.
    pub retained_bytes_max: usize,
    /// Which topics keep their latest value.
    pub latest: LatestOptions,
    /// Bytes of one will. More: CONNACK 0x97.
    pub will_bytes_max: usize,
    /// Bytes of the wills of all Sessions. More: CONNACK 0x97.
    pub wills_bytes_max: u64,
    /// Bytes of packets that are not whole yet, of all connections. More: they are read later.
    pub partial_packets_bytes_max: u64,
    /// Bytes of all queues together.
    pub queued_bytes_max: u64,
    /// Queues of Sessions that outlive their connection.
    pub persistent_queue: Arc<MailboxOptions>,
    /// Queues of Sessions that do not.
    pub clean_queue: Arc<MailboxOptions>,
    /// Entries of one shard's route cache.
    pub cached_routes_max: usize,
    /// Bytes of the Topic Names in one shard's route cache.
    pub cached_topic_bytes_max: usize,
    /// Whether a SUBACK waits for a broker that takes long.
    pub suback_barrier: SubackBarrier,
    /// Topics whose messages are acknowledged at a level of their own; the first that matches holds.
    pub acknowledge_topics: Vec<TopicLevel>,
    /// Milliseconds that CONNECT waits for the store. Then: CONNACK 0x88.
    pub store_wait_millis: u64,
    /// What is told beside connects, disconnects and refusals.
    pub telling: Telling,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        let queue = |overflow| {
            Arc::new(MailboxOptions {
                messages_max: 100_000,
                bytes_max: 64 * MIB,
                qos0_messages_max: 65_536,
                qos0_bytes_max: 16 * MIB,
                overflow,
                full_max_millis: 3_600_000,
            })
        };
        Self {
            session_expiry_max_secs: 7 * 24 * 3_600,
            subscriptions_per_client_max: 200_000,
            subscription_bytes_per_client_max: 16 * MIB,
            subscriptions_max: 10_000_000,
            sessions_max: 1_000_000,
            topic_levels_max: 128,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 256 * MIB,
            latest: LatestOptions::default(),
            will_bytes_max: 256 * 1_024,
            wills_bytes_max: 256 * MIB as u64,
            partial_packets_bytes_max: 1_024 * MIB as u64,
            queued_bytes_max: 4 * 1_024 * MIB as u64,
            persistent_queue: queue(Overflow::Reject),
            clean_queue: queue(Overflow::DropOldest),
            cached_routes_max: 65_536,
            cached_topic_bytes_max: 8 * MIB,
            suback_barrier: SubackBarrier::default(),
            acknowledge_topics: Vec::new(),
            store_wait_millis: 10_000,
            telling: Telling::default(),
        }
    }
}

/// The bounds of one connection; a listener may have its own.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Whether clients that say nothing of who they are may come in.
    pub allow_anonymous: bool,
    /// Largest packet taken, fixed header included. Larger: 0x95 and close.
    pub packet_bytes_max: usize,
    /// Largest CONNECT taken, if that is less.
    pub connect_bytes_max: usize,
    /// QoS 1 and 2 messages taken at a time from one client: our Receive Maximum.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages sent at a time to one client, whatever it would take.
    pub in_flight_max: usize,
    /// Highest Topic Alias taken.
    pub topic_alias_maximum: u16,
    /// Longest Keep Alive, zero for no bound; a longer one is shortened and CONNACK says so.
    pub keep_alive_max_secs: u16,
    /// Milliseconds from the connection to its whole CONNECT.
    pub connect_timeout_millis: u64,
    /// Milliseconds from the first byte of a packet to its last.
    pub packet_timeout_millis: u64,
    /// Milliseconds the authenticator, or the owner of a claimed Session, has for an answer.
    pub auth_timeout_millis: u64,
    /// Milliseconds for which a publish of a client of 3.1.1 waits for room in a queue, zero for none.
    /// Then the connection is closed.
    pub publish_hold_millis: u64,
    /// What PUBACK and PUBREC wait for, where a topic has no level of its own.
    pub acknowledge: Level,
    /// Publishes a second taken from one client, zero for no bound. Faster: it is read later.
    pub publish_rate_max: u32,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            allow_anonymous: true,
            packet_bytes_max: MIB,
            connect_bytes_max: MIB / 2,
            receive_maximum: 1_024,
            in_flight_max: 1_024,
            topic_alias_maximum: 32,
            keep_alive_max_secs: 0,
            connect_timeout_millis: 10_000,
            packet_timeout_millis: 60_000,
            auth_timeout_millis: 10_000,
            publish_hold_millis: 5_000,
            acknowledge: Level::Durable,
            publish_rate_max: 0,
        }
    }
}

const MIB: usize = 1_024 * 1_024;
