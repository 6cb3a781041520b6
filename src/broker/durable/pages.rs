//! Queues larger than memory: what is in the store alone comes back a page at a time, for a client that
//! has taken what was in memory, or for the oldest to give way where a queue is full.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::disconnect::Client;
use crate::broker::durable::keeper::Awaiting;
use crate::broker::turn::Turn;
use crate::ports::store::{Operation, QueuedMessage, Reply};
use crate::session::mailbox::{Mailbox, PageWanted, Refilled};

/// Where the answer to a question for a page is left.
#[derive(Debug)]
pub(crate) struct Page {
    wanted: PageWanted,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Asked(Option<Waker>),
    Answered(Result<Vec<QueuedMessage>, Unread>),
}

/// The store could not read it.
#[derive(Debug)]
struct Unread;

impl Page {
    /// The store has answered, or could not.
    pub(super) fn give(&self, reply: Option<Reply>) -> Option<Waker> {
        let queue = match reply {
            Some(Reply::Queue(queue)) => Ok(queue),
            _ => Err(Unread),
        };
        match std::mem::replace(&mut *self.state.lock(), State::Answered(queue)) {
            State::Asked(waker) => waker,
            State::Answered(_) => None,
        }
    }

    /// The answer, once; else `waker` is called when it is there.
    fn take(&self, waker: &Waker) -> Option<Result<Vec<QueuedMessage>, Unread>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Asked(Some(waker.clone()))) {
            State::Asked(_) => None,
            State::Answered(queue) => Some(queue),
        }
    }
}

impl Turn<'_> {
    /// Asks the store for what follows in the queue of `client`.
    pub(crate) fn ask_for_page(&mut self, client: &mut Client, wanted: PageWanted) {
        let (Some(stored), Some(keeper)) = (&mut client.stored, &mut self.shard.keeper) else {
            return;
        };
        keeper.push(Operation::ReadQueue {
            session: stored.session.id,
            after: wanted.after,
            limit: PAGE_MESSAGES_MAX,
            bytes_max: PAGE_BYTES_MAX,
        });
        let page = Arc::new(Page { wanted, state: Mutex::new(State::Asked(None)) });
        keeper.await_batch(Awaiting::Page(Arc::clone(&page)));
        stored.page = Some(page);
        self.shard.counters.queue_pages_read.increment();
    }

    /// Puts the page that the store was asked for into the mailbox, if it is there.
    pub(crate) fn take_page(&mut self, client: &mut Client, waker: &Waker) {
        let (Some(stored), Some(keeper)) = (&mut client.stored, &self.shard.keeper) else { return };
        let Some(page) = &stored.page else { return };
        let Some(answer) = page.take(waker) else { return };
        let mailbox = Arc::clone(client.session.mailbox());
        let wanted = page.wanted;
        stored.page = None;
        match answer {
            // It looks again in this turn.
            Err(Unread) => drop(mailbox.note_unread()),
            Ok(queue) => {
                let durable = keeper.durable();
                let deliveries = queue.into_iter().map(|queued| durable.delivery(queued));
                let refilled = mailbox.refill(wanted, deliveries.collect());
                self.let_give_way(&mailbox, refilled);
            }
        }
    }

    /// Asks the store for the oldest that are in it alone: the queue is full.
    #[cold]
    pub(crate) fn ask_for_head(&mut self, mailbox: &Arc<Mailbox>, wanted: PageWanted) {
        let (Some(session), Some(keeper)) = (mailbox.stored_as(), &mut self.shard.keeper) else {
            return;
        };
        keeper.push(Operation::ReadQueue {
            session: session.id,
            after: wanted.after,
            limit: HEAD_MESSAGES_MAX,
            bytes_max: PAGE_BYTES_MAX,
        });
        keeper.await_batch(Awaiting::Head(Arc::clone(mailbox), wanted));
        self.shard.counters.queue_pages_read.increment();
    }

    /// The store has answered that, or could not. The owner, when it is to be woken.
    pub(super) fn take_head(
        &mut self,
        mailbox: &Arc<Mailbox>,
        wanted: PageWanted,
        reply: Option<Reply>,
    ) -> Option<Waker> {
        let (Some(Reply::Queue(queue)), Some(keeper)) = (reply, &self.shard.keeper) else {
            return mailbox.note_unread();
        };
        let durable = keeper.durable();
        let deliveries = queue.into_iter().map(|queued| durable.delivery(queued));
        let mut refilled = mailbox.refill(wanted, deliveries.collect());
        let wake = refilled.wake.take();
        self.let_give_way(mailbox, refilled);
        wake
    }

    fn let_give_way(&mut self, mailbox: &Arc<Mailbox>, refilled: Refilled) {
        let Refilled { given_way, is_dead_letter, page, .. } = refilled;
        for delivery in &given_way {
            self.drop_delivery(mailbox.stored_as(), delivery);
        }
        self.shard.counters.deliveries_dropped.add(given_way.len() as u64);
        if is_dead_letter {
            self.shard.dead_letters.extend(given_way);
            self.publish_dead_letters();
        }
        if let Some(page) = page {
            self.ask_for_head(mailbox, page);
        }
    }
}

impl Client {
    /// The connection has ended: nobody takes the page that it has asked for.
    pub(crate) fn abandon_page(&mut self) {
        if self.stored.as_mut().is_some_and(|stored| stored.page.take().is_some()) {
            let _nobody = self.session.mailbox().note_unread();
        }
    }
}

/// Messages read at a time where the oldest are to give way: as many as are kept of a client's queue
/// while it is away.
const HEAD_MESSAGES_MAX: u32 = 64;
/// Messages of one page.
const PAGE_MESSAGES_MAX: u32 = 512;
/// Payload bytes of one page.
const PAGE_BYTES_MAX: u64 = 1 << 20;
