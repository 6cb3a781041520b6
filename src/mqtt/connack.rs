//! CONNACK: the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{ProtocolVersion, QoS, ReasonCode, UserProperty};

/// The answer to CONNECT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connack {
    /// Whether the Server resumes a Session; never in a refusal [MQTT-3.2.2-6].
    pub session_present: bool,
    /// Success, or why the connection is refused.
    pub reason_code: ReasonCode,
    /// What the Server offers and asks; in MQTT 3.1.1 not on the wire.
    pub properties: ConnackProperties,
}

/// What the Server tells the Client at the start. What is absent has the default of the standard.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConnackProperties {
    /// The Session Expiry Interval the Server uses instead of the one asked for.
    pub session_expiry_interval_secs: Option<u32>,
    /// How many QoS 1 and 2 PUBLISH the Server has in flight at most.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the Server takes; at most once or at least once.
    pub maximum_qos: Option<QoS>,
    /// Whether the Server keeps retained messages.
    pub retain_available: Option<bool>,
    /// The largest packet the Server takes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The Client Identifier the Server chose.
    pub assigned_client_id: Option<ByteString>,
    /// The highest Topic Alias the Server takes.
    pub topic_alias_maximum: Option<u16>,
    /// Why, for people.
    pub reason_string: Option<ByteString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// Whether Topic Filters may have wildcards.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether Subscription Identifiers are supported.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether Shared Subscriptions are supported.
    pub shared_subscription_available: Option<bool>,
    /// The Keep Alive the Client must use instead of its own.
    pub server_keep_alive_secs: Option<u16>,
    /// The basis of Response Topics.
    pub response_information: Option<ByteString>,
    /// Where else to connect.
    pub server_reference: Option<ByteString>,
    /// The mechanism of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
}

impl Connack {
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
