//! PINGREQ: is the Server alive?

use bytes::BytesMut;

use super::ProtocolVersion;

/// Is the Server alive?
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pingreq;

impl Pingreq {
    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        let _ = (version, out);
        todo!()
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        let _ = version;
        todo!()
    }
}
