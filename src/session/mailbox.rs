//! The mailbox: the queue of one Session and the only part of it that others touch.
//!
//! Publishers offer, the one owner takes. It outlives connections: while the client is away, and its
//! Session lasts, the mailbox goes on accepting. One short lock guards it; no lock is taken inside.
//!
//! Invariants: what is counted is what was accepted and not yet acknowledged, so a publisher learns
//! *full* at once; an owner that found nothing to take and went idle is woken by the next offer it
//! could take, exactly once.
//!
//! The mailbox of a Session that is stored gives each message of QoS 1 and 2 a place, under the same
//! lock. What the store has not answered for is not taken, and nothing behind it; what does not fit
//! into memory is in the store alone, and comes back a page at a time: see [`Mailbox::refill`].

mod budget;
#[cfg(test)]
mod collected;
mod content;
mod displacing;
mod gathering;
mod places;
mod recent;
mod sharing;
mod storing;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use smallvec::SmallVec;

use crate::cluster::hash::wire_hash;
use crate::mqtt::{QoS, ReasonCode};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId, Publisher, SessionKey};
use crate::ports::store::{QueueEnds, SessionRef};
pub use crate::session::mailbox::budget::QueueBudget;
use crate::session::mailbox::budget::{Leases, Use};
use crate::session::mailbox::content::Content;
pub use crate::session::mailbox::gathering::{Gathering, GatheringEnd};
pub use crate::session::mailbox::places::PageWanted;
use crate::session::mailbox::places::Places;
pub use crate::session::mailbox::recent::Recalled;
use crate::session::mailbox::recent::Recent;
pub use crate::session::mailbox::sharing::{Relief, Standing, WaitingGroups};
pub use crate::session::mailbox::storing::Refilled;
use crate::session::mailbox::waiting::Waiting;
use crate::session::sync::Mutex;

/// What happens to a QoS 1 or 2 message that finds the mailbox full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// The publish is refused with 0x97; nobody gets it.
    Reject,
    /// The oldest message that waits gives way.
    DropOldest,
    /// The new message is dropped for this Session.
    DropNewest,
    /// The oldest message that waits is published to the dead letter topic instead.
    DeadLetter,
    /// The new message is dropped and the client is disconnected with 0x97.
    Disconnect,
}

/// The bounds of a mailbox, shared by all mailboxes of one kind.
#[derive(Clone, Debug)]
pub struct MailboxOptions {
    /// QoS 1 and 2 messages from offer to acknowledgement.
    pub messages_max: usize,
    /// Bytes of those.
    pub bytes_max: usize,
    /// QoS 0 messages that wait.
    pub qos0_messages_max: usize,
    /// Bytes of those.
    pub qos0_bytes_max: usize,
    /// What gives way when QoS 1 and 2 reach their bounds.
    pub overflow: Overflow,
    /// How long a mailbox may refuse before it drops the oldest instead, so that one absent client
    /// cannot stop a topic for ever.
    pub full_max_millis: u64,
}

/// What came of an offer.
#[must_use]
#[derive(Debug)]
pub enum Offer {
    /// It waits in the mailbox; the waker, if there is one, is to be woken at the end of the turn.
    Queued(Option<Waker>),
    /// It is to be stored at this place, and waits in the mailbox until it is.
    Stored(Place),
    /// It waits in the mailbox, and these older ones no longer do.
    Displaced {
        /// The owner to wake.
        wake: Option<Waker>,
        /// Where the new one is to be stored, if it is.
        place: Option<Place>,
        /// The messages that gave way.
        oldest: SmallVec<[Delivery; 1]>,
        /// Whether they go to the dead letter topic.
        is_dead_letter: bool,
    },
    /// It is to be stored at this place, and the oldest of the queue gives way when it has been read.
    Exceeding {
        /// The place.
        place: Place,
        /// What is to be read, unless somebody does that already: [`Mailbox::refill`] is to be called
        /// with it.
        page: Option<PageWanted>,
    },
    /// It was dropped for this Session: a bound was reached and the policy allows it.
    Dropped(Option<Waker>),
    /// It was not kept: QoS 0 for a client that is away, or the Session has ended.
    NotKept,
    /// The bound was reached and the policy is to refuse the publish.
    Full,
}

/// What came of asking for room.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// It is set aside.
    Reserved,
    /// There is none.
    Full,
    /// The mailbox never refuses, or its Session has ended and it takes nothing.
    NotNeeded,
}

/// What came of a commit.
#[must_use]
#[derive(Debug)]
pub enum Commit {
    /// It waits in the mailbox; the waker, if there is one, is to be woken at the end of the turn.
    Queued(Option<Waker>),
    /// It is to be stored at this place, and waits in the mailbox until it is.
    Stored(Place),
    /// The Session has ended since the room was set aside: the delivery comes back.
    Closed(Delivery),
}

/// A place in the queue of a Session that is stored.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The Session.
    pub session: SessionRef,
    /// The place.
    pub sequence: u64,
}

/// How much more a Session takes, in coarse words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credit {
    /// A connection has it, and no more than a quarter of a bound is taken up.
    Free,
    /// A connection has it, and no more than half.
    Low,
    /// More than half of a bound is taken up, or nobody is there.
    Short,
}

/// Why the owner is asked to give its Session up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Another connection claims the Session [MQTT-3.1.4-3].
    TakenOver,
    /// The connection is to end with this Reason Code; the Session goes on.
    Disconnect(ReasonCode),
    /// The connection and the Session are to end with this Reason Code.
    EndSession(ReasonCode),
    /// The same here; what is stored of the Session stays for whoever takes it.
    LetGo(ReasonCode),
}

/// What [`Mailbox::take`] found beside deliveries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// Something takeable is left: come again.
    pub has_more: bool,
    /// Somebody wants the Session.
    pub notice: Option<Notice>,
    /// What follows is in the store alone: [`Mailbox::refill`] is to be called with it.
    pub page: Option<PageWanted>,
    /// Something is left that another member of a Shared Subscription could be sent:
    /// [`Mailbox::groups_behind`].
    pub is_behind: bool,
}

/// The queue of one Session.
#[derive(Debug)]
pub struct Mailbox {
    key: SessionKey,
    client_id: Arc<str>,
    publisher: Publisher,
    options: Arc<MailboxOptions>,
    budget: Arc<QueueBudget>,
    /// Of a queue that is stored, or will be once its Session is here.
    in_store: Option<Box<InStore>>,
    /// Whether a message may come twice, by different ways: its Session knows what it has taken.
    is_recalling: bool,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct InStore {
    /// The Session it is the queue of: from when it is to have places on.
    session: OnceLock<SessionRef>,
    /// What becomes of what it collects for a Session that is on its way here.
    gathering: Option<Arc<Gathering>>,
}

#[derive(Debug)]
struct State {
    at_least_once: Waiting,
    at_most_once: VecDeque<Queued>,
    /// How many of QoS 1 and 2 the owner could still send when it last looked; there are as many Packet
    /// Identifiers as fit here.
    window: u16,
    /// Whether the owner could send nothing when somebody last looked.
    was_held_up: bool,
    /// Whether it is counted as behind: see [`sharing`].
    is_behind: bool,
    next_order: u64,
    /// QoS 1 and 2, from offer to acknowledgement.
    messages: usize,
    bytes: usize,
    qos0_bytes: usize,
    /// Bytes of the budget that this mailbox may use up.
    leases: Leases,
    owner: Owner,
    notice: Option<Notice>,
    full_since: Option<Tick>,
    dropped: u64,
    /// What came with a Session that moved here and may come again by the ways of the others.
    #[expect(clippy::box_collection, reason = "eight bytes for a mailbox that has none, not 24")]
    moved: Option<Box<BTreeSet<MessageId>>>,
    /// What was taken lately, if anything was.
    recent: Option<Box<Recent>>,
    /// Of a queue that is stored.
    places: Option<Box<Places>>,
}

#[derive(Debug)]
struct Queued {
    /// Tells which of two queues' heads was offered first.
    order: u64,
    delivery: Delivery,
}

#[derive(Debug)]
enum Owner {
    /// No connection: QoS 1 and 2 wait.
    Absent,
    /// The owner has its turn, or has been woken for one.
    Working,
    /// The owner waits, for what is worth waking it.
    Idle { waker: Waker, appetite: Appetite },
    /// The Session has ended.
    Gone,
}

/// What an idle owner is woken for. Notices always wake it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Appetite {
    /// Any message.
    Everything,
    /// QoS 0: as much is in flight as may be.
    AtMostOnce,
    /// No message: the socket takes no more.
    Nothing,
    /// No message: its turn is used up, and it has another one.
    Later,
}

/// Counts of one mailbox.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MailboxCounts {
    /// QoS 1 and 2, from offer to acknowledgement.
    pub messages: usize,
    /// Bytes of those.
    pub bytes: usize,
    /// QoS 0 messages that wait.
    pub qos0_messages: usize,
    /// Messages dropped because a bound was reached, ever.
    pub dropped: u64,
}

impl Mailbox {
    /// An empty mailbox whose owner is away.
    #[must_use]
    pub fn new(
        key: SessionKey,
        client_id: Arc<str>,
        options: Arc<MailboxOptions>,
        budget: Arc<QueueBudget>,
    ) -> Self {
        // Nobody is the broker.
        let publisher = Publisher(wire_hash(client_id.as_bytes()).max(1));
        Self {
            key,
            client_id,
            publisher,
            options,
            budget,
            in_store: None,
            is_recalling: false,
            content: Mutex::new(Content::new()),
        }
    }

    /// The same for a Session that is on its way here by the store: until [`Self::become_stored`] it
    /// collects in memory.
    #[must_use]
    pub fn to_be_stored(mut self) -> Self {
        let gathering = Some(Arc::default());
        self.in_store = Some(Box::new(InStore { gathering, ..InStore::default() }));
        self
    }

    /// The same for a Session of a broker that is one of several: a message may come to it twice.
    #[must_use]
    pub fn recalling(mut self) -> Self {
        self.is_recalling = true;
        self
    }

    /// The same for a Session that is stored as `session`, in which `next` is the place of the next
    /// message; `left` is what another process left in it, of which the client may have been sent
    /// what is below the place `sent_below`.
    #[must_use]
    pub fn stored(
        mut self,
        session: SessionRef,
        next: u64,
        left: Option<QueueEnds>,
        sent_below: u64,
    ) -> Self {
        self.in_store.get_or_insert_default();
        let ends = (next, left, sent_below);
        let _nothing_was_collected = self.become_stored(session, ends, &BTreeSet::new());
        self
    }

    /// The Session is stored from now on, as [`Self::stored`] has it: with its next place, what was left
    /// in it, and below which place that may have been sent. What has been collected is given the places behind,
    /// and is to be stored there, but for what is `given_up`: what is offered from now on comes behind that.
    #[must_use]
    pub fn become_stored(
        &self,
        session: SessionRef,
        (next, left, sent_below): (u64, Option<QueueEnds>, u64),
        given_up: &BTreeSet<MessageId>,
    ) -> Vec<(Place, Delivery)> {
        let mut content = self.content.lock();
        let state = content.open();
        debug_assert!(state.places.is_none(), "it is stored already");
        let mut places = match left {
            None => Places::new(next),
            Some(ends) => Places::left(ends.first, next, ends.count, sent_below),
        };
        if let Some(ends) = left {
            state.messages += usize::try_from(ends.count).unwrap_or(usize::MAX);
        }
        let mut collected = Vec::with_capacity(state.at_least_once.len());
        for Queued { delivery, .. } in state.at_least_once.take() {
            let bytes = delivery.message.charged_bytes();
            let sequence = places.give();
            places.leave_out(sequence, bytes);
            places.collected.extend(moved_id(&delivery).filter(|id| !given_up.contains(id)));
            collected.push((Place { session, sequence }, delivery));
        }
        self.note_behind(state);
        places.has_moved = self.gathering().is_some();
        state.places = Some(Box::new(places));
        if let Some(in_store) = &self.in_store {
            let _first = in_store.session.set(session);
        }
        collected
    }

    /// Queues `delivery`, or answers why not. What will wait for long is queued as `detached`, made
    /// when it is first needed and shared by all targets of a publish.
    pub fn offer(
        &self,
        mut delivery: Delivery,
        now: Tick,
        detached: &mut Option<Arc<Message>>,
    ) -> Offer {
        let bytes = delivery.message.charged_bytes();
        let mut content = self.content.lock();
        if content.ignores(delivery.qos) {
            return Offer::NotKept;
        }
        let state = content.open();
        if self.is_known(state, &delivery) {
            return Offer::Queued(None);
        }
        if state.is_backed_up() {
            delivery.message = detach(&delivery.message, detached);
        }
        if delivery.qos == QoS::AtMostOnce {
            return self.offer_at_most_once(state, delivery, bytes);
        }
        if self.has_room(state, bytes) {
            state.full_since = None;
            state.charge(bytes);
            return match self.push(state, delivery, now) {
                Pushed::Queued(wake) => Offer::Queued(wake),
                Pushed::Stored(place) => Offer::Stored(place),
            };
        }
        self.overflow(state, delivery, now)
    }

    fn offer_at_most_once(&self, state: &mut State, delivery: Delivery, bytes: usize) -> Offer {
        let is_full = state.at_most_once.len() >= self.options.qos0_messages_max
            || state.qos0_bytes + bytes > self.options.qos0_bytes_max
            || !self.lease_at_most_once(state, bytes);
        if is_full {
            state.dropped += 1;
            return Offer::Dropped(None);
        }
        state.qos0_bytes += bytes;
        let order = state.take_order();
        state.at_most_once.push_back(Queued { order, delivery });
        Offer::Queued(state.wake_for(QoS::AtMostOnce))
    }

    /// Puts a delivery that has been charged behind all others, in memory or only at its place in
    /// the store.
    fn push(&self, state: &mut State, mut delivery: Delivery, now: Tick) -> Pushed {
        if self.is_recalling && delivery.qos == QoS::ExactlyOnce {
            self.note_recent(state, &delivery, now);
        }
        let (Some(session), Some(places)) = (self.stored_as(), &mut state.places) else {
            let wake = state.push_at_least_once(delivery);
            self.note_behind(state);
            return Pushed::Queued(wake);
        };
        let sequence = places.give();
        delivery.sequence = sequence;
        let is_left_out = places.is_behind() || places.has_moved || state.has_all_it_may_keep();
        if is_left_out || !self.lease_for(state, 0, 0) {
            state.leave_out(sequence, delivery.message.charged_bytes());
        } else {
            let order = state.take_order();
            state.at_least_once.push_back(Queued { order, delivery });
            self.note_behind(state);
        }
        Pushed::Stored(Place { session, sequence })
    }

    /// Sets room for one QoS 1 or 2 message aside, whatever the policy.
    pub fn reserve(&self, bytes: usize, now: Tick) -> Room {
        self.reserve_in(self.content.lock().open(), bytes, now)
    }

    /// Sets room aside where a publish may be refused, so that it can be all or nothing.
    pub fn reserve_if_rejecting(&self, bytes: usize, now: Tick) -> Room {
        let mut content = self.content.lock();
        let state = content.open();
        let full_millis = state.full_since.map_or(0, |since| now.saturating_since(since));
        let is_rejecting =
            self.options.overflow == Overflow::Reject && full_millis < self.options.full_max_millis;
        if !is_rejecting {
            return Room::NotNeeded;
        }
        self.reserve_in(state, bytes, now)
    }

    fn reserve_in(&self, state: &mut State, bytes: usize, now: Tick) -> Room {
        if matches!(state.owner, Owner::Gone) {
            return Room::NotNeeded;
        }
        if !self.has_room(state, bytes) {
            state.full_since.get_or_insert(now);
            return Room::Full;
        }
        state.charge(bytes);
        Room::Reserved
    }

    /// Queues a delivery that [`Self::reserve`] set room aside for.
    pub fn commit(
        &self,
        mut delivery: Delivery,
        now: Tick,
        detached: &mut Option<Arc<Message>>,
    ) -> Commit {
        let mut content = self.content.lock();
        let state = content.open();
        if matches!(state.owner, Owner::Gone) {
            // The room that was set aside went with everything else.
            return Commit::Closed(delivery);
        }
        if state.is_backed_up() {
            delivery.message = detach(&delivery.message, detached);
        }
        if self.is_known(state, &delivery) {
            state.discharge(1, delivery.message.charged_bytes());
            return Commit::Queued(None);
        }
        state.full_since = None;
        match self.push(state, delivery, now) {
            Pushed::Queued(wake) => Commit::Queued(wake),
            Pushed::Stored(place) => Commit::Stored(place),
        }
    }

    /// Whether it came with the Session, or was taken lately, here or where the Session was before:
    /// then it is not to come again.
    #[inline]
    fn is_known(&self, state: &mut State, delivery: &Delivery) -> bool {
        if self.is_collected(state, delivery) {
            return true;
        }
        let may_be_recent = delivery.qos == QoS::ExactlyOnce && state.recent.is_some();
        if state.moved.is_none() && !may_be_recent {
            return false;
        }
        let is_known = moved_id(delivery).is_some_and(|id| state.knows(id, may_be_recent));
        if is_known {
            self.budget.known.fetch_add(1, Ordering::Relaxed);
        }
        is_known
    }

    /// Whether it was collected for the Session, and is on its way to the store. A share of a group is not
    /// told from another one of it, and has a place of its own.
    #[inline]
    fn is_collected(&self, state: &mut State, delivery: &Delivery) -> bool {
        let places = state.places.as_mut().filter(|places| !places.collected.is_empty());
        let Some(places) = places else { return false };
        if self.gathering().is_none_or(|gathering| gathering.has_ended()) {
            // The store knows it by now, or has refused it.
            places.collected = BTreeSet::new();
            return false;
        }
        let is_shared = delivery.shared_filter().is_some();
        !is_shared && moved_id(delivery).is_some_and(|id| places.collected.contains(&id))
    }

    fn note_recent(&self, state: &mut State, delivery: &Delivery, now: Tick) {
        let Some(id) = moved_id(delivery) else { return };
        if !state.recent.get_or_insert_default().note(id, now) {
            self.budget.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has_room(&self, state: &mut State, bytes: usize) -> bool {
        self.has_room_without(state, (0, 0), bytes)
    }

    /// Whether there would be room if so many messages, and bytes, were gone.
    #[inline]
    fn has_room_without(&self, state: &mut State, gone: (usize, usize), bytes: usize) -> bool {
        let (gone, freed) = gone;
        state.messages.saturating_sub(gone) < self.options.messages_max
            && state.bytes.saturating_sub(freed) + bytes <= self.options.bytes_max
            && (state.places.is_some() || self.lease_for(state, freed, bytes))
    }

    fn lease_for(&self, state: &mut State, freed: usize, bytes: usize) -> bool {
        let in_memory = state.bytes_in_memory().saturating_sub(freed);
        let is_first = in_memory == 0 && state.is_attended();
        let needed = (in_memory + bytes) as u64;
        self.budget.extend(&mut state.leases, Use::AtLeastOnce, needed, is_first)
    }

    fn lease_at_most_once(&self, state: &mut State, bytes: usize) -> bool {
        // A client that keeps up gets its messages however much others leave unread.
        let is_first = state.qos0_bytes == 0 && state.is_attended();
        let needed = (state.qos0_bytes + bytes) as u64;
        self.budget.extend(&mut state.leases, Use::AtMostOnce, needed, is_first)
    }

    /// Moves what the owner can send to the end of `into`: at most `window` of QoS 1 and 2, at most
    /// `max` in all, in the order of the offers. When nothing takeable is left the owner counts as
    /// idle and `waker` is kept for the next offer.
    pub fn take(
        &self,
        window: usize,
        max: usize,
        waker: &Waker,
        into: &mut VecDeque<Delivery>,
    ) -> Taken {
        let mut content = self.content.lock();
        let state = content.open();
        let mut window = window;
        for _ in 0..max {
            let Some(delivery) = state.pop_next(window > 0) else { break };
            if delivery.qos == QoS::AtMostOnce {
                state.qos0_bytes -= delivery.message.charged_bytes();
            } else {
                window -= 1;
            }
            into.push_back(delivery);
        }
        state.window = u16::try_from(window).unwrap_or(u16::MAX);
        let has_more = state.has_takeable(window > 0);
        if !has_more {
            let appetite = if window > 0 { Appetite::Everything } else { Appetite::AtMostOnce };
            state.go_idle(waker, appetite);
            self.give_leases_back(state);
        }
        self.note_behind(state);
        // Who is told to go asks for nothing any more.
        let stays = state.notice.is_none();
        let page = state.places.as_mut().filter(|_| stays).and_then(|places| {
            let is_wanted = window > 0 || std::mem::take(&mut places.is_relieved);
            if is_wanted && state.at_least_once.is_empty() { places.ask() } else { None }
        });
        Taken { has_more, notice: state.notice, page, is_behind: state.is_behind }
    }

    /// The owner can send nothing now: the socket takes no more, or else its turn is used up. Only a
    /// notice wakes it, which is found when there is one.
    pub fn rest(&self, waker: &Waker, is_socket_full: bool) -> Taken {
        let mut content = self.content.lock();
        let state = content.open();
        state.go_idle(waker, if is_socket_full { Appetite::Nothing } else { Appetite::Later });
        self.note_behind(state);
        let is_behind = state.is_behind;
        Taken { has_more: true, notice: state.notice, page: None, is_behind }
    }

    /// The owner waits on, from now on with `waker`, and is not expected back soon. `false` when there
    /// is something for it by now, or somebody wants its Session: then it has been woken already and
    /// is to look first.
    #[must_use]
    pub fn wait_with(&self, waker: &Waker) -> bool {
        let mut content = self.content.lock();
        let Owner::Idle { waker: kept, .. } = &mut content.open().owner else { return false };
        kept.clone_from(waker);
        content.fold();
        true
    }

    /// Gives back what is leased for a kind of message of which nothing is left in memory.
    #[inline]
    fn give_leases_back(&self, state: &mut State) {
        if state.qos0_bytes == 0 {
            self.budget.give_back(&mut state.leases, Use::AtMostOnce);
        }
        if state.bytes_in_memory() == 0 {
            self.budget.give_back(&mut state.leases, Use::AtLeastOnce);
        }
    }

    /// The client acknowledged `messages` deliveries of `bytes` bytes in all.
    pub fn acknowledge(&self, messages: usize, bytes: usize) {
        let mut content = self.content.lock();
        let state = content.open();
        state.discharge(messages, bytes);
        state.at_least_once.note_acknowledged(messages);
        if state.messages < self.options.messages_max && state.bytes < self.options.bytes_max {
            state.full_since = None;
        }
        self.give_leases_back(state);
    }

    /// Gives room back that [`Self::reserve`] set aside, and nobody took.
    pub fn unreserve(&self, bytes: usize) {
        let mut content = self.content.lock();
        let Content::Open(state) = &mut *content else { return };
        state.discharge(1, bytes);
        self.give_leases_back(state);
        if matches!(state.owner, Owner::Absent) {
            content.fold();
        }
    }

    /// Counts a message that is sent without having waited, so that its acknowledgement fits.
    pub fn charge(&self, bytes: usize) {
        self.content.lock().open().charge(bytes);
    }

    /// A connection becomes the owner.
    pub fn attach(&self) {
        let mut content = self.content.lock();
        let state = content.open();
        state.owner = Owner::Working;
        state.notice = None;
    }

    /// The owner leaves and the Session lasts. QoS 0 is dropped [MQTT-4.5.0-1 covers QoS 1 and 2];
    /// what was chosen for a Shared Subscription and not sent is handed out for another member.
    #[must_use]
    pub fn detach(&self) -> Vec<Delivery> {
        let mut content = self.content.lock();
        let state = content.open();
        state.owner = Owner::Absent;
        state.notice = None;
        state.dropped += state.at_most_once.len() as u64;
        state.at_most_once = VecDeque::new();
        state.qos0_bytes = 0;
        let shared = state.drain_shared();
        self.note_behind(state);
        for queued in state.at_least_once.iter_mut() {
            queued.delivery.message = detach(&queued.delivery.message, &mut None);
        }
        self.give_leases_back(state);
        // It may be away for long.
        content.fold();
        shared
    }

    /// Takes out what was chosen for a Shared Subscription and not sent: it is for another member.
    #[must_use]
    pub fn take_shared(&self) -> Vec<Delivery> {
        let mut content = self.content.lock();
        let Content::Open(state) = &mut *content else { return Vec::new() };
        let shared = state.drain_shared();
        self.note_behind(state);
        self.give_leases_back(state);
        shared
    }

    /// Takes back what [`Self::detach`] or [`Self::relieve`] handed out and no other member of a Shared
    /// Subscription took, in its order. All of it comes back when the Session has ended.
    #[must_use]
    pub fn keep(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let mut content = self.content.lock();
        if deliveries.is_empty() || matches!(content.owner(), Owner::Gone) {
            return deliveries;
        }
        let state = content.open();
        // What was offered meanwhile is younger.
        for delivery in deliveries.into_iter().rev() {
            state.charge(delivery.message.charged_bytes());
            let place = delivery.sequence;
            // Those of a queue that is stored go back to their places.
            let at = state.at_least_once.partition_point(|other| other.delivery.sequence < place);
            state.at_least_once.insert(at, Queued { order: 0, delivery });
        }
        self.note_behind(state);
        Vec::new()
    }

    /// The Session ends: nothing is accepted any more. Returns what was chosen for a Shared
    /// Subscription and not sent.
    #[must_use]
    pub fn close(&self) -> Vec<Delivery> {
        self.lose_gathering();
        self.close_for_heirs()
    }

    /// The same, but for those who wait for what was collected: they are to hear what comes of it.
    #[must_use]
    pub fn close_for_heirs(&self) -> Vec<Delivery> {
        let mut content = self.content.lock();
        let state = content.open();
        state.owner = Owner::Gone;
        state.recent = None;
        if let Some(places) = &mut state.places {
            places.has_ended = true;
        }
        let shared = state.drain_shared();
        let _left = state.at_least_once.take();
        self.note_behind(state);
        state.at_most_once = VecDeque::new();
        state.messages = 0;
        state.bytes = 0;
        state.qos0_bytes = 0;
        self.give_leases_back(state);
        shared
    }

    /// The Session goes to another broker: nothing is accepted any more. Returns what waits, in its
    /// order, and what was taken lately. Those who wait for what was collected are to hear what comes of it.
    #[must_use]
    pub fn hand_over(&self, now: Tick) -> (Vec<Delivery>, Vec<Recalled>) {
        let mut content = self.content.lock();
        let state = content.open();
        state.owner = Owner::Gone;
        // Of what the store has not answered for it may not have taken some.
        let recent = if state.places.is_none() { state.take_recent(now) } else { Vec::new() };
        let queue = state.at_least_once.take();
        self.note_behind(state);
        state.at_most_once = VecDeque::new();
        state.messages = 0;
        state.bytes = 0;
        state.qos0_bytes = 0;
        self.give_leases_back(state);
        (queue.into_iter().map(|queued| queued.delivery).collect(), recent)
    }

    /// What was taken lately, of a Session that is stored and has gone: once the store has answered for
    /// all of it.
    #[must_use]
    pub fn take_recent(&self, now: Tick) -> Vec<Recalled> {
        self.content.lock().open().take_recent(now)
    }

    /// What the Session took lately where it was before.
    pub fn recall(&self, recent: Vec<Recalled>) {
        self.content.lock().open().recall(recent, &self.budget);
    }

    /// The store did not take a message: it may come again.
    pub fn unlearn(&self, message: MessageId) {
        let mut content = self.content.lock();
        let state = content.open();
        if let Some(recent) = &mut state.recent {
            recent.forget(message);
        }
        if let Some(places) = state.places.as_mut().filter(|_| self.is_recalling) {
            places.note_given_up(message);
        }
    }

    /// What the store did not take, of a Session that is stored and has gone.
    #[must_use]
    pub fn take_given_up(&self) -> Vec<MessageId> {
        let mut content = self.content.lock();
        content.open().places.as_mut().map(|places| places.take_given_up()).unwrap_or_default()
    }

    /// The Session has moved here: `queue` waited where it was, `in_flight` are others the client was
    /// sent there and has not acknowledged, and `recent` was taken there lately. What has been
    /// collected here meanwhile comes behind, but not what is among them, now or later, until
    /// [`Self::forget_moved`].
    pub fn take_over<'a>(
        &self,
        queue: Vec<Delivery>,
        in_flight: impl Iterator<Item = &'a Delivery>,
        recent: Vec<Recalled>,
    ) {
        let mut content = self.content.lock();
        let state = content.open();
        let mut moved: BTreeSet<_> = recent.iter().map(|one| one.id).collect();
        for delivery in in_flight {
            state.charge(delivery.message.charged_bytes());
            moved.extend(moved_id(delivery));
        }
        moved.extend(queue.iter().filter_map(moved_id));
        let collected = state.at_least_once.take();
        for delivery in queue {
            state.charge(delivery.message.charged_bytes());
            state.at_least_once.push_back(Queued { order: 0, delivery });
        }
        for queued in collected {
            if moved_id(&queued.delivery).is_some_and(|id| moved.contains(&id)) {
                self.budget.known.fetch_add(1, Ordering::Relaxed);
                state.discharge(1, queued.delivery.message.charged_bytes());
            } else {
                state.at_least_once.push_back(queued);
            }
        }
        self.note_behind(state);
        state.moved = (!moved.is_empty()).then(|| Box::new(moved));
        state.recall(recent, &self.budget);
    }

    /// Nothing that came with the Session is on its way here by any other way.
    pub fn forget_moved(&self) {
        if let Content::Open(state) = &mut *self.content.lock() {
            state.moved = None;
            if let Some(places) = &mut state.places {
                places.has_moved = false;
            }
        }
    }

    /// Asks the owner to give its Session up. The first notice stands, unless the new one ends the
    /// Session as well.
    pub fn notify(&self, notice: Notice) -> Option<Waker> {
        self.content.lock().open().notify(notice)
    }

    /// Whose mailbox it is.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// The Client Identifier of the Session.
    #[must_use]
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// The Session it is the queue of, when that is stored.
    #[inline]
    #[must_use]
    pub fn stored_as(&self) -> Option<SessionRef> {
        self.in_store.as_ref()?.session.get().copied()
    }

    /// Whether the Session is stored, or will be once it is here.
    #[must_use]
    pub fn is_for_store(&self) -> bool {
        self.in_store.is_some()
    }

    /// What becomes of messages of QoS 1 and 2 that are queued, and not stored, here: of a Session that is
    /// on its way here by the store.
    #[must_use]
    pub fn gathering(&self) -> Option<&Arc<Gathering>> {
        self.in_store.as_ref()?.gathering.as_ref()
    }

    /// The same while nobody knows what becomes of them.
    #[must_use]
    pub fn open_gathering(&self) -> Option<Arc<Gathering>> {
        self.gathering().filter(|gathering| !gathering.has_ended()).map(Arc::clone)
    }

    /// What was collected goes with the Session, unless it is known to be kept.
    fn lose_gathering(&self) {
        if let Some(gathering) = self.gathering() {
            gathering.end(GatheringEnd::Lost);
        }
    }

    /// What marks the messages of its client.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher
    }

    /// Whether a connection owns the Session now.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        matches!(self.content.lock().owner(), Owner::Working | Owner::Idle { .. })
    }

    /// Whether there is somebody to take more, and room for it.
    #[must_use]
    pub fn credit(&self) -> Credit {
        self.content.lock().credit(&self.options)
    }

    /// What is in it.
    #[must_use]
    pub fn counts(&self) -> MailboxCounts {
        match &*self.content.lock() {
            Content::Open(state) => MailboxCounts {
                messages: state.messages,
                bytes: state.bytes,
                qos0_messages: state.at_most_once.len(),
                dropped: state.dropped,
            },
            Content::Folded { dropped, .. } => {
                MailboxCounts { dropped: *dropped, ..MailboxCounts::default() }
            }
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Content::Open(state) = self.content.get_mut() {
            self.budget.give_back(&mut state.leases, Use::AtMostOnce);
            self.budget.give_back(&mut state.leases, Use::AtLeastOnce);
            if state.is_behind {
                self.budget.count_behind(false);
            }
        }
    }
}

/// Where a delivery went.
enum Pushed {
    Queued(Option<Waker>),
    Stored(Place),
}

fn detach(message: &Arc<Message>, detached: &mut Option<Arc<Message>>) -> Arc<Message> {
    if !message.is_in_transit {
        return Arc::clone(message);
    }
    Arc::clone(detached.get_or_insert_with(|| Arc::new(message.detached())))
}

/// What a delivery is known by when its Session moves. Of a Shared Subscription one broker alone was
/// given it.
fn moved_id(delivery: &Delivery) -> Option<MessageId> {
    let id = delivery.message.id;
    (id != MessageId::NONE && delivery.shared_filter().is_none()).then_some(id)
}

impl State {
    fn new(owner: Owner, dropped: u64) -> Self {
        let is_hungry = matches!(owner, Owner::Idle { appetite: Appetite::Everything, .. });
        Self {
            at_least_once: Waiting::default(),
            at_most_once: VecDeque::new(),
            // Who waits for everything could send one at least.
            window: u16::from(is_hungry),
            was_held_up: false,
            is_behind: false,
            next_order: 0,
            messages: 0,
            bytes: 0,
            qos0_bytes: 0,
            leases: Leases::default(),
            owner,
            notice: None,
            full_since: None,
            dropped,
            moved: None,
            recent: None,
            places: None,
        }
    }

    /// Whether nothing would be missed but the owner and what was ever dropped.
    fn is_blank(&self) -> bool {
        let is_empty = self.at_least_once.is_empty() && self.at_most_once.is_empty();
        let is_charged = self.messages > 0 || self.bytes > 0 || !self.leases.is_empty();
        let is_marked = self.notice.is_some()
            || self.full_since.is_some()
            || self.moved.is_some()
            || self.is_behind;
        let is_known = self.places.is_some() || self.recent.is_some();
        is_empty && !is_charged && !is_marked && !is_known
    }

    /// Whether what is queued now may wait for long.
    fn is_backed_up(&self) -> bool {
        matches!(self.owner, Owner::Absent)
            || self.at_least_once.len() + self.at_most_once.len() >= IN_TRANSIT_MAX
    }

    fn knows(&self, id: MessageId, may_be_recent: bool) -> bool {
        let has_moved = self.moved.as_ref().is_some_and(|moved| moved.contains(&id));
        has_moved || may_be_recent && self.recent.as_ref().is_some_and(|recent| recent.knows(id))
    }

    fn take_recent(&mut self, now: Tick) -> Vec<Recalled> {
        self.recent.take().map_or_else(Vec::new, |recent| recent.take(now))
    }

    fn recall(&mut self, recent: Vec<Recalled>, budget: &QueueBudget) {
        if !recent.is_empty() {
            let forgotten = self.recent.get_or_insert_default().recall(recent);
            budget.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
        }
    }

    fn take_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn charge(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn discharge(&mut self, messages: usize, bytes: usize) {
        // A mailbox closed meanwhile holds nothing any more.
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    #[inline]
    fn bytes_in_memory(&self) -> usize {
        let left_out = self.places.as_ref().map_or(0, |places| places.bytes_left_out());
        self.bytes.saturating_sub(left_out)
    }

    /// Whether the store has answered for a message, if it has to.
    #[inline]
    fn is_certain(&self, delivery: &Delivery) -> bool {
        self.places.as_ref().is_none_or(|places| places.is_certain(delivery.sequence))
    }

    fn push_at_least_once(&mut self, delivery: Delivery) -> Option<Waker> {
        let order = self.take_order();
        self.at_least_once.push_back(Queued { order, delivery });
        self.wake_for(QoS::AtLeastOnce)
    }

    /// The owner's waker, when it is idle and could take a delivery of `qos`.
    fn wake_for(&mut self, qos: QoS) -> Option<Waker> {
        match &self.owner {
            Owner::Idle { appetite, .. } => match appetite {
                Appetite::Nothing | Appetite::Later => None,
                Appetite::AtMostOnce if qos > QoS::AtMostOnce => None,
                Appetite::AtMostOnce | Appetite::Everything => self.wake(),
            },
            Owner::Absent | Owner::Working | Owner::Gone => None,
        }
    }

    fn wake(&mut self) -> Option<Waker> {
        if !matches!(self.owner, Owner::Idle { .. }) {
            return None;
        }
        match std::mem::replace(&mut self.owner, Owner::Working) {
            Owner::Idle { waker, .. } => Some(waker),
            Owner::Absent | Owner::Working | Owner::Gone => None,
        }
    }

    fn notify(&mut self, notice: Notice) -> Option<Waker> {
        let stands = match self.notice {
            None => false,
            Some(Notice::EndSession(_) | Notice::LetGo(_)) => true,
            Some(_) => !matches!(notice, Notice::EndSession(_) | Notice::LetGo(_)),
        };
        if !stands {
            self.notice = Some(notice);
        }
        self.wake()
    }

    fn go_idle(&mut self, waker: &Waker, appetite: Appetite) {
        match &mut self.owner {
            Owner::Working => self.owner = Owner::Idle { waker: waker.clone(), appetite },
            Owner::Idle { waker: kept, appetite: kept_appetite } => {
                kept.clone_from(waker);
                *kept_appetite = appetite;
            }
            Owner::Absent | Owner::Gone => {}
        }
    }

    fn has_takeable(&self, is_window_open: bool) -> bool {
        !self.at_most_once.is_empty() || (is_window_open && self.first_certain().is_some())
    }

    fn pop_next(&mut self, is_window_open: bool) -> Option<Delivery> {
        let waiting = if is_window_open { self.first_certain() } else { None };
        let is_first = match (waiting, self.at_most_once.front()) {
            (Some(first), Some(second)) => first.order <= second.order,
            (first, _) => first.is_some(),
        };
        if is_first {
            let delivery = self.at_least_once.pop_front()?.delivery;
            self.at_least_once.shrink_to(IDLE_CAPACITY);
            return Some(delivery);
        }
        let delivery = self.at_most_once.pop_front()?.delivery;
        if self.at_most_once.is_empty() && self.at_most_once.capacity() > IDLE_CAPACITY {
            self.at_most_once = VecDeque::new();
        }
        Some(delivery)
    }

    fn drain_shared(&mut self) -> Vec<Delivery> {
        let places = self.places.as_ref();
        // What is pending has to be stored before it can be taken away again.
        let shared = self.at_least_once.take_shared(|queued| {
            places.is_none_or(|places| places.is_certain(queued.delivery.sequence))
        });
        for delivery in &shared {
            self.discharge(1, delivery.message.charged_bytes());
        }
        shared
    }

    fn credit(&self, options: &MailboxOptions) -> Credit {
        let is_beyond = |parts: usize| {
            self.messages.saturating_mul(parts) > options.messages_max
                || self.bytes.saturating_mul(parts) > options.bytes_max
                || self.at_most_once.len().saturating_mul(parts) > options.qos0_messages_max
                || self.qos0_bytes.saturating_mul(parts) > options.qos0_bytes_max
        };
        match (is_beyond(2), is_beyond(4)) {
            (true, _) => Credit::Short,
            (false, true) => Credit::Low,
            (false, false) => Credit::Free,
        }
    }
}

/// A queue that has run empty keeps room for this many; more goes back to the allocator.
const IDLE_CAPACITY: usize = 128;
/// Messages that may wait as slices of their publishers' read buffers.
const IN_TRANSIT_MAX: usize = 256;

#[cfg(test)]
mod tests;
