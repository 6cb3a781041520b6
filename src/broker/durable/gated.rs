//! Answers that wait for more than the store: for a Session that is on its way into it.
//!
//! What is published for a Session while it moves here is collected in memory. Nobody is told that it
//! is there before it is stored; if the Session does not arrive, whoever published it offers it again,
//! in its order, to whoever has the Session then.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::broker::durable::keeper::Awaiting;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::turn::Turn;
use crate::cluster::frame::{Fate, Outcome, STORED_WIRE_MIN};
use crate::cluster::wire::ENTRIES_MAX;
use crate::mqtt::ReasonCode;
use crate::ports::message::{Delivery, Message, SessionKey};
use crate::session::handover::Contents;
use crate::session::mailbox::{Gathering, GatheringEnd, Mailbox};
use crate::session::session::Session;

/// Where messages wait in memory.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    queues: SmallVec<[Arc<Gathering>; 1]>,
    /// The last one of them.
    message: Option<Arc<Message>>,
}

impl Gathered {
    pub(super) fn add(&mut self, gathering: &Arc<Gathering>, message: &Arc<Message>) {
        if !self.queues.iter().any(|known| Arc::ptr_eq(known, gathering)) {
            self.queues.push(Arc::clone(gathering));
        }
        if self.message.as_ref().is_none_or(|known| known.id != message.id) {
            self.message = Some(Arc::new(message.detached()));
        }
    }
}

/// What came of messages of a peer, which is not told before they are stored.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) peer: Arc<Peer>,
    pub(crate) outcomes: Vec<Outcome>,
    /// Where some of them wait in memory.
    pub(crate) gathered: Gathered,
    /// Whether some are not where they were collected: all are to be offered again.
    pub(crate) is_lost: bool,
}

/// Who waits for a queue.
#[derive(Debug)]
pub(super) enum Gated {
    /// The publisher of this message.
    Answer(Arc<PublishTicket>, Arc<Message>),
    /// Another broker.
    Frames(Frames),
}

impl Turn<'_> {
    /// A message of QoS 1 or 2 waits in this mailbox, and is not to be stored at a place of its own: if
    /// the Session is on its way here, it will be.
    pub(crate) fn note_gathered(&mut self, mailbox: &Mailbox, message: &Arc<Message>) {
        if let (Some(gathering), Some(keeper)) = (mailbox.gathering(), &mut self.shard.keeper) {
            keeper.gather(gathering, message);
        }
    }

    /// Lets a publisher wait for the queues that its message waits in.
    pub(super) fn await_gathered(&mut self, gathered: Gathered, ticket: &Arc<PublishTicket>) {
        let (Some(keeper), Some(message)) = (&mut self.shard.keeper, gathered.message) else {
            return;
        };
        for gathering in gathered.queues {
            ticket.expect_another();
            let gated = Gated::Answer(Arc::clone(ticket), Arc::clone(&message));
            keeper.wait_behind(gathering, gated);
        }
    }

    /// Tells a peer what came of its messages, now that the store has answered; later, if some of them
    /// wait in memory.
    pub(super) fn answer_frames(&mut self, mut frames: Frames, is_stored: bool) -> Option<Waker> {
        let Some(gathering) = frames.gathered.queues.pop().filter(|_| is_stored) else {
            let fate = match (is_stored, frames.is_lost) {
                (false, _) => Some(Fate::Refused(ReasonCode::ServerBusy)),
                (true, true) => Some(Fate::Again),
                (true, false) => None,
            };
            return self.tell_outcomes(frames, fate.as_ref());
        };
        if let Some(keeper) = &mut self.shard.keeper {
            keeper.wait_behind(gathering, Gated::Frames(frames));
        }
        None
    }

    fn tell_outcomes(&mut self, frames: Frames, fate: Option<&Fate>) -> Option<Waker> {
        let Frames { peer, mut outcomes, .. } = frames;
        if let Some(fate) = fate {
            for outcome in &mut outcomes {
                outcome.fate = fate.clone();
            }
        }
        for part in outcomes.chunks(ENTRIES_MAX) {
            let wake = peer.tell_done(part);
            self.shard.wake_later(wake);
        }
        None
    }

    /// Goes on with those whose queues have come to an end.
    pub(super) fn poll_gated(&mut self, waker: &Waker) {
        loop {
            let Some(keeper) = &mut self.shard.keeper else { return };
            keeper.poll_heirs(waker);
            let ended = keeper.poll_gated(waker);
            if ended.is_empty() {
                return;
            }
            for (end, gated) in ended {
                for one in gated {
                    self.settle_gated(one, end);
                }
            }
        }
    }

    fn settle_gated(&mut self, gated: Gated, end: GatheringEnd) {
        match gated {
            Gated::Frames(mut frames) => {
                let is_told_again = frames.peer.wire() >= STORED_WIRE_MIN;
                let _nobody = match end {
                    GatheringEnd::Kept => self.answer_frames(frames, true),
                    GatheringEnd::Lost if is_told_again => {
                        // What is for Shared Subscriptions is not offered again: the other queues may
                        // have it, or fail.
                        frames.is_lost = true;
                        self.answer_frames(frames, true)
                    }
                    GatheringEnd::Lost | GatheringEnd::Failed => self.answer_frames(frames, false),
                };
            }
            Gated::Answer(ticket, message) => {
                let outcome = match end {
                    GatheringEnd::Kept => RemoteOutcome::NoMatch,
                    GatheringEnd::Lost => {
                        self.offer_behind_held(&message, &ticket);
                        RemoteOutcome::NoMatch
                    }
                    GatheringEnd::Failed => RemoteOutcome::Refused(ReasonCode::ServerBusy),
                };
                let waker = ticket.answer(outcome);
                self.shard.wake_later(waker);
            }
        }
    }

    /// The Session for which this was collected is not to be here. What it was to get as a member of Shared
    /// Subscriptions goes to others, and whoever published that hears when these have it.
    pub(crate) fn pass_on_gathered(
        &mut self,
        gathering: &Arc<Gathering>,
        left: impl Iterator<Item = Delivery>,
        from: SessionKey,
    ) {
        let mut tickets = Vec::new();
        for delivery in left {
            let ticket = Arc::new(PublishTicket::of(delivery.message.id, false));
            self.pass_on_for(&delivery, from, Some(&ticket));
            if ticket.seal().is_none_or(|outcome| !outcome.is_success()) {
                tickets.push(ticket);
            }
        }
        match &mut self.shard.keeper {
            Some(keeper) if !tickets.is_empty() => {
                keeper.wait_for_heirs(gathering, tickets);
                // So that somebody looks.
                let _asked = self.tell_when_kept();
            }
            Some(_) | None => gathering.end(GatheringEnd::Lost),
        }
    }

    /// Takes a stored Session apart that is not to be here any longer: all else of it is in the store.
    pub(crate) fn hand_over_stored(&mut self, session: &mut Session) -> Contents {
        let gathering = session.mailbox().open_gathering();
        let mut contents = session.hand_over(self.now);
        if let Some(gathering) = gathering {
            self.pass_on_gathered(&gathering, contents.queue.drain(..), session.key());
        }
        contents
    }

    /// What was collected for a Session is where it is: in memory.
    pub(crate) fn keep_gathered(mailbox: &Mailbox) {
        if let Some(gathering) = mailbox.gathering() {
            gathering.end(GatheringEnd::Kept);
        }
    }

    /// The same for one whose queue is stored: by this batch.
    pub(super) fn tell_gathering(&mut self, mailbox: &Mailbox) {
        if let (Some(gathering), Some(keeper)) = (mailbox.gathering(), &mut self.shard.keeper) {
            keeper.await_batch(Awaiting::Gathering(Arc::clone(gathering)));
        }
    }
}
