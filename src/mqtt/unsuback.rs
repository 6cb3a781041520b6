//! UNSUBACK: the answer to UNSUBSCRIBE.

use bytes::BytesMut;
use bytestring::ByteString;

use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::suback::read_reason_codes;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsuback {
    /// The Packet Identifier of the UNSUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// One for each Topic Filter, in their order; in MQTT 3.1.1 not on the wire, hence empty.
    pub reason_codes: Vec<ReasonCode>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Unsuback {
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut reason_codes = Vec::new();
        let mut properties = ReasonProperties::default();
        if version.has_properties() {
            properties = ReasonProperties::read(reader)?;
            reason_codes = read_reason_codes(reader, REASON_CODES)?;
        }
        let ReasonProperties { reason_string, user_properties } = properties;
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

impl WireForm for Unsuback {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if !version.has_properties() {
            return;
        }
        let reason_string = self.reason_string.as_deref();
        let user_properties = &self.user_properties;
        sink.properties(version, &ReasonPropertiesRef { reason_string, user_properties });
        self.reason_codes.iter().for_each(|code| sink.u8(code.as_u8()));
    }
}

const FIRST_BYTE: u8 = 0xB0;

/// The Reason Codes of this packet [MQTT-3.11.3-2].
const REASON_CODES: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];
