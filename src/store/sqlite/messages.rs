//! Messages: in queues, on their way in, and retained.

use rusqlite::params;

use super::group::{Group, Run, uid};
use crate::mqtt::PacketId;
use crate::ports::message::MessageId;
use crate::ports::store::{Pointer, RetainedRecord, SessionId, StoredMessage};
use crate::store::codec::{flags, tag_bytes, version_bytes};
use crate::store::key::text_key;
use crate::store::retry::Failure;
use crate::store::row::{message_expiry, message_flags, message_id, properties_bytes};

impl Group<'_> {
    pub(super) fn enqueue(
        &mut self,
        message: &StoredMessage,
        pointers: &[Pointer],
        run: &mut Run,
    ) -> Result<(), Failure> {
        let mut is_kept = false;
        for pointer in pointers {
            if !self.is_owned(pointer.session, run.owner)? {
                run.fence(pointer.session);
                continue;
            }
            if !is_kept {
                self.keep(message)?;
                is_kept = true;
            }
            let id = message_id(message.id);
            self.execute(
                PUT_POINTER,
                params![
                    uid(pointer.session.id),
                    pointer.sequence.cast_signed(),
                    id,
                    flags(pointer.qos, pointer.retain),
                    pointer.may_repeat.then_some(id),
                    tag_bytes(pointer.tag.as_deref()),
                ],
            )?;
        }
        Ok(())
    }

    fn keep(&self, message: &StoredMessage) -> Result<(), Failure> {
        self.execute(
            KEEP,
            params![
                message_id(message.id),
                message.publisher.cast_signed(),
                message_flags(message),
                message_expiry(message),
                message.topic.as_str(),
                properties_bytes(message).as_deref(),
                &message.payload[..],
            ],
        )?;
        Ok(())
    }

    /// Removes a message if nobody waits for it.
    pub(super) fn drop_unneeded(&self, message: i64) -> Result<usize, Failure> {
        self.execute(DROP_UNNEEDED, [message])
    }

    pub(super) fn acknowledge(
        &mut self,
        session: SessionId,
        sequence: u64,
        message: MessageId,
        now: i64,
    ) -> Result<(), Failure> {
        let (session, sequence) = (uid(session), sequence.cast_signed());
        if self.execute(REMOVE_POINTER, [session, sequence])? == 0 {
            self.execute(REMEMBER_POINTER, [session, sequence, now])?;
        }
        self.drop_unneeded(message_id(message))?;
        Ok(())
    }

    pub(super) fn forget(
        &mut self,
        session: SessionId,
        sequence: u64,
        message: MessageId,
        now: i64,
    ) -> Result<(), Failure> {
        let (session, sequence) = (uid(session), sequence.cast_signed());
        if self.execute(FORGET_ONCE, [session, sequence])? == 0 {
            self.execute(FORGET_REPEATABLE, [session, sequence, now])?;
        }
        self.drop_unneeded(message_id(message))?;
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        session: SessionId,
        sequence: u64,
        message: MessageId,
    ) -> Result<(), Failure> {
        self.execute(
            "UPDATE pointer SET state = 1, message = NULL
             WHERE session = ?1 AND sequence = ?2 AND state = 0",
            [uid(session), sequence.cast_signed()],
        )?;
        self.drop_unneeded(message_id(message))?;
        Ok(())
    }

    pub(super) fn put_incoming(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        message: &StoredMessage,
    ) -> Result<(), Failure> {
        let sql = "SELECT message_id FROM incoming WHERE session = ?1 AND packet_id = ?2";
        let former: Option<i64> = self.find(sql, params![uid(session), packet_id.get()])?;
        let id = message_id(message.id);
        if former == Some(id) {
            return Ok(());
        }
        self.keep(message)?;
        self.execute(
            "INSERT OR REPLACE INTO incoming (session, packet_id, message_id, message, state)
             VALUES (?1, ?2, ?3, ?3, 0)",
            params![uid(session), packet_id.get(), id],
        )?;
        if let Some(former) = former {
            self.execute(WITHDRAW, [former])?;
            self.drop_unneeded(former)?;
        }
        Ok(())
    }

    pub(super) fn route_incoming(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        message: MessageId,
    ) -> Result<(), Failure> {
        let message = message_id(message);
        self.execute(
            "UPDATE incoming SET state = 1, message = NULL
             WHERE session = ?1 AND packet_id = ?2 AND message_id = ?3",
            params![uid(session), packet_id.get(), message],
        )?;
        self.drop_unneeded(message)?;
        Ok(())
    }

    pub(super) fn remove_incoming(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        message: MessageId,
    ) -> Result<(), Failure> {
        let message = message_id(message);
        self.execute(
            "DELETE FROM incoming WHERE session = ?1 AND packet_id = ?2 AND message_id = ?3",
            params![uid(session), packet_id.get(), message],
        )?;
        self.drop_unneeded(message)?;
        Ok(())
    }

    pub(super) fn put_retained(
        &mut self,
        record: &RetainedRecord,
        now: i64,
    ) -> Result<(), Failure> {
        let (key, _) = text_key(record.topic.as_str());
        let message = record.message.as_deref();
        self.execute(
            PUT_RETAINED,
            params![
                key,
                version_bytes(record.version),
                message.is_none().then_some(now),
                message.map_or(0, |message| message_id(message.id)),
                message.map_or(0, |message| message.publisher.cast_signed()),
                message.map_or(0, message_flags),
                message.and_then(message_expiry),
                record.topic.as_str(),
                message.and_then(properties_bytes).as_deref(),
                message.map(|message| &message.payload[..]),
            ],
        )?;
        Ok(())
    }
}

const KEEP: &str = "INSERT INTO message
    (id, publisher, flags, expires_at, topic, properties, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
const PUT_POINTER: &str = "INSERT INTO pointer
    (session, sequence, message, flags, repeat_key, tag)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
const WITHDRAW: &str =
    "DELETE FROM pointer WHERE message = ?1 AND state = 0 AND repeat_key IS NULL";
const REMOVE_POINTER: &str =
    "DELETE FROM pointer WHERE session = ?1 AND sequence = ?2 AND repeat_key IS NULL";
const REMEMBER_POINTER: &str = "UPDATE pointer SET state = 2, message = NULL, done_at = ?3
    WHERE session = ?1 AND sequence = ?2 AND state <> 2";
const FORGET_ONCE: &str = "DELETE FROM pointer
    WHERE session = ?1 AND sequence = ?2 AND repeat_key IS NULL AND state <> 2";
/// Its place is kept in mind, so that it is not given again.
const FORGET_REPEATABLE: &str = "UPDATE pointer
    SET state = 2, message = NULL, repeat_key = NULL, done_at = ?3
    WHERE session = ?1 AND sequence = ?2 AND state <> 2";
pub(super) const DROP_UNNEEDED: &str = "DELETE FROM message WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM pointer WHERE message = ?1)
    AND NOT EXISTS (SELECT 1 FROM incoming WHERE message = ?1)";
const PUT_RETAINED: &str = "INSERT INTO retained (topic_key, version, deleted_at, id, publisher,
    flags, expires_at, topic, properties, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (topic_key) DO UPDATE SET version = excluded.version,
        deleted_at = excluded.deleted_at, id = excluded.id, publisher = excluded.publisher,
        flags = excluded.flags, expires_at = excluded.expires_at,
        properties = excluded.properties, payload = excluded.payload
    WHERE excluded.version > retained.version";
