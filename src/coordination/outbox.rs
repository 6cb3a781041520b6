//! What the ensemble has said and nobody has heard yet.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::ports::coordination::{ChangeKind, CoordinationError, CoordinationEvent, Reply, Ticket};

/// Events on their way to whoever asked, in order.
///
/// Answers are as many as there are requests, which have a bound. Changes come as fast as others
/// make them: beyond [`CHANGES_MAX`] they are dropped together, and a reconnect is told instead,
/// after which whoever watches lists again.
#[derive(Debug)]
pub(super) struct Outbox {
    events: mpsc::Sender<CoordinationEvent>,
    waiting: VecDeque<CoordinationEvent>,
    changes: usize,
    session: i64,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Unheard;

impl Outbox {
    pub(super) fn new(events: mpsc::Sender<CoordinationEvent>) -> Self {
        Self { events, waiting: VecDeque::new(), changes: 0, session: 0 }
    }

    /// Hands the first event over, when there is room for it. Call it only if one waits.
    pub(super) async fn deliver(&mut self) -> Result<(), Unheard> {
        let permit = self.events.reserve().await.map_err(|_closed| Unheard)?;
        if let Some(event) = self.waiting.pop_front() {
            self.changes -= usize::from(is_change(&event));
            permit.send(event);
        }
        Ok(())
    }

    /// Hands over what finds room at once.
    pub(super) fn deliver_what_fits(&mut self) {
        while let Ok(permit) = self.events.try_reserve() {
            let Some(event) = self.waiting.pop_front() else { return };
            self.changes -= usize::from(is_change(&event));
            permit.send(event);
        }
    }

    /// Whether an event waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// An answer.
    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Result<Reply, CoordinationError>) {
        self.waiting.push_back(CoordinationEvent::Answered { ticket, outcome });
    }

    /// A session stands.
    pub(super) fn connected(&mut self, session: i64, is_new: bool) {
        self.session = session;
        self.waiting.push_back(CoordinationEvent::Connected { session, is_new });
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.waiting.push_back(CoordinationEvent::Disconnected);
    }

    /// The session is gone.
    pub(super) fn expired(&mut self) {
        self.waiting.push_back(CoordinationEvent::Expired);
    }

    /// A znode has changed.
    pub(super) fn changed(&mut self, path: String, kind: ChangeKind) -> Changed {
        if self.changes < CHANGES_MAX {
            self.changes += 1;
            self.waiting.push_back(CoordinationEvent::Changed { path, kind });
            return Changed::Kept;
        }
        self.waiting.retain(|event| !is_change(event));
        self.changes = 0;
        // Where a reconnect is the last thing to be told anyway, it says enough.
        if !matches!(self.waiting.back(), Some(CoordinationEvent::Connected { .. })) {
            self.disconnected();
            self.connected(self.session, false);
        }
        Changed::DroppedAll
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum Changed {
    /// It will be told.
    Kept,
    /// It and those before it will not; a reconnect will.
    DroppedAll,
}

fn is_change(event: &CoordinationEvent) -> bool {
    matches!(event, CoordinationEvent::Changed { .. })
}

/// A path is some fifty bytes: a few megabytes.
const CHANGES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(outbox: &mut Outbox) -> Changed {
        outbox.changed("/x".to_owned(), ChangeKind::DataChanged)
    }

    #[tokio::test]
    async fn too_many_changes_become_a_reconnect_and_answers_stay() {
        let (events, mut heard) = mpsc::channel(100);
        let mut outbox = Outbox::new(events);
        outbox.connected(7, true);
        for _ in 0..CHANGES_MAX {
            assert_eq!(change(&mut outbox), Changed::Kept);
        }
        outbox.answer(Ticket(1), Ok(Reply::Done));
        assert_eq!(change(&mut outbox), Changed::DroppedAll);
        assert_eq!(change(&mut outbox), Changed::Kept);

        outbox.deliver_what_fits();
        let mut told = Vec::new();
        while let Ok(event) = heard.try_recv() {
            told.push(event);
        }
        assert_eq!(
            told,
            [
                CoordinationEvent::Connected { session: 7, is_new: true },
                CoordinationEvent::Answered { ticket: Ticket(1), outcome: Ok(Reply::Done) },
                CoordinationEvent::Disconnected,
                CoordinationEvent::Connected { session: 7, is_new: false },
                CoordinationEvent::Changed { path: "/x".to_owned(), kind: ChangeKind::DataChanged },
            ]
        );
    }

    #[tokio::test]
    async fn a_full_channel_holds_events_back_and_a_closed_one_is_noticed() {
        let (events, mut heard) = mpsc::channel(1);
        let mut outbox = Outbox::new(events);
        outbox.disconnected();
        outbox.expired();
        outbox.deliver_what_fits();
        assert_eq!(outbox.len(), 1);
        assert_eq!(heard.recv().await, Some(CoordinationEvent::Disconnected));
        outbox.deliver().await.unwrap();
        assert!(outbox.is_empty());
        outbox.expired();
        drop(heard);
        assert!(outbox.deliver().await.is_err());
    }
}
