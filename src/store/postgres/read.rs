//! Reads: pages of bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::group::{Group, Run};
use super::pending::uid;
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
    pub(super) async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, Failure> {
        let rows = self.query(ONE_SESSION, &[&uid(id)]).await?;
        let mut found = rows.iter().map(session).collect::<Result<Vec<_>, _>>()?;
        self.complete(&mut found).await?;
        Ok(found.pop())
    }

    pub(super) async fn list_sessions(
        &self,
        (owner, claim): (OwnerId, Option<Epoch>),
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, Failure> {
        let owner = owner_bytes(owner).to_vec();
        let claim = claim.map(|claim| epoch_bytes(claim).to_vec());
        let (after, limit) = (after.map_or(i64::MIN, uid), i64::from(limit));
        let rows = self.query(LIST_SESSIONS, &[&owner, &after, &limit, &claim]).await?;
        let mut found = rows.iter().map(session).collect::<Result<Vec<_>, _>>()?;
        self.complete(&mut found).await?;
        Ok(found)
    }

    /// Adds Subscriptions, packets and wills.
    async fn complete(&self, sessions: &mut [SessionRecord]) -> Result<(), Failure> {
        let keys: Vec<i64> = sessions.iter().map(|record| uid(record.session.id)).collect();
        let mut places: BTreeMap<i64, &mut SessionRecord> =
            sessions.iter_mut().map(|record| (uid(record.session.id), record)).collect();
        for row in self.query(SUBSCRIPTIONS, &[&keys]).await? {
            if let Some(record) = places.get_mut(&row.try_get(0)?) {
                record.subscriptions.push(subscription(&row)?);
            }
        }
        for row in self.query(INCOMING, &[&keys]).await? {
            if let Some(record) = places.get_mut(&row.try_get(0)?) {
                record.incoming.push(incoming(&row)?);
            }
        }
        for row in self.query(WILLS, &[&keys]).await? {
            if let Some(record) = places.get_mut(&row.try_get(0)?) {
                record.will = Some(Arc::new(will(&row, 1)?));
            }
        }
        Ok(())
    }

    pub(super) async fn read_queue(
        &self,
        session: SessionId,
        after: u64,
        limit: u32,
        bytes_max: u64,
    ) -> Result<Vec<QueuedMessage>, Failure> {
        // The server sends what it has: so it is asked for as much as fits.
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 4] =
            [&uid(session), &after.cast_signed(), &i64::from(limit), &bytes_max];
        let rows = self.query(READ_QUEUE, &params).await?;
        rows.iter().map(queued).collect()
    }

    pub(super) async fn read_incoming(
        &self,
        session: SessionId,
        packet_id: PacketId,
    ) -> Result<Option<Arc<StoredMessage>>, Failure> {
        let params: [&(dyn ToSql + Sync); 2] = [&uid(session), &i32::from(packet_id.get())];
        let rows = self.query(READ_INCOMING, &params).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Arc::new(message_row(row, 0)?.message()?)))
    }

    pub(super) async fn due_wills(&self, limit: u32, run: &Run) -> Result<Vec<DueWill>, Failure> {
        let owner = owner_bytes(run.owner).to_vec();
        let rows = self.query(DUE_WILLS, &[&owner, &run.now, &i64::from(limit)]).await?;
        rows.iter().map(due_will).collect()
    }

    pub(super) async fn list_retained(
        &self,
        after: Option<&TopicName>,
        limit: u32,
    ) -> Result<Vec<RetainedRecord>, Failure> {
        let after = after.map_or_else(Vec::new, |after| text_key(after.as_str()).0);
        let rows = self.query(LIST_RETAINED, &[&after, &i64::from(limit)]).await?;
        rows.iter().map(retained).collect()
    }

    pub(super) async fn list_cursors(
        &self,
        receiver: OwnerId,
    ) -> Result<Vec<CursorRecord>, Failure> {
        let rows = self.query(LIST_CURSORS, &[&owner_bytes(receiver).to_vec()]).await?;
        rows.iter().map(cursor).collect()
    }
}

fn session(row: &Row) -> Result<SessionRecord, Failure> {
    let broken = || RowError("session");
    let count: i64 = row.try_get(6)?;
    let ends = row.try_get::<_, Option<i64>>(7)?.zip(row.try_get::<_, Option<i64>>(8)?);
    let epoch = epoch_of(row.try_get(3)?).ok_or_else(broken)?;
    let id = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
    let interval: i64 = row.try_get(4)?;
    Ok(SessionRecord {
        session: SessionRef { id, epoch },
        client_id: key_text(row.try_get(1)?, row.try_get(2)?).ok_or_else(broken)?.into(),
        user: user_of(row.try_get(10)?).ok_or_else(broken)?,
        life: SessionLife {
            expiry_interval_secs: u32::try_from(interval).map_err(|_| broken())?,
            expires_at_millis: row.try_get::<_, Option<i64>>(5)?.map(millis_of),
        },
        will: None,
        subscriptions: Vec::new(),
        incoming: Vec::new(),
        queue: ends.map(|(first, last)| QueueEnds {
            first: first.cast_unsigned(),
            last: last.cast_unsigned(),
            count: count.cast_unsigned(),
        }),
        next_sequence: row.try_get::<_, Option<i64>>(9)?.map_or(1, |last| last.cast_unsigned() + 1),
        sent_below: row.try_get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
    })
}

fn subscription(row: &Row) -> Result<StoredSubscription, Failure> {
    let broken = || RowError("subscription");
    let filter = key_text(row.try_get(1)?, row.try_get(2)?).ok_or_else(broken)?;
    let filter = TopicFilter::parse(&filter).map_err(|_| broken())?;
    let options = options_of(row.try_get(3)?).ok_or_else(broken)?;
    let id = row.try_get::<_, Option<i64>>(4)?.map(u32::try_from).transpose();
    Ok(StoredSubscription { filter, options, id: id.map_err(|_| broken())? })
}

fn incoming(row: &Row) -> Result<IncomingRecord, Failure> {
    let packet_id = u16::try_from(row.try_get::<_, i32>(1)?).ok().and_then(PacketId::new);
    let message = MessageId(row.try_get::<_, i64>(2)?.cast_unsigned());
    let is_routed = row.try_get::<_, i16>(3)? == 1;
    let state = if is_routed { PacketState::Routed } else { PacketState::Routing };
    Ok(IncomingRecord { packet_id: packet_id.ok_or(RowError("incoming"))?, message, state })
}

fn queued(row: &Row) -> Result<QueuedMessage, Failure> {
    let broken = || RowError("pointer");
    let flags = row.try_get(2)?;
    let tag: Option<&[u8]> = row.try_get(3)?;
    let has_message = row.try_get::<_, Option<i64>>(4)?.is_some();
    let message = if has_message { Some(message_row(row, 4)?.message()?) } else { None };
    Ok(QueuedMessage {
        sequence: row.try_get::<_, i64>(0)?.cast_unsigned(),
        state: match row.try_get::<_, i16>(1)? {
            0 => QueuedState::Waiting,
            1 => QueuedState::Released,
            _ => return Err(broken().into()),
        },
        qos: qos_of(flags).ok_or_else(broken)?,
        retain: retain_of(flags),
        tag: tag.map(|tag| tag_of(tag).ok_or_else(broken)).transpose()?,
        message: message.map(Arc::new),
    })
}

fn due_will(row: &Row) -> Result<DueWill, Failure> {
    let epoch = epoch_of(row.try_get(1)?).ok_or(RowError("will"))?;
    let id = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
    Ok(DueWill { session: SessionRef { id, epoch }, will: Arc::new(will(row, 2)?) })
}

/// A will whose columns begin at `first`.
fn will(row: &Row, first: usize) -> Result<StoredWill, Failure> {
    let delay = u32::try_from(row.try_get::<_, i64>(first)?).map_err(|_| RowError("will"))?;
    Ok(StoredWill {
        message: message_row(row, first + 2)?.message()?,
        delay_interval_secs: delay,
        fires_at_millis: row.try_get::<_, Option<i64>>(first + 1)?.map(millis_of),
    })
}

fn retained(row: &Row) -> Result<RetainedRecord, Failure> {
    let broken = || RowError("retained");
    let topic: String = row.try_get(5)?;
    let is_deleted = row.try_get::<_, Option<i64>>(8)?.is_some();
    let message = if is_deleted { None } else { Some(message_row(row, 1)?.message()?) };
    Ok(RetainedRecord {
        topic: TopicName::parse(topic.into()).map_err(|_| broken())?,
        version: version_of(row.try_get(0)?).ok_or_else(broken)?,
        message: message.map(Arc::new),
    })
}

fn cursor(row: &Row) -> Result<CursorRecord, Failure> {
    let broken = || RowError("receive_cursor");
    Ok(CursorRecord {
        origin: owner_of(row.try_get(0)?).ok_or_else(broken)?,
        stream: u8::try_from(row.try_get::<_, i16>(1)?).map_err(|_| broken())?,
        sequence: row.try_get::<_, i64>(2)?.cast_unsigned(),
    })
}

/// A message whose columns begin at `first`.
fn message_row(row: &Row, first: usize) -> Result<MessageRow, Failure> {
    Ok(MessageRow {
        id: row.try_get(first)?,
        publisher: row.try_get(first + 1)?,
        flags: row.try_get(first + 2)?,
        expires_at: row.try_get(first + 3)?,
        topic: row.try_get(first + 4)?,
        properties: row.try_get(first + 5)?,
        payload: row.try_get(first + 6)?,
    })
}

const ONE_SESSION: &str = "SELECT uid, client_key, client_id, epoch, expiry_interval, expires_at,
    (SELECT count(*) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT min(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid), user_name, sent_below
    FROM session WHERE uid = $1";
const LIST_SESSIONS: &str = "SELECT uid, client_key, client_id, epoch, expiry_interval, expires_at,
    (SELECT count(*) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT min(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid AND state <> 2),
    (SELECT max(sequence) FROM pointer WHERE session = uid), user_name, sent_below
    FROM session WHERE owner = $1 AND uid > $2 AND ($4::bytea IS NULL OR epoch = $4)
    ORDER BY uid LIMIT $3";
const SUBSCRIPTIONS: &str = "SELECT session, filter_key, filter, options, subscription_id
    FROM subscription WHERE session = ANY($1::bigint[])";
const INCOMING: &str = "SELECT session, packet_id, message_id, state
    FROM incoming WHERE session = ANY($1::bigint[]) ORDER BY session, packet_id";
const WILLS: &str = "SELECT session, delay, fires_at,
    id, publisher, flags, expires_at, topic, properties, payload
    FROM will WHERE session = ANY($1::bigint[])";
const READ_QUEUE: &str = "SELECT sequence, state, flags, tag,
        id, publisher, message_flags, expires_at, topic, properties, payload
    FROM (SELECT p.sequence, p.state, p.flags, p.tag,
            m.id, m.publisher, m.flags AS message_flags, m.expires_at, m.topic, m.properties,
            m.payload, sum(coalesce(octet_length(m.payload), 0))
                OVER (ORDER BY p.sequence) AS bytes, row_number() OVER (ORDER BY p.sequence) AS place
        FROM (SELECT * FROM pointer WHERE session = $1 AND sequence > $2 AND state <> 2
                AND EXISTS (SELECT 1 FROM session WHERE uid = $1)
            ORDER BY sequence LIMIT $3) p
        LEFT JOIN message m ON m.id = p.message) page
    WHERE bytes <= $4 OR place = 1 ORDER BY sequence";
const READ_INCOMING: &str =
    "SELECT m.id, m.publisher, m.flags, m.expires_at, m.topic, m.properties,
    m.payload FROM incoming i JOIN message m ON m.id = i.message
    WHERE i.session = $1 AND i.packet_id = $2";
const DUE_WILLS: &str = "SELECT s.uid, s.epoch, w.delay, w.fires_at,
    w.id, w.publisher, w.flags, w.expires_at, w.topic, w.properties, w.payload
    FROM will w JOIN session s ON s.uid = w.session
    WHERE s.owner = $1 AND w.fires_at <= $2 ORDER BY w.fires_at, s.uid LIMIT $3";
const LIST_RETAINED: &str = "SELECT version,
    id, publisher, flags, expires_at, topic, properties, payload, deleted_at
    FROM retained WHERE topic_key > $1 ORDER BY topic_key LIMIT $2";
const LIST_CURSORS: &str = "SELECT origin, stream, sequence FROM receive_cursor
    WHERE receiver = $1 ORDER BY origin, stream";
