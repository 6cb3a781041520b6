//! Requests that were sent and not answered yet.

use std::collections::VecDeque;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use tokio::time::Instant;

use super::call::Outcome;
use crate::ports::coordination::Ticket;

/// What is outstanding, in the order in which it was sent. The ensemble answers a session in that
/// order, so that only the first is ever waited for.
#[derive(Default)]
pub(super) struct Pending {
    calls: VecDeque<Call>,
}

/// Who asked, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// By whom.
    pub by: Asker,
    /// After so many turns of the connection.
    pub turns: u64,
    /// By [`crate::runtime::Clock::micros`].
    pub at_micros: u64,
}

/// Who wants an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asker {
    /// Whoever submitted this ticket.
    Caller(Ticket),
    /// The session itself, for its watches.
    Session,
    /// The session itself, to hear that there is somebody.
    Probe,
}

struct Call {
    asked: Asked,
    sent_at: Instant,
    answer: BoxFuture<'static, Outcome>,
}

impl Pending {
    /// Sends a request: the first poll of `answer` does.
    pub(super) fn send(&mut self, asked: Asked, mut answer: BoxFuture<'static, Outcome>) {
        if let Some(outcome) = answer.as_mut().now_or_never() {
            answer = Box::pin(ready(outcome));
        }
        self.calls.push_back(Call { asked, sent_at: Instant::now(), answer });
    }

    /// The next answer; never when nothing is outstanding.
    pub(super) async fn next(&mut self) -> (Asked, Outcome) {
        let Some(first) = self.calls.front_mut() else { return pending().await };
        let asked = first.asked;
        let outcome = first.answer.as_mut().await;
        self.calls.pop_front();
        (asked, outcome)
    }

    /// Gives up on the first.
    pub(super) fn give_up(&mut self) -> Option<Asked> {
        self.calls.pop_front().map(|call| call.asked)
    }

    /// When the oldest was sent that is outstanding.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.calls.front().map(|call| call.sent_at)
    }

    /// How many are outstanding.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }
}
