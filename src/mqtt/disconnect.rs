//! DISCONNECT: the last packet of a Network Connection.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{ProtocolVersion, ReasonCode, UserProperty};

/// The last packet of a Network Connection; in MQTT 3.1.1 only a Client sends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disconnect {
    /// Why the sender closes; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// The Session Expiry Interval from now on; only from a Client [MQTT-3.14.2-2].
    pub session_expiry_interval_secs: Option<u32>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// Where else to connect.
    pub server_reference: Option<ByteString>,
}

impl Disconnect {
    /// One without properties.
    #[must_use]
    pub const fn new(reason_code: ReasonCode) -> Self {
        Self {
            reason_code,
            session_expiry_interval_secs: None,
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        }
    }
}

impl Disconnect {
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
