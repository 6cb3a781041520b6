//! A publish that other brokers have not answered for yet.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::{Mutex, MutexGuard};

use crate::broker::peers::again::{LeftOut, Unfinished};
use crate::mqtt::ReasonCode;
use crate::ports::message::MessageId;

/// Waits for every broker that a message of QoS 1 or 2 was sent to. Shared by the publisher's
/// connection, which waits, and the peers, which answer.
#[derive(Debug)]
pub struct PublishTicket {
    is_loan: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is published.
    message: MessageId,
    /// Answers still to come.
    left: u32,
    outcome: RemoteOutcome,
    /// Who did not take their part, as far as they are known.
    left_out: Vec<LeftOut>,
    /// Whether somebody did not who is not among those.
    has_unnamed: bool,
    /// Who else is told the outcome.
    others: Vec<Arc<PublishTicket>>,
    waker: Option<Waker>,
}

/// Wakes all of them.
struct Wakers(Vec<Waker>);

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.0.iter().for_each(Waker::wake_by_ref);
    }
}

/// What all brokers together made of a publish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RemoteOutcome {
    /// Nobody wanted it.
    NoMatch,
    /// Nobody has it: the members of a Shared Subscription are full wherever they are, or the way
    /// there is.
    Full,
    /// Somebody has it.
    Enqueued,
    /// A broker's answer is lost, and will not come.
    Unknown,
    /// Somebody has it, perhaps, and somebody's queue that refuses was full: neither success nor a
    /// refusal would be true.
    Refused(ReasonCode),
}

impl PublishTicket {
    /// A ticket that is not whole before [`Self::seal`]: answers may come while the message is still
    /// being sent to others.
    #[must_use]
    pub fn new(matched_here: bool) -> Self {
        Self::of(MessageId::NONE, matched_here)
    }

    /// The same of a message that may have to be offered again, under its name.
    #[must_use]
    pub fn of(message: MessageId, matched_here: bool) -> Self {
        let outcome = if matched_here { RemoteOutcome::Enqueued } else { RemoteOutcome::NoMatch };
        let state = State {
            message,
            left: 1,
            outcome,
            left_out: Vec::new(),
            has_unnamed: false,
            others: Vec::new(),
            waker: None,
        };
        Self { is_loan: false, state: Mutex::new(state) }
    }

    /// One for a message that several wait for, which is offered once: each of `tickets` expects an answer, and
    /// gets what all come to together. [`Self::close`] is called when it has been offered.
    #[must_use]
    pub(super) fn for_all(message: MessageId, tickets: Vec<Arc<Self>>) -> Self {
        let joint = Self::of(message, false);
        joint.state.lock().others = tickets;
        joint
    }

    /// The same of a message that is lent: what the broker that it is sent to does not take goes back
    /// to whose it is, and to nobody else.
    #[must_use]
    pub fn of_loan() -> Self {
        Self { is_loan: true, ..Self::new(false) }
    }

    /// Whether the message is lent.
    #[must_use]
    pub fn is_loan(&self) -> bool {
        self.is_loan
    }

    /// One more broker is to answer.
    pub fn expect_another(&self) {
        self.state.lock().left += 1;
    }

    /// It has been sent to all. Returns the outcome when all have answered already.
    pub fn seal(&self) -> Option<RemoteOutcome> {
        let mut state = self.state.lock();
        state.left -= 1;
        (state.left == 0).then_some(state.outcome)
    }

    /// The same of one that others wait behind. Whoever is to be woken.
    #[must_use]
    pub(super) fn close(&self) -> Option<Waker> {
        self.answer(RemoteOutcome::NoMatch)
    }

    /// One broker has answered, or is dead. Whoever is to be woken.
    pub fn answer(&self, outcome: RemoteOutcome) -> Option<Waker> {
        let mut state = self.state.lock();
        state.has_unnamed |= !outcome.is_success();
        Self::note(state, outcome)
    }

    /// The same of one that has not taken its part.
    pub fn leave_out(&self, outcome: RemoteOutcome, left_out: LeftOut) -> Option<Waker> {
        let mut state = self.state.lock();
        state.left_out.push(left_out);
        Self::note(state, outcome)
    }

    fn note(mut state: MutexGuard<'_, State>, outcome: RemoteOutcome) -> Option<Waker> {
        let waker = state.note(outcome);
        if state.left > 0 || state.others.is_empty() {
            return waker;
        }
        let others = std::mem::take(&mut state.others);
        let (outcome, has_unnamed) = (state.outcome, state.has_unnamed);
        let left_out = std::mem::take(&mut state.left_out);
        // No lock of a ticket is held while another one is taken.
        drop(state);
        let told = others.iter().filter_map(|other| other.hear(outcome, &left_out, has_unnamed));
        let wakers: Vec<_> = told.chain(waker).collect();
        (!wakers.is_empty()).then(|| Waker::from(Arc::new(Wakers(wakers))))
    }

    /// What came of a message that was offered on behalf of several.
    fn hear(
        &self,
        outcome: RemoteOutcome,
        left_out: &[LeftOut],
        has_unnamed: bool,
    ) -> Option<Waker> {
        let mut state = self.state.lock();
        state.left_out.extend_from_slice(left_out);
        state.has_unnamed |= has_unnamed;
        Self::note(state, outcome)
    }

    /// Who has not taken its part, once all have answered; `None` when that is not known of everybody.
    #[must_use]
    pub fn take_left_out(&self) -> Option<Unfinished> {
        let mut state = self.state.lock();
        let message = state.message;
        let has_named = !state.has_unnamed;
        has_named.then(|| Unfinished { message, left_out: std::mem::take(&mut state.left_out) })
    }

    /// Whether somebody has not taken it, so that its publisher is not told that it has been taken.
    #[must_use]
    pub(super) fn is_refused(&self) -> bool {
        !self.state.lock().outcome.is_success()
    }

    /// What is published; [`MessageId::NONE`] where that is never offered again.
    #[must_use]
    pub(super) fn message(&self) -> MessageId {
        self.state.lock().message
    }

    /// How many are still to answer.
    #[must_use]
    pub(super) fn left(&self) -> usize {
        self.state.lock().left as usize
    }

    /// The outcome, once all have answered; else `waker` is kept.
    pub fn poll(&self, waker: &Waker) -> Option<RemoteOutcome> {
        let mut state = self.state.lock();
        if state.left == 0 {
            return Some(state.outcome);
        }
        state.waker = Some(waker.clone());
        None
    }
}

impl State {
    fn note(&mut self, outcome: RemoteOutcome) -> Option<Waker> {
        debug_assert!(self.left > 0, "more brokers answer than were asked");
        self.left = self.left.saturating_sub(1);
        self.outcome = self.outcome.and(outcome);
        if self.left == 0 { self.waker.take() } else { None }
    }
}

impl RemoteOutcome {
    /// Whether everybody who was asked has what it wants.
    pub(crate) fn is_success(self) -> bool {
        match self {
            Self::NoMatch | Self::Enqueued => true,
            Self::Full | Self::Unknown | Self::Refused(_) => false,
        }
    }

    /// What two brokers' answers amount to.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused(reason_code), _) | (_, Self::Refused(reason_code)) => {
                Self::Refused(reason_code)
            }
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Enqueued, Self::Full) | (Self::Full, Self::Enqueued) => {
                Self::Refused(ReasonCode::QuotaExceeded)
            }
            (Self::Enqueued, _) | (_, Self::Enqueued) => Self::Enqueued,
            (Self::Full, _) | (_, Self::Full) => Self::Full,
            (Self::NoMatch, Self::NoMatch) => Self::NoMatch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_there_when_all_have_answered() {
        let ticket = PublishTicket::new(false);
        ticket.expect_another();
        ticket.expect_another();
        assert!(ticket.answer(RemoteOutcome::Enqueued).is_none());
        assert_eq!(ticket.seal(), None, "one is left");
        assert_eq!(ticket.poll(Waker::noop()), None);
        assert!(ticket.answer(RemoteOutcome::NoMatch).is_some(), "the publisher is woken");
        assert_eq!(ticket.poll(Waker::noop()), Some(RemoteOutcome::Enqueued));
    }

    #[test]
    fn one_refusal_is_neither_success_nor_refusal() {
        let ticket = PublishTicket::new(true);
        ticket.expect_another();
        let full = RemoteOutcome::Refused(ReasonCode::QuotaExceeded);
        let _nobody = ticket.answer(full);
        assert_eq!(ticket.seal(), Some(full));
    }

    #[test]
    fn what_nobody_has_is_refused_and_what_one_has_is_neither() {
        let full = |matched_here| {
            let ticket = PublishTicket::new(matched_here);
            ticket.expect_another();
            let _nobody = ticket.answer(RemoteOutcome::Full);
            ticket.seal()
        };
        assert_eq!(full(false), Some(RemoteOutcome::Full));
        assert_eq!(full(true), Some(RemoteOutcome::Refused(ReasonCode::QuotaExceeded)));
    }
}
