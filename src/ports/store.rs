//! The store: what outlives a broker. Sessions with their queues, retained messages, wills.
//!
//! A [`Batch`] is handed over through a [`Submitter`] and answered with a [`Completion`]. A batch is
//! stored as a whole or not at all, and is answered when it can no longer be lost. What it says of a
//! Session that somebody else owns by now is left out and named in [`Done::fenced`]; the rest goes
//! on. Every write is idempotent by its key, so that a batch whose fate is unknown is repeated as it
//! is.

pub mod batch;
pub mod records;
pub mod reply;

use std::fmt;
use std::task::Waker;

pub use batch::{Batch, Operation, Pointer, Slots, TagRef};
pub use records::{
    Epoch, IncomingRecord, OwnerId, PacketState, QueueEnds, QueuedMessage, QueuedState,
    RetainedRecord, RetainedVersion, SessionId, SessionLife, SessionRecord, SessionRef,
    StoredMessage, StoredSubscription, StoredWill,
};
pub use reply::{
    Collected, Completion, CursorRecord, Done, DueWill, Registered, Reply, StoreError,
};

/// Numbers the batches of one submitter, from one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// There is no room: the batch comes back, and the submitter's waker is called when there is.
#[derive(Debug)]
pub struct Full(pub Batch);

/// How the store is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StoreHealth {
    /// It answers.
    #[default]
    Good,
    /// Batches wait; why, in words.
    Degraded(String),
    /// It will not answer any more; why, in words.
    Broken(String),
}

/// A place where things are kept.
pub trait Store: Send + Sync {
    /// A way in for one submitter: a shard, or a task.
    fn submitter(&self) -> Box<dyn Submitter>;

    /// How it is now.
    fn health(&self) -> StoreHealth;

    /// Whether it was found damaged since it was opened, and replaced by what could be read of it:
    /// Sessions that are here may not be in it any more.
    fn was_replaced(&self) -> bool {
        false
    }

    /// What an acknowledgement outlives, in words, where that is not the store's own to say.
    fn promise(&self) -> Option<String> {
        None
    }
}

/// One submitter's way in. Its batches are carried out, and answered, in the order of their tickets. One that
/// is given up ([`StoreError::Transient`]) takes those with it that were handed over before its answer was
/// fetched: what is offered again would come behind them.
pub trait Submitter: Send {
    /// Hands a batch over.
    ///
    /// # Errors
    ///
    /// There is no room, and the batch comes back. Until it is submitted again, or the submitter is
    /// dropped, no other's is taken.
    fn submit(&mut self, batch: Batch) -> Result<Ticket, Full>;

    /// The next answer. When there is none, `waker` is called as soon as there is one, or room.
    fn poll(&mut self, waker: &Waker) -> Option<Completion>;
}

impl fmt::Display for StoreHealth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => formatter.write_str("good"),
            Self::Degraded(why) => write!(formatter, "degraded: {why}"),
            Self::Broken(why) => write!(formatter, "broken: {why}"),
        }
    }
}
