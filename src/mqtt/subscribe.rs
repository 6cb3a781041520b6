//! SUBSCRIBE: asks for Application Messages.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{PacketId, ProtocolVersion, QoS, UserProperty};

/// Asks for Application Messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribe {
    /// The Packet Identifier the SUBACK repeats.
    pub packet_id: PacketId,
    /// The Subscription Identifier that comes with the messages; 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// What is asked for; at least one [MQTT-3.8.3-2].
    pub filters: Vec<SubscribeFilter>,
}

/// A Topic Filter and what is asked of the subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeFilter {
    /// A UTF-8 Encoded String [MQTT-3.8.3-1]. Whether it is a valid Topic Filter is not decided
    /// here, so that one that is not can be answered in the SUBACK.
    pub filter: ByteString,
    /// The Subscription Options.
    pub options: SubscriptionOptions,
}

/// The Subscription Options; in MQTT 3.1.1 only the QoS is on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SubscriptionOptions {
    /// The Maximum QoS at which messages are sent.
    pub qos: QoS,
    /// Whether the Client's own messages are left out.
    pub no_local: bool,
    /// Whether forwarded messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// Which retained messages are sent at once.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a subscription is sent when it is made.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    SendAtSubscribe = 0,
    /// All that match, if the subscription did not exist.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl Subscribe {
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
