//! The queue of a Session that is stored: what the store has answered for, what is in it alone, and how
//! that comes back.

use std::task::Waker;

use crate::mqtt::QoS;
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Progress};
use crate::session::mailbox::content::Content;
use crate::session::mailbox::places::Missing;
use crate::session::mailbox::{
    Mailbox, Offer, Overflow, Owner, PageWanted, Place, Pushed, Queued, State,
};

/// What came of a page that was read.
#[must_use]
#[derive(Debug, Default)]
pub struct Refilled {
    /// Messages that gave way to others that had been taken meanwhile.
    pub given_way: Vec<Delivery>,
    /// Whether they go to the dead letter topic.
    pub is_dead_letter: bool,
    /// The owner, when it can take something now.
    pub wake: Option<Waker>,
    /// More is to give way: this is to be read as well.
    pub page: Option<PageWanted>,
}

impl Mailbox {
    /// Gives a message that its client is owed, and that is not refused for want of room, a place behind
    /// all others. `None` when the queue is not stored, or its Session has ended.
    pub fn place(&self, delivery: Delivery, now: Tick) -> Option<Place> {
        let mut content = self.content.lock();
        let state = content.open();
        if state.places.is_none() || matches!(state.owner, Owner::Gone) {
            return None;
        }
        state.charge(delivery.message.charged_bytes());
        match self.push(state, delivery, now) {
            Pushed::Stored(place) => Some(place),
            Pushed::Queued(_) => None,
        }
    }

    /// Whether the Session, which is stored, is over: nobody will miss what does not come to it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let content = self.content.lock();
        let Content::Open(state) = &*content else { return false };
        state.places.as_ref().is_some_and(|places| places.has_ended)
    }

    /// Whether the store has answered for all that was told to it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let mut content = self.content.lock();
        content.open().places.as_ref().is_none_or(|places| places.are_settled())
    }

    /// Offers a message that the store may know already: it is left to the store, and comes back from
    /// there if it is new. Nothing gives way for it. What is collected for the store is told from what
    /// that knows when it gets there.
    pub fn offer_again(&self, delivery: &Delivery, now: Tick) -> Offer {
        let bytes = delivery.message.charged_bytes();
        let mut content = self.content.lock();
        let state = content.open();
        if matches!(state.owner, Owner::Gone) {
            return Offer::NotKept;
        }
        if self.is_collected(state, delivery) {
            return Offer::Queued(None);
        }
        if !self.has_room(state, bytes) {
            state.full_since.get_or_insert(now);
            return Offer::Full;
        }
        if state.places.is_none() && self.gathering().is_some() {
            if self.is_known(state, delivery) {
                return Offer::Queued(None);
            }
            state.charge(bytes);
            return match self.push(state, delivery.clone(), now) {
                Pushed::Queued(wake) => Offer::Queued(wake),
                Pushed::Stored(place) => Offer::Stored(place),
            };
        }
        let (Some(session), Some(places)) = (self.stored_as(), &mut state.places) else {
            return Offer::NotKept;
        };
        let sequence = places.give();
        if self.is_recalling && delivery.qos == QoS::ExactlyOnce {
            self.note_recent(state, delivery, now);
        }
        state.charge(bytes);
        state.leave_out(sequence, bytes);
        Offer::Stored(Place { session, sequence })
    }

    /// The store has the message at `sequence`: it may be sent. The owner, to be woken when it can
    /// take something now.
    pub fn confirm(&self, sequence: u64) -> Option<Waker> {
        let mut content = self.content.lock();
        let state = content.open();
        state.places.as_mut()?.settle(sequence);
        state.wake_for_certain()
    }

    /// The store did not take the message of `bytes` bytes at `sequence`: nobody was told that it
    /// was accepted, and it is not sent.
    pub fn withdraw(&self, sequence: u64, bytes: usize) -> Option<Waker> {
        let mut content = self.content.lock();
        let state = content.open();
        state.places.as_mut()?.settle(sequence);
        if state.remove_at(sequence, bytes) {
            state.discharge(1, bytes);
        }
        self.note_behind(state);
        state.wake_for_certain()
    }

    /// The store may have the message at `sequence` although it is to be withdrawn. Its publisher sends
    /// it again under another place, so that this one is not read. `false` when there is no room to
    /// bear that in mind.
    pub fn doubt(&self, sequence: u64) -> bool {
        let mut content = self.content.lock();
        content.open().places.as_mut().is_none_or(|places| places.doubt(sequence))
    }

    /// The store has answered `page` with `deliveries`, in their order; none is the end of what was
    /// asked for.
    pub fn refill(&self, page: PageWanted, deliveries: Vec<Delivery>) -> Refilled {
        let mut content = self.content.lock();
        let state = content.open();
        let Some(places) = state.places.as_mut().filter(|places| places.expects(page)) else {
            return Refilled::default();
        };
        let owed = places.take_owed();
        let mut last = None;
        let mut refilled = Vec::with_capacity(deliveries.len());
        for mut delivery in deliveries {
            if delivery.sequence >= page.below {
                break;
            }
            last = Some(delivery.sequence);
            if delivery.progress == Progress::New && places.is_doubtful(delivery.sequence) {
                continue;
            }
            if delivery.progress == Progress::New && places.may_be_repeated(delivery.sequence) {
                delivery.progress = Progress::Repeat;
            }
            let bytes = delivery.message.charged_bytes();
            // What another process left was counted, but nobody knew its bytes.
            state.bytes += bytes - places.take_left_out(bytes);
            refilled.push(delivery);
        }
        let last = last.unwrap_or(page.below - 1);
        let Missing { messages, bytes } = places.note_read(last, refilled.len() as u64);
        for delivery in refilled {
            let order = state.take_order();
            state.at_least_once.push_back(Queued { order, delivery });
        }
        state.discharge(usize::try_from(messages).unwrap_or(usize::MAX), bytes);
        let (given_way, page) = if owed > 0 { self.pay(state, owed) } else { (Vec::new(), None) };
        self.note_behind(state);
        self.give_leases_back(state);
        let is_dead_letter = self.options.overflow == Overflow::DeadLetter;
        Refilled { given_way, is_dead_letter, wake: state.wake_for_certain(), page }
    }

    /// Of a queue that is stored: the place below which its client may have been sent what was there,
    /// by this process or an earlier one. Its owner asks when it leaves.
    #[must_use]
    pub fn sent_below(&self) -> Option<u64> {
        let content = self.content.lock();
        let Content::Open(state) = &*content else { return None };
        let first = state.at_least_once.front().map(|queued| queued.delivery.sequence);
        state.places.as_ref().map(|places| places.sent_below(first))
    }

    /// The store could not answer: it is asked again, by the owner if that is to be woken.
    pub fn note_unread(&self) -> Option<Waker> {
        let mut content = self.content.lock();
        let state = content.open();
        state.places.as_mut()?.note_unread();
        state.wake_for_certain()
    }
}

impl State {
    /// Forgets the message of `bytes` bytes at `place`. Whether it was counted: it may have gone with
    /// its Session.
    fn remove_at(&mut self, place: u64, bytes: usize) -> bool {
        let queue = &mut self.at_least_once;
        if let Ok(at) = queue.binary_search_by_key(&place, |queued| queued.delivery.sequence) {
            return queue.remove(at).is_some();
        }
        self.places.as_mut().is_some_and(|places| places.withdraw(place, bytes))
    }

    /// The first message of QoS 1 or 2, unless the store has not answered for it.
    #[inline]
    pub(super) fn first_certain(&self) -> Option<&Queued> {
        self.at_least_once.front().filter(|first| self.is_certain(&first.delivery))
    }

    fn wake_for_certain(&mut self) -> Option<Waker> {
        let can_ask = self.places.as_ref().is_some_and(|places| places.can_ask());
        if self.first_certain().is_none() && !(self.at_least_once.is_empty() && can_ask) {
            return None;
        }
        // If it cannot be sent from here, another member may have it now.
        if self.is_behind { self.wake() } else { self.wake_for(QoS::AtLeastOnce) }
    }

    /// Whether more has to be left to the store.
    pub(super) fn has_all_it_may_keep(&self) -> bool {
        let max = if matches!(self.owner, Owner::Absent) { KEPT_AWAY_MAX } else { KEPT_MAX };
        self.at_least_once.len() >= max
    }

    pub(super) fn leave_out(&mut self, place: u64, bytes: usize) {
        if let Some(places) = &mut self.places {
            places.leave_out(place, bytes);
        }
    }
}

/// Messages of a queue that is stored that wait in memory as well, while its client is there,
const KEPT_MAX: usize = 1_024;
/// and while it is away.
pub(super) const KEPT_AWAY_MAX: usize = 64;
