//! Properties: the optional fields of MQTT 5.0.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::reader::Reader;
use super::writer::{Sink, WireForm};
use super::{DecodeError, ProtocolVersion, TopicName};

/// A name and a value whose meaning the standard leaves to the applications. A name may occur
/// more than once, and the order is kept [MQTT-3.3.2-18].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UserProperty {
    /// The name.
    pub name: ByteString,
    /// The value.
    pub value: ByteString,
}

/// The end-to-end properties of an Application Message: of a PUBLISH and of a Will.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MessageProperties {
    /// Payload Format Indicator: whether the payload says it is UTF-8. Not verified here.
    pub payload_format_is_utf8: Option<bool>,
    /// Message Expiry Interval.
    pub message_expiry_interval_secs: Option<u32>,
    /// Content Type.
    pub content_type: Option<ByteString>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl MessageProperties {
    /// Reads what [`Self::encode`] wrote, keeping slices of it.
    ///
    /// # Errors
    ///
    /// Says which rule the properties break.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut properties = PropertyReader { reader: Reader::new(bytes, 0), id: 0, seen: 0 };
        let mut read = Self::default();
        while let Some(id) = properties.next_id()? {
            read.read(id, &mut properties)?;
        }
        Ok(read)
    }

    /// Appends all of them to `out`, without a Property Length.
    pub fn encode(&self, out: &mut BytesMut) {
        self.write(ProtocolVersion::V5, out);
    }

    /// The bytes that [`Self::encode`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.wire_len(ProtocolVersion::V5)
    }

    /// Reads the value of property `id` if it is one of a message.
    pub(crate) fn read(
        &mut self,
        id: u8,
        properties: &mut PropertyReader<'_>,
    ) -> Result<(), DecodeError> {
        match id {
            id::PAYLOAD_FORMAT_INDICATOR => {
                self.payload_format_is_utf8 = Some(properties.boolean()?);
            }
            id::MESSAGE_EXPIRY_INTERVAL => {
                self.message_expiry_interval_secs = Some(properties.u32()?);
            }
            id::CONTENT_TYPE => self.content_type = Some(properties.string()?),
            id::RESPONSE_TOPIC => self.response_topic = Some(properties.topic_name()?),
            id::CORRELATION_DATA => self.correlation_data = Some(properties.binary()?),
            id::USER_PROPERTY => self.user_properties.push(properties.user_property()?),
            other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
        }
        Ok(())
    }

    /// Writes everything but the Message Expiry Interval, which others may override.
    pub(crate) fn write_without_expiry(&self, sink: &mut impl Sink) {
        sink.boolean_property(id::PAYLOAD_FORMAT_INDICATOR, self.payload_format_is_utf8);
        sink.string_property(id::CONTENT_TYPE, self.content_type.as_deref());
        sink.string_property(id::RESPONSE_TOPIC, self.response_topic.as_deref());
        sink.binary_property(id::CORRELATION_DATA, self.correlation_data.as_deref());
        sink.user_properties(&self.user_properties);
    }
}

impl WireForm for MessageProperties {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u32_property(id::MESSAGE_EXPIRY_INTERVAL, self.message_expiry_interval_secs);
        self.write_without_expiry(sink);
    }
}

/// The properties of most answers: why, for people and for programs.
#[derive(Default)]
pub(crate) struct ReasonProperties {
    pub(crate) reason_string: Option<ByteString>,
    pub(crate) user_properties: Vec<UserProperty>,
}

impl ReasonProperties {
    /// Reads a whole Property Length with its properties.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        let mut reason = Self::default();
        while let Some(id) = properties.next_id()? {
            match id {
                id::REASON_STRING => reason.reason_string = Some(properties.string()?),
                id::USER_PROPERTY => reason.user_properties.push(properties.user_property()?),
                other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
            }
        }
        Ok(reason)
    }
}

/// [`ReasonProperties`] to be written.
#[derive(Clone, Copy)]
pub(crate) struct ReasonPropertiesRef<'a> {
    pub(crate) reason_string: Option<&'a str>,
    pub(crate) user_properties: &'a [UserProperty],
}

impl ReasonPropertiesRef<'_> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

impl WireForm for ReasonPropertiesRef<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        sink.string_property(id::REASON_STRING, self.reason_string);
        sink.user_properties(self.user_properties);
    }
}

/// Reads the properties of one packet, one after the other. The packet decides which it takes.
pub(crate) struct PropertyReader<'a> {
    reader: Reader<'a>,
    /// The identifier of the property whose value is next.
    id: u8,
    /// A bit for each identifier that has occurred: the highest of the standard is 0x2A.
    seen: u64,
}

impl<'a> PropertyReader<'a> {
    /// Reads the Property Length of `packet` and moves it behind the properties.
    pub(crate) fn new(packet: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let len = packet.varint()?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
        Ok(Self { reader: packet.part(len)?, id: 0, seen: 0 })
    }

    /// The identifier of the next property; its value must be read before the one after it.
    pub(crate) fn next_id(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let wide = self.reader.varint()?;
        let id = u8::try_from(wide).map_err(|_| DecodeError::PropertyNotAllowed(wide))?;
        if id > id::HIGHEST {
            return Err(DecodeError::PropertyNotAllowed(wide));
        }
        let bit = 1 << id;
        let may_repeat = matches!(id, id::USER_PROPERTY | id::SUBSCRIPTION_IDENTIFIER);
        if self.seen & bit != 0 && !may_repeat {
            return Err(DecodeError::DuplicateProperty(id));
        }
        self.seen |= bit;
        self.id = id;
        Ok(Some(id))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyNotBoolean(self.id)),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.reader.u8()
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.reader.u16()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.reader.u32()
    }

    pub(crate) fn non_zero_u16(&mut self) -> Result<NonZeroU16, DecodeError> {
        NonZeroU16::new(self.u16()?).ok_or(DecodeError::PropertyZero(self.id))
    }

    pub(crate) fn non_zero_u32(&mut self) -> Result<NonZeroU32, DecodeError> {
        NonZeroU32::new(self.u32()?).ok_or(DecodeError::PropertyZero(self.id))
    }

    pub(crate) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        match self.reader.varint()? {
            0 => Err(DecodeError::PropertyZero(self.id)),
            subscription_id => Ok(subscription_id),
        }
    }

    pub(crate) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        self.reader.binary()
    }

    pub(crate) fn string(&mut self) -> Result<ByteString, DecodeError> {
        self.reader.string()
    }

    /// A Response Topic [MQTT-3.3.2-13] [MQTT-3.3.2-14].
    pub(crate) fn topic_name(&mut self) -> Result<TopicName, DecodeError> {
        TopicName::parse(self.string()?).map_err(|_| DecodeError::ResponseTopic)
    }

    /// A UTF-8 String Pair [MQTT-1.5.7-1].
    pub(crate) fn user_property(&mut self) -> Result<UserProperty, DecodeError> {
        Ok(UserProperty { name: self.string()?, value: self.string()? })
    }
}

/// Writes properties; what is absent takes no bytes.
pub(crate) trait PropertySink: Sink {
    fn boolean_property(&mut self, id: u8, value: Option<bool>) {
        if let Some(value) = value {
            self.bytes(&[id, u8::from(value)]);
        }
    }

    fn u16_property(&mut self, id: u8, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(id);
            self.u16(value);
        }
    }

    fn u32_property(&mut self, id: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(id);
            self.u32(value);
        }
    }

    fn string_property(&mut self, id: u8, value: Option<&str>) {
        self.binary_property(id, value.map(str::as_bytes));
    }

    fn binary_property(&mut self, id: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.u8(id);
            self.binary(value);
        }
    }

    /// A Subscription Identifier: the one property that is a Variable Byte Integer.
    fn subscription_id_property(&mut self, value: u32) {
        debug_assert_ne!(value, 0, "a Subscription Identifier is not zero");
        self.u8(id::SUBSCRIPTION_IDENTIFIER);
        self.varint(usize::try_from(value).expect("28 bits fit"));
    }

    fn user_properties(&mut self, properties: &[UserProperty]) {
        for property in properties {
            self.u8(id::USER_PROPERTY);
            self.string(&property.name);
            self.string(&property.value);
        }
    }
}

impl<S: Sink> PropertySink for S {}

/// Property identifiers (section 2.2.2.2).
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
    pub(crate) const HIGHEST: u8 = SHARED_SUBSCRIPTION_AVAILABLE;
}
