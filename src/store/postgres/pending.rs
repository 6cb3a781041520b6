//! Writes of a group that are collected and sent as statements over arrays.
//!
//! Each kind has its statement, and the statements have an order: what is added comes before what
//! changes it, and that before what removes it. Within a kind the last word on a key counts. So the
//! outcome is the one of the operations in their order, as no key that was removed is added again, but for
//! those that [`Pending::goes_before`] tells.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "few operations are not independent of what was collected before them"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;

use crate::mqtt::{PacketId, TopicFilter};
use crate::ports::message::MessageId;
use crate::ports::store::{
    Operation, OwnerId, Pointer, RetainedRecord, SessionId, StoredMessage, StoredSubscription,
};
use crate::store::codec::{flags, options_bits, owner_bytes, tag_bytes, version_bytes};
use crate::store::key::text_key;
use crate::store::row::{message_expiry, message_flags, message_id, properties_bytes};
use tokio_postgres::types::ToSql;

/// The parameters of one statement.
pub(super) type Params<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

/// A statement and its parameters.
pub(super) type Sent<'a> = (&'static str, Params<'a>);

/// What has been collected.
#[derive(Default)]
pub(super) struct Pending<'a> {
    /// By id, each once: what another transaction brings as well is waited for in one order.
    messages: BTreeMap<i64, &'a StoredMessage>,
    pointers: Vec<(&'a Pointer, i64)>,
    incoming: BTreeMap<(i64, i32), i64>,
    released: Vec<(i64, i64)>,
    acknowledged: Vec<(i64, i64, i64)>,
    /// By Session and place, and when.
    forgotten: BTreeMap<(i64, i64), i64>,
    routed: Vec<(i64, i32, i64)>,
    answered: Vec<(i64, i32, i64)>,
    unneeded: BTreeSet<i64>,
    subscriptions: BTreeMap<(i64, Vec<u8>), Option<&'a StoredSubscription>>,
    retained: BTreeMap<&'a str, (&'a RetainedRecord, i64)>,
    cursors: BTreeMap<(OwnerId, OwnerId, u8), u64>,
}

impl<'a> Pending<'a> {
    pub(super) fn message(&mut self, message: &'a StoredMessage) {
        self.messages.insert(message_id(message.id), message);
    }

    pub(super) fn pointer(&mut self, pointer: &'a Pointer, message: MessageId) {
        self.pointers.push((pointer, message_id(message)));
    }

    pub(super) fn acknowledged(
        &mut self,
        session: SessionId,
        sequence: u64,
        message: MessageId,
        now: i64,
    ) {
        self.acknowledged.push((uid(session), sequence.cast_signed(), now));
        self.unneeded.insert(message_id(message));
    }

    pub(super) fn forgotten(
        &mut self,
        session: SessionId,
        sequence: u64,
        message: MessageId,
        now: i64,
    ) {
        self.forgotten.insert((uid(session), sequence.cast_signed()), now);
        self.unneeded.insert(message_id(message));
    }

    pub(super) fn released(&mut self, session: SessionId, sequence: u64, message: MessageId) {
        self.released.push((uid(session), sequence.cast_signed()));
        self.unneeded.insert(message_id(message));
    }

    pub(super) fn incoming(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        message: &'a StoredMessage,
    ) {
        self.message(message);
        self.incoming.insert((uid(session), packet_id.get().into()), message_id(message.id));
    }

    /// Whether what was collected is to be written before `operation`: that puts another message in the place
    /// of a packet, which has to be there first, or is about a queue in which something was forgotten, which may
    /// come again.
    pub(super) fn goes_before(&self, operation: &Operation) -> bool {
        match operation {
            Operation::PutIncoming { session, packet_id, message } => {
                let collected = self.incoming.get(&(uid(session.id), packet_id.get().into()));
                collected.is_some_and(|collected| *collected != message_id(message.id))
            }
            Operation::Enqueue { pointers, .. } => {
                pointers.iter().any(|pointer| self.has_forgotten(pointer.session.id))
            }
            Operation::Acknowledge { session, .. } => self.has_forgotten(session.id),
            _ => false,
        }
    }

    fn has_forgotten(&self, session: SessionId) -> bool {
        let session = uid(session);
        self.forgotten.range((session, i64::MIN)..=(session, i64::MAX)).next().is_some()
    }

    pub(super) fn routed(&mut self, session: SessionId, packet_id: PacketId, message: MessageId) {
        self.routed.push((uid(session), packet_id.get().into(), message_id(message)));
        self.unneeded.insert(message_id(message));
    }

    pub(super) fn answered(&mut self, session: SessionId, packet_id: PacketId, message: MessageId) {
        self.answered.push((uid(session), packet_id.get().into(), message_id(message)));
        self.unneeded.insert(message_id(message));
    }

    pub(super) fn subscribed(&mut self, session: SessionId, subscription: &'a StoredSubscription) {
        let (key, _) = text_key(subscription.filter.as_str());
        self.subscriptions.insert((uid(session), key), Some(subscription));
    }

    pub(super) fn unsubscribed(&mut self, session: SessionId, filter: &TopicFilter) {
        let (key, _) = text_key(filter.as_str());
        self.subscriptions.insert((uid(session), key), None);
    }

    pub(super) fn retained(&mut self, record: &'a RetainedRecord, now: i64) {
        let topic = record.topic.as_str();
        let known = self.retained.get(topic);
        if known.is_none_or(|(known, _)| known.version < record.version) {
            self.retained.insert(topic, (record, now));
        }
    }

    pub(super) fn cursor(&mut self, receiver: OwnerId, origin: OwnerId, stream: u8, sequence: u64) {
        let known = self.cursors.entry((receiver, origin, stream)).or_default();
        *known = sequence.max(*known);
    }

    /// The statements for all of it, in their order.
    pub(super) fn take(&mut self) -> Vec<Sent<'a>> {
        let mut sent = Vec::new();
        let this = std::mem::take(self);
        send(&mut sent, PUT_MESSAGES, !this.messages.is_empty(), || messages(&this.messages));
        send(&mut sent, PUT_POINTERS, !this.pointers.is_empty(), || pointers(&this.pointers));
        let incoming = &this.incoming;
        send(&mut sent, WITHDRAW, !incoming.is_empty(), || packets_put(incoming));
        send(&mut sent, PUT_INCOMING, !incoming.is_empty(), || packets_put(incoming));
        send(&mut sent, RELEASE, !this.released.is_empty(), || {
            let released = &this.released;
            vec![column(released.iter().map(|it| it.0)), column(released.iter().map(|it| it.1))]
        });
        let acknowledged = &this.acknowledged;
        send(&mut sent, ACKNOWLEDGE, !acknowledged.is_empty(), || {
            vec![
                column(acknowledged.iter().map(|it| it.0)),
                column(acknowledged.iter().map(|it| it.1)),
                column(acknowledged.iter().map(|it| it.2)),
            ]
        });
        let forgotten = &this.forgotten;
        send(&mut sent, FORGET, !forgotten.is_empty(), || {
            vec![
                column(forgotten.keys().map(|it| it.0)),
                column(forgotten.keys().map(|it| it.1)),
                column(forgotten.values().copied()),
            ]
        });
        send(&mut sent, ROUTE_INCOMING, !this.routed.is_empty(), || packets(&this.routed));
        send(&mut sent, REMOVE_INCOMING, !this.answered.is_empty(), || packets(&this.answered));
        send(&mut sent, DROP_UNNEEDED, !this.unneeded.is_empty(), || {
            vec![column(this.unneeded.iter().copied())]
        });
        let added: Vec<_> = this
            .subscriptions
            .iter()
            .filter_map(|((session, key), subscription)| {
                subscription.map(|subscription| (*session, key.clone(), subscription))
            })
            .collect();
        send(&mut sent, PUT_SUBSCRIPTIONS, !added.is_empty(), || subscriptions(&added));
        let removed: Vec<_> = this
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.is_none())
            .map(|((session, key), _)| (*session, key.clone()))
            .collect();
        send(&mut sent, REMOVE_SUBSCRIPTIONS, !removed.is_empty(), || {
            vec![
                column(removed.iter().map(|it| it.0)),
                column(removed.iter().map(|it| it.1.clone())),
            ]
        });
        let kept: Vec<_> = this.retained.values().copied().collect();
        send(&mut sent, PUT_RETAINED, !kept.is_empty(), || retained(&kept));
        send(&mut sent, PUT_CURSORS, !this.cursors.is_empty(), || {
            let keys = this.cursors.keys();
            vec![
                column(keys.clone().map(|it| owner_bytes(it.0).to_vec())),
                column(keys.clone().map(|it| owner_bytes(it.1).to_vec())),
                column(keys.map(|it| i16::from(it.2))),
                column(this.cursors.values().map(|sequence| sequence.cast_signed())),
            ]
        });
        sent
    }
}

fn send<'a>(
    sent: &mut Vec<Sent<'a>>,
    sql: &'static str,
    is_needed: bool,
    params: impl FnOnce() -> Params<'a>,
) {
    if is_needed {
        sent.push((sql, params()));
    }
}

fn column<'a, T: ToSql + Sync + Send + 'a>(
    values: impl Iterator<Item = T>,
) -> Box<dyn ToSql + Sync + Send + 'a> {
    Box::new(values.collect::<Vec<T>>())
}

fn messages<'a>(messages: &BTreeMap<i64, &'a StoredMessage>) -> Params<'a> {
    let messages = || messages.values().copied();
    vec![
        column(messages().map(|it| message_id(it.id))),
        column(messages().map(|it| it.publisher.cast_signed())),
        column(messages().map(message_flags)),
        column(messages().map(message_expiry)),
        column(messages().map(|it| it.topic.as_str())),
        column(messages().map(|it| properties_bytes(it).map(|bytes| bytes.to_vec()))),
        column(messages().map(|it| &it.payload[..])),
    ]
}

fn pointers<'a>(pointers: &[(&'a Pointer, i64)]) -> Params<'a> {
    let pointers = || pointers.iter();
    vec![
        column(pointers().map(|(it, _)| uid(it.session.id))),
        column(pointers().map(|(it, _)| it.sequence.cast_signed())),
        column(pointers().map(|(_, message)| *message)),
        column(pointers().map(|(it, _)| flags(it.qos, it.retain))),
        column(pointers().map(|(it, message)| it.may_repeat.then_some(*message))),
        column(pointers().map(|(it, _)| tag_bytes(it.tag.as_deref()))),
    ]
}

fn packets_put<'a>(incoming: &BTreeMap<(i64, i32), i64>) -> Params<'a> {
    let keys = incoming.keys();
    vec![
        column(keys.clone().map(|(session, _)| *session)),
        column(keys.map(|(_, packet)| *packet)),
        column(incoming.values().copied()),
    ]
}

fn packets<'a>(packets: &[(i64, i32, i64)]) -> Params<'a> {
    vec![
        column(packets.iter().map(|it| it.0)),
        column(packets.iter().map(|it| it.1)),
        column(packets.iter().map(|it| it.2)),
    ]
}

fn subscriptions<'a>(added: &[(i64, Vec<u8>, &'a StoredSubscription)]) -> Params<'a> {
    let added = || added.iter();
    vec![
        column(added().map(|it| it.0)),
        column(added().map(|it| it.1.clone())),
        column(added().map(|it| text_key(it.2.filter.as_str()).1)),
        column(added().map(|it| options_bits(it.2.options))),
        column(added().map(|it| it.2.id.map(i64::from))),
    ]
}

fn retained<'a>(kept: &[(&'a RetainedRecord, i64)]) -> Params<'a> {
    let kept = || kept.iter().copied();
    let messages = || kept().map(|(it, _)| it.message.as_deref());
    let properties =
        |it: &StoredMessage| properties_bytes(it).map(|bytes: BytesMut| bytes.to_vec());
    vec![
        column(kept().map(|(it, _)| text_key(it.topic.as_str()).0)),
        column(kept().map(|(it, _)| version_bytes(it.version).to_vec())),
        column(kept().map(|(it, now)| it.message.is_none().then_some(now))),
        column(messages().map(|it| it.map_or(0, |it| message_id(it.id)))),
        column(messages().map(|it| it.map_or(0, |it| it.publisher.cast_signed()))),
        column(messages().map(|it| it.map_or(0, message_flags))),
        column(messages().map(|it| it.and_then(message_expiry))),
        column(kept().map(|(it, _)| it.topic.as_str())),
        column(messages().map(move |it| it.and_then(properties))),
        column(messages().map(|it| it.map(|it| &it.payload[..]))),
    ]
}

/// The key of a Session.
pub(super) fn uid(session: SessionId) -> i64 {
    session.0.cast_signed()
}

/// A body that is there becomes a new version of itself: see [`DROP_UNNEEDED`].
const PUT_MESSAGES: &str = "INSERT INTO message
    (id, publisher, flags, expires_at, topic, properties, payload)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[],
        $6::bytea[], $7::bytea[])
    ON CONFLICT (id) DO UPDATE SET publisher = message.publisher";
const PUT_POINTERS: &str = "INSERT INTO pointer
    (session, sequence, message, flags, repeat_key, tag)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[],
        $6::bytea[]) ON CONFLICT DO NOTHING";
const WITHDRAW: &str = "DELETE FROM pointer p
    USING incoming i, unnest($1::bigint[], $2::integer[], $3::bigint[])
        AS a (session, packet_id, message)
    WHERE i.session = a.session AND i.packet_id = a.packet_id AND i.message_id <> a.message
        AND p.message = i.message_id AND p.state = 0 AND p.repeat_key IS NULL";
const PUT_INCOMING: &str = "INSERT INTO incoming (session, packet_id, message_id, message, state)
    SELECT session, packet_id, message, message, 0
    FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS a (session, packet_id, message)
    ON CONFLICT (session, packet_id) DO UPDATE SET message_id = excluded.message_id,
        message = excluded.message, state = 0
    WHERE incoming.message_id <> excluded.message_id";
const RELEASE: &str = "UPDATE pointer p SET state = 1, message = NULL
    FROM unnest($1::bigint[], $2::bigint[]) AS a (session, sequence)
    WHERE p.session = a.session AND p.sequence = a.sequence AND p.state = 0";
/// Those that may come again stay as a memory; they are looked for only where there are such.
const ACKNOWLEDGE: &str = "WITH gone AS (
        DELETE FROM pointer p USING unnest($1::bigint[], $2::bigint[]) AS a (session, sequence)
        WHERE p.session = a.session AND p.sequence = a.sequence AND p.repeat_key IS NULL
        RETURNING 1)
    UPDATE pointer p SET state = 2, message = NULL, done_at = a.now
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS a (session, sequence, now)
    WHERE (SELECT count(*) FROM gone) < cardinality($1::bigint[])
        AND p.session = a.session AND p.sequence = a.sequence AND p.state <> 2
        AND p.repeat_key IS NOT NULL";
/// Those that may come again leave a memory of their place alone, so that it is not given again.
const FORGET: &str = "WITH gone AS (
        DELETE FROM pointer p USING unnest($1::bigint[], $2::bigint[]) AS a (session, sequence)
        WHERE p.session = a.session AND p.sequence = a.sequence AND p.repeat_key IS NULL
            AND p.state <> 2)
    UPDATE pointer p SET state = 2, message = NULL, repeat_key = NULL, done_at = a.now
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS a (session, sequence, now)
    WHERE p.session = a.session AND p.sequence = a.sequence AND p.repeat_key IS NOT NULL
        AND p.state <> 2";
const ROUTE_INCOMING: &str = "UPDATE incoming i SET state = 1, message = NULL
    FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS a (session, packet_id, message)
    WHERE i.session = a.session AND i.packet_id = a.packet_id AND i.message_id = a.message";
const REMOVE_INCOMING: &str = "DELETE FROM incoming i
    USING unnest($1::bigint[], $2::integer[], $3::bigint[]) AS a (session, packet_id, message)
    WHERE i.session = a.session AND i.packet_id = a.packet_id AND i.message_id = a.message";
/// Another transaction may be about to point to a body of these. It has made that a new version of
/// itself, which is at another place than the one that was looked at: so it stays.
pub(super) const DROP_UNNEEDED: &str = "DELETE FROM message m
    USING unnest($1::bigint[]) AS a (id), message o
    WHERE o.id = a.id AND m.ctid = o.ctid
        AND NOT EXISTS (SELECT 1 FROM pointer p WHERE p.message = o.id)
        AND NOT EXISTS (SELECT 1 FROM incoming i WHERE i.message = o.id)";
const PUT_SUBSCRIPTIONS: &str = "INSERT INTO subscription
    (session, filter_key, filter, options, subscription_id)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::smallint[], $5::bigint[])
    ON CONFLICT (session, filter_key) DO UPDATE SET options = excluded.options,
        subscription_id = excluded.subscription_id";
const REMOVE_SUBSCRIPTIONS: &str = "DELETE FROM subscription s
    USING unnest($1::bigint[], $2::bytea[]) AS a (session, filter_key)
    WHERE s.session = a.session AND s.filter_key = a.filter_key";
const PUT_RETAINED: &str = "INSERT INTO retained (topic_key, version, deleted_at, id, publisher,
        flags, expires_at, topic, properties, payload)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::smallint[], $7::bigint[], $8::text[], $9::bytea[], $10::bytea[])
    ON CONFLICT (topic_key) DO UPDATE SET version = excluded.version,
        deleted_at = excluded.deleted_at, id = excluded.id, publisher = excluded.publisher,
        flags = excluded.flags, expires_at = excluded.expires_at,
        properties = excluded.properties, payload = excluded.payload
    WHERE excluded.version > retained.version";
const PUT_CURSORS: &str = "INSERT INTO receive_cursor (receiver, origin, stream, sequence)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::smallint[], $4::bigint[])
    ON CONFLICT (receiver, origin, stream) DO UPDATE SET sequence = excluded.sequence
    WHERE excluded.sequence > receive_cursor.sequence";
