//! PUBACK: the answer to a PUBLISH at QoS 1.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The answer to a PUBLISH at QoS 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Puback {
    /// The Packet Identifier of the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// How it went; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Puback {
    /// One without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, reason_string: None, user_properties: Vec::new() }
    }
}

impl Puback {
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
