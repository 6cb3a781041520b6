//! UNSUBSCRIBE: gives subscriptions up.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{PacketId, ProtocolVersion, UserProperty};

/// Gives subscriptions up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsubscribe {
    /// The Packet Identifier the UNSUBACK repeats.
    pub packet_id: PacketId,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// The Topic Filters, compared byte by byte; at least one [MQTT-3.10.3-2].
    pub filters: Vec<ByteString>,
}

impl Unsubscribe {
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
