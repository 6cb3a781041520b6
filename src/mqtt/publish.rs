//! PUBLISH: carries an Application Message.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use smallvec::SmallVec;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, low_seven_bits, packet_len, varint_len};
use super::{DecodeError, MessageProperties, PacketId, ProtocolVersion, QoS, Sender, TopicName};

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

    /// Reads the body; the payload is what follows the properties.
    #[inline]
    pub(crate) fn decode(
        version: ProtocolVersion,
        sender: Sender,
        first_byte: u8,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let qos = QoS::from_bits((first_byte >> 1) & 0b11).ok_or(DecodeError::QoS)?;
        let dup = first_byte & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DupAtQoS0);
        }
        let mut publish = Self {
            dup,
            qos,
            retain: first_byte & RETAIN != 0,
            topic: reader.topic_name_or_empty()?,
            packet_id: None,
            topic_alias: None,
            subscription_ids: SmallVec::new(),
            properties: None,
            payload: Bytes::new(),
        };
        if qos != QoS::AtMostOnce {
            publish.packet_id = Some(reader.packet_id()?);
        }
        if version.has_properties() {
            publish.read_properties(sender, reader)?;
        }
        if publish.topic.is_empty() && publish.topic_alias.is_none() {
            return Err(DecodeError::EmptyTopicName);
        }
        publish.payload = reader.rest();
        Ok(publish)
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        out.reserve(self.encoded_len(version));
        self.head().encode(version, self.payload.len(), out);
        out.put_slice(&self.payload);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        self.head().encoded_len(version, self.payload.len())
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

    #[inline]
    fn read_properties(
        &mut self,
        sender: Sender,
        reader: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        let mut message = None;
        while let Some(id) = properties.next_id()? {
            match id {
                id::TOPIC_ALIAS => {
                    let alias = NonZeroU16::new(properties.u16()?);
                    self.topic_alias = Some(alias.ok_or(DecodeError::ZeroTopicAlias)?);
                }
                id::SUBSCRIPTION_IDENTIFIER if sender == Sender::Client => {
                    return Err(DecodeError::SubscriptionIdFromClient);
                }
                id::SUBSCRIPTION_IDENTIFIER => {
                    self.subscription_ids.push(properties.subscription_id()?);
                }
                other => message
                    .get_or_insert_with(MessageProperties::default)
                    .read(other, &mut properties)?,
            }
        }
        self.properties = message.map(Arc::new);
        Ok(())
    }
}

impl PublishHead<'_> {
    /// The bytes of the whole packet with a payload of `payload_len` bytes. It must not exceed
    /// [`PACKET_SIZE_MAX`](super::PACKET_SIZE_MAX).
    #[must_use]
    #[inline]
    pub fn encoded_len(&self, version: ProtocolVersion, payload_len: usize) -> usize {
        packet_len(self.remaining_len(version, self.properties_len(version), payload_len))
    }

    /// Appends everything but the payload to `out`.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, payload_len: usize, out: &mut BytesMut) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce);
        let properties_len = self.properties_len(version);
        let remaining_len = self.remaining_len(version, properties_len, payload_len);
        out.reserve(packet_len(remaining_len) - payload_len);
        self.write_fixed_header_and_topic(remaining_len, out);
        if let Some(packet_id) = self.packet_id {
            out.put_u16(packet_id.get());
        }
        if version.has_properties() {
            out.varint(properties_len);
            if properties_len > 0 {
                self.write(version, out);
            }
        }
    }

    /// One write for all that precedes the Topic Name, since every message pays for it.
    #[inline]
    fn write_fixed_header_and_topic(&self, remaining_len: usize, out: &mut BytesMut) {
        let topic_len = u16::try_from(self.topic.len()).expect("at most 65,535 bytes");
        let [high, low] = topic_len.to_be_bytes();
        let first_byte = self.first_byte();
        let seven_bits = low_seven_bits(remaining_len);
        match remaining_len {
            0..=0x7F => out.put_slice(&[first_byte, seven_bits, high, low]),
            0x80..=0x3FFF => {
                let upper = low_seven_bits(remaining_len >> 7);
                out.put_slice(&[first_byte, seven_bits | 0x80, upper, high, low]);
            }
            _ => {
                out.put_u8(first_byte);
                out.varint(remaining_len);
                out.put_u16(topic_len);
            }
        }
        out.put_slice(self.topic.as_bytes());
    }

    #[inline]
    fn first_byte(&self) -> u8 {
        let dup = if self.dup { DUP } else { 0 };
        let retain = if self.retain { RETAIN } else { 0 };
        FIRST_BYTE | dup | self.qos.bits() << 1 | retain
    }

    #[inline]
    fn remaining_len(
        &self,
        version: ProtocolVersion,
        properties_len: usize,
        payload_len: usize,
    ) -> usize {
        let packet_id_len = if self.packet_id.is_some() { 2 } else { 0 };
        let mut len = 2 + self.topic.len() + packet_id_len + payload_len;
        if version.has_properties() {
            len += varint_len(properties_len) + properties_len;
        }
        len
    }

    /// The bytes of the properties, without the Property Length; most messages have none.
    #[inline]
    fn properties_len(&self, version: ProtocolVersion) -> usize {
        let has_none = self.properties.is_none()
            && self.topic_alias.is_none()
            && self.subscription_ids.is_empty()
            && self.message_expiry_interval_secs.is_none();
        if has_none || !version.has_properties() { 0 } else { self.wire_len(version) }
    }
}

/// The properties of the packet, without the Property Length.
impl WireForm for PublishHead<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        let expiry = self.message_expiry_interval_secs;
        let own_expiry = self.properties.and_then(|own| own.message_expiry_interval_secs);
        sink.u32_property(id::MESSAGE_EXPIRY_INTERVAL, expiry.or(own_expiry));
        sink.u16_property(id::TOPIC_ALIAS, self.topic_alias.map(NonZeroU16::get));
        for &subscription_id in self.subscription_ids {
            sink.subscription_id_property(subscription_id);
        }
        if let Some(properties) = self.properties {
            properties.write_without_expiry(sink);
        }
    }
}

const FIRST_BYTE: u8 = 0x30;
const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;
