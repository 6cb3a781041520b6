//! PUBACK: the answer to a PUBLISH at QoS 1.

use super::ReasonCode;
use super::acknowledgement::{Acknowledgement, Kind};

/// The answer to a PUBLISH at QoS 1.
pub type Puback = Acknowledgement<PubackKind>;

/// Tells a PUBACK from the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PubackKind {}

impl Kind for PubackKind {
    const FIRST_BYTE: u8 = 0x40;
    const REASON_CODES: &'static [ReasonCode] = REASON_CODES;
}

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
                (V31, "40 02 000A", puback(ReasonCode::Success)),
                (V311, "40 02 000A", puback(ReasonCode::Success)),
                (V5, "40 02 000A", puback(ReasonCode::Success)),
                (V5, "40 03 000A 10", puback(ReasonCode::NoMatchingSubscribers)),
                (
                    V5,
                    "40 [ 000A 10 [ 1F s'why' 26 s'k' s'v' 26 s'k' s'w' ] ]",
                    Packet::Puback(Puback {
                        reason_string: Some("why".into()),
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
