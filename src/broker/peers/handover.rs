//! A Session as it travels from one broker to another.
//!
//! It is cut into records, and records are put into parts of about [`PART_BYTES`]; a record is never
//! cut. First come the Subscriptions: the receiver must have all of them in effect before the rest
//! is taken out of the Session.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::broker::disconnect::Client;
use crate::broker::peers::Peers;
use crate::broker::peers::again::{LeftOut, LeftOuts};
use crate::cluster::frame::USER_WIRE_MIN;
use crate::cluster::identity::WireVersions;
use crate::mqtt::{
    DecodeError, MessageProperties, PacketId, QoS, RetainHandling, SubscriptionOptions, TopicError,
    TopicFilter, TopicName,
};
use crate::ports::auth::SessionUser;
use crate::ports::message::{Delivery, Message, MessageId, Progress, Publisher, SubscriptionTag};
use crate::session::handover::Contents;
use crate::session::in_flight::Entry;
use crate::session::mailbox::Recalled;

/// Why bytes are not part of a Session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("a record ends in the middle of a field")]
    Truncated,
    #[error("record type {0} does not exist")]
    UnknownRecord(u8),
    #[error("the {0} has a value that does not exist")]
    Value(&'static str),
    #[error("a topic breaks a rule")]
    Topic(#[from] TopicError),
    #[error("the properties of a message break a rule")]
    Properties(#[from] DecodeError),
}

impl From<TryGetError> for HandoverError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// One Subscription, and how far its replay of retained messages has come.
#[derive(Debug, PartialEq)]
pub(crate) struct MovedSubscription {
    pub(crate) filter: TopicFilter,
    pub(crate) options: SubscriptionOptions,
    pub(crate) id: Option<u32>,
    pub(crate) replay_place: Option<Vec<u8>>,
}

/// What has come of a Session.
#[derive(Debug, Default)]
pub(crate) struct ReceivedSession {
    pub(crate) session_expiry_secs: u32,
    /// Of which user it is; not known of one that comes from a broker of an earlier version.
    pub(crate) user: SessionUser,
    pub(crate) subscriptions: Vec<MovedSubscription>,
    /// Whether these are all Subscriptions there are.
    pub(crate) has_all_subscriptions: bool,
    pub(crate) contents: Contents,
    /// Who did not take messages that the client published.
    pub(crate) left_out: LeftOuts,
    /// Whether its queue is in the store.
    pub(crate) is_stored: bool,
    /// What that did not take.
    pub(crate) given_up: BTreeSet<MessageId>,
}

/// Parts to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    sealed: VecDeque<Bytes>,
    open: BytesMut,
}

impl Parts {
    /// How long the Session lasts, of which user it is, and what it is subscribed to.
    pub(crate) fn of_subscriptions(client: &Client, wire: u16) -> Self {
        let mut parts = Self::default();
        parts.put(|out| {
            out.put_u8(SESSION);
            out.put_u32(client.session_expiry_secs);
        });
        if wire >= USER_WIRE_MIN
            && let SessionUser::Known(name) = client.card.session_user()
        {
            parts.put(|out| {
                out.put_u8(USER);
                out.put_u8(u8::from(name.is_some()));
                put_string(name.as_deref().unwrap_or_default(), out);
            });
        }
        for (filter, subscription) in client.session.subscriptions() {
            let serial = subscription.serial;
            let replay = client.replays.iter().find(|replay| replay.serial == serial);
            parts.put(|out| {
                out.put_u8(SUBSCRIPTION);
                put_string(filter.as_str(), out);
                out.put_u8(options_to_bits(subscription.options));
                out.put_u32(subscription.id.unwrap_or(0));
                out.put_u8(u8::from(replay.is_some()));
                if let Some(replay) = replay {
                    put_bytes(replay.cursor.place(), out);
                }
            });
        }
        parts.put(|out| out.put_u8(SUBSCRIBED));
        parts
    }

    /// The rest of it, for a broker that speaks this version of the wire. One of version 1 cannot read
    /// who was left out: what comes again goes to all. One of version 2 is not told what was taken
    /// lately: what comes late by another way comes twice.
    pub(crate) fn of_contents(
        contents: &Contents,
        left_out: &LeftOuts,
        peers: &Peers,
        wire: u16,
    ) -> Self {
        let mut parts = Self::default();
        for (id, left_out) in left_out.told_in(wire) {
            parts.put(|out| {
                out.put_u8(LEFT_OUT);
                out.put_u16(id.get());
                left_out.encode(out);
            });
        }
        for (id, message) in left_out.named_in(wire) {
            parts.put(|out| {
                out.put_u8(LEFT_OUT_NAME);
                out.put_u16(id.get());
                out.put_u64(message.0);
            });
        }
        if wire >= RECENT_WIRE_MIN {
            for recent in contents.recent.chunks(RECENT_CHUNK) {
                parts.put(|out| put_recent(recent, peers, out));
            }
        }
        for id in &contents.unreleased {
            parts.put(|out| {
                out.put_u8(UNRELEASED);
                out.put_u16(id.get());
            });
        }
        parts.put(|out| {
            out.put_u8(FIRST_ID);
            out.put_u16(contents.first_id.get());
        });
        for entry in &contents.in_flight {
            parts.put(|out| put_entry(entry, peers, out));
        }
        for delivery in &contents.queue {
            parts.put(|out| {
                out.put_u8(QUEUED);
                put_delivery(delivery, peers, out);
            });
        }
        parts
    }

    /// The rest of one that is in the store: what its client has published.
    pub(crate) fn of_stored(
        contents: &Contents,
        left_out: &LeftOuts,
        given_up: &[MessageId],
        peers: &Peers,
    ) -> Self {
        let mut parts = Self::of_contents(contents, left_out, peers, WireVersions::OURS.newest);
        for message in given_up {
            parts.put(|out| {
                out.put_u8(GIVEN_UP);
                out.put_u64(message.0);
            });
        }
        parts.put(|out| out.put_u8(STORED));
        parts
    }

    fn put(&mut self, record: impl FnOnce(&mut BytesMut)) {
        record(&mut self.open);
        if self.open.len() >= PART_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push_back(self.open.split().freeze());
        }
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.seal();
        self.sealed.pop_front()
    }

    /// Whether all have been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty()
    }
}

impl ReceivedSession {
    /// Whether a Session begins with this part.
    pub(crate) fn begins_with(part: &Bytes) -> bool {
        part.first() == Some(&SESSION)
    }

    /// Takes one part.
    pub(crate) fn take(&mut self, mut part: Bytes, peers: &Peers) -> Result<(), HandoverError> {
        while part.has_remaining() {
            self.take_record(&mut part, peers)?;
        }
        Ok(())
    }

    fn take_record(&mut self, part: &mut Bytes, peers: &Peers) -> Result<(), HandoverError> {
        let in_flight = &mut self.contents.in_flight;
        match part.try_get_u8()? {
            SESSION => self.session_expiry_secs = part.try_get_u32()?,
            USER => {
                let is_named = part.try_get_u8()? != 0;
                let name = string(part)?;
                self.user = SessionUser::Known(is_named.then(|| Arc::from(&*name)));
            }
            SUBSCRIPTION => self.subscriptions.push(MovedSubscription {
                filter: TopicFilter::parse(&string(part)?)?,
                options: options_of_bits(part.try_get_u8()?)?,
                id: Some(part.try_get_u32()?).filter(|id| *id > 0),
                replay_place: match part.try_get_u8()? {
                    0 => None,
                    _ => Some(bytes(part)?.to_vec()),
                },
            }),
            SUBSCRIBED => self.has_all_subscriptions = true,
            LEFT_OUT => self.left_out.add(packet_id(part)?, LeftOut::decode(part)?),
            LEFT_OUT_NAME => {
                self.left_out.name(packet_id(part)?, MessageId(part.try_get_u64()?));
            }
            UNRELEASED => self.contents.unreleased.push(packet_id(part)?),
            FIRST_ID => self.contents.first_id = packet_id(part)?,
            AWAITS_PUBACK => in_flight.push(Entry::AwaitsPuback(delivery(part, peers)?)),
            AWAITS_PUBREC => in_flight.push(Entry::AwaitsPubrec(delivery(part, peers)?)),
            AWAITS_PUBCOMP => in_flight.push(Entry::AwaitsPubcomp),
            ACKNOWLEDGED => in_flight.push(Entry::Acknowledged),
            STORED => self.is_stored = true,
            GIVEN_UP => {
                let _new = self.given_up.insert(MessageId(part.try_get_u64()?));
            }
            QUEUED => self.contents.queue.push(delivery(part, peers)?),
            RECENT => take_recent(part, peers, &mut self.contents.recent)?,
            other => return Err(HandoverError::UnknownRecord(other)),
        }
        Ok(())
    }
}

fn put_entry(entry: &Entry, peers: &Peers, out: &mut BytesMut) {
    match entry {
        Entry::AwaitsPuback(delivery) => {
            out.put_u8(AWAITS_PUBACK);
            put_delivery(delivery, peers, out);
        }
        Entry::AwaitsPubrec(delivery) => {
            out.put_u8(AWAITS_PUBREC);
            put_delivery(delivery, peers, out);
        }
        Entry::AwaitsPubcomp => out.put_u8(AWAITS_PUBCOMP),
        Entry::Acknowledged => out.put_u8(ACKNOWLEDGED),
    }
}

fn put_recent(recent: &[Recalled], peers: &Peers, out: &mut BytesMut) {
    out.put_u8(RECENT);
    out.put_u16(u16::try_from(recent.len()).expect("a chunk is shorter than that"));
    for one in recent {
        out.put_u64(one.id.0);
        out.put_u64(peers.cluster_millis(one.at));
    }
}

fn take_recent(
    part: &mut Bytes,
    peers: &Peers,
    recent: &mut Vec<Recalled>,
) -> Result<(), HandoverError> {
    for _ in 0..part.try_get_u16()? {
        let id = MessageId(part.try_get_u64()?);
        recent.push(Recalled { id, at: peers.tick(part.try_get_u64()?) });
    }
    Ok(())
}

fn put_delivery(delivery: &Delivery, peers: &Peers, out: &mut BytesMut) {
    let message = &*delivery.message;
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    out.put_u8(
        delivery.qos.bits()
            | message.qos.bits() << 2
            | flag(delivery.retain, RETAIN)
            | flag(message.retain, WAS_RETAIN)
            | flag(message.properties.is_some(), HAS_PROPERTIES)
            | flag(message.expires_at.is_some(), HAS_EXPIRY),
    );
    out.put_u64(message.id.0);
    out.put_u64(message.publisher.0);
    if let Some(at) = message.expires_at {
        out.put_u64(peers.cluster_millis(at));
    }
    put_string(message.topic.as_str(), out);
    if let Some(properties) = &message.properties {
        let mut encoded = BytesMut::new();
        properties.encode(&mut encoded);
        put_bytes(&encoded, out);
    }
    put_tag(delivery, out);
    put_bytes(&message.payload, out);
}

fn put_tag(delivery: &Delivery, out: &mut BytesMut) {
    let ids = delivery.subscription_ids();
    out.put_u32(u32::try_from(ids.len()).expect("a client has fewer subscriptions than that"));
    for id in ids {
        out.put_u32(*id);
    }
    put_string(delivery.shared_filter().map_or("", TopicFilter::as_str), out);
}

fn delivery(part: &mut Bytes, peers: &Peers) -> Result<Delivery, HandoverError> {
    let flags = part.try_get_u8()?;
    let has = |flag| flags & flag != 0;
    let qos = |bits| QoS::from_bits(bits).ok_or(HandoverError::Value("QoS"));
    let id = MessageId(part.try_get_u64()?);
    let publisher = Publisher(part.try_get_u64()?);
    let expires_at = if has(HAS_EXPIRY) { Some(peers.tick(part.try_get_u64()?)) } else { None };
    let topic = TopicName::parse(string(part)?)?;
    let properties = if has(HAS_PROPERTIES) {
        Some(Arc::new(MessageProperties::decode(&bytes(part)?)?))
    } else {
        None
    };
    let tag = tag(part)?;
    let message = Message {
        topic,
        payload: bytes(part)?,
        properties,
        qos: qos(flags >> 2 & QOS)?,
        retain: has(WAS_RETAIN),
        publisher,
        id,
        expires_at,
        is_in_transit: true,
    };
    let message = Arc::new(message.detached());
    Ok(Delivery {
        message,
        tag,
        qos: qos(flags & QOS)?,
        retain: has(RETAIN),
        sequence: 0,
        progress: Progress::New,
    })
}

fn tag(part: &mut Bytes) -> Result<Option<Arc<SubscriptionTag>>, HandoverError> {
    let mut subscription_ids = SmallVec::new();
    for _ in 0..part.try_get_u32()? {
        subscription_ids.push(part.try_get_u32()?);
    }
    let filter = string(part)?;
    let shared_filter = if filter.is_empty() { None } else { Some(TopicFilter::parse(&filter)?) };
    if subscription_ids.is_empty() && shared_filter.is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(SubscriptionTag { subscription_ids, shared_filter })))
}

fn packet_id(part: &mut Bytes) -> Result<PacketId, HandoverError> {
    PacketId::new(part.try_get_u16()?).ok_or(HandoverError::Value("Packet Identifier"))
}

fn options_to_bits(options: SubscriptionOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::SendAtSubscribe => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    options.qos.bits()
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | handling << 4
}

fn options_of_bits(bits: u8) -> Result<SubscriptionOptions, HandoverError> {
    Ok(SubscriptionOptions {
        qos: QoS::from_bits(bits & QOS).ok_or(HandoverError::Value("QoS"))?,
        no_local: bits & 1 << 2 != 0,
        retain_as_published: bits & 1 << 3 != 0,
        retain_handling: match bits >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(HandoverError::Value("Retain Handling")),
        },
    })
}

pub(super) fn put_string(text: &str, out: &mut BytesMut) {
    out.put_u16(u16::try_from(text.len()).expect("a topic has at most 65,535 bytes"));
    out.put_slice(text.as_bytes());
}

pub(super) fn string(part: &mut Bytes) -> Result<ByteString, HandoverError> {
    let len = usize::from(part.try_get_u16()?);
    ByteString::try_from(take(part, len)?).map_err(|_| HandoverError::Value("string"))
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32(u32::try_from(bytes.len()).expect("a packet is below 4 GiB"));
    out.put_slice(bytes);
}

fn bytes(part: &mut Bytes) -> Result<Bytes, HandoverError> {
    let len = usize::try_from(part.try_get_u32()?).map_err(|_| HandoverError::Truncated)?;
    take(part, len)
}

fn take(part: &mut Bytes, len: usize) -> Result<Bytes, HandoverError> {
    if part.len() < len {
        return Err(HandoverError::Truncated);
    }
    Ok(part.split_to(len))
}

/// A part is full with the record that makes it this large.
pub(crate) const PART_BYTES: usize = 256 * 1_024;

const SESSION: u8 = 1;
const SUBSCRIPTION: u8 = 2;
const SUBSCRIBED: u8 = 3;
const UNRELEASED: u8 = 4;
const FIRST_ID: u8 = 5;
const AWAITS_PUBACK: u8 = 6;
const AWAITS_PUBREC: u8 = 7;
const AWAITS_PUBCOMP: u8 = 8;
const ACKNOWLEDGED: u8 = 9;
const QUEUED: u8 = 10;
const LEFT_OUT: u8 = 11;
const RECENT: u8 = 12;
const LEFT_OUT_NAME: u8 = 13;
const STORED: u8 = 14;
const USER: u8 = 15;
const GIVEN_UP: u8 = 16;

/// The version of the wire that knows of messages that were taken lately.
const RECENT_WIRE_MIN: u16 = 3;
/// Of them in one record.
const RECENT_CHUNK: usize = 4_096;

const QOS: u8 = 0b11;
const RETAIN: u8 = 1 << 4;
const WAS_RETAIN: u8 = 1 << 5;
const HAS_PROPERTIES: u8 = 1 << 6;
const HAS_EXPIRY: u8 = 1 << 7;
