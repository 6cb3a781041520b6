//! An Application Message on its way to the server.

use std::{num::NonZeroU16, sync::Arc};

use bytes::Bytes;

use crate::mqtt::{MessageProperties, PacketId, Publish, QoS, TopicName};

/// An Application Message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub topic: TopicName,
    /// What it says.
    pub payload: Bytes,
    /// How hard it is tried.
    pub qos: QoS,
    /// Whether the server keeps it for later subscribers.
    pub retain: bool,
    /// The Topic Alias the application wants for this topic; left out where the server allows none.
    pub topic_alias: Option<NonZeroU16>,
    /// MQTT 5 properties; left out towards an older server.
    pub properties: Option<Arc<MessageProperties>>,
}

impl Message {
    /// The PUBLISH packet that carries this message, under its full Topic Name.
    #[must_use]
    pub(super) fn to_publish(&self, packet_id: Option<PacketId>, dup: bool) -> Publish {
        Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.as_byte_string().clone(),
            packet_id,
            topic_alias: None,
            subscription_ids: smallvec::SmallVec::new(),
            properties: self.properties.clone(),
            payload: self.payload.clone(),
        }
    }
}
