//! UNSUBACK: the answer to UNSUBSCRIBE.

use bytes::BytesMut;

use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::suback::read_reason_codes;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, ReasonString, UserProperty};

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsuback {
    /// The Packet Identifier of the UNSUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// One for each Topic Filter, in their order; in MQTT 3.1.1 not on the wire, hence empty.
    pub reason_codes: Vec<ReasonCode>,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
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
pub(super) const REASON_CODES: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

#[cfg(test)]
mod tests {
    use super::super::vectors::{check_both_ways, check_refused, user_property};
    use super::super::{Packet, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        use ReasonCode::{NoSubscriptionExisted, Success, TopicFilterInvalid};
        let codes = [Success, NoSubscriptionExisted, TopicFilterInvalid];
        check_both_ways(
            Sender::Server,
            &[
                (V31, "B0 02 000A", unsuback(&[])),
                (V311, "B0 02 000A", unsuback(&[])),
                (V5, "B0 06 000A 00 00 11 8F", unsuback(&codes)),
                (
                    V5,
                    "B0 [ 000A [ 1F s'why' 26 s'k' s'v' ] 00 ]",
                    Packet::Unsuback(Unsuback {
                        packet_id: PacketId::new(10).unwrap(),
                        reason_codes: vec![Success],
                        reason_string: Some("why".into()),
                        user_properties: vec![user_property("k", "v")],
                    }),
                ),
            ],
        );
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Server,
            R::MalformedPacket,
            &[
                (V311, "B2 02 000A", E::FixedHeaderFlags),
                (V311, "B0 01 00", E::Truncated),
                (V311, "B0 03 000A 00", E::TrailingBytes),
                (V5, "B0 02 000A", E::Truncated),
                (V5, "B0 03 000A 00", E::NoReasonCode),
                (V5, "B0 [ 000A [ 21 0001 ] 00 ]", E::PropertyNotAllowed(0x21)),
            ],
        );
        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[
                (V311, "B0 02 0000", E::ZeroPacketId),
                (V5, "B0 04 0000 00 00", E::ZeroPacketId),
                (V5, "B0 04 000A 00 01", E::ReasonCodeNotAllowed(1)),
                (V5, "B0 [ 000A [ 1F s'' 1F s'' ] 00 ]", E::DuplicateProperty(0x1F)),
            ],
        );

        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[(V311, "B0 02 000A", E::WrongDirection("UNSUBACK"))],
        );
    }

    fn unsuback(reason_codes: &[ReasonCode]) -> Packet {
        Packet::Unsuback(Unsuback {
            packet_id: PacketId::new(10).unwrap(),
            reason_codes: reason_codes.to_vec(),
            reason_string: None,
            user_properties: Vec::new(),
        })
    }
}
