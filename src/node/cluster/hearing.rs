//! How many events of the tree are heard at a time.

use tokio::sync::mpsc::Receiver;

use crate::ports::coordination::CoordinationEvent;

/// An event and those that wait behind it, at most [`HEARD_AT_ONCE_MAX`]. What was asked in a session is
/// asked before the next one begins, so that the first with which one begins or ends is the last.
pub(super) fn with_those_behind(
    first: CoordinationEvent,
    events: &mut Receiver<CoordinationEvent>,
) -> Vec<CoordinationEvent> {
    let mut heard = Vec::with_capacity(HEARD_AT_ONCE_MAX.min(1 + events.len()));
    let mut next = Some(first);
    while let Some(event) = next {
        let may_go_on = !is_turn(&event) && heard.len() + 1 < HEARD_AT_ONCE_MAX;
        heard.push(event);
        next = if may_go_on { events.try_recv().ok() } else { None };
    }
    heard
}

/// Whether the session or its connection begins or ends.
fn is_turn(event: &CoordinationEvent) -> bool {
    match event {
        CoordinationEvent::Connected { .. }
        | CoordinationEvent::Disconnected
        | CoordinationEvent::Expired => true,
        CoordinationEvent::Answered { .. } | CoordinationEvent::Changed { .. } => false,
    }
}

/// Events of the tree between two looks at everything else.
const HEARD_AT_ONCE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::ports::coordination::{CoordinationError, Ticket};

    fn answer(number: u64) -> CoordinationEvent {
        let outcome = Err(CoordinationError::ConnectionLost);
        CoordinationEvent::Answered { ticket: Ticket(number), outcome }
    }

    /// Hears all of them; returns how many there were at a time.
    #[track_caller]
    fn check(events: Vec<CoordinationEvent>, expected: &[usize]) {
        let (sender, mut receiver) = channel(events.len());
        for event in &events {
            sender.try_send(event.clone()).unwrap();
        }
        let (mut heard, mut counts) = (Vec::new(), Vec::new());
        while let Ok(first) = receiver.try_recv() {
            let portion = with_those_behind(first, &mut receiver);
            counts.push(portion.len());
            heard.extend(portion);
        }
        assert_eq!((counts.as_slice(), heard), (expected, events));
    }

    /// The registry of a cluster had asked for hundreds of topics. The answer to a heartbeat was heard
    /// behind as many turns, and the lease had ended by then.
    #[test]
    fn all_that_wait_are_heard_at_once_within_a_bound() {
        check((0..5).map(answer).collect(), &[5]);
        check((0..150).map(answer).collect(), &[64, 64, 22]);
    }

    #[test]
    fn whatever_begins_or_ends_a_session_is_the_last_of_its_time() {
        let connected = CoordinationEvent::Connected { session: 2, is_new: true };
        for turn in [CoordinationEvent::Disconnected, CoordinationEvent::Expired, connected] {
            check(vec![answer(1), turn.clone(), answer(2), answer(3)], &[2, 2]);
            check(vec![turn, answer(1)], &[1, 1]);
        }
    }
}
