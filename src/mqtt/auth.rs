//! AUTH: a step of enhanced authentication, in MQTT 5.0.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{ProtocolVersion, ReasonCode, UserProperty};

/// A step of enhanced authentication. The packet does not exist before MQTT 5.0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Auth {
    /// Where the exchange stands.
    pub reason_code: ReasonCode,
    /// The mechanism.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Auth {
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
