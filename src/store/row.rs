//! A message as a row holds it, and the way back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::mqtt::{MessageProperties, TopicName};
use crate::ports::message::MessageId;
use crate::ports::store::StoredMessage;
use crate::store::codec::{flags, millis, millis_of, qos_of, retain_of};

/// The columns of a message.
#[derive(Debug)]
pub(super) struct MessageRow {
    pub(super) id: i64,
    pub(super) publisher: i64,
    pub(super) flags: i16,
    pub(super) expires_at: Option<i64>,
    pub(super) topic: String,
    pub(super) properties: Option<Vec<u8>>,
    pub(super) payload: Vec<u8>,
}

/// A row holds what nobody wrote.
#[derive(Debug, thiserror::Error)]
#[error("a row of {0} is not what was written")]
pub(super) struct RowError(pub(super) &'static str);

impl MessageRow {
    pub(super) fn message(self) -> Result<StoredMessage, RowError> {
        let broken = || RowError("message");
        let properties = match self.properties {
            None => None,
            Some(bytes) => {
                let bytes = Bytes::from(bytes);
                Some(Arc::new(MessageProperties::decode(&bytes).map_err(|_| broken())?))
            }
        };
        Ok(StoredMessage {
            id: MessageId(self.id.cast_unsigned()),
            publisher: self.publisher.cast_unsigned(),
            topic: TopicName::parse(ByteString::from(self.topic)).map_err(|_| broken())?,
            payload: Bytes::from(self.payload),
            properties,
            qos: qos_of(self.flags).ok_or_else(broken)?,
            retain: retain_of(self.flags),
            expires_at_millis: self.expires_at.map(millis_of),
        })
    }
}

pub(super) fn message_id(id: MessageId) -> i64 {
    id.0.cast_signed()
}

pub(super) fn message_flags(message: &StoredMessage) -> i16 {
    flags(message.qos, message.retain)
}

pub(super) fn message_expiry(message: &StoredMessage) -> Option<i64> {
    message.expires_at_millis.map(millis)
}

/// The properties as they travel.
pub(super) fn properties_bytes(message: &StoredMessage) -> Option<BytesMut> {
    message.properties.as_deref().map(|properties| {
        let mut bytes = BytesMut::new();
        properties.encode(&mut bytes);
        bytes
    })
}
