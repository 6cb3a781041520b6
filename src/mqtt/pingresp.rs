//! PINGRESP: the Server is alive

use bytes::BytesMut;

use super::ProtocolVersion;

/// The Server is alive
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pingresp;

impl Pingresp {
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
