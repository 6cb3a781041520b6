//! A replay to a Session that is stored: its messages of QoS 1 and 2 take places in the queue, as all
//! others do, and are sent when the store has them. Packet Identifiers follow from places: that of a
//! message without one would be given to another message after a start, and a client that holds it
//! would take the two for the same.
//!
//! Of the replays of a client no more waits in its queue than its window holds: the next ones go there
//! when the last one has been taken. Until the store has them the replays can be as they were before.

use std::sync::Arc;
use std::task::Waker;

use crate::broker::disconnect::{Client, EndCause};
use crate::broker::durable::STORE_TROUBLE;
use crate::broker::durable::messages::Manner;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::replay::Replay;
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, ReasonCode};
use crate::ports::message::{Delivery, Message, Progress, SubscriptionTag};
use crate::ports::store::Operation;
use crate::session::session::Finished;

/// How far the replays of a client have gone into its queue.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The last place that one of their messages has taken.
    last: u64,
    /// What the store has not answered for.
    unsure: Option<Unsure>,
}

#[derive(Debug)]
struct Unsure {
    ticket: Arc<PublishTicket>,
    places: Vec<Finished>,
    /// The replays as they were before, in their order.
    before: Vec<Replay>,
    /// Whether the connection has ended that they were placed for.
    is_abandoned: bool,
}

/// What a turn puts into the queue.
pub(super) struct Placing {
    /// How many more it may be.
    room: usize,
    places: Vec<Finished>,
    before: Vec<Replay>,
}

impl Placing {
    fn new(room: usize) -> Self {
        Self { room, places: Vec::new(), before: Vec::new() }
    }

    /// How many more may be taken of this replay, which is then not as it was before.
    pub(super) fn room_for(&mut self, replay: &Replay) -> usize {
        if self.room > 0 && self.before.last().is_none_or(|last| last.serial != replay.serial) {
            self.before.push(replay.clone());
        }
        self.room
    }
}

impl Turn<'_> {
    /// What of its replays may go into the queue of `client` now, if it has one that is stored.
    ///
    /// # Errors
    ///
    /// The store could not take what was placed last: the connection is to be closed, and the next one
    /// goes on where this one was.
    pub(super) fn begin_placing(
        &mut self,
        client: &mut Client,
        waker: &Waker,
    ) -> Result<Option<Placing>, EndCause> {
        let Some(stored) = &mut client.stored else { return Ok(None) };
        if let Some(placed) = &mut stored.placed
            && let Some(unsure) = &placed.unsure
        {
            match unsure.ticket.poll(waker) {
                None => return Ok(Some(Placing::new(0))),
                Some(RemoteOutcome::Enqueued | RemoteOutcome::NoMatch) => placed.unsure = None,
                Some(RemoteOutcome::Refused(_) | RemoteOutcome::Full | RemoteOutcome::Unknown) => {
                    let unsure = stored.placed.take().and_then(|placed| placed.unsure);
                    if unsure.is_some_and(|unsure| !self.unplace(client, unsure)) {
                        return Err(EndCause::new(ReasonCode::ServerBusy, STORE_TROUBLE));
                    }
                }
            }
        }
        let room = if client.look_at_placed() { 0 } else { client.session.agreement().window_max };
        Ok(Some(Placing::new(room)))
    }

    /// The store gave up what was placed: it may have it all the same, and is to forget it, and the
    /// replays are as they were before. Whether nobody is to be told.
    fn unplace(&mut self, client: &mut Client, unsure: Unsure) -> bool {
        let Some(session) = client.stored.as_ref().map(|stored| stored.session) else {
            return true;
        };
        for Finished { sequence, message } in unsure.places {
            self.keep(Operation::Acknowledge { session, sequence, message });
        }
        client.replays.put_back(unsure.before);
        unsure.is_abandoned
    }

    /// Gives a message a place in the queue of its client.
    pub(super) fn place_one(
        &mut self,
        client: &mut Client,
        placing: &mut Placing,
        message: &Message,
        (qos, tag): (QoS, Option<Arc<SubscriptionTag>>),
    ) {
        placing.room = placing.room.saturating_sub(1);
        // Under a name of its own: what replaces the message that was published leaves it alone.
        let message = Arc::new(self.named(Message::clone(message)));
        let manner = Manner { qos, retain: true, tag: tag.clone(), handed_on: None };
        let mailbox = client.session.mailbox();
        let (sequence, progress) = (0, Progress::New);
        let delivery =
            Delivery { message: Arc::clone(&message), tag, qos, retain: true, sequence, progress };
        if let Some(place) = mailbox.place(delivery, self.now) {
            placing.places.push(Finished { sequence: place.sequence, message: message.id });
            self.keep_at(place, &Arc::clone(mailbox), &message, manner);
        }
    }

    /// Waits for what was placed, if anything was.
    pub(super) fn end_placing(&mut self, client: &mut Client, placing: Placing, waker: &Waker) {
        let Placing { places, before, .. } = placing;
        let (Some(last), Some(stored)) = (places.last(), &mut client.stored) else { return };
        let last = last.sequence;
        let unsure = self.tell_when_kept().map(|ticket| {
            let _not_yet = ticket.poll(waker);
            Unsure { ticket, places, before, is_abandoned: false }
        });
        stored.placed = Some(Box::new(Placed { last, unsure }));
    }
}

impl Client {
    /// Whether some of what its replays have placed waits in the queue. Forgets them when it does not.
    fn look_at_placed(&mut self) -> bool {
        let Some(stored) = &mut self.stored else { return false };
        let Some(placed) = &stored.placed else { return false };
        let sent_below = self.session.mailbox().sent_below();
        let waits = placed.unsure.is_some() || sent_below.is_some_and(|below| below <= placed.last);
        if !waits {
            stored.placed = None;
        }
        waits
    }

    /// Whether there is a replay that is not over.
    #[inline]
    pub(crate) fn has_replays(&self) -> bool {
        let is_placed = || self.stored.as_ref().is_some_and(|stored| stored.placed.is_some());
        !self.replays.is_empty() || is_placed()
    }

    /// Whether its next replay could go on now.
    pub(crate) fn can_replay(&mut self) -> bool {
        let is_waiting = self.look_at_placed();
        let Some(replay) = self.replays.front() else { return false };
        match &self.stored {
            _ if replay.qos == QoS::AtMostOnce => true,
            Some(_) => !is_waiting,
            None => self.session.window() > 0,
        }
    }

    /// The connection has ended: the next one is not told of what the store makes of this.
    pub(crate) fn abandon_placed(&mut self) {
        let placed = self.stored.as_mut().and_then(|stored| stored.placed.as_mut());
        if let Some(unsure) = placed.and_then(|placed| placed.unsure.as_mut()) {
            unsure.is_abandoned = true;
        }
    }
}
