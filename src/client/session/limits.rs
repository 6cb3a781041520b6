//! What the server said in its CONNACK that it can take.

use std::num::NonZeroU16;

use crate::mqtt::{Connack, ProtocolVersion, Publish, QoS, ReasonCode};

/// The limits of the server for this connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    version: ProtocolVersion,
    pub(super) receive_maximum: u16,
    pub(super) topic_alias_maximum: u16,
    pub(super) has_subscription_ids: bool,
    maximum_qos: QoS,
    is_retain_available: bool,
    packet_size_max: usize,
}

impl ServerLimits {
    /// The limits that a CONNACK announces; what it does not mention is unlimited, but Topic
    /// Aliases are not allowed then [MQTT-3.2.2-18].
    pub(super) fn new(version: ProtocolVersion, connack: &Connack) -> Self {
        let said = &connack.properties;
        Self {
            version,
            receive_maximum: said.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            topic_alias_maximum: said.topic_alias_maximum.unwrap_or(0),
            has_subscription_ids: version.has_properties()
                && said.subscription_identifiers_available.unwrap_or(true),
            maximum_qos: said.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            is_retain_available: said.retain_available.unwrap_or(true),
            packet_size_max: said
                .maximum_packet_size
                .and_then(|size| usize::try_from(size.get()).ok())
                .unwrap_or(usize::MAX),
        }
    }

    /// Whether the server takes this PUBLISH; the Reason Code is the one it would answer
    /// [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15].
    pub(super) fn admit(&self, publish: &Publish) -> Result<(), ReasonCode> {
        if publish.qos > self.maximum_qos {
            return Err(ReasonCode::QoSNotSupported);
        }
        if publish.retain && !self.is_retain_available {
            return Err(ReasonCode::RetainNotSupported);
        }
        if !self.admits_len(publish.encoded_len(self.version)) {
            return Err(ReasonCode::PacketTooLarge);
        }
        Ok(())
    }

    /// Whether the server takes a packet of this length [MQTT-3.2.2-15].
    pub(super) fn admits_len(&self, len: usize) -> bool {
        len <= self.packet_size_max && len <= PACKET_LEN_MAX
    }
}

/// The longest packet the standard can express: a Remaining Length of four bytes.
pub(super) const PACKET_LEN_MAX: usize = 268_435_455 + 5;
