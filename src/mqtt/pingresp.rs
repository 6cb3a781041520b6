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
