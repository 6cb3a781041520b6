//! PINGRESP: the Server is alive

use bytes::{BufMut, BytesMut};

use super::ProtocolVersion;

/// The Server is alive
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pingresp;

impl Pingresp {
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

const BYTES: &[u8] = &[0xD0, 0];

#[cfg(test)]
mod tests {
    use super::super::vectors::{check_both_ways, check_refused};
    use super::super::{DecodeError, Packet, ReasonCode, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        let rows = [V31, V311, V5].map(|version| (version, "D0 00", Packet::Pingresp));
        check_both_ways(Sender::Server, &rows);
        assert_eq!(Pingresp.encoded_len(V5), BYTES.len());
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Server,
            R::MalformedPacket,
            &[
                (V311, "D1 00", E::FixedHeaderFlags),
                (V5, "D8 00", E::FixedHeaderFlags),
                (V311, "D0 01 00", E::TrailingBytes),
                (V5, "D0 01 00", E::TrailingBytes),
            ],
        );

        let wrong = E::WrongDirection("PINGRESP");
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[(V311, "D0 00", wrong), (V5, "D0 00", wrong)],
        );
    }
}
