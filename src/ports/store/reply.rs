//! What the store answers.

use std::sync::Arc;

use crate::ports::store::Ticket;
use crate::ports::store::records::{
    OwnerId, QueuedMessage, RetainedRecord, SessionId, SessionRecord, SessionRef, StoredMessage,
    StoredWill,
};

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// That it was submitted with.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Result<Done, StoreError>,
}

/// A batch that is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// Sessions that somebody else owns, or that are over, under the claim by which they were named: nothing
    /// was written for these. Each once, in the order of the batch.
    pub fenced: Vec<SessionRef>,
    /// The answers of those operations that have one, in the order of the batch.
    pub replies: Vec<Reply>,
}

/// Why a batch was not stored.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// It was tried until the time for it was up; it may be submitted again.
    #[error("the store is not to be had: {0}")]
    Transient(String),
    /// The owner of the batch was declared dead, or never registered.
    #[error("this broker was declared dead")]
    Fenced,
    /// This batch can not be stored, or no batch can be.
    #[error("the store refuses: {0}")]
    Broken(String),
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Register`.
    Registered(Registered),
    /// To `TakeSession`; nothing when there is none, or when a newer claim has it (the Session is in
    /// [`Done::fenced`] then).
    Session(Option<Box<SessionRecord>>),
    /// To `TakeSessions`.
    Count(u32),
    /// To `ReadQueue`: those in the queue behind the given place, in order. None is the end.
    Queue(Vec<QueuedMessage>),
    /// To `ReadIncoming`.
    Message(Option<Arc<StoredMessage>>),
    /// To `ListSessions`.
    Sessions(Vec<SessionRecord>),
    /// To `DueWills`.
    Wills(Vec<DueWill>),
    /// To `ListRetained`.
    Retained(Vec<RetainedRecord>),
    /// To `ListCursors`.
    Cursors(Vec<CursorRecord>),
    /// To `Collect`.
    Collected(Collected),
}

/// What a broker learns when it registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registered {
    /// A number that no other owner has or had. Those of later owners are higher.
    pub number: u64,
    /// The era of the cluster.
    pub era: u64,
}

/// A will that is to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct DueWill {
    /// The Session it belongs to.
    pub session: SessionRef,
    /// The will.
    pub will: Arc<StoredWill>,
}

/// How far a receiver has come in one stream.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CursorRecord {
    /// Whose stream.
    pub origin: OwnerId,
    /// Which.
    pub stream: u8,
    /// How far.
    pub sequence: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Collected {
    /// Sessions whose time was over.
    pub sessions: Vec<SessionId>,
    /// Places in queues: of Sessions that are over, of expired messages, and memories.
    pub pointers: u64,
    /// Messages that nobody waits for.
    pub messages: u64,
    /// Retained messages that expired, and memories of deleted ones.
    pub retained: u64,
    /// Whether there is more to remove.
    pub has_more: bool,
}
