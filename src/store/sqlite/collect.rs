//! Removes what is of no use any more, a bounded part of it at a time.

use rusqlite::params;

use super::group::{Group, Run};
use crate::ports::store::{Collected, Operation, SessionId};
use crate::store::codec::{millis, owner_bytes};
use crate::store::retry::Failure;

impl Group<'_> {
    pub(super) fn collect(
        &mut self,
        operation: &Operation,
        run: &Run,
    ) -> Result<Collected, Failure> {
        let Operation::Collect {
            sessions_before_millis,
            messages_before_millis,
            memories_before_millis,
            limit,
        } = operation
        else {
            return Ok(Collected::default());
        };
        let (sessions, messages) =
            (millis(*sessions_before_millis), millis(*messages_before_millis));
        let (memories, limit) = (millis(*memories_before_millis), u64::from(*limit));
        let mut collected = Collected::default();
        self.collect_sessions(sessions, limit, run, &mut collected)?;
        self.collect_ended(limit, &mut collected)?;
        self.collect_expired(messages, limit, &mut collected)?;
        self.collect_memories(memories, limit, &mut collected)?;
        self.collect_retained(messages, memories, limit, &mut collected)?;
        self.collect_brokers(memories)?;
        self.sweep(limit, &mut collected)?;
        Ok(collected)
    }

    fn collect_sessions(
        &mut self,
        before: i64,
        limit: u64,
        run: &Run,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let over = self.rows(
            "SELECT uid FROM session WHERE owner = ?1 AND expires_at < ?2
                 AND NOT EXISTS (SELECT 1 FROM will WHERE session = uid)
             ORDER BY expires_at, uid LIMIT ?3",
            params![owner_bytes(run.owner), before, limit.cast_signed()],
            |row| Ok(SessionId(row.get::<_, i64>(0)?.cast_unsigned())),
        )?;
        into.has_more |= over.len() as u64 == limit;
        for session in over {
            self.end_session(session)?;
            into.sessions.push(session);
        }
        Ok(())
    }

    fn collect_ended(&mut self, limit: u64, into: &mut Collected) -> Result<(), Failure> {
        let ended = self.rows(
            "SELECT uid FROM ended_session ORDER BY uid LIMIT ?1",
            [limit.cast_signed()],
            |row| Ok(row.get::<_, i64>(0)?),
        )?;
        into.has_more |= ended.len() as u64 == limit;
        let mut left = limit;
        for session in ended {
            let removed = self.remove_pointers(session, left, into)?;
            left -= removed;
            if left == 0 {
                into.has_more = true;
                break;
            }
            self.remove_packets(session, into)?;
            self.execute("DELETE FROM subscription WHERE session = ?1", [session])?;
            self.execute("DELETE FROM ended_session WHERE uid = ?1", [session])?;
        }
        Ok(())
    }

    fn remove_pointers(
        &mut self,
        session: i64,
        limit: u64,
        into: &mut Collected,
    ) -> Result<u64, Failure> {
        let gone = self.rows(
            "DELETE FROM pointer WHERE session = ?1 AND sequence IN
                (SELECT sequence FROM pointer WHERE session = ?1 ORDER BY sequence LIMIT ?2)
             RETURNING message",
            params![session, limit.cast_signed()],
            |row| Ok(row.get::<_, Option<i64>>(0)?),
        )?;
        into.pointers += gone.len() as u64;
        for message in gone.iter().flatten() {
            into.messages += self.drop_unneeded(*message)? as u64;
        }
        Ok(gone.len() as u64)
    }

    fn remove_packets(&mut self, session: i64, into: &mut Collected) -> Result<(), Failure> {
        let gone = self.rows(
            "DELETE FROM incoming WHERE session = ?1 RETURNING message",
            [session],
            |row| Ok(row.get::<_, Option<i64>>(0)?),
        )?;
        for message in gone.iter().flatten() {
            into.messages += self.drop_unneeded(*message)? as u64;
        }
        Ok(())
    }

    fn collect_expired(
        &mut self,
        before: i64,
        limit: u64,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let expired = self.rows(
            "SELECT id FROM message WHERE expires_at < ?1
                 AND EXISTS (SELECT 1 FROM pointer WHERE message = id)
             ORDER BY expires_at LIMIT ?2",
            params![before, limit.cast_signed()],
            |row| Ok(row.get::<_, i64>(0)?),
        )?;
        into.has_more |= expired.len() as u64 == limit;
        let mut left = limit;
        for message in expired {
            if left == 0 {
                into.has_more = true;
                break;
            }
            // With those of a message that went to many at once the limit is passed, by one message.
            let gone = self.execute("DELETE FROM pointer WHERE message = ?1", [message])? as u64;
            into.pointers += gone;
            left = left.saturating_sub(gone);
            into.messages += self.drop_unneeded(message)? as u64;
        }
        Ok(())
    }

    fn collect_memories(
        &mut self,
        before: i64,
        limit: u64,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let gone = self.execute(
            "DELETE FROM pointer WHERE (session, sequence) IN
                (SELECT session, sequence FROM pointer WHERE done_at < ?1 LIMIT ?2)",
            params![before, limit.cast_signed()],
        )? as u64;
        into.pointers += gone;
        into.has_more |= gone == limit;
        Ok(())
    }

    fn collect_retained(
        &mut self,
        expired: i64,
        memories: i64,
        limit: u64,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        for (column, before) in [("expires_at", expired), ("deleted_at", memories)] {
            let sql = format!(
                "DELETE FROM retained WHERE topic_key IN
                    (SELECT topic_key FROM retained WHERE {column} < ?1 LIMIT ?2)"
            );
            let gone = self.execute(&sql, params![before, limit.cast_signed()])? as u64;
            into.retained += gone;
            into.has_more |= gone == limit;
        }
        Ok(())
    }

    /// What is known of brokers that are dead and own nothing.
    fn collect_brokers(&mut self, before: i64) -> Result<(), Failure> {
        let is_forgotten = "SELECT owner FROM broker WHERE is_dead = 1 AND since < ?1
            AND NOT EXISTS (SELECT 1 FROM session WHERE session.owner = broker.owner)";
        let sql = format!("DELETE FROM receive_cursor WHERE receiver IN ({is_forgotten})");
        self.execute(&sql, [before])?;
        self.execute(&format!("DELETE FROM broker WHERE owner IN ({is_forgotten})"), [before])?;
        Ok(())
    }

    /// Messages that nobody waits for: those that were offered once more than they were taken.
    fn sweep(&mut self, limit: u64, into: &mut Collected) -> Result<(), Failure> {
        let last = self.find::<Option<i64>>(
            "SELECT max(id) FROM (SELECT id FROM message WHERE id > ?1 ORDER BY id LIMIT ?2)",
            params![self.sweep_place, limit.cast_signed()],
        )?;
        let Some(last) = last.flatten() else {
            self.sweep_place = i64::MIN;
            return Ok(());
        };
        into.messages += self.execute(
            "DELETE FROM message WHERE id > ?1 AND id <= ?2
                 AND NOT EXISTS (SELECT 1 FROM pointer WHERE message = id)
                 AND NOT EXISTS (SELECT 1 FROM incoming WHERE message = id)",
            params![self.sweep_place, last],
        )? as u64;
        self.sweep_place = last;
        Ok(())
    }
}
