//! Reads: pages of bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Params, Row, params};

use super::group::{Group, Run, uid};
use super::left_out::LeftOut;
use crate::mqtt::{PacketId, TopicFilter, TopicName};
use crate::ports::message::MessageId;
use crate::ports::store::{
    CursorRecord, DueWill, Epoch, IncomingRecord, OwnerId, PacketState, QueueEnds, QueuedMessage,
    QueuedState, RetainedRecord, SessionId, SessionLife, SessionRecord, SessionRef, StoredMessage,
    StoredSubscription, StoredWill,
};
use crate::store::codec::{
    epoch_bytes, epoch_of, millis_of, options_of, owner_bytes, owner_of, qos_of, retain_of, tag_of,
    user_of, version_of,
};
use crate::store::key::{key_text, text_key};
use crate::store::retry::Failure;
use crate::store::row::{MessageRow, RowError};

impl Group<'_> {
    pub(super) fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, Failure> {
        let sql = format!("SELECT {SESSION} FROM session WHERE uid = ?1");
        let mut found = self.rows(&sql, [uid(id)], session)?;
        self.complete(&mut found, "s.uid = ?1", params![uid(id)])?;
        Ok(found.pop())
    }

    pub(super) fn list_sessions(
        &self,
        (owner, claim): (OwnerId, Option<Epoch>),
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, Failure> {
        let (owner, claim) = (owner_bytes(owner), claim.map(epoch_bytes));
        let after = after.map_or(i64::MIN, uid);
        let sql = format!(
            "SELECT {SESSION} FROM session WHERE owner = ?1 AND uid > ?2
            AND (?4 IS NULL OR epoch = ?4) ORDER BY uid LIMIT ?3"
        );
        let mut found = self.rows(&sql, params![owner, after, limit, claim], session)?;
        let Some(last) = found.last().map(|last| uid(last.session.id)) else { return Ok(found) };
        let which = "s.owner = ?1 AND s.uid > ?2 AND s.uid <= ?3 AND (?4 IS NULL OR s.epoch = ?4)";
        self.complete(&mut found, which, params![owner, after, last, claim])?;
        Ok(found)
    }

    /// Adds Subscriptions, packets and wills to the Sessions that `which` selects.
    fn complete(
        &self,
        sessions: &mut [SessionRecord],
        which: &str,
        params: impl Params + Copy,
    ) -> Result<(), Failure> {
        let mut places: BTreeMap<i64, &mut SessionRecord> =
            sessions.iter_mut().map(|record| (uid(record.session.id), record)).collect();
        let sql = format!(
            "SELECT u.session, u.filter_key, u.filter, u.options, u.subscription_id
             FROM session s JOIN subscription u ON u.session = s.uid WHERE {which}"
        );
        for (session, subscription) in self.rows(&sql, params, subscription)? {
            if let Some(record) = places.get_mut(&session) {
                record.subscriptions.push(subscription);
            }
        }
        let sql = format!(
            "SELECT i.session, i.packet_id, i.message_id, i.state
             FROM session s JOIN incoming i ON i.session = s.uid WHERE {which}
             ORDER BY i.session, i.packet_id"
        );
        for (session, incoming) in self.rows(&sql, params, incoming)? {
            if let Some(record) = places.get_mut(&session) {
                record.incoming.push(incoming);
            }
        }
        let sql = format!(
            "SELECT w.session, w.delay, w.fires_at,
                w.id, w.publisher, w.flags, w.expires_at, w.topic, w.properties, w.payload
             FROM session s JOIN will w ON w.session = s.uid WHERE {which}"
        );
        for (session, will) in self.rows(&sql, params, |row| Ok((row.get(0)?, will(row, 1)?)))? {
            if let Some(record) = places.get_mut(&session) {
                record.will = Some(Arc::new(will));
            }
        }
        Ok(())
    }

    pub(super) fn read_queue(
        &self,
        session: SessionId,
        after: u64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<QueuedMessage>, Failure> {
        let mut statement = self.connection().prepare_cached(READ_QUEUE)?;
        let mut rows = statement.query(params![uid(session), after.cast_signed(), limit])?;
        let (mut read, mut bytes, mut left_out) = (Vec::new(), 0, LeftOut::default());
        while let Some(row) = rows.next()? {
            let Some(queued) = left_out.unless_read(queued(row))? else { continue };
            bytes += queued.message.as_ref().map_or(0, |it| it.payload.len() as u64);
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(queued);
        }
        left_out.tell();
        Ok(read)
    }

    pub(super) fn read_incoming(
        &self,
        session: SessionId,
        packet_id: PacketId,
    ) -> Result<Option<Arc<StoredMessage>>, Failure> {
        let sql =
            "SELECT m.id, m.publisher, m.flags, m.expires_at, m.topic, m.properties, m.payload
             FROM incoming i JOIN message m ON m.id = i.message
             WHERE i.session = ?1 AND i.packet_id = ?2";
        let params = params![uid(session), packet_id.get()];
        let mut found = self.rows(sql, params, |row| Ok(message_row(row, 0)?.message()?))?;
        Ok(found.pop().map(Arc::new))
    }

    pub(super) fn due_wills(&self, limit: u32, run: &Run) -> Result<Vec<DueWill>, Failure> {
        self.rows(DUE_WILLS, params![owner_bytes(run.owner), run.now, limit], due_will)
    }

    pub(super) fn list_retained(
        &self,
        after: Option<&TopicName>,
        limit: u32,
    ) -> Result<Vec<RetainedRecord>, Failure> {
        let after = after.map_or_else(Vec::new, |after| text_key(after.as_str()).0);
        self.rows(LIST_RETAINED, params![after, limit], retained)
    }

    pub(super) fn list_cursors(&self, receiver: OwnerId) -> Result<Vec<CursorRecord>, Failure> {
        let sql = "SELECT origin, stream, sequence FROM receive_cursor WHERE receiver = ?1
                   ORDER BY origin, stream";
        self.rows(sql, [owner_bytes(receiver)], |row| {
            let origin = owner_of(&row.get::<_, Vec<u8>>(0)?).ok_or(RowError("cursor"))?;
            let sequence = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(CursorRecord { origin, stream: row.get(1)?, sequence })
        })
    }

    /// All rows of a query that can be read.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let mut statement = self.connection().prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let (mut all, mut left_out) = (Vec::new(), LeftOut::default());
        while let Some(row) = rows.next()? {
            all.extend(left_out.unless_read(read(row))?);
        }
        left_out.tell();
        Ok(all)
    }
}

fn session(row: &Row<'_>) -> Result<SessionRecord, Failure> {
    let broken = || RowError("session");
    let count: i64 = row.get(6)?;
    let ends = row.get::<_, Option<i64>>(7)?.zip(row.get::<_, Option<i64>>(8)?);
    let epoch = epoch_of(&row.get::<_, Vec<u8>>(3)?).ok_or_else(broken)?;
    let id = SessionId(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(SessionRecord {
        session: SessionRef { id, epoch },
        client_id: key_text(row.get(1)?, row.get(2)?).ok_or_else(broken)?.into(),
        user: user_of(row.get::<_, Option<Vec<u8>>>(10)?.as_deref()).ok_or_else(broken)?,
        life: SessionLife {
            expiry_interval_secs: row.get(4)?,
            expires_at_millis: row.get::<_, Option<i64>>(5)?.map(millis_of),
        },
        will: None,
        subscriptions: Vec::new(),
        incoming: Vec::new(),
        queue: ends.map(|(first, last)| QueueEnds {
            first: first.cast_unsigned(),
            last: last.cast_unsigned(),
            count: count.cast_unsigned(),
        }),
        next_sequence: row.get::<_, Option<i64>>(9)?.map_or(1, |last| last.cast_unsigned() + 1),
        sent_below: row.get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
    })
}

fn subscription(row: &Row<'_>) -> Result<(i64, StoredSubscription), Failure> {
    let broken = || RowError("subscription");
    let filter = key_text(row.get(1)?, row.get(2)?).ok_or_else(broken)?;
    let filter = TopicFilter::parse(&filter).map_err(|_| broken())?;
    let options = options_of(row.get(3)?).ok_or_else(broken)?;
    Ok((row.get(0)?, StoredSubscription { filter, options, id: row.get(4)? }))
}

fn incoming(row: &Row<'_>) -> Result<(i64, IncomingRecord), Failure> {
    let packet_id = PacketId::new(row.get(1)?).ok_or(RowError("incoming"))?;
    let message = MessageId(row.get::<_, i64>(2)?.cast_unsigned());
    let is_routed: bool = row.get(3)?;
    let state = if is_routed { PacketState::Routed } else { PacketState::Routing };
    Ok((row.get(0)?, IncomingRecord { packet_id, message, state }))
}

fn queued(row: &Row<'_>) -> Result<QueuedMessage, Failure> {
    let broken = || RowError("pointer");
    let flags = row.get(2)?;
    let tag: Option<Vec<u8>> = row.get(3)?;
    let has_message = row.get::<_, Option<i64>>(4)?.is_some();
    let message = if has_message { Some(message_row(row, 4)?.message()?) } else { None };
    Ok(QueuedMessage {
        sequence: row.get::<_, i64>(0)?.cast_unsigned(),
        state: match row.get(1)? {
            0 => QueuedState::Waiting,
            1 => QueuedState::Released,
            _ => return Err(broken().into()),
        },
        qos: qos_of(flags).ok_or_else(broken)?,
        retain: retain_of(flags),
        tag: tag.map(|tag| tag_of(&tag).ok_or_else(broken)).transpose()?,
        message: message.map(Arc::new),
    })
}

fn due_will(row: &Row<'_>) -> Result<DueWill, Failure> {
    let epoch = epoch_of(&row.get::<_, Vec<u8>>(1)?).ok_or(RowError("session"))?;
    let id = SessionId(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(DueWill { session: SessionRef { id, epoch }, will: Arc::new(will(row, 2)?) })
}

/// A will whose columns begin at `first`.
fn will(row: &Row<'_>, first: usize) -> Result<StoredWill, Failure> {
    Ok(StoredWill {
        message: message_row(row, first + 2)?.message()?,
        delay_interval_secs: row.get(first)?,
        fires_at_millis: row.get::<_, Option<i64>>(first + 1)?.map(millis_of),
    })
}

fn retained(row: &Row<'_>) -> Result<RetainedRecord, Failure> {
    let broken = || RowError("retained");
    let topic: String = row.get(5)?;
    let is_deleted = row.get::<_, Option<i64>>(8)?.is_some();
    let message = if is_deleted { None } else { Some(message_row(row, 1)?.message()?) };
    Ok(RetainedRecord {
        topic: TopicName::parse(topic.into()).map_err(|_| broken())?,
        version: version_of(&row.get::<_, Vec<u8>>(0)?).ok_or_else(broken)?,
        message: message.map(Arc::new),
    })
}

/// A message whose columns begin at `first`.
fn message_row(row: &Row<'_>, first: usize) -> Result<MessageRow, Failure> {
    Ok(MessageRow {
        id: row.get(first)?,
        publisher: row.get(first + 1)?,
        flags: row.get(first + 2)?,
        expires_at: row.get(first + 3)?,
        topic: row.get(first + 4)?,
        properties: row.get(first + 5)?,
        payload: row.get(first + 6)?,
    })
}

const SESSION: &str = "uid, client_key, client_id, epoch, expiry_interval, expires_at,
    (SELECT count(*) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT min(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid), user_name, sent_below";
const READ_QUEUE: &str = "SELECT p.sequence, p.state, p.flags, p.tag,
    m.id, m.publisher, m.flags, m.expires_at, m.topic, m.properties, m.payload
    FROM pointer p LEFT JOIN message m ON m.id = p.message
    WHERE p.session = ?1 AND p.sequence > ?2 AND p.state <> 2
        AND EXISTS (SELECT 1 FROM session WHERE uid = ?1)
    ORDER BY p.sequence LIMIT ?3";
const DUE_WILLS: &str = "SELECT s.uid, s.epoch, w.delay, w.fires_at,
    w.id, w.publisher, w.flags, w.expires_at, w.topic, w.properties, w.payload
    FROM will w JOIN session s ON s.uid = w.session
    WHERE s.owner = ?1 AND w.fires_at <= ?2 ORDER BY w.fires_at, s.uid LIMIT ?3";
const LIST_RETAINED: &str = "SELECT version,
    id, publisher, flags, expires_at, topic, properties, payload, deleted_at
    FROM retained WHERE topic_key > ?1 ORDER BY topic_key LIMIT ?2";
