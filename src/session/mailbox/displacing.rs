//! What becomes of a message of QoS 1 or 2 for which there is no room, and which of those that wait give
//! way to it.

use smallvec::SmallVec;

use crate::mqtt::{QoS, ReasonCode};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Progress};
use crate::session::mailbox::{Mailbox, Notice, Offer, Overflow, PageWanted, Pushed, State};

impl Mailbox {
    /// There is no room for a message: what the policy says becomes of it.
    pub(super) fn overflow(&self, state: &mut State, delivery: Delivery, now: Tick) -> Offer {
        let full_since = *state.full_since.get_or_insert(now);
        let has_refused_too_long = now.saturating_since(full_since) >= self.options.full_max_millis;
        match self.options.overflow {
            Overflow::Reject if has_refused_too_long => self.displace(state, delivery, now, false),
            Overflow::Reject => Offer::Full,
            Overflow::DropNewest => {
                state.dropped += 1;
                Offer::Dropped(None)
            }
            Overflow::Disconnect => {
                state.dropped += 1;
                let notice = Notice::Disconnect(ReasonCode::QuotaExceeded);
                Offer::Dropped(state.notify(notice))
            }
            Overflow::DropOldest => self.displace(state, delivery, now, false),
            Overflow::DeadLetter => self.displace(state, delivery, now, true),
        }
    }

    /// Makes room by dropping from the front, no more than the new message needs. What is in flight, or
    /// was before the broker was started anew, cannot give way, nor what the store has not answered for:
    /// where that fills the mailbox, or too many would have to go for one, the new message is dropped
    /// instead. What is in the store alone has to be read first.
    fn displace(
        &self,
        state: &mut State,
        delivery: Delivery,
        now: Tick,
        is_dead_letter: bool,
    ) -> Offer {
        let bytes = delivery.message.charged_bytes();
        let Some((at, count)) = self.giving_way(state, bytes) else {
            return self.displace_later(state, delivery, now);
        };
        let oldest = state.remove_oldest(at, count);
        state.dropped += count as u64;
        state.charge(bytes);
        let (wake, place) = match self.push(state, delivery, now) {
            Pushed::Queued(wake) => (wake, None),
            Pushed::Stored(place) => (None, Some(place)),
        };
        Offer::Displaced { wake, place, oldest, is_dead_letter }
    }

    /// Where the oldest are that are to give way to a message of `bytes` bytes, and how many, if it has
    /// room then.
    fn giving_way(&self, state: &mut State, bytes: usize) -> Option<(usize, usize)> {
        let at = state.first_to_give_way()?;
        let mut freed = 0;
        for count in 1..=GIVING_WAY_MAX {
            let oldest = &state.at_least_once.get(at + count - 1)?.delivery;
            if !state.may_give_way(oldest) {
                return None;
            }
            freed += oldest.message.charged_bytes();
            if self.has_room_without(state, (count, freed), bytes) {
                return Some((at, count));
            }
        }
        None
    }

    fn displace_later(&self, state: &mut State, delivery: Delivery, now: Tick) -> Offer {
        let bytes = delivery.message.charged_bytes();
        // Where what is in memory cannot give way, to read more would only fill it.
        let is_read = state.at_least_once.len() >= GIVING_WAY_MAX;
        let is_fit = bytes <= self.options.bytes_max && !is_read;
        if !is_fit || !state.places.as_mut().is_some_and(|places| places.owe()) {
            state.dropped += 1;
            return Offer::Dropped(None);
        }
        state.charge(bytes);
        match self.push(state, delivery, now) {
            Pushed::Queued(wake) => Offer::Queued(wake),
            Pushed::Stored(place) => {
                Offer::Exceeding { place, page: state.places.as_mut().and_then(|it| it.ask()) }
            }
        }
    }

    /// Lets the oldest give way to what was taken beyond the bounds, as far as they are in memory. What
    /// is to be read for the rest.
    pub(super) fn pay(&self, state: &mut State, owed: u32) -> (Vec<Delivery>, Option<PageWanted>) {
        let mut given_way = Vec::new();
        while self.is_over(state)
            && let Some(at) = state.first_to_give_way()
        {
            given_way.extend(state.remove_oldest(at, 1));
        }
        state.dropped += given_way.len() as u64;
        let is_over = self.is_over(state);
        let Some(places) = state.places.as_mut().filter(|_| is_over) else {
            return (given_way, None);
        };
        let paid = u32::try_from(given_way.len()).unwrap_or(u32::MAX);
        places.owe_again(owed.saturating_sub(paid).max(1));
        // Where nothing could give way, reading on would fill memory instead.
        let page = if given_way.is_empty() { None } else { places.ask() };
        (given_way, page)
    }

    fn is_over(&self, state: &State) -> bool {
        state.messages > self.options.messages_max || state.bytes > self.options.bytes_max
    }
}

impl State {
    /// Whether a message may be dropped for another one: not when its client may hold its Packet
    /// Identifier, which would then not be released.
    fn may_give_way(&self, delivery: &Delivery) -> bool {
        let is_free = match delivery.progress {
            Progress::New => true,
            Progress::Repeat => delivery.qos < QoS::ExactlyOnce,
            Progress::Released => false,
        };
        is_free && self.is_certain(delivery)
    }

    fn first_to_give_way(&self) -> Option<usize> {
        let mut oldest = self.at_least_once.iter().take(GIVING_WAY_MAX);
        oldest.position(|queued| self.may_give_way(&queued.delivery))
    }

    /// Takes so many out that stand there, and discharges them.
    fn remove_oldest(&mut self, at: usize, count: usize) -> SmallVec<[Delivery; 1]> {
        let next = std::iter::from_fn(|| self.at_least_once.remove(at));
        let oldest: SmallVec<[Delivery; 1]> =
            next.take(count).map(|queued| queued.delivery).collect();
        for delivery in &oldest {
            self.discharge(1, delivery.message.charged_bytes());
        }
        oldest
    }
}

/// Messages that give way to one, at most: this many are looked at under the lock.
const GIVING_WAY_MAX: usize = 64;
