//! Removes what is of no use any more, a bounded part of it at a time.

use super::group::{Group, Run};
use super::pending::DROP_UNNEEDED;
use crate::ports::store::{Collected, Operation, SessionId};
use crate::store::codec::{millis, owner_bytes};
use crate::store::retry::Failure;

impl Group<'_> {
    pub(super) async fn collect(
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
        let (memories, limit) = (millis(*memories_before_millis), i64::from(*limit));
        let mut collected = Collected::default();
        self.collect_sessions(sessions, limit, run, &mut collected).await?;
        self.collect_ended(limit, &mut collected).await?;
        self.collect_expired(messages, limit, &mut collected).await?;
        let forgotten = self.execute(FORGET_POINTERS, &[&memories, &limit]).await?;
        collected.pointers += forgotten;
        let expired = self.execute(EXPIRE_RETAINED, &[&messages, &limit]).await?;
        let deleted = self.execute(FORGET_RETAINED, &[&memories, &limit]).await?;
        collected.retained += expired + deleted;
        let is_full = |count: u64| count == limit.cast_unsigned();
        collected.has_more |= [forgotten, expired, deleted].into_iter().any(is_full);
        self.execute(FORGET_CURSORS, &[&memories]).await?;
        self.execute(FORGET_BROKERS, &[&memories]).await?;
        self.sweep(limit, &mut collected).await?;
        Ok(collected)
    }

    async fn collect_sessions(
        &mut self,
        before: i64,
        limit: i64,
        run: &Run,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let owner = owner_bytes(run.owner).to_vec();
        let over = self.query(EXPIRED_SESSIONS, &[&owner, &before, &limit]).await?;
        into.has_more |= over.len() as u64 == limit.cast_unsigned();
        for row in over {
            let session = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
            self.end_session(session).await?;
            into.sessions.push(session);
        }
        Ok(())
    }

    async fn collect_ended(&mut self, limit: i64, into: &mut Collected) -> Result<(), Failure> {
        let ended = self.query(ENDED_SESSIONS, &[&limit]).await?;
        into.has_more |= ended.len() as u64 == limit.cast_unsigned();
        let mut left = limit;
        for row in ended {
            let session: i64 = row.try_get(0)?;
            let gone = self.query(REMOVE_POINTERS, &[&session, &left]).await?;
            into.pointers += gone.len() as u64;
            left -= i64::try_from(gone.len()).unwrap_or(left);
            self.drop_messages(&gone, into).await?;
            if left <= 0 {
                into.has_more = true;
                break;
            }
            let sql = "DELETE FROM incoming WHERE session = $1 RETURNING message";
            let gone = self.query(sql, &[&session]).await?;
            self.drop_messages(&gone, into).await?;
            self.execute("DELETE FROM subscription WHERE session = $1", &[&session]).await?;
            self.execute("DELETE FROM ended_session WHERE uid = $1", &[&session]).await?;
        }
        Ok(())
    }

    async fn collect_expired(
        &mut self,
        before: i64,
        limit: i64,
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let expired = self.query(EXPIRED_MESSAGES, &[&before, &limit]).await?;
        into.has_more |= expired.len() as u64 == limit.cast_unsigned();
        let messages: Vec<i64> =
            expired.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let sql = "DELETE FROM pointer WHERE message = ANY($1::bigint[])";
        into.pointers += self.execute(sql, &[&messages]).await?;
        into.messages += self.execute(DROP_UNNEEDED, &[&messages]).await?;
        Ok(())
    }

    async fn drop_messages(
        &self,
        rows: &[tokio_postgres::Row],
        into: &mut Collected,
    ) -> Result<(), Failure> {
        let messages: Vec<Option<i64>> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let messages: Vec<i64> = messages.into_iter().flatten().collect();
        if !messages.is_empty() {
            into.messages += self.execute(DROP_UNNEEDED, &[&messages]).await?;
        }
        Ok(())
    }

    /// Messages that nobody waits for: two transactions may each have left the other to remove them.
    async fn sweep(&mut self, limit: i64, into: &mut Collected) -> Result<(), Failure> {
        let rows = self.query(SWEEP_END, &[&self.sweep_place, &limit]).await?;
        let last: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
        let Some(last) = last else {
            self.sweep_place = i64::MIN;
            return Ok(());
        };
        into.messages += self.execute(SWEEP, &[&self.sweep_place, &last]).await?;
        self.sweep_place = last;
        Ok(())
    }
}

const EXPIRED_SESSIONS: &str = "SELECT uid FROM session WHERE owner = $1 AND expires_at < $2
    AND NOT EXISTS (SELECT 1 FROM will WHERE session = uid)
    ORDER BY expires_at, uid LIMIT $3 FOR UPDATE";
const ENDED_SESSIONS: &str =
    "SELECT uid FROM ended_session ORDER BY uid LIMIT $1 FOR UPDATE SKIP LOCKED";
const REMOVE_POINTERS: &str = "DELETE FROM pointer WHERE session = $1 AND sequence IN
    (SELECT sequence FROM pointer WHERE session = $1 ORDER BY sequence LIMIT $2)
    RETURNING message";
const EXPIRED_MESSAGES: &str = "SELECT id FROM message WHERE expires_at < $1
    AND EXISTS (SELECT 1 FROM pointer WHERE message = id)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED";
const FORGET_POINTERS: &str = "DELETE FROM pointer WHERE (session, sequence) IN
    (SELECT session, sequence FROM pointer WHERE done_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
const EXPIRE_RETAINED: &str = "DELETE FROM retained WHERE topic_key IN
    (SELECT topic_key FROM retained WHERE expires_at < $1 LIMIT $2)";
const FORGET_RETAINED: &str = "DELETE FROM retained WHERE topic_key IN
    (SELECT topic_key FROM retained WHERE deleted_at < $1 LIMIT $2)";
const FORGET_CURSORS: &str = "DELETE FROM receive_cursor WHERE receiver IN
    (SELECT owner FROM broker WHERE is_dead = 1 AND since < $1
        AND NOT EXISTS (SELECT 1 FROM session WHERE session.owner = broker.owner))";
const FORGET_BROKERS: &str = "DELETE FROM broker WHERE is_dead = 1 AND since < $1
    AND NOT EXISTS (SELECT 1 FROM session WHERE session.owner = broker.owner)";
const SWEEP_END: &str = "SELECT max(id) FROM
    (SELECT id FROM message WHERE id > $1 ORDER BY id LIMIT $2) AS page";
const SWEEP: &str = "DELETE FROM message m USING message o
    WHERE o.id > $1 AND o.id <= $2 AND m.ctid = o.ctid
        AND NOT EXISTS (SELECT 1 FROM pointer p WHERE p.message = o.id)
        AND NOT EXISTS (SELECT 1 FROM incoming i WHERE i.message = o.id)";
