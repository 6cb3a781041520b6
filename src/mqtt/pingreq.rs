//! PINGREQ: is the Server alive?

use bytes::{BufMut, BytesMut};

use super::ProtocolVersion;

/// Is the Server alive?
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pingreq;

impl Pingreq {
    /// Appends the whole packet to `out`.
    pub fn encode(self, _version: ProtocolVersion, out: &mut BytesMut) {
        out.put_slice(BYTES);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub const fn encoded_len(self, _version: ProtocolVersion) -> usize {
        BYTES.len()
    }
}

const BYTES: &[u8] = &[0xC0, 0];

#[cfg(test)]
mod tests {
    use super::super::vectors::{check_both_ways, check_refused};
    use super::super::{DecodeError, Packet, ReasonCode, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        let rows = [V31, V311, V5].map(|version| (version, "C0 00", Packet::Pingreq));
        check_both_ways(Sender::Client, &rows);
        assert_eq!(Pingreq.encoded_len(V5), BYTES.len());
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Client,
            R::MalformedPacket,
            &[
                (V311, "C1 00", E::FixedHeaderFlags),
                (V5, "C8 00", E::FixedHeaderFlags),
                (V311, "C0 01 00", E::TrailingBytes),
                (V5, "C0 01 00", E::TrailingBytes),
            ],
        );

        let wrong = E::WrongDirection("PINGREQ");
        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[(V311, "C0 00", wrong), (V5, "C0 00", wrong)],
        );
    }
}
