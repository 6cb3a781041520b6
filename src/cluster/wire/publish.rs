//! The frame of a message. Every message to a peer pays for it: it is written straight into the lane
//! from borrowed parts, and read as slices of what was received.
//!
//! ```text
//! varint length | u8 flags | [u8 more flags] | u64 publisher | [u64 message id, for QoS 1 and 2] | [u64 expiry] [u64 time, u128 boot id]
//!   | u16 length, topic | [varint length, properties] [varint count, filters] | payload
//! ```

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use crate::cluster::frame::{PublishFrame, Whom};
use crate::cluster::version::Version;
use crate::cluster::wire::WireError;
use crate::cluster::wire::primitive::{ENTRIES_MAX, Reader, Sink, varint_len};
use crate::mqtt::{MessageProperties, QoS, TopicFilter, TopicName};
use crate::ports::message::Message;

/// A [`PublishFrame`] whose parts lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct PublishParts<'a> {
    /// Where it was published: a Topic Name.
    pub topic: &'a str,
    /// What was published.
    pub payload: &'a [u8],
    /// The properties that travel end to end.
    pub properties: Option<&'a MessageProperties>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether the publisher set RETAIN.
    pub retain: bool,
    /// A hash of the publisher's Client Identifier, or 0.
    pub publisher: u64,
    /// When the message expires, in milliseconds since 1970 on the cluster clock.
    pub expires_at_millis: Option<u64>,
    /// Of the retained message that it makes.
    pub version: Option<Version>,
    /// Whether it goes to ordinary Subscriptions.
    pub is_for_subscribers: bool,
    /// Of which Sessions.
    pub whom: Whom,
    /// The Shared Subscriptions of which one member there gets it: at most
    /// [`ENTRIES_MAX`].
    pub groups: &'a [TopicFilter],
    /// Tells it from all others in the cluster; not sent with QoS 0.
    pub message_id: u64,
}

impl<'a> PublishParts<'a> {
    /// `message` for ordinary Subscriptions, without what only the cluster knows of it.
    #[must_use]
    #[inline]
    pub fn of(message: &'a Message) -> Self {
        Self {
            topic: message.topic.as_str(),
            payload: &message.payload,
            properties: message.properties.as_deref(),
            qos: message.qos,
            retain: message.retain,
            publisher: message.publisher.0,
            expires_at_millis: None,
            version: None,
            is_for_subscribers: true,
            whom: Whom::Everybody,
            groups: &[],
            message_id: message.id.0,
        }
    }

    /// The bytes of the frame, its length included.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let body_len = self.body_len(self.properties_len());
        varint_len(body_len) + body_len
    }

    #[inline]
    fn properties_len(&self) -> usize {
        self.properties.map_or(0, MessageProperties::encoded_len)
    }

    #[inline]
    fn body_len(&self, properties_len: usize) -> usize {
        let mut len = HEAD_BYTES + self.topic.len() + self.payload.len();
        if self.qos > QoS::AtMostOnce {
            len += size_of::<u64>();
        }
        if self.whom != Whom::Everybody {
            len += 1;
        }
        if self.expires_at_millis.is_some() {
            len += size_of::<u64>();
        }
        if self.version.is_some() {
            len += VERSION_BYTES;
        }
        if self.properties.is_some() {
            len += varint_len(properties_len) + properties_len;
        }
        if !self.groups.is_empty() {
            let filters: usize = self.groups.iter().map(|filter| 2 + filter.as_str().len()).sum();
            len += varint_len(self.groups.len()) + filters;
        }
        len
    }

    #[inline]
    fn flags(&self) -> u8 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let qos = if self.whom == Whom::Everybody { self.qos.bits() } else { HAS_MORE };
        qos | flag(self.retain, RETAIN)
            | flag(self.properties.is_some(), HAS_PROPERTIES)
            | flag(self.expires_at_millis.is_some(), HAS_EXPIRY)
            | flag(self.version.is_some(), HAS_VERSION)
            | flag(self.is_for_subscribers, IS_FOR_SUBSCRIBERS)
            | flag(!self.groups.is_empty(), HAS_GROUPS)
    }
}

impl PublishParts<'_> {
    /// Writes what comes before the topic; returns the room that is left.
    #[inline]
    fn write_head<'h>(&self, body_len: usize, mut room: &'h mut [u8]) -> &'h mut [u8] {
        let topic_len = u16::try_from(self.topic.len()).expect("a topic has at most 65,535 bytes");
        room.varint(body_len);
        room.put_u8(self.flags());
        match self.whom {
            Whom::Everybody => {}
            Whom::Stored => room.put_u8(self.qos.bits() | IS_FOR_STORED),
            Whom::Unstored => room.put_u8(self.qos.bits()),
        }
        room.put_u64(self.publisher);
        if self.qos > QoS::AtMostOnce {
            room.put_u64(self.message_id);
        }
        if let Some(millis) = self.expires_at_millis {
            room.put_u64(millis);
        }
        if let Some(version) = self.version {
            room.version(version);
        }
        room.put_u16(topic_len);
        room
    }
}

impl<'a> From<&'a PublishFrame> for PublishParts<'a> {
    fn from(frame: &'a PublishFrame) -> Self {
        Self {
            topic: frame.topic.as_str(),
            payload: &frame.payload,
            properties: frame.properties.as_deref(),
            qos: frame.qos,
            retain: frame.retain,
            publisher: frame.publisher,
            expires_at_millis: frame.expires_at_millis,
            version: frame.version,
            is_for_subscribers: frame.is_for_subscribers,
            whom: frame.whom,
            groups: &frame.groups,
            message_id: frame.message_id,
        }
    }
}

/// Appends the frame of a message to `out`, its length included. Nothing is allocated but room in
/// `out`.
#[inline]
pub fn encode_publish(parts: &PublishParts<'_>, out: &mut BytesMut) {
    assert!(parts.groups.len() <= ENTRIES_MAX, "more groups go into a second frame");
    let properties_len = parts.properties_len();
    let body_len = parts.body_len(properties_len);
    out.reserve(varint_len(body_len) + body_len);
    // What comes before the topic is put together first: one copy instead of many.
    let mut head = [0; HEAD_BYTES_MAX];
    let room_left = parts.write_head(body_len, &mut head).len();
    out.put_slice(head.split_at(HEAD_BYTES_MAX - room_left).0);
    out.put_slice(parts.topic.as_bytes());
    if let Some(properties) = parts.properties {
        out.varint(properties_len);
        properties.encode(out);
    }
    if !parts.groups.is_empty() {
        out.list(parts.groups, |out, filter| out.string(filter.as_str()));
    }
    out.put_slice(parts.payload);
}

/// Reads the body of a frame.
#[inline]
pub(super) fn decode_publish(
    reader: &mut Reader<'_>,
    last_topic: Option<&TopicName>,
) -> Result<PublishFrame, WireError> {
    let flags = reader.u8()?;
    let (qos, whom) = match flags & QOS {
        HAS_MORE => read_more(reader.u8()?)?,
        qos => (qos, Whom::Everybody),
    };
    let publisher = reader.u64()?;
    let qos = QoS::from_bits(qos).ok_or(WireError::Value("QoS"))?;
    let message_id = if qos > QoS::AtMostOnce { reader.u64()? } else { 0 };
    let expires_at_millis = if flags & HAS_EXPIRY != 0 { Some(reader.u64()?) } else { None };
    let version = if flags & HAS_VERSION != 0 { Some(reader.version()?) } else { None };
    let topic = reader.topic_after(last_topic)?;
    let properties =
        if flags & HAS_PROPERTIES != 0 { Some(read_properties(reader)?) } else { None };
    let groups = if flags & HAS_GROUPS != 0 { read_groups(reader)? } else { SmallVec::new() };
    Ok(PublishFrame {
        topic,
        payload: reader.rest(),
        properties,
        qos,
        retain: flags & RETAIN != 0,
        publisher,
        expires_at_millis,
        version,
        is_for_subscribers: flags & IS_FOR_SUBSCRIBERS != 0,
        whom,
        groups,
        message_id,
    })
}

/// QoS, and for which Sessions.
fn read_more(flags: u8) -> Result<(u8, Whom), WireError> {
    if flags & !(QOS | IS_FOR_STORED) != 0 {
        return Err(WireError::Value("flags"));
    }
    let whom = if flags & IS_FOR_STORED != 0 { Whom::Stored } else { Whom::Unstored };
    Ok((flags & QOS, whom))
}

pub(super) fn write_properties(properties: &MessageProperties, sink: &mut impl Sink) {
    let mut bytes = BytesMut::new();
    properties.encode(&mut bytes);
    sink.varint(bytes.len());
    sink.bytes(&bytes);
}

pub(super) fn read_properties(
    reader: &mut Reader<'_>,
) -> Result<Arc<MessageProperties>, WireError> {
    let len = reader.len()?;
    let bytes = reader.slice(len)?;
    MessageProperties::decode(&bytes).map(Arc::new).map_err(WireError::Properties)
}

fn read_groups(reader: &mut Reader<'_>) -> Result<SmallVec<[TopicFilter; 1]>, WireError> {
    let count = reader.count()?;
    let mut groups = SmallVec::new();
    for _ in 0..count {
        groups.push(reader.filter()?);
    }
    Ok(groups)
}

const QOS: u8 = 0b11;
/// In the place of a QoS: it stands in a second byte of flags.
const HAS_MORE: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const HAS_PROPERTIES: u8 = 1 << 3;
const HAS_EXPIRY: u8 = 1 << 4;
const HAS_VERSION: u8 = 1 << 5;
const IS_FOR_SUBSCRIBERS: u8 = 1 << 6;
const HAS_GROUPS: u8 = 1 << 7;
/// In the second byte.
const IS_FOR_STORED: u8 = 1 << 2;

/// Flags, publisher, and the length of the topic.
const HEAD_BYTES: usize = 1 + 8 + 2;
const VERSION_BYTES: usize = 8 + 16;
/// The longest length, [`HEAD_BYTES`], and all that may stand between: more flags, message id, expiry,
/// version.
const HEAD_BYTES_MAX: usize = 5 + HEAD_BYTES + 1 + 8 + 8 + VERSION_BYTES;
