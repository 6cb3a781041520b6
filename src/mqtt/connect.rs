//! CONNECT: asks for a Network Connection to become an MQTT connection.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::frame::{Frame, PACKET_SIZE_MAX};
use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, MessageProperties, ProtocolVersion, QoS, TopicName, UserProperty};

/// The first packet of a Client [MQTT-3.1.0-1].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connect {
    /// The version the connection speaks from here on.
    pub protocol_version: ProtocolVersion,
    /// Clean Start; in MQTT 3.1.1 Clean Session.
    pub clean_start: bool,
    /// Keep Alive; 0 turns it off.
    pub keep_alive_secs: u16,
    /// The Client Identifier; empty asks for an assigned one.
    pub client_id: ByteString,
    /// The Will.
    pub will: Option<Box<Will>>,
    /// The User Name.
    pub user_name: Option<ByteString>,
    /// The Password.
    pub password: Option<Bytes>,
    /// What the Client offers and asks; in MQTT 3.1.1 not on the wire.
    pub properties: ConnectProperties,
}

/// What the Client tells the Server at the start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectProperties {
    /// Session Expiry Interval; absent is 0, `u32::MAX` never.
    pub session_expiry_interval_secs: Option<u32>,
    /// How many QoS 1 and 2 PUBLISH the Client has in flight at most; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet the Client takes; absent is no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest Topic Alias the Client takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// Whether the Client wants Response Information.
    pub request_response_information: bool,
    /// Whether the Client wants Reason Strings and User Properties with failures.
    pub request_problem_information: bool,
    /// The mechanism of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

/// The message the Server publishes when the Client is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Will {
    /// The Will Topic.
    pub topic: TopicName,
    /// The Will Payload.
    pub payload: Bytes,
    /// The Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval.
    pub delay_interval_secs: u32,
    /// The properties of the message; `None` when there are none.
    pub properties: Option<Arc<MessageProperties>>,
}

impl Default for ConnectProperties {
    /// What the standard takes for properties that are absent.
    fn default() -> Self {
        Self {
            session_expiry_interval_secs: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: Vec::new(),
        }
    }
}

impl Connect {
    /// Reads the body, the version first.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let protocol_version = read_version(reader)?;
        let flags = Flags::parse(protocol_version, reader.u8()?)?;
        let keep_alive_secs = reader.u16()?;
        let mut properties = ConnectProperties::default();
        if protocol_version.has_properties() {
            properties = ConnectProperties::read(reader)?;
        }
        let client_id = reader.string()?;
        check_client_id(protocol_version, flags, &client_id)?;
        let mut will = None;
        if flags.has(WILL) {
            will = Some(Box::new(Will::read(protocol_version, flags, reader)?));
        }
        Ok(Self {
            protocol_version,
            clean_start: flags.has(CLEAN_START),
            keep_alive_secs,
            client_id,
            will,
            user_name: flags.has(USER_NAME).then(|| reader.string()).transpose()?,
            password: flags.has(PASSWORD).then(|| reader.binary()).transpose()?,
            properties,
        })
    }

    /// Appends the whole packet to `out`. The version is the packet's own.
    pub fn encode(&self, _version: ProtocolVersion, out: &mut BytesMut) {
        encode_packet(FIRST_BYTE, self, self.protocol_version, out);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, _version: ProtocolVersion) -> usize {
        packet_len(self.wire_len(self.protocol_version))
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.bits() << WILL_QOS_SHIFT;
            flags |= if will.retain { WILL_RETAIN } else { 0 };
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

impl WireForm for Connect {
    /// The fields of the payload stand in this order [MQTT-3.1.3-1].
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.string(version.protocol_name());
        sink.u8(version.level());
        sink.u8(self.flags());
        sink.u16(self.keep_alive_secs);
        if version.has_properties() {
            sink.properties(version, &self.properties);
        }
        sink.string(&self.client_id);
        if let Some(will) = &self.will {
            will.write(version, sink);
        }
        if let Some(user_name) = &self.user_name {
            sink.string(user_name);
        }
        if let Some(password) = &self.password {
            sink.binary(password);
        }
    }
}

impl ConnectProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        let mut connect = Self::default();
        while let Some(id) = properties.next_id()? {
            connect.read_one(id, &mut properties)?;
        }
        if connect.authentication_data.is_some() && connect.authentication_method.is_none() {
            return Err(DecodeError::NoAuthenticationMethod);
        }
        Ok(connect)
    }

    fn read_one(&mut self, id: u8, from: &mut PropertyReader<'_>) -> Result<(), DecodeError> {
        match id {
            id::SESSION_EXPIRY_INTERVAL => self.session_expiry_interval_secs = Some(from.u32()?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(from.non_zero_u16()?),
            id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(from.non_zero_u32()?),
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = from.u16()?,
            id::REQUEST_RESPONSE_INFORMATION => {
                self.request_response_information = from.boolean()?;
            }
            id::REQUEST_PROBLEM_INFORMATION => {
                self.request_problem_information = from.boolean()?;
            }
            id::AUTHENTICATION_METHOD => self.authentication_method = Some(from.string()?),
            id::AUTHENTICATION_DATA => self.authentication_data = Some(from.binary()?),
            id::USER_PROPERTY => self.user_properties.push(from.user_property()?),
            other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
        }
        Ok(())
    }
}

impl WireForm for ConnectProperties {
    /// What has its default value is left out.
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        let topic_alias_maximum = Some(self.topic_alias_maximum).filter(|&maximum| maximum > 0);
        let response_information = self.request_response_information.then_some(true);
        let problem_information = (!self.request_problem_information).then_some(false);
        sink.u32_property(id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval_secs);
        sink.u16_property(id::RECEIVE_MAXIMUM, self.receive_maximum.map(NonZeroU16::get));
        sink.u32_property(id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size.map(NonZeroU32::get));
        sink.u16_property(id::TOPIC_ALIAS_MAXIMUM, topic_alias_maximum);
        sink.boolean_property(id::REQUEST_RESPONSE_INFORMATION, response_information);
        sink.boolean_property(id::REQUEST_PROBLEM_INFORMATION, problem_information);
        sink.string_property(id::AUTHENTICATION_METHOD, self.authentication_method.as_deref());
        sink.binary_property(id::AUTHENTICATION_DATA, self.authentication_data.as_deref());
        sink.user_properties(&self.user_properties);
    }
}

impl Will {
    /// Reads Will Properties, Will Topic and Will Payload [MQTT-3.1.2-9].
    fn read(
        version: ProtocolVersion,
        flags: Flags,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let mut delay_interval_secs = 0;
        let mut message = None;
        if version.has_properties() {
            let mut properties = PropertyReader::new(reader)?;
            while let Some(id) = properties.next_id()? {
                match id {
                    id::WILL_DELAY_INTERVAL => delay_interval_secs = properties.u32()?,
                    other => message
                        .get_or_insert_with(MessageProperties::default)
                        .read(other, &mut properties)?,
                }
            }
        }
        Ok(Self {
            topic: TopicName::parse(reader.string()?).map_err(DecodeError::WillTopic)?,
            payload: reader.binary()?,
            qos: flags.will_qos()?,
            retain: flags.has(WILL_RETAIN),
            delay_interval_secs,
            properties: message.map(Arc::new),
        })
    }
}

impl WireForm for Will {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if version.has_properties() {
            sink.properties(version, &WillProperties(self));
        }
        sink.string(&self.topic);
        sink.binary(&self.payload);
    }
}

struct WillProperties<'a>(&'a Will);

impl WireForm for WillProperties<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        let delay = Some(self.0.delay_interval_secs).filter(|&secs| secs > 0);
        sink.u32_property(id::WILL_DELAY_INTERVAL, delay);
        if let Some(message) = &self.0.properties {
            message.write(version, sink);
        }
    }
}

/// The Connect Flags, in a combination that may be.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn parse(version: ProtocolVersion, bits: u8) -> Result<Self, DecodeError> {
        let flags = Self(bits);
        if flags.has(RESERVED) {
            return Err(DecodeError::ConnectFlagReserved);
        }
        if !flags.has(WILL) && flags.has(WILL_QOS | WILL_RETAIN) {
            return Err(DecodeError::WillFlags);
        }
        flags.will_qos()?;
        if flags.has(PASSWORD) && !flags.has(USER_NAME) && !version.has_properties() {
            return Err(DecodeError::PasswordWithoutUserName);
        }
        Ok(flags)
    }

    /// Whether any of these flags is set.
    const fn has(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    fn will_qos(self) -> Result<QoS, DecodeError> {
        QoS::from_bits((self.0 & WILL_QOS) >> WILL_QOS_SHIFT).ok_or(DecodeError::WillQoS)
    }
}

/// The version a CONNECT asks for, as well as it can be told: to answer one that is malformed in
/// its own version. A level we do not know is answered as the nearest that we do.
#[must_use]
pub fn connect_version(frame: &[u8]) -> Option<ProtocolVersion> {
    let header = Frame::peek(frame, PACKET_SIZE_MAX).ok().flatten()?;
    let rest = frame.get(header.header_len..)?;
    let after_name = rest.strip_prefix(b"\0\x04MQTT").or(rest.strip_prefix(b"\0\x06MQIsdp"))?;
    match *after_name.first()? {
        0..=3 => Some(ProtocolVersion::V31),
        4 => Some(ProtocolVersion::V311),
        _ => Some(ProtocolVersion::V5),
    }
}

/// Reads Protocol Name and Protocol Version, which belong together [MQTT-3.1.2-1]
/// [MQTT-3.1.2-2].
fn read_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.binary()?;
    if name != "MQTT" && name != "MQIsdp" {
        return Err(DecodeError::ProtocolName);
    }
    let level = reader.u8()?;
    let version = ProtocolVersion::from_level(level);
    let named_so = version.filter(|version| name == version.protocol_name());
    named_so.ok_or(DecodeError::ProtocolLevel(level))
}

/// Before MQTT 5.0 only a Session that ends with its connection may go without a Client
/// Identifier [MQTT-3.1.3-7 of 3.1.1] [MQTT-3.1.3-8 of 3.1.1], and in MQTT 3.1 not even that.
fn check_client_id(
    version: ProtocolVersion,
    flags: Flags,
    client_id: &str,
) -> Result<(), DecodeError> {
    let may_be_empty = match version {
        ProtocolVersion::V31 => false,
        ProtocolVersion::V311 => flags.has(CLEAN_START),
        ProtocolVersion::V5 => true,
    };
    if client_id.is_empty() && !may_be_empty {
        return Err(DecodeError::ClientIdRequired);
    }
    Ok(())
}

const FIRST_BYTE: u8 = 0x10;
const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

#[cfg(test)]
mod tests;
