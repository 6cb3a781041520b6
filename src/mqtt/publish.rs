//! PUBLISH: carries an Application Message.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use smallvec::SmallVec;

use super::{MessageProperties, PacketId, ProtocolVersion, QoS, TopicName};

/// An Application Message on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish {
    /// Whether this may be a re-delivery; never at QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// How surely it is delivered.
    pub qos: QoS,
    /// Whether to keep it, or that it was kept.
    pub retain: bool,
    /// The Topic Name; empty only with a Topic Alias. It has no wildcards [MQTT-3.3.2-2].
    pub topic: ByteString,
    /// Absent exactly at QoS 0 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Stands for the topic on this Network Connection.
    pub topic_alias: Option<NonZeroU16>,
    /// The Subscription Identifiers of the matching subscriptions; only from a Server.
    pub subscription_ids: SmallVec<[u32; 2]>,
    /// The end-to-end properties; `None` when there are none.
    pub properties: Option<Arc<MessageProperties>>,
    /// The Application Message itself.
    pub payload: Bytes,
}

/// A PUBLISH without its payload: what a Server makes anew for each Client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublishHead<'a> {
    /// Whether this may be a re-delivery.
    pub dup: bool,
    /// How surely it is delivered.
    pub qos: QoS,
    /// Whether to keep it, or that it was kept.
    pub retain: bool,
    /// The Topic Name; empty only with a Topic Alias.
    pub topic: &'a str,
    /// Absent exactly at QoS 0.
    pub packet_id: Option<PacketId>,
    /// Stands for the topic on this Network Connection.
    pub topic_alias: Option<NonZeroU16>,
    /// The Subscription Identifiers of the matching subscriptions.
    pub subscription_ids: &'a [u32],
    /// The end-to-end properties.
    pub properties: Option<&'a MessageProperties>,
    /// Overrides the Message Expiry Interval in `properties` [MQTT-3.3.2-6].
    pub message_expiry_interval_secs: Option<u32>,
}

impl Publish {
    /// The Topic Name, unless a Topic Alias stands for it.
    #[must_use]
    pub fn topic_name(&self) -> Option<TopicName> {
        (!self.topic.is_empty()).then(|| TopicName::from_checked(self.topic.clone()))
    }

    /// This packet without its payload.
    #[must_use]
    #[inline]
    pub fn head(&self) -> PublishHead<'_> {
        PublishHead {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.packet_id,
            topic_alias: self.topic_alias,
            subscription_ids: &self.subscription_ids,
            properties: self.properties.as_deref(),
            message_expiry_interval_secs: None,
        }
    }
}

impl PublishHead<'_> {
    /// The bytes of the whole packet with a payload of `payload_len` bytes.
    #[must_use]
    #[inline]
    pub fn encoded_len(&self, version: ProtocolVersion, payload_len: usize) -> usize {
        let _ = (version, payload_len);
        todo!()
    }

    /// Appends everything but the payload to `out`.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, payload_len: usize, out: &mut BytesMut) {
        let _ = (version, payload_len, out);
        todo!()
    }
}

impl Publish {
    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        let _ = (version, out);
        todo!()
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        let _ = version;
        todo!()
    }
}
