//! What is stored, as the broker sees it.

use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::{MessageProperties, PacketId, QoS, SubscriptionOptions, TopicFilter, TopicName};
use crate::ports::auth::SessionUser;
use crate::ports::message::{MessageId, SubscriptionTag};

/// One life of a broker, as owner of Sessions: its boot id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OwnerId(pub u128);

/// Orders the owners of one Client Identifier: the token of its claim. A later owner has a higher
/// one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch {
    /// Goes up when the tree of znodes was made anew.
    pub era: u64,
    /// Of the slot map; for a broker that is alone, the number of its start.
    pub slots: i64,
    /// Counted by whoever gives it.
    pub counter: u64,
}

/// Names one Session for as long as it exists, wherever it is. It is drawn by the broker that makes
/// the Session, is never used twice, and is below 2^63.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// A Session as one of its owners knows it. The owner itself is named once in the batch.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionRef {
    /// Which.
    pub id: SessionId,
    /// Under what claim: anything else stored means that somebody else has it.
    pub epoch: Epoch,
}

/// How long a Session lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionLife {
    /// Session Expiry Interval.
    pub expiry_interval_secs: u32,
    /// When it ends, in milliseconds since 1970: nothing while the client is connected, and nothing
    /// for one that never ends.
    pub expires_at_millis: Option<u64>,
}

/// A Subscription of a Session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredSubscription {
    /// To what.
    pub filter: TopicFilter,
    /// As the client asked for it.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub id: Option<u32>,
}

/// An Application Message. It is stored once, whoever waits for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredMessage {
    /// Its key. Those of one broker should ascend: they are stored in this order.
    pub id: MessageId,
    /// A hash of the publisher's Client Identifier.
    pub publisher: u64,
    /// Where it was published.
    pub topic: TopicName,
    /// What was published.
    pub payload: Bytes,
    /// The properties that travel end to end.
    pub properties: Option<Arc<MessageProperties>>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether the publisher set RETAIN.
    pub retain: bool,
    /// When it expires, in milliseconds since 1970.
    pub expires_at_millis: Option<u64>,
}

/// A will.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredWill {
    /// What is published. Its id is that of the message it will be.
    pub message: StoredMessage,
    /// Will Delay Interval.
    pub delay_interval_secs: u32,
    /// When it is published, in milliseconds since 1970: nothing while the client is connected.
    pub fires_at_millis: Option<u64>,
}

/// Where a queued message stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueuedState {
    /// It waits, or was sent and is not acknowledged.
    Waiting,
    /// QoS 2, PUBREC came: PUBREL is to be sent [MQTT-4.3.3-4].
    Released,
}

/// One message of a Session's queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedMessage {
    /// Its place in the queue.
    pub sequence: u64,
    /// Where it stands.
    pub state: QueuedState,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag as this receiver sees it.
    pub retain: bool,
    /// What the Subscription adds.
    pub tag: Option<Arc<SubscriptionTag>>,
    /// What is delivered; nothing once it is released.
    pub message: Option<Arc<StoredMessage>>,
}

/// The ends of a queue, and how much is in it: places in between may be empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueEnds {
    /// The lowest sequence.
    pub first: u64,
    /// The highest one.
    pub last: u64,
    /// Messages in it.
    pub count: u64,
}

impl QueueEnds {
    /// Below this place a client may have been sent what is there, if nobody said how far it was
    /// sent: no more has a Packet Identifier at a time.
    #[must_use]
    pub fn sent_below_at_most(&self) -> u64 {
        self.first.saturating_add(u64::from(u16::MAX))
    }
}

/// How far a QoS 2 message from the client is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketState {
    /// Not everybody who wants it has it for certain: a PUBLISH that comes again is routed again,
    /// under the same id.
    Routing,
    /// Everybody has it: a PUBLISH that comes again is only answered.
    Routed,
}

/// A QoS 2 message that was received and is not released [MQTT-4.3.3-10].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IncomingRecord {
    /// The client's Packet Identifier.
    pub packet_id: PacketId,
    /// The message it names.
    pub message: MessageId,
    /// How far it is.
    pub state: PacketState,
}

impl IncomingRecord {
    /// Whether it need not be routed again.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.state == PacketState::Routed
    }
}

/// A Session as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord {
    /// Its name and the claim it is held under.
    pub session: SessionRef,
    /// Whose it is.
    pub client_id: Arc<str>,
    /// Of which user.
    pub user: SessionUser,
    /// How long it lasts.
    pub life: SessionLife,
    /// Its will.
    pub will: Option<Arc<StoredWill>>,
    /// Its Subscriptions, in no particular order.
    pub subscriptions: Vec<StoredSubscription>,
    /// Its QoS 2 messages that are not released, by Packet Identifier.
    pub incoming: Vec<IncomingRecord>,
    /// Where its queue begins and ends; nothing for an empty one.
    pub queue: Option<QueueEnds>,
    /// The place that the next message gets.
    pub next_sequence: u64,
    /// Below this place the client may have been sent what is in the queue; nothing while it is
    /// connected, and may be sent all of it.
    pub sent_below: Option<u64>,
}

/// Of two changes to the retained message of one topic, which is the later: the higher one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RetainedVersion {
    /// Hybrid logical time.
    pub time: u64,
    /// Who made the change.
    pub owner: OwnerId,
}

/// The retained message of a topic, or the fact that it was deleted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetainedRecord {
    /// Of what topic.
    pub topic: TopicName,
    /// Which change made it.
    pub version: RetainedVersion,
    /// The message; nothing for one that was deleted.
    pub message: Option<Arc<StoredMessage>>,
}
