//! Publishes that wait for room in a queue, because their publisher cannot be told that there is none.
//!
//! MQTT 3.1.1 has no word for a full queue: a publish that is refused ends the connection, and with it
//! the acknowledgements that the client has sent behind it. Clients whose queues were full of each
//! other's messages kept each other out for good. So the publish is held for a while, and behind it
//! whatever else the client publishes, in order; its other packets are read meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::connection::{Undone, answer_when_published, handle_publish, note_refusal};
use crate::broker::disconnect::{Client, EndCause};
use crate::broker::publish::Refusal;
use crate::broker::turn::Turn;
use crate::mqtt::{PacketId, Publish};
use crate::ports::clock::Tick;
use crate::ports::message::Message;
use crate::session::session::Session;

/// A message of QoS 1 or 2 whose publisher has no answer yet.
#[derive(Debug)]
pub(crate) struct HeldPublish {
    pub(crate) message: Arc<Message>,
    pub(crate) id: PacketId,
}

/// What one connection holds back: a bounded number of publishes, for a bounded time.
#[derive(Debug)]
pub(crate) struct HeldBack {
    /// The one that found a queue full; none only during a try.
    first: Option<HeldPublish>,
    /// What was published behind it, in order.
    behind: VecDeque<Publish>,
    /// Payload bytes of those.
    bytes: usize,
    retry_at: Tick,
    gives_up_at: Tick,
    /// There is a PUBLISH to be read that does not fit any more.
    has_blocked: bool,
}

/// What a try came to.
pub(crate) enum Retried {
    /// Nothing is held any more.
    Done,
    /// A queue is still full; `true` when reading was stopped and can go on.
    Waits { can_read_on: bool },
    /// The connection is to be closed.
    Ends(EndCause),
}

impl HeldBack {
    /// Holds `first`, for whose next try there is time until `gives_up_at`.
    pub(crate) fn new(turn: &Turn<'_>, first: HeldPublish, gives_up_at: Tick) -> Self {
        turn.shard.counters.publishes_held.increment();
        Self {
            first: Some(first.detached()),
            behind: VecDeque::new(),
            bytes: 0,
            retry_at: turn.now.plus_millis(RETRY_MILLIS),
            gives_up_at,
            has_blocked: false,
        }
    }

    /// Holds one more, which [`Self::blocks`] has let through.
    pub(crate) fn push(&mut self, turn: &Turn<'_>, publish: &Publish) {
        turn.shard.counters.publishes_held.increment();
        self.bytes += publish.payload.len();
        self.behind.push_back(detached(publish));
    }

    /// Whether the packet that begins with `first_byte` has to stay where it is.
    pub(crate) fn blocks(&mut self, first_byte: u8) -> bool {
        self.has_blocked = self.is_full() && first_byte >> 4 == PUBLISH;
        self.has_blocked
    }

    fn is_full(&self) -> bool {
        self.behind.len() + 1 >= HELD_MAX || self.bytes >= HELD_BYTES_MAX
    }

    /// Until when nothing is to be read, if there is no room for what comes next.
    pub(crate) fn blocked_until(&self) -> Option<Tick> {
        self.has_blocked.then_some(self.retry_at)
    }

    /// When the next try is due.
    pub(crate) fn retry_at(&self) -> Tick {
        self.retry_at
    }

    /// Publishes what there is room for by now, in order.
    pub(crate) fn retry(
        &mut self,
        turn: &mut Turn<'_>,
        client: &mut Client,
        hold_millis: u64,
    ) -> Retried {
        let Some(first) = self.first.take() else { return Retried::Done };
        let mut tried = answer_when_published(turn, client, first);
        let mut has_progressed = false;
        loop {
            match tried {
                Ok(()) => has_progressed = true,
                Err(Undone::Ends(cause)) => return Retried::Ends(cause),
                Err(Undone::Full(first)) if !has_progressed && turn.now >= self.gives_up_at => {
                    let cause = give_up(turn, client, &first);
                    self.first = Some(first);
                    return Retried::Ends(cause);
                }
                Err(Undone::Full(first)) => {
                    if has_progressed {
                        self.gives_up_at = turn.now.plus_millis(hold_millis);
                    }
                    self.first = Some(first.detached());
                    self.retry_at = turn.now.plus_millis(RETRY_MILLIS);
                    let can_read_on = self.has_blocked && !self.is_full();
                    self.has_blocked &= !can_read_on;
                    return Retried::Waits { can_read_on };
                }
            }
            let Some(publish) = self.behind.pop_front() else { return Retried::Done };
            self.bytes -= publish.payload.len();
            tried = handle_publish(turn, client, publish);
        }
    }

    /// The connection has ended: what was not answered comes again, as new.
    pub(crate) fn abandon(self, turn: &Turn<'_>, session: &mut Session) {
        let first = self.first.map(|first| session.forget_publish(first.id));
        let dropped = self.behind.len() + usize::from(first.is_some());
        turn.shard.counters.held_publishes_dropped.add(dropped as u64);
    }
}

impl HeldPublish {
    /// The same in buffers of its own: it outlives the turn in which it came.
    fn detached(self) -> Self {
        if !self.message.is_in_transit {
            return self;
        }
        Self { message: Arc::new(self.message.detached()), ..self }
    }
}

/// A publish that cannot be answered: the connection is to end, and the message comes again as new.
pub(crate) fn give_up(turn: &mut Turn<'_>, client: &mut Client, publish: &HeldPublish) -> EndCause {
    let refusal = Refusal::QueueFull;
    note_refusal(turn, client, &publish.message, refusal);
    client.session.forget_publish(publish.id);
    EndCause::new(refusal.reason_code(), refusal.reason())
}

/// A PUBLISH of 3.1.1, which has no properties, in buffers of its own.
fn detached(publish: &Publish) -> Publish {
    Publish {
        topic: (&*publish.topic).into(),
        payload: Bytes::copy_from_slice(&publish.payload),
        ..publish.clone()
    }
}

/// The Control Packet type of PUBLISH.
const PUBLISH: u8 = 3;
/// Publishes held for one connection.
const HELD_MAX: usize = 128;
/// Payload bytes of those, but for the packet that reaches them.
const HELD_BYTES_MAX: usize = 256 * 1_024;
/// How long a publish waits for its next try, if nothing wakes its connection before.
const RETRY_MILLIS: u64 = 100;
