//! SUBACK: the answer to SUBSCRIBE.

use bytes::BytesMut;
use bytestring::ByteString;

use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suback {
    /// The Packet Identifier of the SUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// One for each Topic Filter, in their order.
    pub reason_codes: Vec<ReasonCode>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Suback {
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let (properties, allowed) = if version.has_properties() {
            (ReasonProperties::read(reader)?, REASON_CODES)
        } else {
            (ReasonProperties::default(), RETURN_CODES_V3)
        };
        let ReasonProperties { reason_string, user_properties } = properties;
        let reason_codes = read_reason_codes(reader, allowed)?;
        Ok(Self { packet_id, reason_codes, reason_string, user_properties })
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

impl WireForm for Suback {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if !version.has_properties() {
            // Every failure is 0x80 before MQTT 5.0 [MQTT-3.9.3-2].
            self.reason_codes.iter().for_each(|code| sink.u8(code.as_u8().min(0x80)));
            return;
        }
        let reason_string = self.reason_string.as_deref();
        let user_properties = &self.user_properties;
        sink.properties(version, &ReasonPropertiesRef { reason_string, user_properties });
        self.reason_codes.iter().for_each(|code| sink.u8(code.as_u8()));
    }
}

/// Reads the payload of a SUBACK or UNSUBACK: a Reason Code for each Topic Filter.
pub(crate) fn read_reason_codes(
    reader: &mut Reader<'_>,
    allowed: &[ReasonCode],
) -> Result<Vec<ReasonCode>, DecodeError> {
    if reader.is_empty() {
        return Err(DecodeError::NoReasonCode);
    }
    let mut reason_codes = Vec::with_capacity(reader.remaining());
    while !reader.is_empty() {
        reason_codes.push(reader.reason_code(allowed)?);
    }
    Ok(reason_codes)
}

const FIRST_BYTE: u8 = 0x90;

/// The Reason Codes of MQTT 5.0 [MQTT-3.9.3-2].
const REASON_CODES: &[ReasonCode] = &[
    ReasonCode::GRANTED_QOS_0,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// The return codes of MQTT 3.1.1 [MQTT-3.9.3-2 of 3.1.1].
const RETURN_CODES_V3: &[ReasonCode] = &[
    ReasonCode::GRANTED_QOS_0,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
];
