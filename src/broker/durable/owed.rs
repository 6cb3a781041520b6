//! Messages that a stored Session has collected while it moved here.
//!
//! Their publishers have been told that they are there: what the store fails to take it is asked to take
//! again, at the same place. Until it has, nothing behind that place is sent.

use std::sync::Arc;

use crate::broker::durable::keeper::Awaiting;
use crate::broker::turn::Turn;
use crate::ports::message::{Delivery, Message};
use crate::ports::store::Pointer;
use crate::session::mailbox::{Mailbox, Place};

/// One of them, in one queue. There are no more than the queue has room for.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) pointer: Pointer,
    message: Arc<Message>,
}

impl Turn<'_> {
    /// Has a message stored at its place, however often that takes.
    pub(crate) fn keep_owed(&mut self, place: Place, mailbox: &Arc<Mailbox>, delivery: &Delivery) {
        let Place { session, sequence } = place;
        let Delivery { qos, retain, .. } = *delivery;
        // It may have been offered to whoever had the Session before.
        let may_repeat = true;
        let tag = delivery.tag.clone();
        let pointer = Pointer { session, sequence, qos, retain, tag, may_repeat };
        let (mailbox, message) = (Arc::clone(mailbox), Arc::clone(&delivery.message));
        self.owe(Box::new(Owed { mailbox, pointer, message }));
    }

    pub(super) fn owe(&mut self, owed: Box<Owed>) {
        let Some(keeper) = &mut self.shard.keeper else { return };
        let durable = Arc::clone(keeper.durable());
        let Owed { pointer, message, .. } = &*owed;
        keeper.enqueue(message.id, pointer.clone(), || durable.stored(message));
        keeper.await_batch(Awaiting::Owed(owed));
    }
}

impl Owed {
    /// What it is charged for.
    pub(super) fn bytes(&self) -> usize {
        self.message.charged_bytes()
    }
}
