//! One shard's way to the store: what its turn has to have stored, and who waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::durable::{Durable, Page, message_id};
use crate::broker::peers::ticket::PublishTicket;
use crate::ports::clock::Tick;
use crate::ports::message::MessageId;
use crate::ports::store::{
    Batch, Done, Full, Operation, Pointer, StoreError, StoredMessage, Submitter, Ticket,
};
use crate::session::mailbox::Mailbox;

/// Collects the operations of a turn.
pub(crate) struct Keeper {
    durable: Arc<Durable>,
    submitter: Box<dyn Submitter>,
    /// Of the turn that runs.
    operations: Vec<Operation>,
    awaiting: Vec<Awaiting>,
    /// Whether the publish that runs has something in `operations`.
    has_kept: bool,
    /// Handed over, in the order of their tickets.
    under_way: VecDeque<(Ticket, Vec<Awaiting>)>,
    /// The store had no room for it. Until it has, operations are only collected.
    returned: Option<(Batch, Vec<Awaiting>)>,
    /// Numbers of messages that are drawn and not given.
    numbers: std::ops::Range<u64>,
}

/// Who waits for a batch.
#[derive(Debug)]
pub(crate) enum Awaiting {
    /// A message in a queue.
    Place {
        /// The queue.
        mailbox: Arc<Mailbox>,
        /// Where in it.
        sequence: u64,
        /// What it is charged for.
        bytes: usize,
    },
    /// An acknowledgement.
    Answer(Arc<PublishTicket>),
    /// A Session whose queue is read.
    Page(Arc<Page>),
}

/// A batch that was answered.
pub(crate) struct Settled {
    pub(crate) awaiting: Vec<Awaiting>,
    pub(crate) outcome: Result<Done, StoreError>,
}

impl Keeper {
    pub(crate) fn new(durable: Arc<Durable>) -> Self {
        Self {
            submitter: durable.store().submitter(),
            durable,
            operations: Vec::new(),
            awaiting: Vec::new(),
            has_kept: false,
            under_way: VecDeque::new(),
            returned: None,
            numbers: 0..0,
        }
    }

    #[inline]
    pub(crate) fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    pub(crate) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    pub(crate) fn await_batch(&mut self, awaiting: Awaiting) {
        self.awaiting.push(awaiting);
    }

    /// Has a message stored in one more queue; `make` tells it when it is new to this batch.
    pub(crate) fn enqueue(
        &mut self,
        id: MessageId,
        pointer: Pointer,
        make: impl FnOnce() -> StoredMessage,
    ) {
        self.has_kept = true;
        if let Some(Operation::Enqueue { message, pointers }) = self.operations.last_mut()
            && message.id == id
        {
            pointers.push(pointer);
            return;
        }
        let message = Arc::new(make());
        self.operations.push(Operation::Enqueue { message, pointers: vec![pointer] });
    }

    /// The publish that runs has to wait for this batch.
    pub(crate) fn note_kept(&mut self) {
        self.has_kept = true;
    }

    /// Whether something was noted since this was last asked.
    #[inline]
    pub(crate) fn take_has_kept(&mut self) -> bool {
        std::mem::take(&mut self.has_kept)
    }

    /// A name for a message.
    #[inline]
    pub(crate) fn draw_message_id(&mut self) -> MessageId {
        if self.numbers.is_empty() {
            let first = self.durable.draw_message_numbers(NUMBERS);
            self.numbers = first..first + NUMBERS;
        }
        let number = self.numbers.next().unwrap_or_default();
        message_id(self.durable.start(), number)
    }

    /// Ends a turn: hands over what it has collected.
    #[inline]
    pub(crate) fn flush(&mut self, now: Tick) {
        self.has_kept = false;
        if self.returned.is_none() && !(self.operations.is_empty() && self.awaiting.is_empty()) {
            self.hand_over(now);
        }
    }

    fn hand_over(&mut self, now: Tick) {
        let batch = Batch {
            owner: self.durable.owner(),
            now_millis: self.durable.unix_millis(now),
            operations: std::mem::take(&mut self.operations),
        };
        let awaiting = std::mem::take(&mut self.awaiting);
        self.submit(batch, awaiting);
    }

    fn submit(&mut self, batch: Batch, awaiting: Vec<Awaiting>) {
        match self.submitter.submit(batch) {
            Ok(ticket) => self.under_way.push_back((ticket, awaiting)),
            Err(Full(batch)) => self.returned = Some((batch, awaiting)),
        }
    }

    /// Whether the store has no room: publishers are to wait.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.returned.is_some()
    }

    /// The next answer, else `waker` is called when there is one, or room.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Settled> {
        let completion = self.submitter.poll(waker);
        if let Some((batch, awaiting)) = self.returned.take() {
            self.submit(batch, awaiting);
        }
        let completion = completion?;
        let (ticket, awaiting) = self.under_way.pop_front()?;
        debug_assert_eq!(ticket, completion.ticket, "answers come in the order of their tickets");
        Some(Settled { awaiting, outcome: completion.outcome })
    }
}

/// Numbers of messages drawn at a time.
const NUMBERS: u64 = 1 << 12;
