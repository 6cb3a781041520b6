//! Queues larger than memory: what is in the store alone comes back a page at a time.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::disconnect::Client;
use crate::broker::durable::keeper::Awaiting;
use crate::broker::turn::Turn;
use crate::ports::store::{Operation, QueuedMessage, Reply};
use crate::session::mailbox::PageWanted;

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
        let mailbox = client.session.mailbox();
        match answer {
            Err(Unread) => mailbox.note_unread(),
            Ok(queue) => {
                let durable = keeper.durable();
                let deliveries = queue.into_iter().map(|queued| durable.delivery(queued));
                mailbox.refill(page.wanted, deliveries.collect());
            }
        }
        stored.page = None;
    }
}

/// Messages of one page.
const PAGE_MESSAGES_MAX: u32 = 512;
/// Payload bytes of one page.
const PAGE_BYTES_MAX: u64 = 1 << 20;
