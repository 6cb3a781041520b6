//! Application Messages on their way through the broker.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::mqtt::{MessageProperties, QoS, TopicFilter, TopicName, UserProperty};
use crate::ports::clock::Tick;

/// Names one Session, and its mailbox, for as long as the process lives. Never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey(pub u64);

impl SessionKey {
    /// No Session: that of the broker itself.
    pub const BROKER: Self = Self(0);
}

/// Who published a message: a hash of the Client Identifier, so that it is the same on every broker
/// and in every connection. Whoever makes another one's hash hides nothing but messages of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Publisher(pub u64);

impl Publisher {
    /// No client: `$SYS` and wills.
    pub const BROKER: Self = Self(0);
}

/// Tells a message of QoS 1 or 2 from all others in the cluster, by whatever way it comes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId(pub u64);

impl MessageId {
    /// It was not given one: it never leaves its broker, or has QoS 0.
    pub const NONE: Self = Self(0);
}

/// An Application Message the broker has accepted.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// What was published.
    pub payload: Bytes,
    /// The properties that travel end to end; `None` when the publisher gave none.
    pub properties: Option<Arc<MessageProperties>>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether the publisher set RETAIN.
    pub retain: bool,
    /// Who published it, for No Local [MQTT-3.8.3-3].
    pub publisher: Publisher,
    /// Which of all messages it is.
    pub id: MessageId,
    /// When the Message Expiry Interval ends [MQTT-3.3.2-5].
    pub expires_at: Option<Tick>,
    /// Whether topic and payload are slices of a read buffer, which holding on to them would pin.
    pub is_in_transit: bool,
}

impl Message {
    /// One of the broker itself, of QoS 0, with nothing to it but a payload.
    #[must_use]
    pub fn of_broker(topic: TopicName, payload: Bytes) -> Self {
        Self {
            topic,
            payload,
            properties: None,
            qos: QoS::AtMostOnce,
            retain: false,
            publisher: Publisher::BROKER,
            id: MessageId::NONE,
            expires_at: None,
            is_in_transit: false,
        }
    }

    /// Bytes a queue is charged for holding this message: content plus bookkeeping.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, properties_bytes);
        self.topic.as_str().len() + self.payload.len() + properties + BOOKKEEPING_BYTES
    }

    /// Whether the Message Expiry Interval has passed.
    #[must_use]
    pub fn is_expired(&self, now: Tick) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What is left of the Message Expiry Interval, rounded up to seconds [MQTT-3.3.2-6]: never more
    /// than all of it, although the broker that took the message may go a little ahead of us.
    #[must_use]
    pub fn expiry_left_secs(&self, now: Tick) -> Option<u32> {
        let left = self.expires_at?.saturating_since(now).div_ceil(1_000);
        let whole = self.properties.as_deref().and_then(|own| own.message_expiry_interval_secs);
        Some(u32::try_from(left).unwrap_or(u32::MAX).min(whole.unwrap_or(u32::MAX)))
    }

    /// The same message in buffers of its own, for whatever outlives the turn in which it came:
    /// a small slice of a read buffer would pin all of that buffer. Large payloads are most of
    /// theirs and stay.
    #[must_use]
    pub fn detached(&self) -> Self {
        if !self.is_in_transit || self.payload.len() > READ_BLOCK_BYTES_MAX / 2 {
            return Self {
                topic: self.topic.detached(),
                properties: detached_properties(self.properties.as_ref()),
                is_in_transit: false,
                ..self.clone()
            };
        }
        Self {
            topic: self.topic.detached(),
            payload: Bytes::copy_from_slice(&self.payload),
            properties: detached_properties(self.properties.as_ref()),
            is_in_transit: false,
            ..self.clone()
        }
    }
}

/// The same properties in buffers of their own.
#[must_use]
pub fn detached_properties(
    properties: Option<&Arc<MessageProperties>>,
) -> Option<Arc<MessageProperties>> {
    let text = |text: &ByteString| ByteString::from(&**text);
    properties.map(|properties| {
        Arc::new(MessageProperties {
            content_type: properties.content_type.as_ref().map(text),
            response_topic: properties.response_topic.as_ref().map(TopicName::detached),
            correlation_data: properties.correlation_data.as_deref().map(Bytes::copy_from_slice),
            user_properties: properties
                .user_properties
                .iter()
                .map(|user| UserProperty { name: text(&user.name), value: text(&user.value) })
                .collect(),
            ..MessageProperties::clone(properties)
        })
    })
}

/// Bytes that properties take, bookkeeping included.
#[must_use]
pub fn properties_bytes(properties: &MessageProperties) -> usize {
    let users: usize = properties
        .user_properties
        .iter()
        .map(|property| property.name.len() + property.value.len() + BOOKKEEPING_BYTES)
        .sum();
    users
        + properties.content_type.as_ref().map_or(0, |text| text.len())
        + properties.response_topic.as_ref().map_or(0, |topic| topic.as_str().len())
        + properties.correlation_data.as_ref().map_or(0, Bytes::len)
        + BOOKKEEPING_BYTES
}

/// One message for one Session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, shared by all its receivers.
    pub message: Arc<Message>,
    /// What the Subscription adds; `None` when it adds nothing, which is the common case.
    pub tag: Option<Arc<SubscriptionTag>>,
    /// The QoS of this delivery: the lower of publish and Subscription [MQTT-3.8.4-8].
    pub qos: QoS,
    /// The RETAIN flag as this receiver sees it.
    pub retain: bool,
    /// Its place in the queue of a Session that is stored; 0 in all others.
    pub sequence: u64,
    /// What the client may know of it already.
    pub progress: Progress,
}

/// How far a delivery came before the broker was started anew.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Progress {
    /// The client has not been sent it.
    #[default]
    New,
    /// The client may have been sent it: DUP is set [MQTT-3.3.1-1].
    Repeat,
    /// The client has it and said so with PUBREC: PUBREL is due [MQTT-4.3.3-4], and there is no
    /// message any more.
    Released,
}

/// What the Subscriptions behind a delivery add to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SubscriptionTag {
    /// The Subscription Identifiers of all matching Subscriptions [MQTT-3.3.4-4].
    pub subscription_ids: SmallVec<[u32; 2]>,
    /// The whole Topic Filter of the Shared Subscription this was chosen for, `$share/` included:
    /// another member may get the delivery while it has not been sent.
    pub shared_filter: Option<TopicFilter>,
}

impl Delivery {
    /// The Subscription Identifiers to send along.
    #[must_use]
    pub fn subscription_ids(&self) -> &[u32] {
        self.tag.as_deref().map_or(&[], |tag| &tag.subscription_ids)
    }

    /// The Shared Subscription this delivery was chosen for, if it was one.
    #[must_use]
    pub fn shared_filter(&self) -> Option<&TopicFilter> {
        self.tag.as_deref()?.shared_filter.as_ref()
    }
}

/// What a message costs beside its content: the shared header and a place in a queue.
const BOOKKEEPING_BYTES: usize = 96;
/// The largest block that packets and frames are read into together, that of a link, and so what a
/// slice of it pins; whatever is larger has a buffer of its own.
pub const READ_BLOCK_BYTES_MAX: usize = 256 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that was taken by another broker, whose clock was a millisecond ahead of ours, had
    /// 1,001 seconds left of 1,000.
    #[test]
    fn no_more_is_left_of_an_interval_than_all_of_it() {
        let interval = |secs| MessageProperties {
            message_expiry_interval_secs: Some(secs),
            ..MessageProperties::default()
        };
        let message = Message {
            properties: Some(Arc::new(interval(1_000))),
            expires_at: Some(Tick::from_millis(1_000_001)),
            ..Message::of_broker(TopicName::parse("t".into()).unwrap(), Bytes::new())
        };
        let left_at = |millis| message.expiry_left_secs(Tick::from_millis(millis));
        assert_eq!([0, 1, 1_001, 999_002].map(left_at), [1_000, 1_000, 999, 1].map(Some));
    }
}
