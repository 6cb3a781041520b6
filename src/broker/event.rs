//! What happened that somebody outside wants to know: log lines, and the activity log.

use std::sync::Arc;

use crate::broker::card::{ClientCard, Origin};
use crate::mqtt::{QoS, ReasonCode, TopicFilter, TopicName};
use crate::ports::auth::SessionUser;

/// Something worth a line.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client got a successful CONNACK.
    Connected {
        /// The client.
        card: Arc<ClientCard>,
        /// Whether it found its Session.
        session_present: bool,
    },
    /// A CONNECT was refused, or what came instead of one.
    Refused {
        /// Where it came from.
        origin: Origin,
        /// The Client Identifier, if it got that far.
        client_id: Option<Arc<str>>,
        /// The Reason Code of the CONNACK.
        reason_code: ReasonCode,
        /// Why.
        reason: String,
    },
    /// A user came with the Client Identifier of another one's Session, and was refused.
    Foreign {
        /// Where the connection came from.
        origin: Origin,
        /// The Client Identifier.
        client_id: Arc<str>,
        /// Who came.
        user: SessionUser,
        /// Whose it is.
        holder: SessionUser,
    },
    /// A connection ended that had been accepted.
    Disconnected {
        /// The client.
        card: Arc<ClientCard>,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        reason: String,
        /// Messages that its Session's queue has dropped by now, since it began.
        dropped: u64,
    },
    /// A connection ended before it sent anything.
    Silent {
        /// Where it came from.
        origin: Origin,
    },
    /// A client was not allowed to publish or subscribe. At most one of this and
    /// [`Self::PublishRefused`] is there for a client and a second.
    Denied {
        /// The client.
        card: Arc<ClientCard>,
        /// `publish`, `subscribe` or `will`.
        action: &'static str,
        /// The Topic Name or Topic Filter.
        topic: String,
        /// Refusals of this client since the last event that tells of one.
        suppressed: u32,
    },
    /// A publish was refused because a bound was reached.
    PublishRefused {
        /// The client.
        card: Arc<ClientCard>,
        /// The Topic Name.
        topic: String,
        /// Why.
        reason: &'static str,
        /// Refusals of this client since the last event that tells of one.
        suppressed: u32,
    },
    /// Other brokers take long to apply what a client subscribes to. At most one of this,
    /// [`Self::Denied`] and [`Self::PublishRefused`] is there for a client and a second.
    SubackLate {
        /// The client.
        card: Arc<ClientCard>,
        /// The first Topic Filter.
        filter: String,
        /// The brokers that are waited for.
        brokers: Vec<Arc<str>>,
        /// Whether SUBACK is sent all the same.
        is_sent: bool,
        /// Events of this client since the last one.
        suppressed: u32,
    },
    /// A message of the broker itself, such as a will, did not get everywhere. At most one a second of
    /// a shard.
    OwnMessageMissed {
        /// The Topic Name.
        topic: String,
        /// How many full queues it is missing in.
        queues: u32,
        /// Such messages since the last event that tells of one.
        suppressed: u32,
    },
    /// A client subscribed. This and the next two are there where [`Telling`] asks for them.
    ///
    /// [`Telling`]: crate::broker::telling::Telling
    Subscribed {
        /// The client.
        card: Arc<ClientCard>,
        /// What it subscribed to.
        filter: TopicFilter,
        /// The QoS that was granted.
        qos: QoS,
    },
    /// A client unsubscribed.
    Unsubscribed {
        /// The client.
        card: Arc<ClientCard>,
        /// What it unsubscribed from.
        filter: TopicFilter,
    },
    /// A client published what it may.
    Published {
        /// The client.
        card: Arc<ClientCard>,
        /// Where.
        topic: TopicName,
        /// With what QoS.
        qos: QoS,
        /// Bytes of the payload.
        bytes: usize,
        /// Its beginning.
        preview: Box<[u8]>,
        /// For how many publishes it stands.
        every: u32,
    },
    /// A Session with Subscriptions has ended, and they with it. It is there where the last three are.
    SessionEnded {
        /// The client that had it last.
        card: Arc<ClientCard>,
        /// Messages that its queue has dropped.
        dropped: u64,
    },
}
