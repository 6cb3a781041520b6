//! SUBACK: the answer to SUBSCRIBE.

use bytes::BytesMut;

use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, ReasonString, UserProperty};

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suback {
    /// The Packet Identifier of the SUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// One for each Topic Filter, in their order.
    pub reason_codes: Vec<ReasonCode>,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
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

    /// The bytes of one for so many Topic Filters and with nothing else in it, and of such an UNSUBACK
    /// of MQTT 5.0; that of 3.1.1 has no Reason Codes.
    #[must_use]
    pub fn bare_len(version: ProtocolVersion, filters: usize) -> usize {
        let property_length = usize::from(version.has_properties());
        packet_len(size_of::<u16>() + property_length + filters)
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
pub(super) const REASON_CODES: &[ReasonCode] = &[
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
pub(super) const RETURN_CODES_V3: &[ReasonCode] = &[
    ReasonCode::GRANTED_QOS_0,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
];

#[cfg(test)]
mod tests {
    use super::super::vectors::{check_both_ways, check_refused, user_property};
    use super::super::{Packet, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        use ReasonCode::{GrantedQoS1, GrantedQoS2, Success, TopicFilterInvalid, UnspecifiedError};
        let granted = [Success, GrantedQoS1, GrantedQoS2, UnspecifiedError];
        check_both_ways(
            Sender::Server,
            &[
                (V31, "90 03 000A 00", suback(&[Success])),
                (V311, "90 06 000A 00 01 02 80", suback(&granted)),
                (V5, "90 05 000A 00 01 8F", suback(&[GrantedQoS1, TopicFilterInvalid])),
                (
                    V5,
                    "90 [ 000A [ 1F s'why' 26 s'k' s'v' ] 02 ]",
                    Packet::Suback(Suback {
                        packet_id: PacketId::new(10).unwrap(),
                        reason_codes: vec![GrantedQoS2],
                        reason_string: Some("why".into()),
                        user_properties: vec![user_property("k", "v")],
                    }),
                ),
            ],
        );
    }

    #[test]
    fn a_bare_one_is_as_long_as_it_is_said_to_be() {
        for (version, filters) in [(V31, 1), (V311, 124), (V311, 126), (V5, 124), (V5, 125)] {
            let Packet::Suback(packet) = suback(&vec![ReasonCode::Success; filters]) else {
                panic!("another packet")
            };
            assert_eq!(Suback::bare_len(version, filters), packet.encoded_len(version));
        }
    }

    #[test]
    fn before_5_0_every_failure_is_0x80() {
        let mut written = BytesMut::new();
        suback(&[ReasonCode::NotAuthorized, ReasonCode::GrantedQoS2]).encode(V311, &mut written);
        assert_eq!(&written[..], [0x90, 4, 0, 10, 0x80, 2]);
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Server,
            R::MalformedPacket,
            &[
                (V311, "92 03 000A 00", E::FixedHeaderFlags),
                (V311, "90 02 000A", E::NoReasonCode),
                (V5, "90 03 000A 00", E::NoReasonCode),
                (V5, "90 02 000A", E::Truncated),
                (V311, "90 01 00", E::Truncated),
                (V5, "90 [ 000A [ 0B 01 ] 00 ]", E::PropertyNotAllowed(0x0B)),
            ],
        );
        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[
                (V311, "90 03 0000 00", E::ZeroPacketId),
                (V5, "90 04 0000 00 00", E::ZeroPacketId),
                (V311, "90 03 000A 03", E::ReasonCodeNotAllowed(3)),
                (V311, "90 03 000A 87", E::ReasonCodeNotAllowed(0x87)),
                (V5, "90 04 000A 00 11", E::ReasonCodeNotAllowed(0x11)),
                (V5, "90 [ 000A [ 1F s'' 1F s'' ] 00 ]", E::DuplicateProperty(0x1F)),
            ],
        );

        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[(V5, "90 04 000A 00 00", E::WrongDirection("SUBACK"))],
        );
    }

    fn suback(reason_codes: &[ReasonCode]) -> Packet {
        Packet::Suback(Suback {
            packet_id: PacketId::new(10).unwrap(),
            reason_codes: reason_codes.to_vec(),
            reason_string: None,
            user_properties: Vec::new(),
        })
    }
}
