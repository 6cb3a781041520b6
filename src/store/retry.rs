//! What every database does with a group: try it, try it again, and in the end batch by batch.

use crate::ports::store::{Batch, Done, Operation, SessionRef, StoreError};
use crate::store::row::RowError;

/// Why a transaction came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It may work another time: nothing is known about whether it was committed.
    #[error("{0}")]
    Transient(String),
    /// The file is damaged.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// It will never work.
    #[error("{0}")]
    Refused(String),
}

/// The outcomes of one transaction, by batch.
pub(super) type Outcomes = Vec<Result<Done, StoreError>>;

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(why) => Self::Transient(why),
            Failure::Damaged(why) | Failure::Refused(why) => Self::Broken(why),
        }
    }
}

/// The Session whose owner an operation must be.
pub(super) fn session_of(operation: &Operation) -> Option<SessionRef> {
    match operation {
        Operation::EndSession(session)
        | Operation::PutSubscription { session, .. }
        | Operation::RemoveSubscription { session, .. }
        | Operation::PutWill { session, .. }
        | Operation::RemoveWill { session, .. }
        | Operation::Acknowledge { session, .. }
        | Operation::Forget { session, .. }
        | Operation::Release { session, .. }
        | Operation::PutIncoming { session, .. }
        | Operation::RouteIncoming { session, .. }
        | Operation::RemoveIncoming { session, .. } => Some(*session),
        Operation::Register { .. }
        | Operation::DeclareDead(_)
        | Operation::PutSession { .. }
        | Operation::TakeSession { .. }
        | Operation::TakeSessions { .. }
        | Operation::Enqueue { .. }
        | Operation::PutRetained(_)
        | Operation::PutCursor { .. }
        | Operation::ReadQueue { .. }
        | Operation::ReadIncoming { .. }
        | Operation::ListSessions { .. }
        | Operation::DueWills { .. }
        | Operation::ListRetained { .. }
        | Operation::ListCursors { .. }
        | Operation::Collect { .. } => None,
    }
}

/// Why the batch before was given up, if it was: those behind it are, too, since it may be offered again.
pub(super) fn given_up_before(outcomes: &Outcomes) -> Option<StoreError> {
    let Some(Err(error @ StoreError::Transient(_))) = outcomes.last() else { return None };
    Some(error.clone())
}

/// Whether a batch may come from an owner that is not known yet.
pub(super) fn registers(batch: &Batch) -> bool {
    matches!(batch.operations.first(), Some(Operation::Register { .. }))
}
