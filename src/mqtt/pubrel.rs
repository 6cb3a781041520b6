//! PUBREL: the release of a Packet Identifier at QoS 2, answer to PUBREC.

use super::ReasonCode;
use super::acknowledgement::{Acknowledgement, Kind};

/// The release of a Packet Identifier at QoS 2, answer to PUBREC.
pub type Pubrel = Acknowledgement<PubrelKind>;

/// Tells a PUBREL from the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PubrelKind {}

impl Kind for PubrelKind {
    const FIRST_BYTE: u8 = 0x62;
    const REASON_CODES: &'static [ReasonCode] = REASON_CODES;
}

/// The Reason Codes this packet may have [MQTT-3.6.2-1].
pub(super) const REASON_CODES: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

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
                (V31, "62 02 000A", pubrel(ReasonCode::Success)),
                (V311, "62 02 000A", pubrel(ReasonCode::Success)),
                (V5, "62 02 000A", pubrel(ReasonCode::Success)),
                (V5, "62 03 000A 92", pubrel(ReasonCode::PacketIdentifierNotFound)),
                (
                    V5,
                    "62 [ 000A 92 [ 1F s'why' 26 s'k' s'v' 26 s'k' s'w' ] ]",
                    Packet::Pubrel(Pubrel {
                        reason_string: Some("why".into()),
                        user_properties: vec![user_property("k", "v"), user_property("k", "w")],
                        ..Pubrel::new(
                            PacketId::new(10).unwrap(),
                            ReasonCode::PacketIdentifierNotFound,
                        )
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
                (V5, "62 03 000A 00", pubrel(ReasonCode::Success)),
                (V5, "62 04 000A 00 00", pubrel(ReasonCode::Success)),
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
                (V311, "60 02 000A", E::FixedHeaderFlags),
                (V5, "60 02 000A", E::FixedHeaderFlags),
                (V311, "62 01 00", E::Truncated),
                (V311, "62 00", E::Truncated),
                (V311, "62 03 000A 00", E::TrailingBytes),
                (V5, "62 05 000A 00 00 00", E::TrailingBytes),
                (V5, "62 04 000A 00 01", E::Truncated),
                (V5, "62 [ 000A 00 [ 11 00000000 ] ]", E::PropertyNotAllowed(0x11)),
                (V5, "62 [ 000A 00 [ 1F 0001 FF ] ]", E::IllFormedUtf8),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "62 02 0000", E::ZeroPacketId),
                (V5, "62 02 0000", E::ZeroPacketId),
                (V5, "62 03 000A 10", E::ReasonCodeNotAllowed(0x10)),
                (V5, "62 03 000A FF", E::ReasonCodeNotAllowed(0xFF)),
                (V5, "62 [ 000A 00 [ 1F s'' 1F s'' ] ]", E::DuplicateProperty(0x1F)),
            ],
        );
    }

    fn pubrel(reason_code: ReasonCode) -> Packet {
        Packet::Pubrel(Pubrel::new(PacketId::new(10).unwrap(), reason_code))
    }
}
