//! PUBACK: the answer to a PUBLISH at QoS 1.

use bytes::BytesMut;
use bytestring::ByteString;

use super::acknowledgement::{Body, Fields, PACKET_ID_ONLY};
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

    #[inline]
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        if reader.remaining() == PACKET_ID_ONLY {
            return Ok(Self::new(reader.packet_id()?, ReasonCode::Success));
        }
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
pub(super) const REASON_CODES: &[ReasonCode] = &[
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
            Sender::Client,
            &[
                (V31, "40 02 000A", puback(ReasonCode::Success)),
                (V311, "40 02 000A", puback(ReasonCode::Success)),
                (V5, "40 02 000A", puback(ReasonCode::Success)),
                (V5, "40 03 000A 10", puback(ReasonCode::NoMatchingSubscribers)),
                (
                    V5,
                    "40 [ 000A 10 [ 1F s'why' 26 s'k' s'v' 26 s'k' s'w' ] ]",
                    Packet::Puback(Puback {
                        reason_string: Some(text("why")),
                        user_properties: vec![user_property("k", "v"), user_property("k", "w")],
                        ..Puback::new(PacketId::new(10).unwrap(), ReasonCode::NoMatchingSubscribers)
                    }),
                ),
            ],
        );
    }

    #[test]
    fn success_may_be_said_at_length() {
        check_one_way(
            Sender::Server,
            &[
                (V5, "40 03 000A 00", puback(ReasonCode::Success)),
                (V5, "40 04 000A 00 00", puback(ReasonCode::Success)),
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
                (V311, "42 02 000A", E::FixedHeaderFlags),
                (V5, "42 02 000A", E::FixedHeaderFlags),
                (V311, "40 01 00", E::Truncated),
                (V311, "40 00", E::Truncated),
                (V311, "40 03 000A 00", E::TrailingBytes),
                (V5, "40 05 000A 00 00 00", E::TrailingBytes),
                (V5, "40 04 000A 00 01", E::Truncated),
                (V5, "40 [ 000A 00 [ 11 00000000 ] ]", E::PropertyNotAllowed(0x11)),
                (V5, "40 [ 000A 00 [ 1F 0001 FF ] ]", E::IllFormedUtf8),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "40 02 0000", E::ZeroPacketId),
                (V5, "40 02 0000", E::ZeroPacketId),
                (V5, "40 03 000A 92", E::ReasonCodeNotAllowed(0x92)),
                (V5, "40 03 000A FF", E::ReasonCodeNotAllowed(0xFF)),
                (V5, "40 [ 000A 00 [ 1F s'' 1F s'' ] ]", E::DuplicateProperty(0x1F)),
            ],
        );
    }

    fn puback(reason_code: ReasonCode) -> Packet {
        Packet::Puback(Puback::new(PacketId::new(10).unwrap(), reason_code))
    }
}
