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
        if version.has_properties() && !reader.skip_no_properties() {
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
            len = len.saturating_add(varint_len(properties_len) + properties_len);
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

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::super::vectors::{
        check_both_ways, check_one_way, check_refused, parse, text, user_property,
    };
    use super::super::{Packet, ReasonCode};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        check_both_ways(
            Sender::Client,
            &[
                (V31, "30 07 0003 'a/b' 'hi'", at_most_once()),
                (V311, "30 07 0003 'a/b' 'hi'", at_most_once()),
                (V311, "3B 09 0003 'a/b' 000A 'hi'", again(QoS::AtLeastOnce)),
                (V311, "3D 09 0003 'a/b' 000A 'hi'", again(QoS::ExactlyOnce)),
                (V5, "30 08 0003 'a/b' 00 'hi'", at_most_once()),
                (V5, "3B 0A 0003 'a/b' 000A 00 'hi'", again(QoS::AtLeastOnce)),
                (V5, "3D 0A 0003 'a/b' 000A 00 'hi'", again(QoS::ExactlyOnce)),
                (V5, "30 [ 0000 [ 23 0007 ] 'hi' ]", by_alias()),
                (
                    V5,
                    "30 [ 0003 'a/b' [ 02 00000E10 01 01 03 s'text/plain' 08 s'answer/here'
                        09 0002 00FF 26 s'k' s'v' 26 s'k' s'w' ] 'hi' ]",
                    all_properties(),
                ),
            ],
        );
        check_both_ways(
            Sender::Server,
            &[(V5, "30 [ s'a/b' [ 0B 01 0B FFFFFF7F ] 'hi' ]", for_two_subscriptions())],
        );
    }

    #[test]
    fn long_packets_have_a_longer_remaining_length() {
        for (len, header) in [(127, "30 7F"), (128, "30 8001"), (16_384, "30 808001")] {
            let payload = Bytes::from(vec![b'x'; len - 3]);
            let packet = Packet::Publish(Publish { topic: text("a"), payload, ..plain() });
            let notation = format!("{header} s'a' '{}'", "x".repeat(len - 3));
            check_both_ways(Sender::Client, &[(V311, &notation, packet)]);
        }
    }

    #[test]
    fn properties_come_in_any_order_and_a_byte_order_mark_stays() {
        let topic = text("\u{FEFF}a");
        let marked = Publish { topic, payload: Bytes::new(), ..plain() };
        check_one_way(
            Sender::Client,
            &[
                (V311, "30 [ 0004 EFBBBF 'a' ]", Packet::Publish(marked)),
                (
                    V5,
                    "30 [ 0003 'a/b' [ 26 s'k' s'v' 09 0002 00FF 08 s'answer/here' 26 s'k' s'w'
                        03 s'text/plain' 01 01 02 00000E10 ] 'hi' ]",
                    all_properties(),
                ),
            ],
        );
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Client,
            R::MalformedPacket,
            &[
                (V311, "36 09 0003 'a/b' 000A 'hi'", E::QoS),
                (V5, "36 0A 0003 'a/b' 000A 00 'hi'", E::QoS),
                (V311, "38 07 0003 'a/b' 'hi'", E::DupAtQoS0),
                (V5, "38 08 0003 'a/b' 00 'hi'", E::DupAtQoS0),
                (V311, "30 [ 0003 'a' 00 'b' ]", E::NulInString),
                (V311, "30 [ 0003 '+' 00 'b' ]", E::NulInString),
                (V311, "30 [ 0002 C080 ]", E::IllFormedUtf8),
                (V5, "30 [ 0003 EDBFBF [] ]", E::IllFormedUtf8),
                (V5, "30 [ 0004 F4908080 [] ]", E::IllFormedUtf8),
                (V311, "30 00", E::Truncated),
                (V311, "30 04 0003 'a/'", E::Truncated),
                (V311, "32 [ s'a/b' 00 ]", E::Truncated),
                (V5, "30 [ s'a/b' ]", E::Truncated),
                (V5, "30 [ s'a/b' 05 'hi' ]", E::Truncated),
                (V5, "30 [ s'a/b' FFFFFFFF01 ]", E::VariableByteInteger),
                (V5, "30 [ s'a' [ 26 s'k' ] 0000 ]", E::Truncated),
                (V5, "30 [ s'a' [ 26 0001 00 s'' ] ]", E::NulInString),
                (V5, "30 [ s'a' [ 18 00000000 ] ]", E::PropertyNotAllowed(0x18)),
                (V5, "30 [ s'a' [ 00 ] ]", E::PropertyNotAllowed(0x00)),
                (V5, "30 07 0003 'a/b' 'h'", E::LengthMismatch),
                (V5, "30 07 0003 'a/b' 'hid'", E::LengthMismatch),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "32 09 0003 'a/b' 0000 'hi'", E::ZeroPacketId),
                (V5, "34 0A 0003 'a/b' 0000 00 'hi'", E::ZeroPacketId),
                (V311, "30 [ s'' 'hi' ]", E::EmptyTopicName),
                (V5, "30 [ s'' [] 'hi' ]", E::EmptyTopicName),
                (V5, "30 [ s'a' [ 23 0001 23 0001 ] ]", E::DuplicateProperty(0x23)),
                (V5, "30 [ s'a' [ 01 00 01 00 ] ]", E::DuplicateProperty(0x01)),
                (V5, "30 [ s'a' [ 01 02 ] ]", E::PropertyNotBoolean(0x01)),
                (V5, "30 [ s'a' [ 08 s'b/#' ] ]", E::ResponseTopic),
                (V5, "30 [ s'a' [ 08 s'' ] ]", E::ResponseTopic),
                (V5, "30 [ s'a' [ 0B 01 ] ]", E::SubscriptionIdFromClient),
            ],
        );
        check_refused(
            Sender::Client,
            R::TopicNameInvalid,
            &[
                (V311, "30 [ s'a/+' ]", E::WildcardInTopicName),
                (V5, "30 [ s'#' [] ]", E::WildcardInTopicName),
            ],
        );
        check_refused(
            Sender::Client,
            R::TopicAliasInvalid,
            &[(V5, "30 [ s'a/b' [ 23 0000 ] ]", E::ZeroTopicAlias)],
        );

        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[(V5, "30 [ s'a' [ 0B 00 ] ]", E::PropertyZero(0x0B))],
        );
    }

    #[test]
    fn the_head_overrides_the_message_expiry_interval() {
        let Packet::Publish(publish) = all_properties() else { unreachable!() };
        let head = PublishHead { message_expiry_interval_secs: Some(9), ..publish.head() };
        let mut out = BytesMut::new();
        head.encode(V5, 2, &mut out);
        assert_eq!(head.encoded_len(V5, 2), out.len() + 2);
        let expected = "30 [ s'a/b' [ 02 00000009 01 01 03 s'text/plain' 08 s'answer/here'
            09 0002 00FF 26 s'k' s'v' 26 s'k' s'w' ] 'hi' ]";
        out.put_slice(b"hi");
        assert_eq!(out, parse(expected));
    }

    #[test]
    fn before_5_0_the_head_leaves_out_what_has_no_place() {
        let Packet::Publish(publish) = all_properties() else { unreachable!() };
        let head = PublishHead {
            message_expiry_interval_secs: Some(9),
            topic_alias: NonZeroU16::new(1),
            subscription_ids: &[1],
            ..publish.head()
        };
        let mut out = BytesMut::new();
        head.encode(V311, 2, &mut out);
        assert_eq!(out, parse("30 07 s'a/b'"));
        assert_eq!(head.encoded_len(V311, 2), 9);
    }

    #[test]
    fn topic_and_payload_are_slices_of_the_frame() {
        let frame = parse("30 08 0003 'a/b' 00 'hi'");
        let Ok(Packet::Publish(publish)) = Packet::decode(V5, Sender::Client, &frame) else {
            panic!("a PUBLISH");
        };
        assert_eq!(publish.topic.as_ptr(), frame[4..].as_ptr());
        assert_eq!(publish.payload.as_ptr(), frame[8..].as_ptr());
    }

    fn plain() -> Publish {
        Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: text("a/b"),
            packet_id: None,
            topic_alias: None,
            subscription_ids: SmallVec::new(),
            properties: None,
            payload: Bytes::from_static(b"hi"),
        }
    }

    fn at_most_once() -> Packet {
        Packet::Publish(plain())
    }

    fn again(qos: QoS) -> Packet {
        let packet_id = PacketId::new(10);
        Packet::Publish(Publish { dup: true, retain: true, qos, packet_id, ..plain() })
    }

    fn by_alias() -> Packet {
        let topic_alias = NonZeroU16::new(7);
        Packet::Publish(Publish { topic: ByteString::new(), topic_alias, ..plain() })
    }

    fn for_two_subscriptions() -> Packet {
        Packet::Publish(Publish { subscription_ids: smallvec![1, 268_435_455], ..plain() })
    }

    fn all_properties() -> Packet {
        let properties = MessageProperties {
            payload_format_is_utf8: Some(true),
            message_expiry_interval_secs: Some(3600),
            content_type: Some(text("text/plain")),
            response_topic: Some(TopicName::try_from("answer/here").unwrap()),
            correlation_data: Some(Bytes::from_static(&[0x00, 0xFF])),
            user_properties: vec![user_property("k", "v"), user_property("k", "w")],
        };
        Packet::Publish(Publish { properties: Some(Arc::new(properties)), ..plain() })
    }
}
