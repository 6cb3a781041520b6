//! CONNACK: the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, ProtocolVersion, QoS, ReasonCode, ReasonString, UserProperty};

/// The answer to CONNECT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connack {
    /// Whether the Server resumes a Session; never in a refusal [MQTT-3.2.2-6].
    pub session_present: bool,
    /// Success, or why the connection is refused.
    pub reason_code: ReasonCode,
    /// What the Server offers and asks; in MQTT 3.1.1 not on the wire.
    pub properties: ConnackProperties,
}

/// What the Server tells the Client at the start. What is absent has the default of the standard.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConnackProperties {
    /// The Session Expiry Interval the Server uses instead of the one asked for.
    pub session_expiry_interval_secs: Option<u32>,
    /// How many QoS 1 and 2 PUBLISH the Server has in flight at most.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the Server takes; at most once or at least once.
    pub maximum_qos: Option<QoS>,
    /// Whether the Server keeps retained messages.
    pub retain_available: Option<bool>,
    /// The largest packet the Server takes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The Client Identifier the Server chose.
    pub assigned_client_id: Option<ByteString>,
    /// The highest Topic Alias the Server takes.
    pub topic_alias_maximum: Option<u16>,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// Whether Topic Filters may have wildcards.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether Subscription Identifiers are supported.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether Shared Subscriptions are supported.
    pub shared_subscription_available: Option<bool>,
    /// The Keep Alive the Client must use instead of its own.
    pub server_keep_alive_secs: Option<u16>,
    /// The basis of Response Topics.
    pub response_information: Option<ByteString>,
    /// Where else to connect.
    pub server_reference: Option<ByteString>,
    /// The mechanism of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
}

impl Connack {
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let session_present = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::ConnackFlags),
        };
        let (reason_code, properties) = if version.has_properties() {
            (reader.reason_code(REASON_CODES)?, ConnackProperties::read(reader)?)
        } else {
            let byte = reader.u8()?;
            let known = ReasonCode::from_connack_v3(byte);
            let reason_code = known.ok_or(DecodeError::ReasonCodeNotAllowed(byte))?;
            (reason_code, ConnackProperties::default())
        };
        if session_present && reason_code.is_error() {
            return Err(DecodeError::SessionPresentInRefusal);
        }
        Ok(Self { session_present, reason_code, properties })
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        encode_packet(FIRST_BYTE, self, version, out);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        packet_len(self.wire_len(version))
    }
}

impl WireForm for Connack {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u8(u8::from(self.session_present && !self.reason_code.is_error()));
        if version.has_properties() {
            sink.u8(self.reason_code.as_u8());
            sink.properties(version, &self.properties);
        } else {
            sink.u8(self.reason_code.connack_v3());
        }
    }
}

impl ConnackProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        let mut connack = Self::default();
        while let Some(id) = properties.next_id()? {
            connack.read_one(id, &mut properties)?;
        }
        if connack.authentication_data.is_some() && connack.authentication_method.is_none() {
            return Err(DecodeError::NoAuthenticationMethod);
        }
        Ok(connack)
    }

    fn read_one(&mut self, id: u8, from: &mut PropertyReader<'_>) -> Result<(), DecodeError> {
        match id {
            id::SESSION_EXPIRY_INTERVAL => self.session_expiry_interval_secs = Some(from.u32()?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(from.non_zero_u16()?),
            id::MAXIMUM_QOS => self.maximum_qos = Some(read_maximum_qos(from)?),
            id::RETAIN_AVAILABLE => self.retain_available = Some(from.boolean()?),
            id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(from.non_zero_u32()?),
            id::ASSIGNED_CLIENT_IDENTIFIER => self.assigned_client_id = Some(from.string()?),
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(from.u16()?),
            id::REASON_STRING => self.reason_string = Some(from.reason_string()?),
            id::USER_PROPERTY => self.user_properties.push(from.user_property()?),
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                self.wildcard_subscription_available = Some(from.boolean()?);
            }
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                self.subscription_identifiers_available = Some(from.boolean()?);
            }
            id::SHARED_SUBSCRIPTION_AVAILABLE => {
                self.shared_subscription_available = Some(from.boolean()?);
            }
            id::SERVER_KEEP_ALIVE => self.server_keep_alive_secs = Some(from.u16()?),
            id::RESPONSE_INFORMATION => self.response_information = Some(from.string()?),
            id::SERVER_REFERENCE => self.server_reference = Some(from.string()?),
            id::AUTHENTICATION_METHOD => self.authentication_method = Some(from.string()?),
            id::AUTHENTICATION_DATA => self.authentication_data = Some(from.binary()?),
            other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
        }
        Ok(())
    }
}

impl WireForm for ConnackProperties {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u32_property(id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval_secs);
        sink.u16_property(id::RECEIVE_MAXIMUM, self.receive_maximum.map(NonZeroU16::get));
        sink.boolean_property(id::MAXIMUM_QOS, self.maximum_qos.and_then(maximum_qos_bit));
        sink.boolean_property(id::RETAIN_AVAILABLE, self.retain_available);
        sink.u32_property(id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size.map(NonZeroU32::get));
        sink.string_property(id::ASSIGNED_CLIENT_IDENTIFIER, self.assigned_client_id.as_deref());
        sink.u16_property(id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        sink.string_property(id::REASON_STRING, self.reason_string.as_deref());
        sink.user_properties(&self.user_properties);
        sink.boolean_property(
            id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            self.wildcard_subscription_available,
        );
        sink.boolean_property(
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            self.subscription_identifiers_available,
        );
        sink.boolean_property(
            id::SHARED_SUBSCRIPTION_AVAILABLE,
            self.shared_subscription_available,
        );
        sink.u16_property(id::SERVER_KEEP_ALIVE, self.server_keep_alive_secs);
        sink.string_property(id::RESPONSE_INFORMATION, self.response_information.as_deref());
        sink.string_property(id::SERVER_REFERENCE, self.server_reference.as_deref());
        sink.string_property(id::AUTHENTICATION_METHOD, self.authentication_method.as_deref());
        sink.binary_property(id::AUTHENTICATION_DATA, self.authentication_data.as_deref());
    }
}

/// A Maximum QoS is 0 or 1; that QoS 2 is the maximum is said by leaving it out.
fn read_maximum_qos(from: &mut PropertyReader<'_>) -> Result<QoS, DecodeError> {
    match from.u8()? {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        _ => Err(DecodeError::MaximumQoS),
    }
}

const fn maximum_qos_bit(maximum_qos: QoS) -> Option<bool> {
    match maximum_qos {
        QoS::AtMostOnce => Some(false),
        QoS::AtLeastOnce => Some(true),
        QoS::ExactlyOnce => None,
    }
}

const FIRST_BYTE: u8 = 0x20;

/// The Connect Reason Codes [MQTT-3.2.2-8].
pub(super) const REASON_CODES: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerUnavailable,
    ReasonCode::ServerBusy,
    ReasonCode::Banned,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::ConnectionRateExceeded,
];

#[cfg(test)]
mod tests {
    use super::super::vectors::{
        check_both_ways, check_one_way, check_refused, text, user_property,
    };
    use super::super::{Packet, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        check_both_ways(
            Sender::Server,
            &[
                (V31, "20 02 00 00", connack(false, ReasonCode::Success)),
                (V311, "20 02 01 00", connack(true, ReasonCode::Success)),
                (V311, "20 02 00 01", connack(false, ReasonCode::UnsupportedProtocolVersion)),
                (V311, "20 02 00 02", connack(false, ReasonCode::ClientIdentifierNotValid)),
                (V311, "20 02 00 03", connack(false, ReasonCode::ServerUnavailable)),
                (V311, "20 02 00 04", connack(false, ReasonCode::BadUserNameOrPassword)),
                (V311, "20 02 00 05", connack(false, ReasonCode::NotAuthorized)),
                (V5, "20 03 01 00 00", connack(true, ReasonCode::Success)),
                (V5, "20 03 00 9F 00", connack(false, ReasonCode::ConnectionRateExceeded)),
                (
                    V5,
                    "20 [ 00 00 [ 11 00000E10 21 0400 24 01 25 01 27 00100000 12 s'zoo-1' 22 0010
                        1F s'why' 26 s'k' s'v' 28 01 29 00 2A 01 13 001E 1A s'base' 1C s'other'
                        15 s'M' 16 0001 07 ] ]",
                    all_properties(),
                ),
            ],
        );
    }

    #[test]
    fn refusals_without_a_return_code_of_their_own_get_the_nearest() {
        let rows = [
            (ReasonCode::Banned, 5),
            (ReasonCode::QoSNotSupported, 5),
            (ReasonCode::ServerBusy, 3),
            (ReasonCode::QuotaExceeded, 3),
            (ReasonCode::UseAnotherServer, 3),
        ];
        for (reason_code, return_code) in rows {
            let mut written = BytesMut::new();
            connack(true, reason_code).encode(V311, &mut written);
            assert_eq!(&written[..], &[0x20, 2, 0, return_code], "{reason_code}");
        }
    }

    #[test]
    fn properties_come_in_any_order() {
        let packet = Connack {
            session_present: false,
            reason_code: ReasonCode::Success,
            properties: ConnackProperties {
                maximum_qos: Some(QoS::AtMostOnce),
                topic_alias_maximum: Some(1),
                ..ConnackProperties::default()
            },
        };
        let row = (V5, "20 [ 00 00 [ 22 0001 24 00 ] ]", Packet::Connack(Box::new(packet)));
        check_one_way(Sender::Server, &[row]);
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Server,
            R::MalformedPacket,
            &[
                (V311, "21 02 00 00", E::FixedHeaderFlags),
                (V311, "20 02 02 00", E::ConnackFlags),
                (V311, "20 01 00", E::Truncated),
                (V311, "20 03 00 00 00", E::TrailingBytes),
                (V5, "20 02 00 00", E::Truncated),
                (V5, "20 04 00 00 00 00", E::TrailingBytes),
                (V5, "20 03 80 00 00", E::ConnackFlags),
                (V5, "20 [ 00 00 [ 23 0001 ] ]", E::PropertyNotAllowed(0x23)),
                (V5, "20 [ 00 00 [ 1F 0001 00 ] ]", E::NulInString),
            ],
        );
        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[
                (V311, "20 02 00 06", E::ReasonCodeNotAllowed(6)),
                (V311, "20 02 01 05", E::SessionPresentInRefusal),
                (V5, "20 03 00 01 00", E::ReasonCodeNotAllowed(1)),
                (V5, "20 03 00 8E 00", E::ReasonCodeNotAllowed(0x8E)),
                (V5, "20 03 01 87 00", E::SessionPresentInRefusal),
                (V5, "20 [ 00 00 [ 21 0000 ] ]", E::PropertyZero(0x21)),
                (V5, "20 [ 00 00 [ 27 00000000 ] ]", E::PropertyZero(0x27)),
                (V5, "20 [ 00 00 [ 24 02 ] ]", E::MaximumQoS),
                (V5, "20 [ 00 00 [ 25 02 ] ]", E::PropertyNotBoolean(0x25)),
                (V5, "20 [ 00 00 [ 2A 02 ] ]", E::PropertyNotBoolean(0x2A)),
                (V5, "20 [ 00 00 [ 12 s'a' 12 s'a' ] ]", E::DuplicateProperty(0x12)),
                (V5, "20 [ 00 00 [ 16 0000 ] ]", E::NoAuthenticationMethod),
            ],
        );

        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[(V5, "20 03 00 00 00", E::WrongDirection("CONNACK"))],
        );
    }

    fn connack(session_present: bool, reason_code: ReasonCode) -> Packet {
        let properties = ConnackProperties::default();
        Packet::Connack(Box::new(Connack { session_present, reason_code, properties }))
    }

    fn all_properties() -> Packet {
        let properties = ConnackProperties {
            session_expiry_interval_secs: Some(3600),
            receive_maximum: NonZeroU16::new(1024),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(true),
            maximum_packet_size: NonZeroU32::new(1_048_576),
            assigned_client_id: Some(text("zoo-1")),
            topic_alias_maximum: Some(16),
            reason_string: Some("why".into()),
            user_properties: vec![user_property("k", "v")],
            wildcard_subscription_available: Some(true),
            subscription_identifiers_available: Some(false),
            shared_subscription_available: Some(true),
            server_keep_alive_secs: Some(30),
            response_information: Some(text("base")),
            server_reference: Some(text("other")),
            authentication_method: Some(text("M")),
            authentication_data: Some(Bytes::from_static(&[7])),
        };
        let reason_code = ReasonCode::Success;
        Packet::Connack(Box::new(Connack { session_present: false, reason_code, properties }))
    }
}
