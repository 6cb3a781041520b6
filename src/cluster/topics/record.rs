//! What the znode of a topic holds.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::path::TopicPath;
use crate::cluster::frame::RetainedMessage;
use crate::cluster::identity::BootId;
use crate::cluster::version::Version;
use crate::mqtt::{MessageProperties, QoS};

/// A topic in use, and its latest value where it keeps one.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Of the value; of a registration that never had one, time 0.
    pub version: Version,
    /// Whose lease covers the znode.
    pub payer: BootId,
    /// Until when it holds, in milliseconds since 1970 on the cluster clock; `u64::MAX`: until
    /// another one takes its place.
    pub expires_at_millis: u64,
    /// What it says.
    pub content: Content,
}

/// What a [`Record`] says of its topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// It is in use. If it has a value of this version, that is too large for a znode.
    Registration,
    /// It has this value. [`RetainedMessage::expires_at_millis`] is that of the record.
    Value(ValueKind, RetainedMessage),
    /// Its value was deleted.
    Tombstone,
}

/// Why a value is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
    /// It was published with RETAIN.
    Retained,
    /// The configuration keeps the last value of this topic.
    LastValue,
}

impl Record {
    /// The written form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (flags, message) = match &self.content {
            Content::Registration => (REGISTRATION, None),
            Content::Value(ValueKind::Retained, message) => (RETAINED, Some(message)),
            Content::Value(ValueKind::LastValue, message) => (LAST_VALUE, Some(message)),
            Content::Tombstone => (TOMBSTONE, None),
        };
        let mut out = BytesMut::with_capacity(HEAD_BYTES + message.map_or(0, value_bytes));
        out.put_u8(FORMAT);
        out.put_u8(flags);
        out.put_u64(self.version.time);
        out.put_u128(self.version.boot_id.0);
        out.put_u128(self.payer.0);
        out.put_u64(self.expires_at_millis);
        let Some(message) = message else { return out.freeze() };
        out.put_u8(message.qos.bits());
        let properties = message.properties.as_deref();
        let len = properties.map_or(0, MessageProperties::encoded_len);
        out.put_u16(u16::try_from(len).expect("a value in a znode is small"));
        if let Some(properties) = properties {
            properties.encode(&mut out);
        }
        out.put_slice(&message.payload);
        out.freeze()
    }

    /// Reads the written form. `None` when it is not one of this version.
    #[must_use]
    pub fn decode(data: &Bytes) -> Option<Self> {
        let mut rest = data.clone();
        let (format, flags) = (rest.try_get_u8().ok()?, rest.try_get_u8().ok()?);
        if format != FORMAT {
            return None;
        }
        let time = rest.try_get_u64().ok()?;
        let version = Version { time, boot_id: BootId(rest.try_get_u128().ok()?) };
        let payer = BootId(rest.try_get_u128().ok()?);
        let expires_at_millis = rest.try_get_u64().ok()?;
        let content = match flags {
            REGISTRATION => Content::Registration,
            RETAINED => Content::Value(ValueKind::Retained, decode_value(rest, expires_at_millis)?),
            LAST_VALUE => {
                Content::Value(ValueKind::LastValue, decode_value(rest, expires_at_millis)?)
            }
            TOMBSTONE => Content::Tombstone,
            _ => return None,
        };
        Some(Self { version, payer, expires_at_millis, content })
    }
}

fn decode_value(mut rest: Bytes, expires_at_millis: u64) -> Option<RetainedMessage> {
    let qos = QoS::from_bits(rest.try_get_u8().ok()?)?;
    let len = usize::from(rest.try_get_u16().ok()?);
    if len > rest.len() {
        return None;
    }
    let properties = rest.split_to(len);
    let properties = match len {
        0 => None,
        _ => Some(Arc::new(MessageProperties::decode(&properties).ok()?)),
    };
    let expires_at_millis = (expires_at_millis != u64::MAX).then_some(expires_at_millis);
    Some(RetainedMessage { payload: rest, properties, qos, expires_at_millis })
}

/// Whether a value of this topic may stand in a znode.
#[must_use]
pub fn fits_znode(topic: &str, payload: &[u8], properties: Option<&MessageProperties>) -> bool {
    let properties = properties.map_or(0, MessageProperties::encoded_len);
    payload.len() + properties <= VALUE_BYTES_MAX && TopicPath::of(topic).is_ok()
}

/// Whether a value may stand in a znode; larger ones go by link only.
pub(super) fn fits(message: &RetainedMessage) -> bool {
    value_bytes(message) <= VALUE_BYTES_MAX
}

fn value_bytes(message: &RetainedMessage) -> usize {
    let properties = message.properties.as_deref().map_or(0, MessageProperties::encoded_len);
    message.payload.len() + properties
}

const FORMAT: u8 = 1;
const REGISTRATION: u8 = 0;
const RETAINED: u8 = 1;
const LAST_VALUE: u8 = 2;
const TOMBSTONE: u8 = 3;
const HEAD_BYTES: usize = 1 + 1 + 8 + 16 + 16 + 8 + 1 + 2;
/// Payload and properties: what a broker reads on every change, on every broker, stays small.
const VALUE_BYTES_MAX: usize = 4 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: Content) -> Record {
        let version = Version { time: 77, boot_id: BootId(1) };
        Record { version, payer: BootId(2), expires_at_millis: 9, content }
    }

    fn message(payload: &'static [u8], properties: Option<MessageProperties>) -> RetainedMessage {
        RetainedMessage {
            payload: Bytes::from_static(payload),
            properties: properties.map(Arc::new),
            qos: QoS::AtLeastOnce,
            expires_at_millis: Some(9),
        }
    }

    #[test]
    fn records_are_read_back_and_no_prefix_of_one_panics() {
        let properties = MessageProperties {
            content_type: Some("text/plain".into()),
            payload_format_is_utf8: Some(true),
            ..MessageProperties::default()
        };
        let contents = [
            Content::Registration,
            Content::Tombstone,
            Content::Value(ValueKind::Retained, message(b"", None)),
            Content::Value(ValueKind::LastValue, message(b"payload", Some(properties))),
        ];
        for content in contents {
            let record = record(content);
            let data = record.encode();
            assert_eq!(Record::decode(&data).as_ref(), Some(&record));
            for end in 0..data.len() {
                let _ = Record::decode(&data.slice(..end));
            }
        }
    }

    #[test]
    fn other_forms_are_not_read() {
        let data = record(Content::Registration).encode();
        for (at, byte) in [(0, 2), (1, 9)] {
            let mut other = data.to_vec();
            other[at] = byte;
            assert_eq!(Record::decode(&Bytes::from(other)), None);
        }
    }

    #[test]
    fn a_value_beyond_four_kibibytes_stays_out() {
        let mut message = message(b"", None);
        message.payload = vec![0; 4_096].into();
        assert!(fits(&message));
        message.payload = vec![0; 4_097].into();
        assert!(!fits(&message));
    }
}
