//! What is asked of the ensemble, on its way to the task that owns the session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::ports::coordination::{Request, Ticket};
use crate::runtime::Shutdown;

/// The end that callers hold.
#[derive(Debug)]
pub(super) struct IntakeSender {
    requests: mpsc::Sender<Stamped>,
    refusals: Arc<Refusals>,
    stop: Shutdown,
    /// Sessions whose end the callers have heard of.
    ends_heard: AtomicU64,
}

/// The end of the task.
#[derive(Debug)]
pub(super) struct Intake {
    requests: mpsc::Receiver<Stamped>,
    refusals: Arc<Refusals>,
    stop: Shutdown,
    /// Sessions that have ended.
    ends: u64,
}

/// A request, and how many sessions had ended for all that its caller knew.
#[derive(Debug)]
struct Stamped {
    ticket: Ticket,
    request: Request,
    ends_heard: u64,
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Input {
    /// A request.
    Request(Ticket, Request),
    /// A request for which there was no room.
    Refused(Ticket),
    /// A request that was meant for a session that is over.
    Outdated(Ticket),
    /// Nobody will ask any more.
    Stop,
}

/// Requests for which there was no room. A caller keeps every ticket until it is answered, and its
/// own bound on those is the bound of this list.
#[derive(Debug, Default)]
struct Refusals {
    tickets: Mutex<VecDeque<Ticket>>,
    added: Notify,
}

/// Both ends of a queue for `bound` requests.
pub(super) fn intake(bound: usize) -> (IntakeSender, Intake) {
    let (sender, requests) = mpsc::channel(bound);
    let refusals = Arc::<Refusals>::default();
    let stop = Shutdown::new();
    let intake = Intake { requests, refusals: Arc::clone(&refusals), stop: stop.clone(), ends: 0 };
    let ends_heard = AtomicU64::new(0);
    (IntakeSender { requests: sender, refusals, stop, ends_heard }, intake)
}

impl IntakeSender {
    /// Queues a request, or the news that there was no room for it.
    pub(super) fn submit(&self, ticket: Ticket, request: Request) {
        let ends_heard = self.ends_heard.load(Ordering::Acquire);
        if self.requests.try_send(Stamped { ticket, request, ends_heard }).is_err() {
            self.refusals.tickets.lock().push_back(ticket);
            self.refusals.added.notify_one();
        }
    }

    /// The end of a session was heard of: what is asked from now on is not meant for that one.
    pub(super) fn note_end_heard(&self) {
        self.ends_heard.fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing more will be asked: the session ends. Saying it twice changes nothing.
    pub(super) fn stop(&self) {
        self.stop.begin();
    }
}

impl Intake {
    /// What comes in next; requests only if they are wanted now.
    pub(super) async fn next(&mut self, are_requests_wanted: bool) -> Input {
        tokio::select! {
            biased;
            () = self.stop.begun() => Input::Stop,
            ticket = self.refusals.next() => Input::Refused(ticket),
            Some(stamped) = self.requests.recv(), if are_requests_wanted => {
                let Stamped { ticket, request, ends_heard } = stamped;
                if ends_heard < self.ends { Input::Outdated(ticket) } else { Input::Request(ticket, request) }
            }
        }
    }

    /// A session has ended, which the callers are about to hear of. What still comes for it is outdated.
    pub(super) fn end_session(&mut self) {
        self.ends += 1;
    }

    /// The ticket of a request that waits, whatever else there is.
    pub(super) fn take_waiting(&mut self) -> Option<Ticket> {
        self.requests.try_recv().ok().map(|stamped| stamped.ticket)
    }
}

impl Refusals {
    async fn next(&self) -> Ticket {
        loop {
            if let Some(ticket) = self.tickets.lock().pop_front() {
                return ticket;
            }
            // One waits, and an addition before the wait leaves a permit behind.
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn submit(sender: &IntakeSender, ticket: u64) {
        sender.submit(Ticket(ticket), Request::Get("/".to_owned()));
    }

    #[test]
    fn what_finds_no_room_is_refused_and_the_rest_comes_in_order() {
        let (sender, mut intake) = intake(2);
        (1..=4).for_each(|ticket| submit(&sender, ticket));
        let mut seen = Vec::new();
        while let Some(input) = intake.next(true).now_or_never() {
            seen.push(match input {
                Input::Request(ticket, _) => ("request", ticket.0),
                Input::Refused(ticket) => ("refused", ticket.0),
                Input::Outdated(ticket) => ("outdated", ticket.0),
                Input::Stop => ("stop", 0),
            });
        }
        assert_eq!(seen, [("refused", 3), ("refused", 4), ("request", 1), ("request", 2)]);
    }

    /// Whoever has not heard yet that the session is over asks by what was true in it.
    #[test]
    fn what_was_meant_for_a_session_that_is_over_goes_to_no_other() {
        let (sender, mut intake) = intake(4);
        submit(&sender, 1);
        intake.end_session();
        submit(&sender, 2);
        sender.note_end_heard();
        submit(&sender, 3);
        let mut seen = Vec::new();
        while let Some(input) = intake.next(true).now_or_never() {
            seen.push(match input {
                Input::Outdated(ticket) => ("outdated", ticket.0),
                Input::Request(ticket, _) => ("request", ticket.0),
                Input::Refused(_) | Input::Stop => panic!("{input:?}"),
            });
        }
        assert_eq!(seen, [("outdated", 1), ("outdated", 2), ("request", 3)]);
    }

    #[test]
    fn requests_wait_until_they_are_wanted_and_the_end_does_not() {
        let (sender, mut intake) = intake(2);
        submit(&sender, 1);
        assert!(intake.next(false).now_or_never().is_none());
        sender.stop();
        assert!(matches!(intake.next(false).now_or_never(), Some(Input::Stop)));
        assert!(intake.take_waiting().is_some());
        assert!(intake.take_waiting().is_none());
    }
}
