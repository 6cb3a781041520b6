//! The words of the standard: the Control Packets of MQTT 3.1, 3.1.1 and 5.0, and their bytes.
//!
//! Everything here is a value or a pure function. A packet is decoded from one whole frame, whose
//! bytes it keeps as slices; nothing is copied, and nothing is allocated beyond what the received
//! bytes justify. What decodes is valid: rules that need no state are checked here, once, and each
//! broken one is a [`DecodeError`] with its Reason Code. What depends on the Session (is this
//! Packet Identifier in flight, is this Topic Alias known) is not the business of this layer.

mod acknowledgement;
mod answer;
#[cfg(test)]
mod arbitrary;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod packet_id;
mod pingreq;
mod pingresp;
mod properties;
mod puback;
mod pubcomp;
mod publish;
mod pubrec;
mod pubrel;
mod qos;
mod reader;
mod reason_code;
mod reason_string;
#[cfg(test)]
mod round_trip;
mod suback;
mod subscribe;
mod topic;
mod unsuback;
mod unsubscribe;
#[cfg(test)]
mod vectors;
mod version;
mod writer;

pub use acknowledgement::{Acknowledgement, Kind};
pub use answer::Answer;
pub use auth::Auth;
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will, connect_version};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use frame::{Frame, PACKET_SIZE_MAX};
pub use packet::{Packet, Sender};
pub use packet_id::PacketId;
pub use pingreq::Pingreq;
pub use pingresp::Pingresp;
pub use properties::{MessageProperties, UserProperty};
pub use puback::Puback;
pub use pubcomp::Pubcomp;
pub use publish::{Publish, PublishHead};
pub use pubrec::Pubrec;
pub use pubrel::Pubrel;
pub use qos::QoS;
pub use reason_code::ReasonCode;
pub use reason_string::ReasonString;
pub use suback::Suback;
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions};
pub use topic::{Share, TopicError, TopicFilter, TopicName};
pub use unsuback::Unsuback;
pub use unsubscribe::Unsubscribe;
pub use version::ProtocolVersion;
pub use writer::FIELD_BYTES_MAX;
