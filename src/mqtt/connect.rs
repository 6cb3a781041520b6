//! CONNECT: asks for a Network Connection to become an MQTT connection.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{MessageProperties, ProtocolVersion, QoS, TopicName, UserProperty};

/// The first packet of a Client [MQTT-3.1.0-1].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connect {
    /// The version the connection speaks from here on.
    pub protocol_version: ProtocolVersion,
    /// Clean Start; in MQTT 3.1.1 Clean Session.
    pub clean_start: bool,
    /// Keep Alive; 0 turns it off.
    pub keep_alive_secs: u16,
    /// The Client Identifier; empty asks for an assigned one.
    pub client_id: ByteString,
    /// The Will.
    pub will: Option<Box<Will>>,
    /// The User Name.
    pub user_name: Option<ByteString>,
    /// The Password.
    pub password: Option<Bytes>,
    /// What the Client offers and asks; in MQTT 3.1.1 not on the wire.
    pub properties: ConnectProperties,
}

/// What the Client tells the Server at the start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectProperties {
    /// Session Expiry Interval; absent is 0, `u32::MAX` never.
    pub session_expiry_interval_secs: Option<u32>,
    /// How many QoS 1 and 2 PUBLISH the Client has in flight at most; absent is 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet the Client takes; absent is no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The highest Topic Alias the Client takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// Whether the Client wants Response Information.
    pub request_response_information: bool,
    /// Whether the Client wants Reason Strings and User Properties with failures.
    pub request_problem_information: bool,
    /// The mechanism of enhanced authentication.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

/// The message the Server publishes when the Client is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Will {
    /// The Will Topic.
    pub topic: TopicName,
    /// The Will Payload.
    pub payload: Bytes,
    /// The Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval.
    pub delay_interval_secs: u32,
    /// The properties of the message; `None` when there are none.
    pub properties: Option<Arc<MessageProperties>>,
}

impl Default for ConnectProperties {
    /// What the standard takes for properties that are absent.
    fn default() -> Self {
        Self {
            session_expiry_interval_secs: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: Vec::new(),
        }
    }
}

/// The version a CONNECT asks for, as well as it can be told: to answer one that is malformed in
/// its own version. A level we do not know is answered as the nearest that we do.
#[must_use]
pub fn connect_version(frame: &[u8]) -> Option<ProtocolVersion> {
    let _ = frame;
    todo!()
}

impl Connect {
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
