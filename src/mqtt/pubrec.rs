//! PUBREC: the first answer to a PUBLISH at QoS 2.

use super::ReasonCode;
use super::acknowledgement::{Acknowledgement, Kind};

/// The first answer to a PUBLISH at QoS 2.
pub type Pubrec = Acknowledgement<PubrecKind>;

/// Tells a PUBREC from the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PubrecKind {}

impl Kind for PubrecKind {
    const FIRST_BYTE: u8 = 0x50;
    const REASON_CODES: &'static [ReasonCode] = REASON_CODES;
}

/// The Reason Codes this packet may have [MQTT-3.5.2-1].
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
    use super::super::ProtocolVersion::{V5, V31, V311};
    use super::super::vectors::{check_both_ways, check_one_way, check_refused, user_property};
    use super::super::{DecodeError, PacketId};
    use super::super::{Packet, Sender};
    use super::*;

    #[test]
    fn vectors() {
        check_both_ways(
            Sender::Client,
            &[
                (V31, "50 02 000A", pubrec(ReasonCode::Success)),
                (V311, "50 02 000A", pubrec(ReasonCode::Success)),
                (V5, "50 02 000A", pubrec(ReasonCode::Success)),
                (V5, "50 03 000A 10", pubrec(ReasonCode::NoMatchingSubscribers)),
                (
                    V5,
                    "50 [ 000A 10 [ 1F s'why' 26 s'k' s'v' 26 s'k' s'w' ] ]",
                    Packet::Pubrec(Pubrec {
                        reason_string: Some("why".into()),
                        user_properties: vec![user_property("k", "v"), user_property("k", "w")],
                        ..Pubrec::new(PacketId::new(10).unwrap(), ReasonCode::NoMatchingSubscribers)
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
                (V5, "50 03 000A 00", pubrec(ReasonCode::Success)),
                (V5, "50 04 000A 00 00", pubrec(ReasonCode::Success)),
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
                (V311, "52 02 000A", E::FixedHeaderFlags),
                (V5, "52 02 000A", E::FixedHeaderFlags),
                (V311, "50 01 00", E::Truncated),
                (V311, "50 00", E::Truncated),
                (V311, "50 03 000A 00", E::TrailingBytes),
                (V5, "50 05 000A 00 00 00", E::TrailingBytes),
                (V5, "50 04 000A 00 01", E::Truncated),
                (V5, "50 [ 000A 00 [ 11 00000000 ] ]", E::PropertyNotAllowed(0x11)),
                (V5, "50 [ 000A 00 [ 1F 0001 FF ] ]", E::IllFormedUtf8),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "50 02 0000", E::ZeroPacketId),
                (V5, "50 02 0000", E::ZeroPacketId),
                (V5, "50 03 000A 92", E::ReasonCodeNotAllowed(0x92)),
                (V5, "50 03 000A FF", E::ReasonCodeNotAllowed(0xFF)),
                (V5, "50 [ 000A 00 [ 1F s'' 1F s'' ] ]", E::DuplicateProperty(0x1F)),
            ],
        );
    }

    fn pubrec(reason_code: ReasonCode) -> Packet {
        Packet::Pubrec(Pubrec::new(PacketId::new(10).unwrap(), reason_code))
    }
}
