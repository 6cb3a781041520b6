//! The bounds: the `[limits]` table of the file.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};

use super::{
    option::options,
    value::{ByteSize, Percent, above_zero, choices, count},
};

options! {
    /// What a client, and all of them together, may cost. Each bound has a counter in `/metrics` and
    /// an answer. `off` is written where a bound may be absent.
    #[heading = "Limits"]
    #[table = "limits"]
    pub struct Limits {
        /// Connections of the whole broker. As many as file descriptors allow when off. One more is
        /// closed at once.
        connections_max: Option<NonZeroUsize> as "N" = None,
        /// Connections from one IP address (for IPv6: from one /64). One more is closed at once.
        connections_per_address_max: Option<NonZeroUsize> as "N" = None,
        /// New connections per second from one IP address (for IPv6: from one /64). One more is
        /// closed at once.
        connect_rate_max: Option<NonZeroU32> as "N" = None,
        /// PUBLISH packets per second from one client. The broker reads no more from it until the
        /// second is over.
        publish_rate_max: Option<NonZeroU32> as "N" = None,
        /// Connections of one listener that have not finished TLS, WebSocket or CONNECT. One more
        /// is closed at once.
        half_open_max: NonZeroUsize as "N" = count(10_000),
        /// Seconds from accepting a connection to the last byte of its CONNECT. Then it is closed.
        handshake_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(10),
        /// Seconds from the first byte of a packet to its last. Then the connection is closed.
        packet_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(60),
        /// Seconds for which sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`). Then the
        /// connection is closed.
        write_timeout_secs: NonZeroU32 as "SECONDS" = above_zero(60),
        /// Seconds of silence after which TCP itself asks whether the peer is there.
        tcp_keep_alive_secs: NonZeroU32 as "SECONDS" = above_zero(60),
        /// Seconds for which a plain TCP connection has nothing to do before it is parked: it is kept
        /// with less memory until there is something. It takes up to twice as long to notice.
        park_after_secs: u32 as "SECONDS" = 5,
        /// The longest keep alive, in seconds. A longer one, and none at all, is cut to this, as the
        /// client is told in CONNACK. A client of MQTT 3.1.1 cannot be told and keeps its own.
        keep_alive_max_secs: Option<NonZeroU16> as "SECONDS" = None,

        /// The largest packet accepted; told in CONNACK. A larger one is answered with 0x95 (packet
        /// too large) and the connection closed. At least 128 bytes.
        packet_bytes_max: ByteSize as "SIZE" = ByteSize::mib(1),
        /// Bytes of packets of all connections that have come in part, but for 8 KiB of each connection;
        /// clients that have not been let in have half of it. An eighth of the memory the broker may
        /// use when off. Beyond it the rest of a packet is not read until there is room, one client at
        /// a time, and `packet_timeout_secs` or `handshake_timeout_secs` ends the connection.
        partial_packets_bytes_max: Option<ByteSize> as "SIZE" = None,
        /// Levels of a topic name or filter. More are refused with 0x90 or 0x8F (invalid).
        topic_levels_max: NonZeroUsize as "N" = count(128),
        /// QoS 1 and 2 messages in flight to a client, and from one; told as Receive Maximum. A
        /// client that sends more is disconnected with 0x93.
        in_flight_max: NonZeroU16 as "N" = NonZeroU16::new(1_024).expect("it is above zero"),
        /// Topic aliases a client may use; told in CONNACK. The topics it sets them for have at most
        /// 64 KiB together; a client that sets more is disconnected with 0x97.
        topic_alias_max: u16 as "N" = 32,
        /// Subscriptions of one client. One more is refused with 0x97 (quota exceeded).
        subscriptions_per_client_max: NonZeroUsize as "N" = count(200_000),
        /// Bytes of the topic filters of one client. One that needs more is refused with 0x97 (quota
        /// exceeded).
        subscription_bytes_per_client_max: ByteSize as "SIZE" = ByteSize::mib(16),

        /// Subscriptions of all clients, connected or not, and in a cluster the filters that clients of
        /// other brokers have. One more is refused with 0x97 (quota
        /// exceeded). As many as a quarter of the memory the broker may use has room for, at 300 bytes
        /// each, when off: those of persistent Sessions come back with every start, so that there must
        /// not be more than fit.
        subscriptions_max: Option<NonZeroUsize> as "N" = None,

        /// Sessions, connected and parked. A CONNECT that needs one more is refused with 0x97.
        sessions_max: NonZeroUsize as "N" = count(1_000_000),
        /// The longest session expiry, in seconds; told in CONNACK. A longer one is cut to this.
        session_expiry_max_secs: NonZeroU32 as "SECONDS" = above_zero(604_800),
        /// QoS 1 and 2 messages queued for one Session. The overflow policy answers the next one.
        queue_messages_max: NonZeroUsize as "N" = count(100_000),
        /// Bytes of the QoS 1 and 2 messages queued for one Session. The overflow policy answers the
        /// next one.
        queue_bytes_max: ByteSize as "SIZE" = ByteSize::mib(64),
        /// QoS 0 messages waiting for one connection. The next one is dropped and counted.
        queue_qos0_messages_max: NonZeroUsize as "N" = count(65_536),
        /// Bytes of the QoS 0 messages waiting for one connection. The next one is dropped and
        /// counted.
        queue_qos0_bytes_max: ByteSize as "SIZE" = ByteSize::mib(16),
        /// Bytes of all queues in memory together; a message counts once for each queue it waits in.
        /// Half of the memory the broker may use when off. Beyond it a queue that is stored goes on in
        /// the store alone, and every other one is full, but for an empty one of a connected client:
        /// that always gets room for a message. QoS 0 takes at most half, and is dropped and counted
        /// beyond it.
        queues_bytes_max: Option<ByteSize> as "SIZE" = None,
        /// What happens to a QoS 1 or 2 message for a full queue of a Session that outlives its
        /// connection: `reject` (the publisher is told 0x97), `drop_oldest`, `drop_newest`,
        /// `dead_letter`, `disconnect` (the slow client). Every policy but `reject` may lose
        /// acknowledged messages. The oldest is one that was not sent, and is stored: where there is
        /// none the new message is dropped. Where it is in the store alone it is read first, and up to
        /// 256 messages more than the bound wait meanwhile. With `dead_letter` the oldest message that
        /// waits is published anew, for `a/b` to `$dead-letter/a/b`, where no client may publish:
        /// whoever may subscribe to `$dead-letter/#` gets what was meant for others.
        overflow_persistent: OverflowPolicy as "POLICY" = OverflowPolicy::Reject,
        /// The same for a Session that ends with its connection.
        overflow_clean: OverflowPolicy as "POLICY" = OverflowPolicy::DropOldest,
        /// Seconds after which a queue that stayed full falls back from `reject` to `drop_oldest`,
        /// so that one absent client cannot stop a topic for ever.
        queue_full_max_secs: NonZeroU32 as "SECONDS" = above_zero(3_600),
        /// Seconds for which a publish of QoS 1 or 2 waits for room in a queue that refuses it, when
        /// its client speaks MQTT 3.1.1 and cannot be told. At most 128 publishes of a client wait;
        /// its acknowledgements are read meanwhile. Then the connection is closed; at once when off.
        /// For a queue on another broker it is not tried again in that time.
        publish_hold_secs: Option<NonZeroU32> as "SECONDS" = Some(above_zero(5)),

        /// Retained messages. One more is refused with 0x97.
        retained_messages_max: NonZeroUsize as "N" = count(1_000_000),
        /// Bytes of the retained messages. What goes beyond is refused with 0x97.
        retained_bytes_max: ByteSize as "SIZE" = ByteSize::mib(256),
        /// Bytes of the will messages of all Sessions. A CONNECT that goes beyond is refused with
        /// 0x97.
        wills_bytes_max: ByteSize as "SIZE" = ByteSize::mib(256),
        /// Bytes of the will message of one client. A CONNECT with a larger one is refused with 0x97.
        /// A whole CONNECT has room for 256 KiB beside it; a larger one is refused with 0x95.
        will_bytes_max: ByteSize as "SIZE" = ByteSize::kib(256),
        /// The share of the memory of the machine or cgroup, in percent, above which the broker
        /// stops reading from publishers, and holds SUBSCRIBE back, until it has sunk again; the rest
        /// of a packet of which 8 KiB are here waits as well, for `packet_timeout_secs`. A
        /// SUBSCRIBE of up to 4 KiB of a client with fewer than 128 subscriptions is not held back.
        memory_high_water_percent: Percent as "PERCENT" = Percent(70),
    }
}

choices! {
    /// What happens to a QoS 1 or 2 message for a full queue.
    pub enum OverflowPolicy {
        /// It is refused; the publisher is told 0x97.
        Reject = "reject",
        /// The oldest message of the queue makes room.
        DropOldest = "drop_oldest",
        /// It is dropped.
        DropNewest = "drop_newest",
        /// It goes to the dead letters.
        DeadLetter = "dead_letter",
        /// The slow client is disconnected.
        Disconnect = "disconnect",
    }
    expected "reject, drop_oldest, drop_newest, dead_letter, disconnect"
}
