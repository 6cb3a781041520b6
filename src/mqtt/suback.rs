//! SUBACK: the answer to SUBSCRIBE.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suback {
    /// The Packet Identifier of the SUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// One for each Topic Filter, in their order.
    pub reason_codes: Vec<ReasonCode>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Suback {
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
