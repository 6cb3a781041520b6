//! Properties: the optional fields of MQTT 5.0.

use bytes::Bytes;
use bytestring::ByteString;

use super::TopicName;

/// A name and a value whose meaning the standard leaves to the applications. A name may occur
/// more than once, and the order is kept [MQTT-3.3.2-18].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UserProperty {
    /// The name.
    pub name: ByteString,
    /// The value.
    pub value: ByteString,
}

/// The end-to-end properties of an Application Message: of a PUBLISH and of a Will.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MessageProperties {
    /// Payload Format Indicator: whether the payload says it is UTF-8. Not verified here.
    pub payload_format_is_utf8: Option<bool>,
    /// Message Expiry Interval.
    pub message_expiry_interval_secs: Option<u32>,
    /// Content Type.
    pub content_type: Option<ByteString>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}
