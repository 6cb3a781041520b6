//! PUBACK: the answer to a PUBLISH at QoS 1.

use bytes::BytesMut;
use bytestring::ByteString;

use super::acknowledgement::{Body, Fields};
use super::properties::ReasonPropertiesRef;
use super::reader::Reader;
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The answer to a PUBLISH at QoS 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Puback {
    /// The Packet Identifier of the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// How it went; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Puback {
    /// One without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, reason_string: None, user_properties: Vec::new() }
    }

    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let Fields { packet_id, reason_code, reason_string, user_properties } =
            Fields::read(version, reader, REASON_CODES)?;
        Ok(Self { packet_id, reason_code, reason_string, user_properties })
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        self.body().encode(FIRST_BYTE, version, out);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        self.body().encoded_len(version)
    }

    fn body(&self) -> Body<'_> {
        let properties = ReasonPropertiesRef {
            reason_string: self.reason_string.as_deref(),
            user_properties: &self.user_properties,
        };
        Body { packet_id: self.packet_id, reason_code: self.reason_code, properties }
    }
}

const FIRST_BYTE: u8 = 0x40;

/// The Reason Codes this packet may have [MQTT-3.4.2-1].
const REASON_CODES: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];
