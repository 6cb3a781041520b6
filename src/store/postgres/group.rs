//! One transaction: the batches of a group, behind the fence.
//!
//! It begins by looking at all Sessions that the group names, and at the brokers on whose behalf it
//! writes, and holds them as they are until it ends: `FOR SHARE`, so that a take-over waits.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each function takes the operations that it is for and hands the others on"
)]

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connect::Link;
use super::flush::Then;
use super::pending::{Pending, uid};
use crate::ports::store::{
    Batch, Done, Operation, OwnerId, Registered, Reply, SessionId, SessionRef, StoreError,
};
use crate::store::codec::{epoch_bytes, millis, owner_bytes, owner_of};
use crate::store::retry::{Failure, registers, session_of};
use crate::store::row::{RowError, message_id};

/// What a transaction knows while it lasts.
pub(super) struct Group<'a> {
    link: &'a Link,
    pub(super) pending: Pending<'a>,
    fences: BTreeMap<SessionId, Option<Fence>>,
    owners: BTreeMap<OwnerId, bool>,
    pub(super) sweep_place: i64,
}

/// Who has a Session: the columns `owner` and `epoch`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fence {
    pub(super) owner: Vec<u8>,
    pub(super) epoch: Vec<u8>,
}

/// One batch while it is carried out.
pub(super) struct Run {
    pub(super) owner: OwnerId,
    pub(super) now: i64,
    pub(super) done: Done,
}

impl Run {
    pub(super) fn fence(&mut self, session: SessionRef) {
        if !self.done.fenced.contains(&session) {
            self.done.fenced.push(session);
        }
    }
}

impl Fence {
    /// Whether a claim takes it: a newer one, or the same again.
    pub(super) fn gives_way_to(&self, new: &Self) -> bool {
        self.epoch < new.epoch || self == new
    }

    pub(super) fn of_row(row: &Row, first: usize) -> Result<Self, Failure> {
        Ok(Self { owner: row.try_get(first)?, epoch: row.try_get(first + 1)? })
    }
}

impl<'a> Group<'a> {
    pub(super) async fn begin(
        link: &'a Link,
        batches: &[&'a Batch],
        sweep_place: i64,
    ) -> Result<Self, Failure> {
        let named: BTreeSet<SessionId> =
            batches.iter().flat_map(|batch| &batch.operations).flat_map(sessions_of).collect();
        let keys: Vec<i64> = named.iter().map(|session| uid(*session)).collect();
        let owners: BTreeSet<OwnerId> = batches.iter().map(|batch| batch.owner).collect();
        let owner_keys: Vec<_> = owners.iter().map(|owner| owner_bytes(*owner).to_vec()).collect();
        let client = &link.client;
        let (lock_owners, lock_sessions) =
            (link.statement(LOCK_OWNERS).await?, link.statement(LOCK_SESSIONS).await?);
        let params: [&(dyn ToSql + Sync); 1] = [&owner_keys];
        let session_params: [&(dyn ToSql + Sync); 1] = [&keys];
        let (begun, owner_rows, session_rows) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            client.query(&lock_owners, &params),
            client.query(&lock_sessions, &session_params),
        );
        // The first that is refused says why; those behind it say that the transaction is aborted, which
        // would be taken for a refusal of the batch.
        begun?;
        let (owner_rows, session_rows) = (owner_rows?, session_rows?);
        let mut fences: BTreeMap<_, _> = named.into_iter().map(|id| (id, None)).collect();
        for row in session_rows {
            let id = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
            fences.insert(id, Some(Fence::of_row(&row, 1)?));
        }
        let mut alive = BTreeMap::new();
        for row in owner_rows {
            let owner = owner_of(row.try_get(0)?).ok_or(RowError("broker"))?;
            alive.insert(owner, row.try_get::<_, i16>(1)? == 0);
        }
        Ok(Self { link, pending: Pending::default(), fences, owners: alive, sweep_place })
    }

    /// Ends the transaction, and says where the sweep goes on.
    pub(super) async fn commit(mut self) -> Result<i64, Failure> {
        self.flush(Then::Commit).await?;
        Ok(self.sweep_place)
    }

    pub(super) fn link(&self) -> &'a Link {
        self.link
    }

    /// Writes one batch. A failure is one of the whole transaction.
    pub(super) async fn carry_out(
        &mut self,
        batch: &'a Batch,
    ) -> Result<Result<Done, StoreError>, Failure> {
        let is_alive = self.owners.get(&batch.owner).copied();
        if !is_alive.unwrap_or(registers(batch)) {
            return Ok(Err(StoreError::Fenced));
        }
        let (now, done) = (millis(batch.now_millis), Done::default());
        let mut run = Run { owner: batch.owner, now, done };
        for operation in &batch.operations {
            if self.pending.goes_before(operation) {
                self.flush(Then::GoOn).await?;
            }
            if !self.collect_write(operation, &mut run) {
                self.flush(Then::GoOn).await?;
                self.operation(operation, &mut run).await?;
            }
        }
        Ok(Ok(run.done))
    }

    /// Takes a write that can wait for others of its kind; `false` for any other operation.
    fn collect_write(&mut self, operation: &'a Operation, run: &mut Run) -> bool {
        match operation {
            Operation::PutRetained(record) => self.pending.retained(record, run.now),
            Operation::PutCursor { origin, stream, sequence } => {
                self.pending.cursor(run.owner, *origin, *stream, *sequence);
            }
            Operation::Enqueue { message, pointers } => {
                let mut is_kept = false;
                for pointer in pointers {
                    if !self.is_owned(pointer.session, run.owner) {
                        run.fence(pointer.session);
                        continue;
                    }
                    if !std::mem::replace(&mut is_kept, true) {
                        self.pending.message(message);
                    }
                    self.pending.pointer(pointer, message.id);
                }
            }
            other => {
                let Some(session) = session_of(other) else { return false };
                if !self.is_owned(session, run.owner) {
                    run.fence(session);
                    return true;
                }
                return self.collect_write_to_session(other, session.id, run.now);
            }
        }
        true
    }

    fn collect_write_to_session(
        &mut self,
        operation: &'a Operation,
        session: SessionId,
        now: i64,
    ) -> bool {
        let pending = &mut self.pending;
        match operation {
            Operation::Acknowledge { sequence, message, .. } => {
                pending.acknowledged(session, *sequence, *message, now);
            }
            Operation::Forget { sequence, message, .. } => {
                pending.forgotten(session, *sequence, *message, now);
            }
            Operation::Release { sequence, message, .. } => {
                pending.released(session, *sequence, *message);
            }
            Operation::PutIncoming { packet_id, message, .. } => {
                pending.incoming(session, *packet_id, message);
            }
            Operation::RouteIncoming { packet_id, message, .. } => {
                pending.routed(session, *packet_id, *message);
            }
            Operation::RemoveIncoming { packet_id, message, .. } => {
                pending.answered(session, *packet_id, *message);
            }
            Operation::PutSubscription { subscription, .. } => {
                pending.subscribed(session, subscription);
            }
            Operation::RemoveSubscription { filter, .. } => pending.unsubscribed(session, filter),
            _ => return false,
        }
        true
    }

    async fn operation(&mut self, operation: &Operation, run: &mut Run) -> Result<(), Failure> {
        let reply = match operation {
            Operation::Register { root } => {
                Reply::Registered(self.register(run.owner, *root, run.now).await?)
            }
            Operation::TakeSession { client_id, epoch } => {
                Reply::Session(self.take_session(client_id, *epoch, run).await?)
            }
            Operation::TakeSessions { former, slots, epoch, limit } => {
                Reply::Count(self.take_sessions(*former, slots, *epoch, *limit, run.owner).await?)
            }
            Operation::ReadQueue { session, after, limit, bytes_max } => {
                Reply::Queue(self.read_queue(*session, *after, *limit, *bytes_max).await?)
            }
            Operation::ReadIncoming { session, packet_id } => {
                Reply::Message(self.read_incoming(*session, *packet_id).await?)
            }
            Operation::ListSessions { claim, after, limit } => {
                Reply::Sessions(self.list_sessions((run.owner, *claim), *after, *limit).await?)
            }
            Operation::DueWills { limit } => Reply::Wills(self.due_wills(*limit, run).await?),
            Operation::ListRetained { after, limit } => {
                Reply::Retained(self.list_retained(after.as_ref(), *limit).await?)
            }
            Operation::ListCursors { receiver } => {
                Reply::Cursors(self.list_cursors(*receiver).await?)
            }
            collect @ Operation::Collect { .. } => {
                Reply::Collected(self.collect(collect, run).await?)
            }
            other => return self.write(other, run).await,
        };
        run.done.replies.push(reply);
        Ok(())
    }

    async fn write(&mut self, operation: &Operation, run: &mut Run) -> Result<(), Failure> {
        match operation {
            Operation::DeclareDead(owner) => {
                if let Some(is_alive) = self.owners.get_mut(owner) {
                    *is_alive = false;
                }
                let key = owner_bytes(*owner).to_vec();
                self.execute("UPDATE broker SET is_dead = 1 WHERE owner = $1", &[&key]).await?;
            }
            Operation::PutSession { session, client_id, user, slot, life, sent_below } => {
                let state = (*life, *sent_below);
                self.put_session(*session, (client_id, user), *slot, state, run).await?;
            }
            Operation::EndSession(session) => self.end_session(session.id).await?,
            Operation::PutWill { session, will } => self.put_will(session.id, will).await?,
            Operation::RemoveWill { session, message } => {
                let sql = "DELETE FROM will WHERE session = $1 AND id = coalesce($2, id)";
                self.execute(sql, &[&uid(session.id), &message.map(message_id)]).await?;
            }
            other => debug_assert!(false, "{other:?} is collected"),
        }
        Ok(())
    }

    async fn register(
        &mut self,
        owner: OwnerId,
        root: Option<i64>,
        now: i64,
    ) -> Result<Registered, Failure> {
        // The one row of the cluster lets brokers register one behind the other.
        self.execute("UPDATE cluster SET numbers = numbers WHERE one = 1", &[]).await?;
        if let Some(root) = root {
            let sql = "UPDATE cluster SET era = era + CASE WHEN root IS NULL THEN 0 ELSE 1 END,
                root = $1 WHERE root IS DISTINCT FROM $1";
            self.execute(sql, &[&root]).await?;
        }
        let key = owner_bytes(owner).to_vec();
        let known = "SELECT number FROM broker WHERE owner = $1";
        if self.query(known, &[&key]).await?.is_empty() {
            self.execute("UPDATE cluster SET numbers = numbers + 1", &[]).await?;
            let sql = "INSERT INTO broker (owner, number, since)
                SELECT $1, numbers, $2 FROM cluster";
            self.execute(sql, &[&key, &now]).await?;
            self.owners.insert(owner, true);
        }
        let sql = "SELECT number, era FROM broker, cluster WHERE owner = $1";
        let rows = self.query(sql, &[&key]).await?;
        let row = rows.first().ok_or(RowError("broker"))?;
        Ok(Registered {
            number: row.try_get::<_, i64>(0)?.cast_unsigned(),
            era: row.try_get::<_, i64>(1)?.cast_unsigned(),
        })
    }

    /// Whether the Session is `owner`'s under this claim.
    fn is_owned(&self, session: SessionRef, owner: OwnerId) -> bool {
        self.fence(session.id).is_some_and(|fence| {
            fence.owner == owner_bytes(owner) && fence.epoch == epoch_bytes(session.epoch)
        })
    }

    /// Who has a Session that the group names; nothing when there is none.
    pub(super) fn fence(&self, session: SessionId) -> Option<&Fence> {
        self.fences.get(&session)?.as_ref()
    }

    /// From now on within the transaction somebody has the Session, or it is over.
    pub(super) fn set_fence(&mut self, session: SessionId, fence: Option<Fence>) {
        self.fences.insert(session, fence);
    }

    /// Looks again: Sessions have changed hands.
    pub(super) async fn look_again(&mut self) -> Result<(), Failure> {
        let keys: Vec<i64> = self.fences.keys().map(|session| uid(*session)).collect();
        self.fences.values_mut().for_each(|fence| *fence = None);
        for row in self.query(LOCK_SESSIONS, &[&keys]).await? {
            let id = SessionId(row.try_get::<_, i64>(0)?.cast_unsigned());
            self.fences.insert(id, Some(Fence::of_row(&row, 1)?));
        }
        Ok(())
    }

    pub(super) async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let statement = self.link.statement(sql).await?;
        Ok(self.link.client.query(&statement, params).await?)
    }

    pub(super) async fn execute(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        let statement = self.link.statement(sql).await?;
        Ok(self.link.client.execute(&statement, params).await?)
    }
}

/// The Sessions that an operation writes to.
fn sessions_of(operation: &Operation) -> Vec<SessionId> {
    match operation {
        Operation::Enqueue { pointers, .. } => {
            pointers.iter().map(|pointer| pointer.session.id).collect()
        }
        Operation::PutSession { session, .. } => vec![session.id],
        other => session_of(other).map(|session| session.id).into_iter().collect(),
    }
}

const LOCK_OWNERS: &str =
    "SELECT owner, is_dead FROM broker WHERE owner = ANY($1::bytea[]) ORDER BY owner FOR SHARE";
const LOCK_SESSIONS: &str = "SELECT uid, owner, epoch FROM session WHERE uid = ANY($1::bigint[])
    ORDER BY uid FOR SHARE";
