//! PUBREL: the release of a Packet Identifier at QoS 2, answer to PUBREC.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The release of a Packet Identifier at QoS 2, answer to PUBREC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pubrel {
    /// The Packet Identifier of the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// How it went; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Pubrel {
    /// One without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, reason_string: None, user_properties: Vec::new() }
    }
}

impl Pubrel {
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
