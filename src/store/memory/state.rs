//! What the store in memory holds, and what each operation does to it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each function takes the operations that it is for and hands the others on"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mqtt::{TopicFilter, TopicName};
use crate::ports::auth::SessionUser;
use crate::ports::message::{MessageId, SubscriptionTag};
use crate::ports::store::{
    Batch, CursorRecord, Done, Epoch, IncomingRecord, Operation, OwnerId, Registered, Reply,
    RetainedRecord, SessionId, SessionLife, SessionRef, StoreError, StoredMessage,
    StoredSubscription, StoredWill,
};
use crate::store::retry::{registers, session_of};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) brokers: BTreeMap<OwnerId, Broker>,
    numbers: u64,
    era: u64,
    root: Option<i64>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) clients: BTreeMap<Arc<str>, SessionId>,
    /// Of Sessions that are over: their queues, until they are collected.
    pub(super) ended: BTreeMap<SessionId, BTreeMap<u64, Place>>,
    pub(super) messages: BTreeMap<MessageId, Kept>,
    pub(super) retained: BTreeMap<TopicName, Retained>,
    cursors: BTreeMap<(OwnerId, OwnerId, u8), u64>,
}

#[derive(Debug)]
pub(super) struct Broker {
    number: u64,
    pub(super) is_dead: bool,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Arc<str>,
    pub(super) user: SessionUser,
    pub(super) slot: u16,
    pub(super) owner: OwnerId,
    pub(super) epoch: Epoch,
    pub(super) life: SessionLife,
    pub(super) will: Option<Arc<StoredWill>>,
    pub(super) subscriptions: BTreeMap<TopicFilter, StoredSubscription>,
    pub(super) incoming: BTreeMap<u16, IncomingRecord>,
    pub(super) queue: BTreeMap<u64, Place>,
    pub(super) sent_below: Option<u64>,
}

/// A place in a queue.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) state: PlaceState,
    pub(super) pointer: PointerPart,
    /// The message, as long as it is needed.
    pub(super) message: Option<MessageId>,
    /// The message, if it may come again.
    pub(super) repeat_key: Option<MessageId>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PlaceState {
    Waiting,
    Released,
    /// Kept in mind since this moment.
    Done(u64),
}

#[derive(Debug)]
pub(super) struct PointerPart {
    pub(super) qos: crate::mqtt::QoS,
    pub(super) retain: bool,
    pub(super) tag: Option<Arc<SubscriptionTag>>,
}

/// A message and how many places and packets need it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) message: Arc<StoredMessage>,
    pub(super) needed_by: usize,
}

#[derive(Debug)]
pub(super) struct Retained {
    pub(super) record: RetainedRecord,
    /// When the deletion was stored.
    pub(super) deleted_at: Option<u64>,
}

/// One batch while it is carried out.
pub(super) struct Run {
    pub(super) owner: OwnerId,
    pub(super) now_millis: u64,
    pub(super) done: Done,
}

impl Run {
    pub(super) fn fence(&mut self, session: SessionRef) {
        if !self.done.fenced.contains(&session) {
            self.done.fenced.push(session);
        }
    }
}

impl State {
    pub(super) fn apply(&mut self, batch: Batch) -> Result<Done, StoreError> {
        let done = Done::default();
        let mut run = Run { owner: batch.owner, now_millis: batch.now_millis, done };
        // A broker is dead from the batch after the one that says so: none says so of itself.
        match self.brokers.get(&batch.owner) {
            Some(broker) if !broker.is_dead => {}
            None if registers(&batch) => {}
            Some(_) | None => return Err(StoreError::Fenced),
        }
        for operation in batch.operations {
            self.carry_out(operation, &mut run);
        }
        Ok(run.done)
    }

    fn carry_out(&mut self, operation: Operation, run: &mut Run) {
        let reply = match operation {
            Operation::Register { root } => Reply::Registered(self.register(run.owner, root)),
            Operation::TakeSession { client_id, epoch } => {
                Reply::Session(self.take_session(&client_id, epoch, run))
            }
            Operation::TakeSessions { former, slots, epoch, limit } => {
                Reply::Count(self.take_sessions(former, &slots, epoch, limit, run.owner))
            }
            Operation::ReadQueue { session, after, limit, bytes_max } => {
                Reply::Queue(self.read_queue(session, after, limit, bytes_max))
            }
            Operation::ReadIncoming { session, packet_id } => {
                Reply::Message(self.read_incoming(session, packet_id.get()))
            }
            Operation::ListSessions { claim, after, limit } => {
                Reply::Sessions(self.list_sessions((run.owner, claim), after, limit))
            }
            Operation::DueWills { limit } => Reply::Wills(self.due_wills(limit, run)),
            Operation::ListRetained { after, limit } => {
                Reply::Retained(self.list_retained(after.as_ref(), limit))
            }
            Operation::ListCursors { receiver } => Reply::Cursors(self.list_cursors(receiver)),
            collect @ Operation::Collect { .. } => Reply::Collected(self.collect(&collect, run)),
            other => return self.write(other, run),
        };
        run.done.replies.push(reply);
    }

    fn write(&mut self, operation: Operation, run: &mut Run) {
        match operation {
            Operation::DeclareDead(owner) => {
                if let Some(broker) = self.brokers.get_mut(&owner) {
                    broker.is_dead = true;
                }
            }
            Operation::PutRetained(record) => self.put_retained(record, run.now_millis),
            Operation::PutCursor { origin, stream, sequence } => {
                let known = self.cursors.entry((run.owner, origin, stream)).or_default();
                *known = sequence.max(*known);
            }
            Operation::PutSession { session, client_id, user, slot, life, sent_below } => {
                self.put_session(session, (&client_id, user), slot, (life, sent_below), run);
            }
            Operation::Enqueue { message, pointers } => self.enqueue(&message, pointers, run),
            other => self.write_to_session(other, run),
        }
    }

    fn write_to_session(&mut self, operation: Operation, run: &mut Run) {
        let Some(session) = session_of(&operation) else { return };
        if !self.is_owned(session, run.owner) {
            return run.fence(session);
        }
        match operation {
            Operation::EndSession(_) => self.end_session(session.id),
            Operation::Acknowledge { sequence, .. } => {
                self.acknowledge(session.id, sequence, run.now_millis);
            }
            Operation::Forget { sequence, .. } => {
                self.forget(session.id, sequence, run.now_millis);
            }
            Operation::Release { sequence, .. } => self.release(session.id, sequence),
            Operation::PutIncoming { packet_id, message, .. } => {
                self.put_incoming(session.id, packet_id, &message);
            }
            Operation::RouteIncoming { packet_id, message, .. } => {
                self.route_incoming(session.id, packet_id.get(), message);
            }
            Operation::RemoveIncoming { packet_id, message, .. } => {
                self.remove_incoming(session.id, packet_id.get(), message);
            }
            other => {
                let Some(session) = self.sessions.get_mut(&session.id) else { return };
                session.write(other);
            }
        }
    }

    pub(super) fn is_owned(&self, session: SessionRef, owner: OwnerId) -> bool {
        self.sessions
            .get(&session.id)
            .is_some_and(|stored| stored.owner == owner && stored.epoch == session.epoch)
    }

    fn register(&mut self, owner: OwnerId, root: Option<i64>) -> Registered {
        if root.is_some() && root != self.root {
            self.era += u64::from(self.root.is_some());
            self.root = root;
        }
        let numbers = &mut self.numbers;
        let broker = self.brokers.entry(owner).or_insert_with(|| {
            *numbers += 1;
            Broker { number: *numbers, is_dead: false }
        });
        Registered { number: broker.number, era: self.era }
    }

    fn put_retained(&mut self, record: RetainedRecord, now_millis: u64) {
        let known = self.retained.get(&record.topic);
        if known.is_some_and(|known| known.record.version >= record.version) {
            return;
        }
        let deleted_at = record.message.is_none().then_some(now_millis);
        self.retained.insert(record.topic.clone(), Retained { record, deleted_at });
    }

    fn list_retained(&self, after: Option<&TopicName>, limit: u32) -> Vec<RetainedRecord> {
        let is_after = |topic: &TopicName| after.is_none_or(|after| topic > after);
        self.retained
            .iter()
            .filter(|(topic, _)| is_after(topic))
            .map(|(_, retained)| retained.record.clone())
            .take(limit as usize)
            .collect()
    }

    fn list_cursors(&self, receiver: OwnerId) -> Vec<CursorRecord> {
        let of_receiver = self.cursors.iter().filter(|((of, ..), _)| *of == receiver);
        of_receiver
            .map(|(&(_, origin, stream), &sequence)| CursorRecord { origin, stream, sequence })
            .collect()
    }
}

impl Session {
    fn write(&mut self, operation: Operation) {
        match operation {
            Operation::PutSubscription { subscription, .. } => {
                self.subscriptions.insert(subscription.filter.clone(), subscription);
            }
            Operation::RemoveSubscription { filter, .. } => {
                self.subscriptions.remove(&filter);
            }
            Operation::PutWill { will, .. } => self.will = Some(will),
            Operation::RemoveWill { message, .. } => {
                let is_meant =
                    |will: &Arc<StoredWill>| message.is_none_or(|id| will.message.id == id);
                let _gone = self.will.take_if(|will| is_meant(will));
            }
            other => debug_assert!(false, "{other:?} has its place elsewhere"),
        }
    }
}
