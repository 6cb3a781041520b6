//! One transaction: the batches of a group, operation by operation, behind the fence.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each function takes the operations that it is for and hands the others on"
)]

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::ports::store::{
    Batch, Done, Operation, OwnerId, Registered, Reply, SessionId, SessionRef, StoreError,
};
use crate::store::codec::{epoch_bytes, millis, owner_bytes};
use crate::store::retry::{Failure, registers, session_of};
use crate::store::row::message_id;

/// What a transaction knows while it lasts.
pub(super) struct Group<'a> {
    connection: &'a Connection,
    /// Who has the Sessions that were looked at.
    fences: BTreeMap<SessionId, Option<Fence>>,
    /// Which owners are alive.
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

impl<'a> Group<'a> {
    pub(super) fn new(connection: &'a Connection, sweep_place: i64) -> Self {
        Self { connection, fences: BTreeMap::new(), owners: BTreeMap::new(), sweep_place }
    }

    pub(super) fn sweep_place(&self) -> i64 {
        self.sweep_place
    }

    /// Writes one batch. A failure is one of the whole transaction.
    pub(super) fn carry_out(&mut self, batch: &Batch) -> Result<Result<Done, StoreError>, Failure> {
        if !self.is_alive(batch.owner, registers(batch))? {
            return Ok(Err(StoreError::Fenced));
        }
        let (now, done) = (millis(batch.now_millis), Done::default());
        let mut run = Run { owner: batch.owner, now, done };
        for operation in &batch.operations {
            self.operation(operation, &mut run)?;
        }
        Ok(Ok(run.done))
    }

    fn is_alive(&mut self, owner: OwnerId, may_be_new: bool) -> Result<bool, Failure> {
        if let Some(is_alive) = self.owners.get(&owner) {
            return Ok(*is_alive);
        }
        let sql = "SELECT is_dead FROM broker WHERE owner = ?1";
        let is_dead: Option<i64> = self.find(sql, [owner_bytes(owner)])?;
        let is_alive = is_dead.map_or(may_be_new, |is_dead| is_dead == 0);
        if is_dead.is_some() {
            self.owners.insert(owner, is_alive);
        }
        Ok(is_alive)
    }

    fn operation(&mut self, operation: &Operation, run: &mut Run) -> Result<(), Failure> {
        let reply = match operation {
            Operation::Register { root } => {
                Reply::Registered(self.register(run.owner, *root, run.now)?)
            }
            Operation::TakeSession { client_id, epoch } => {
                Reply::Session(self.take_session(client_id, *epoch, run)?)
            }
            Operation::TakeSessions { former, slots, epoch, limit } => {
                Reply::Count(self.take_sessions(*former, slots, *epoch, *limit, run.owner)?)
            }
            Operation::ReadQueue { session, after, limit, bytes_max } => {
                Reply::Queue(self.read_queue(*session, *after, *limit, *bytes_max)?)
            }
            Operation::ReadIncoming { session, packet_id } => {
                Reply::Message(self.read_incoming(*session, *packet_id)?)
            }
            Operation::ListSessions { claim, after, limit } => {
                Reply::Sessions(self.list_sessions((run.owner, *claim), *after, *limit)?)
            }
            Operation::DueWills { limit } => Reply::Wills(self.due_wills(*limit, run)?),
            Operation::ListRetained { after, limit } => {
                Reply::Retained(self.list_retained(after.as_ref(), *limit)?)
            }
            Operation::ListCursors { receiver } => Reply::Cursors(self.list_cursors(*receiver)?),
            collect @ Operation::Collect { .. } => Reply::Collected(self.collect(collect, run)?),
            other => return self.write(other, run),
        };
        run.done.replies.push(reply);
        Ok(())
    }

    fn write(&mut self, operation: &Operation, run: &mut Run) -> Result<(), Failure> {
        match operation {
            Operation::DeclareDead(owner) => {
                self.owners.remove(owner);
                let sql = "UPDATE broker SET is_dead = 1 WHERE owner = ?1";
                self.execute(sql, [owner_bytes(*owner)])?;
            }
            Operation::PutRetained(record) => self.put_retained(record, run.now)?,
            Operation::PutCursor { origin, stream, sequence } => {
                let (receiver, origin) = (owner_bytes(run.owner), owner_bytes(*origin));
                let sequence = sequence.cast_signed();
                self.execute(PUT_CURSOR, params![receiver, origin, stream, sequence])?;
            }
            Operation::PutSession { session, client_id, user, slot, life, sent_below } => {
                let state = (*life, *sent_below);
                self.put_session(*session, (client_id, user), *slot, state, run)?;
            }
            Operation::Enqueue { message, pointers } => self.enqueue(message, pointers, run)?,
            other => {
                let Some(session) = session_of(other) else { return Ok(()) };
                if !self.is_owned(session, run.owner)? {
                    run.fence(session);
                    return Ok(());
                }
                self.write_to_session(other, session, run)?;
            }
        }
        Ok(())
    }

    fn write_to_session(
        &mut self,
        operation: &Operation,
        session: SessionRef,
        run: &Run,
    ) -> Result<(), Failure> {
        match operation {
            Operation::EndSession(_) => self.end_session(session.id),
            Operation::PutSubscription { subscription, .. } => {
                self.put_subscription(session.id, subscription)
            }
            Operation::RemoveSubscription { filter, .. } => {
                self.remove_subscription(session.id, filter)
            }
            Operation::PutWill { will, .. } => self.put_will(session.id, will),
            Operation::RemoveWill { message, .. } => {
                let id = message.map(message_id);
                self.execute(REMOVE_WILL, params![uid(session.id), id]).map(drop)
            }
            Operation::Acknowledge { sequence, message, .. } => {
                self.acknowledge(session.id, *sequence, *message, run.now)
            }
            Operation::Forget { sequence, message, .. } => {
                self.forget(session.id, *sequence, *message, run.now)
            }
            Operation::Release { sequence, message, .. } => {
                self.release(session.id, *sequence, *message)
            }
            Operation::PutIncoming { packet_id, message, .. } => {
                self.put_incoming(session.id, *packet_id, message)
            }
            Operation::RouteIncoming { packet_id, message, .. } => {
                self.route_incoming(session.id, *packet_id, *message)
            }
            Operation::RemoveIncoming { packet_id, message, .. } => {
                self.remove_incoming(session.id, *packet_id, *message)
            }
            other => {
                debug_assert!(false, "{other:?} has its place elsewhere");
                Ok(())
            }
        }
    }

    fn register(
        &mut self,
        owner: OwnerId,
        root: Option<i64>,
        now: i64,
    ) -> Result<Registered, Failure> {
        if let Some(root) = root {
            self.execute(
                "UPDATE cluster SET era = era + (root IS NOT NULL), root = ?1
                 WHERE root IS NOT ?1",
                [root],
            )?;
        }
        let owner = owner_bytes(owner);
        let known: Option<i64> =
            self.find("SELECT number FROM broker WHERE owner = ?1", [owner])?;
        if known.is_none() {
            self.execute(NEXT_NUMBER, [])?;
            self.execute(
                "INSERT INTO broker (owner, number, since) SELECT ?1, numbers, ?2 FROM cluster",
                params![owner, now],
            )?;
        }
        let sql = "SELECT number, era FROM broker, cluster WHERE owner = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let (number, era): (i64, i64) =
            statement.query_row([owner], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Registered { number: number.cast_unsigned(), era: era.cast_unsigned() })
    }

    /// Whether the Session is `owner`'s under this claim.
    pub(super) fn is_owned(
        &mut self,
        session: SessionRef,
        owner: OwnerId,
    ) -> Result<bool, Failure> {
        let fence = self.fence(session.id)?;
        Ok(fence.is_some_and(|fence| {
            fence.owner == owner_bytes(owner) && fence.epoch == epoch_bytes(session.epoch)
        }))
    }

    /// Who has a Session; nothing when there is none.
    pub(super) fn fence(&mut self, session: SessionId) -> Result<Option<&Fence>, Failure> {
        if !self.fences.contains_key(&session) {
            let sql = "SELECT owner, epoch FROM session WHERE uid = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let columns =
                |row: &rusqlite::Row<'_>| Ok(Fence { owner: row.get(0)?, epoch: row.get(1)? });
            let fence = statement.query_row([uid(session)], columns).optional()?;
            self.fences.insert(session, fence);
        }
        Ok(self.fences.get(&session).and_then(Option::as_ref))
    }

    /// From now on within the transaction somebody has the Session, or it is over.
    pub(super) fn set_fence(&mut self, session: SessionId, fence: Option<Fence>) {
        self.fences.insert(session, fence);
    }

    /// Sessions have changed hands.
    pub(super) fn forget_fences(&mut self) {
        self.fences.clear();
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// Carries a statement out; returns how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, Failure> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The first column of the first row.
    pub(super) fn find<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<Option<T>, Failure> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params, |row| row.get(0)).optional()?)
    }
}

/// The key of a Session.
pub(super) fn uid(session: SessionId) -> i64 {
    session.0.cast_signed()
}

/// Above all that are known, whatever became of the row that counts them.
const NEXT_NUMBER: &str = "UPDATE cluster
    SET numbers = 1 + max(numbers, (SELECT coalesce(max(number), 0) FROM broker))";
const REMOVE_WILL: &str = "DELETE FROM will WHERE session = ?1 AND id = coalesce(?2, id)";
const PUT_CURSOR: &str = "INSERT INTO receive_cursor (receiver, origin, stream, sequence)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (receiver, origin, stream) DO UPDATE SET sequence = excluded.sequence
    WHERE excluded.sequence > receive_cursor.sequence";
