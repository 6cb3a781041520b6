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
