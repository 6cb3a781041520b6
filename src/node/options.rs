//! From the configuration to the options of each part. Only here do both meet.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use crate::broker::acknowledge::{Level, TopicLevel};
use crate::broker::latest::LatestOptions;
use crate::broker::options::{BrokerOptions, ConnectionOptions, SubackBarrier};
use crate::config::{
    AcknowledgeLevel, BarrierPolicy, Config, Limits, Listener, ListenerAddress, ListenerKind,
    LogFormat, LogLevel, OverflowPolicy, Propagation, TopicAcknowledge,
};
use crate::net::{
    ConnectRate, Endpoint, ListenerLimits, ListenerOptions, TlsOptions, WebSocketOptions,
};
use crate::node::StartError;
use crate::runtime::limits::{OpenFiles, memory_limit_bytes};
use crate::runtime::logging;
use crate::session::mailbox::{MailboxOptions, Overflow};

/// One shard per core unless told otherwise.
pub(super) fn threads(config: &Config) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    config.broker.threads.map_or_else(cores, usize::from)
}

pub(super) fn logging(config: &Config) -> logging::Options {
    logging::Options {
        level: level(config.log.log),
        form: match config.log.log_format {
            LogFormat::Human => logging::Form::Human,
            LogFormat::Json => logging::Form::Json,
        },
        file: config.log.log_file.clone(),
    }
}

pub(super) fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

pub(super) fn broker(config: &Config) -> BrokerOptions {
    let limits = &config.limits;
    let queued_bytes_max =
        limits.queues_bytes_max.map_or_else(half_of_memory, |size| size.0 as u64);
    BrokerOptions {
        store_wait_millis: u64::from(config.broker.store_wait_secs.get()) * 1_000,
        session_expiry_max_secs: limits.session_expiry_max_secs.get(),
        subscriptions_per_client_max: limits.subscriptions_per_client_max.get(),
        subscription_bytes_per_client_max: limits.subscription_bytes_per_client_max.0,
        subscriptions_max: limits
            .subscriptions_max
            .map_or_else(subscriptions_that_fit, NonZeroUsize::get),
        sessions_max: limits.sessions_max.get(),
        topic_levels_max: limits.topic_levels_max.get(),
        retained_messages_max: limits.retained_messages_max.get(),
        retained_bytes_max: limits.retained_bytes_max.0,
        latest: LatestOptions {
            filters: config.last_value.last_value.clone(),
            ttl_millis: u64::from(config.last_value.last_value_ttl_secs.get()) * 1_000,
            values_max: config.last_value.last_value_topics_max.get(),
            bytes_max: config.last_value.last_value_bytes_max.0,
        },
        partial_packets_bytes_max: limits
            .partial_packets_bytes_max
            .map_or_else(eighth_of_memory, |size| size.0 as u64),
        wills_bytes_max: limits.wills_bytes_max.0 as u64,
        will_bytes_max: limits.will_bytes_max.0,
        queued_bytes_max,
        persistent_queue: Arc::new(mailbox(limits, limits.overflow_persistent)),
        clean_queue: Arc::new(mailbox(limits, limits.overflow_clean)),
        suback_barrier: match config.cluster.suback_barrier {
            BarrierPolicy::Strict => SubackBarrier::Strict,
            BarrierPolicy::Bounded => SubackBarrier::Bounded,
        },
        acknowledge_topics: topic_levels(config),
        telling: super::activity::telling(config),
        ..BrokerOptions::default()
    }
}

fn mailbox(limits: &Limits, overflow: OverflowPolicy) -> MailboxOptions {
    MailboxOptions {
        messages_max: limits.queue_messages_max.get(),
        bytes_max: limits.queue_bytes_max.0,
        qos0_messages_max: limits.queue_qos0_messages_max.get(),
        qos0_bytes_max: limits.queue_qos0_bytes_max.0,
        overflow: match overflow {
            OverflowPolicy::Reject => Overflow::Reject,
            OverflowPolicy::DropOldest => Overflow::DropOldest,
            OverflowPolicy::DropNewest => Overflow::DropNewest,
            OverflowPolicy::DeadLetter => Overflow::DeadLetter,
            OverflowPolicy::Disconnect => Overflow::Disconnect,
        },
        full_max_millis: u64::from(limits.queue_full_max_secs.get()) * 1_000,
    }
}

/// Every listener with the bounds of its connections.
pub(super) fn listeners(config: &Config) -> Vec<(ListenerOptions, ConnectionOptions)> {
    let each = |one: &Listener| (listener(config, one), connection(config, one));
    config.listeners.iter().map(each).collect()
}

fn listener(config: &Config, from: &Listener) -> ListenerOptions {
    let endpoint = match &from.address {
        ListenerAddress::Unix(path) => Endpoint::Unix { path: path.clone() },
        ListenerAddress::Inet { hosts, port } => {
            let hosts = hosts.iter().map(ToString::to_string).collect();
            Endpoint::Tcp { hosts, port: *port }
        }
    };
    let speaks_websocket = matches!(from.kind, ListenerKind::Ws | ListenerKind::Wss);
    ListenerOptions {
        name: from.to_string(),
        endpoint,
        tls: from.tls.as_ref().map(|files| TlsOptions {
            certificate: files.cert.clone(),
            key: files.key.clone(),
            client_ca: files.cafile.clone(),
        }),
        websocket: speaks_websocket.then(|| WebSocketOptions { path: from.ws_path.clone() }),
        proxy_protocol: from.proxy_protocol,
        limits: listener_limits(&config.limits, from),
    }
}

fn listener_limits(limits: &Limits, listener: &Listener) -> ListenerLimits {
    let secs = |secs: NonZeroU32| Duration::from_secs(secs.get().into());
    let own = &listener.limits;
    ListenerLimits {
        connections_max: own.connections_max.map_or(usize::MAX, usize::from),
        half_open_max: limits.half_open_max.get(),
        handshake_timeout: secs(limits.handshake_timeout_secs),
        connections_per_address_max: own
            .connections_per_address_max
            .map(|max| u32::try_from(max.get()).unwrap_or(u32::MAX)),
        connect_rate_per_address: own
            .connect_rate_max
            .map(|rate| ConnectRate { per_sec: rate.get(), burst: rate.get() }),
        tcp_keep_alive: secs(limits.tcp_keep_alive_secs),
        tcp_user_timeout: secs(limits.write_timeout_secs),
    }
}

fn connection(config: &Config, listener: &Listener) -> ConnectionOptions {
    let limits = &config.limits;
    let own = &listener.limits;
    let millis = |secs: NonZeroU32| u64::from(secs.get()) * 1_000;
    ConnectionOptions {
        allow_anonymous: listener.allow_anonymous,
        packet_bytes_max: own.packet_bytes_max.0.min(relayed_bytes_max(config)),
        connect_bytes_max: limits.will_bytes_max.0.saturating_add(CONNECT_BYTES_BESIDE_WILL),
        receive_maximum: own.in_flight_max.get(),
        in_flight_max: own.in_flight_max.get().into(),
        topic_alias_maximum: own.topic_alias_max,
        keep_alive_max_secs: own.keep_alive_max_secs.map_or(0, NonZeroU16::get),
        connect_timeout_millis: millis(limits.handshake_timeout_secs),
        packet_timeout_millis: millis(limits.packet_timeout_secs),
        auth_timeout_millis: millis(config.auth.auth_timeout_secs),
        publish_hold_millis: limits.publish_hold_secs.map_or(0, millis),
        acknowledge: acknowledge(listener.acknowledge),
        publish_rate_max: own.publish_rate_max.map_or(0, NonZeroU32::get),
    }
}

fn acknowledge(level: AcknowledgeLevel) -> Level {
    match level {
        AcknowledgeLevel::Accepted => Level::Accepted,
        AcknowledgeLevel::Enqueued => Level::Enqueued,
        AcknowledgeLevel::Durable => Level::Durable,
    }
}

fn topic_levels(config: &Config) -> Vec<TopicLevel> {
    let rules = config.acknowledge.acknowledge_topics.iter();
    let level = |rule: &TopicAcknowledge| {
        let (filter, level) = (rule.filter.clone(), acknowledge(rule.level));
        TopicLevel { filter, level }
    };
    rules.map(level).collect()
}

/// The largest packet that reaches all brokers: where there are no links, what the relay takes.
fn relayed_bytes_max(config: &Config) -> usize {
    let cluster = &config.cluster;
    let is_relayed = cluster.zookeeper.is_some() && cluster.propagation == Propagation::Znodes;
    if is_relayed { cluster.relay_message_max.0 } else { usize::MAX }
}

/// A broker that can take nobody in does not start.
pub(super) fn require_files_for_connections(open_files: OpenFiles) -> Result<(), StartError> {
    match open_files.after {
        Some(allowed) if allowed <= OWN_FILES => Err(StartError::TooFewFiles { allowed }),
        _ => Ok(()),
    }
}

/// As many connections as the configuration says, or as file descriptors allow.
pub(super) fn connections_max(config: &Config, open_files: OpenFiles) -> usize {
    let files = open_files.after.unwrap_or(u64::MAX).saturating_sub(OWN_FILES);
    let allowed = usize::try_from(files).unwrap_or(usize::MAX);
    config.limits.connections_max.map_or(allowed, |max| allowed.min(max.get()))
}

/// Into a quarter of memory.
fn subscriptions_that_fit() -> usize {
    let bytes = memory_limit_bytes().map_or(SUBSCRIPTIONS_BYTES_DEFAULT, |bytes| bytes / 4);
    usize::try_from(bytes / SUBSCRIPTION_BYTES).unwrap_or(usize::MAX)
}

fn eighth_of_memory() -> u64 {
    memory_limit_bytes().map_or(PARTIAL_BYTES_DEFAULT, |bytes| bytes / 8)
}

fn half_of_memory() -> u64 {
    memory_limit_bytes().map_or(QUEUED_BYTES_DEFAULT, |bytes| bytes / 2)
}

/// File descriptors a broker needs for itself.
const OWN_FILES: u64 = 64;
/// What a Subscription costs, with a Topic Filter of usual length; 290 were measured.
const SUBSCRIPTION_BYTES: u64 = 300;
/// Client Identifier, user name and password at their longest, and as much for properties.
const CONNECT_BYTES_BESIDE_WILL: usize = 4 * 64 * 1_024;
/// Where the machine does not tell how much memory it has.
const PARTIAL_BYTES_DEFAULT: u64 = 1 << 28;
/// The same for Subscriptions.
const SUBSCRIPTIONS_BYTES_DEFAULT: u64 = 1 << 30;
/// The same for queues.
const QUEUED_BYTES_DEFAULT: u64 = 1 << 30;
