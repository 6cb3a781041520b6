//! What outlives the process: the broker's side of the store.
//!
//! A shard collects what its turn has to have stored in a [`keeper::Keeper`]; the end of the turn
//! hands it over as one batch. Whoever may not go on before it is stored waits for the answer as
//! for that of another broker. See `docs/design/0013-durable-sessions.md`.

mod absent;
mod fenced;
mod flights;
mod gated;
mod homeless;
pub(crate) mod keeper;
mod known;
pub(crate) mod messages;
mod pages;
mod registering;
mod restore;
mod retained;
mod sessions;
mod taking;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::RwLock;

pub use registering::Registrar;
pub use restore::NotRestored;
pub use retained::RetainedReader;

use crate::broker::acknowledge::Level;
use crate::broker::durable::flights::Flights;
use crate::broker::durable::gated::Frames;
use crate::broker::durable::keeper::{Awaiting, Keeper, Settled};
use crate::broker::durable::known::StoredClients;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::turn::Turn;
use crate::cluster::frame::{Outcome, Token};
use crate::mqtt::ReasonCode;
use crate::ports::clock::Tick;
use crate::ports::message::MessageId;
use crate::ports::store::{
    Done, Epoch, Operation, OwnerId, Registered, SessionId, SessionRef, Store, StoreError,
};
use crate::session::mailbox::GatheringEnd;

pub(crate) use homeless::Homeless;
pub(crate) use pages::Page;
pub(crate) use sessions::{STORE_TROUBLE, Step, StoredClient, WillInStore};
pub(crate) use taking::{Taking, TakingEnd};

/// The store of a broker, and who the broker is to it.
pub struct Durable {
    store: Arc<dyn Store>,
    /// In a cluster another one with each life.
    owner: RwLock<OwnerId>,
    /// Of this start, or life; no other has it. The store gives it before anything is kept.
    start: AtomicU64,
    /// Of the cluster, as the store knows it.
    era: AtomicU64,
    /// Whether the store knows this owner, and has not said that it is dead.
    is_registered: AtomicBool,
    /// Whether it has said that this owner is dead, or that it does not know it.
    is_refused: AtomicBool,
    /// Milliseconds since 1970 when ticks were zero.
    epoch_millis: u64,
    next_session: AtomicU64,
    next_message: AtomicU64,
    next_version: AtomicU64,
    flights: Arc<Flights>,
    clients: StoredClients,
}

impl Durable {
    /// The store as `owner` uses it. Ticks began `epoch_millis` after 1970.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, owner: OwnerId, epoch_millis: u64) -> Self {
        Self {
            store,
            owner: RwLock::new(owner),
            start: AtomicU64::new(0),
            era: AtomicU64::new(0),
            is_registered: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            epoch_millis,
            next_session: AtomicU64::new(1),
            next_message: AtomicU64::new(1),
            next_version: AtomicU64::new(0),
            flights: Arc::default(),
            clients: StoredClients::default(),
        }
    }

    /// Sessions that it was asked for, and that are not here yet.
    pub(crate) fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    fn clients(&self) -> &StoredClients {
        &self.clients
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Who this broker is to it.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        *self.owner.read()
    }

    /// Notes what the store gave: a number that no other owner has, nor had, and the era.
    pub fn note_registered(&self, registered: Registered) {
        self.start.store(registered.number, Ordering::Relaxed);
        self.note_era(registered.era);
        self.is_refused.store(false, Ordering::Release);
        self.is_registered.store(true, Ordering::Release);
    }

    /// The era that the store says: it only goes up.
    fn note_era(&self, era: u64) {
        self.era.fetch_max(era, Ordering::AcqRel);
    }

    /// Whether the store knows this owner: before that nothing is kept.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Acquire)
    }

    /// Another life of this broker begins, of which the store is still to hear.
    pub fn begin_life(&self, owner: OwnerId) {
        self.is_registered.store(false, Ordering::Release);
        *self.owner.write() = owner;
        self.is_refused.store(false, Ordering::Release);
    }

    /// Whether the store takes nothing of this life any more.
    #[must_use]
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }

    /// The store says that `owner` is dead, or does not know it. `true` when that was news.
    fn note_refused(&self, owner: OwnerId) -> bool {
        if self.owner() != owner || !self.is_registered.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.is_refused.store(true, Ordering::Release);
        true
    }

    fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    /// The claim under which a broker that is alone has its Sessions.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch { era: 0, slots: i64::try_from(self.start()).unwrap_or(i64::MAX), counter: 0 }
    }

    /// The claim under which a broker of a cluster has a Session: the token of its Client Identifier.
    #[must_use]
    pub fn epoch_of(&self, token: Token) -> Epoch {
        let era = self.era.load(Ordering::Acquire);
        Epoch { era, slots: token.epoch, counter: token.counter }
    }

    /// A tick as milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self, tick: Tick) -> u64 {
        self.epoch_millis.saturating_add(tick.as_millis())
    }

    /// Milliseconds since 1970 as a tick; what was before this process began is its beginning.
    #[must_use]
    pub fn tick(&self, unix_millis: u64) -> Tick {
        Tick::from_millis(unix_millis.saturating_sub(self.epoch_millis))
    }

    /// A name for a Session that begins.
    fn draw_session(&self, epoch: Epoch) -> SessionRef {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        SessionRef { id: SessionId(numbered(self.start(), number)), epoch }
    }

    fn draw_message_numbers(&self, count: u64) -> u64 {
        self.next_message.fetch_add(count, Ordering::Relaxed)
    }

    /// A version later than all before it, of this start or an earlier one.
    fn draw_version(&self, now: Tick) -> u64 {
        let time = self.unix_millis(now) << VERSION_BITS;
        let before = self.next_version.fetch_max(time, Ordering::Relaxed);
        if before < time { time } else { self.next_version.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

/// The `number`th of its kind since `start`: below 2^63, and ascending.
fn numbered(start: u64, number: u64) -> u64 {
    ((start << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))) & (u64::MAX >> 1)
}

/// The name of a message of this start.
fn message_id(start: u64, number: u64) -> MessageId {
    MessageId(numbered(start, number))
}

impl Turn<'_> {
    /// Has `operation` stored; nobody waits for it. Nothing happens where there is no store.
    #[inline]
    pub(crate) fn keep(&mut self, operation: Operation) {
        if let Some(keeper) = &mut self.shard.keeper {
            keeper.push(operation);
        }
    }

    /// The same for somebody who waits. `None` where there is no store.
    pub(crate) fn keep_and_tell(&mut self, operation: Operation) -> Option<Arc<PublishTicket>> {
        self.shard.keeper.as_mut()?.push(operation);
        self.tell_when_kept()
    }

    /// What is answered when all is stored that this turn has had stored so far. `None` where there
    /// is no store.
    pub(crate) fn tell_when_kept(&mut self) -> Option<Arc<PublishTicket>> {
        let keeper = self.shard.keeper.as_mut()?;
        let ticket = Arc::new(PublishTicket::new(false));
        ticket.expect_another();
        keeper.await_batch(Awaiting::Answer(Arc::clone(&ticket)));
        let _pending = ticket.seal();
        Some(ticket)
    }

    /// The same for several, of which the last is awaited: they are in one batch. `None` also where
    /// there are none.
    pub(crate) fn keep_all_and_tell(
        &mut self,
        mut operations: Vec<Operation>,
    ) -> Option<Arc<PublishTicket>> {
        let last = operations.pop()?;
        for operation in operations {
            self.keep(operation);
        }
        self.keep_and_tell(last)
    }

    /// Lets `ticket` wait for what this publish has to have stored, if it has, and at its level.
    #[inline]
    pub(crate) fn await_store(
        &mut self,
        ticket: &mut Option<Arc<PublishTicket>>,
        (message, matched): (MessageId, bool),
        level: Level,
    ) {
        let Some(keeper) = &mut self.shard.keeper else { return };
        if !keeper.take_has_kept() {
            return;
        }
        let gathered = keeper.take_gathered();
        if level < Level::Durable {
            return;
        }
        let ticket = ticket.get_or_insert_with(|| Arc::new(PublishTicket::of(message, matched)));
        ticket.expect_another();
        keeper.await_batch(Awaiting::Answer(Arc::clone(ticket)));
        self.await_gathered(gathered, ticket);
    }

    /// Whether what was handed out last is to be stored for somebody.
    #[inline]
    pub(crate) fn takes_store(&mut self) -> bool {
        self.shard.keeper.as_mut().is_some_and(Keeper::take_has_kept)
    }

    /// Tells `peer` what came of its messages when all is stored that this turn has had stored.
    pub(crate) fn tell_when_stored(&mut self, peer: &Arc<Peer>, outcomes: Vec<Outcome>) {
        if let Some(keeper) = self.shard.keeper.as_mut().filter(|_| !outcomes.is_empty()) {
            let (peer, gathered) = (Arc::clone(peer), keeper.take_gathered());
            keeper.await_batch(Awaiting::Frames(Frames {
                peer,
                outcomes,
                gathered,
                is_lost: false,
            }));
        }
    }

    /// Whether the store has no room for what this shard has for it.
    #[inline]
    pub(crate) fn is_store_full(&self) -> bool {
        self.shard.keeper.as_ref().is_some_and(Keeper::is_full)
    }

    /// Whether the store has not answered this shard for as long as anybody is to wait.
    pub(crate) fn is_store_late(&self) -> bool {
        let patience_millis = self.broker.options.store_wait_millis;
        let since = self.shard.keeper.as_ref().and_then(Keeper::waits_since);
        since.is_some_and(|since| self.now.saturating_since(since) >= patience_millis)
    }

    /// Whether the store answers this shard without delay.
    pub(crate) fn is_store_at_ease(&self) -> bool {
        let since = self.shard.keeper.as_ref().and_then(Keeper::waits_since);
        since.is_none_or(|since| self.now.saturating_since(since) < EASE_MILLIS)
    }

    /// Operations that this shard has had for the store, ever.
    #[inline]
    pub(crate) fn pushed_to_store(&self) -> u64 {
        self.shard.keeper.as_ref().map_or(0, Keeper::pushed)
    }

    /// Hands over what this turn has for the store, before anybody else can have a say in it.
    pub(crate) fn hand_over_kept(&mut self) {
        let now = self.now;
        if let Some(keeper) = &mut self.shard.keeper {
            keeper.flush(now);
        }
    }

    /// Tells the store again what it has missed, if nothing else brings that along. To be done some time
    /// after [`Self::poll_store`] has asked for it.
    pub fn remind_store(&mut self) {
        // First: what their former members were done with may be among what the store has missed.
        self.house_homeless();
        if let Some(keeper) = &mut self.shard.keeper {
            keeper.remind();
        }
        self.tell_of_the_absent();
    }

    /// Takes the answers of the store, and hands over what it had no room for; `waker` is called
    /// when there is more. Returns whether [`Self::remind_store`] is to follow.
    #[must_use]
    pub fn poll_store(&mut self, waker: &Waker) -> bool {
        while let Some(settled) = self.shard.keeper.as_mut().and_then(|keeper| keeper.poll(waker)) {
            self.settle(settled);
        }
        self.poll_gated(waker);
        self.poll_unattended(waker);
        self.tell_of_the_absent();
        let Some(keeper) = &mut self.shard.keeper else { return false };
        self.shard.counters.store_operations_forgotten.add(keeper.take_forgotten());
        keeper.owes() || !self.shard.homeless.is_empty()
    }

    fn settle(&mut self, settled: Settled) {
        let Settled { owner, awaiting, put, outcome, is_overflow } = settled;
        // Then the store may have it after all.
        let is_for_now = matches!(outcome, Err(StoreError::Transient(_)));
        let is_in_doubt = !is_overflow && is_for_now;
        if is_overflow {
            self.shard.counters.store_batches_given_up.increment();
        }
        if outcome.is_err() {
            self.shard.counters.store_batches_failed.increment();
        }
        if outcome == Err(StoreError::Fenced) {
            self.lose_life(owner);
        }
        let is_stored = outcome.is_ok();
        let Done { fenced, replies } = outcome.unwrap_or_default();
        let is_lost = |session: SessionRef| fenced.contains(&session);
        // Seldom is any: the mailboxes are not asked then.
        let has_lost = !fenced.is_empty();
        let lost_place = |one: &Awaiting| has_lost && one.session().is_some_and(is_lost);
        // Who waited for a Session that somebody else has was told of others in vain, too.
        let is_taken = put.iter().copied().any(is_lost);
        let is_whole = is_stored && !is_taken && !awaiting.iter().any(lost_place);
        let mut replies = replies.into_iter();
        for one in awaiting {
            let is_kept = is_stored && !lost_place(&one);
            let wake = match one {
                Awaiting::Place { mailbox, sequence, .. } if is_kept => mailbox.confirm(sequence),
                Awaiting::Place { mailbox, sequence, bytes, message, is_once, handed_on } => {
                    mailbox.unlearn(message);
                    match handed_on {
                        Some(delivery) => self.note_homeless(&mailbox, *delivery),
                        None => self.shard.counters.deliveries_given_up.increment(),
                    }
                    if is_in_doubt && is_once && !mailbox.doubt(sequence) {
                        self.shard.counters.deliveries_doubted_exceeded.increment();
                    }
                    mailbox.withdraw(sequence, bytes)
                }
                // Who matched is known already.
                Awaiting::Answer(ticket) if is_whole => ticket.answer(RemoteOutcome::NoMatch),
                Awaiting::Answer(ticket) => ticket.answer(RemoteOutcome::Refused(if is_taken {
                    ReasonCode::SessionTakenOver
                } else {
                    ReasonCode::ServerBusy
                })),
                Awaiting::Frames(frames) => self.answer_frames(frames, is_whole),
                Awaiting::Gathering(gathering) => {
                    let end = if is_whole { GatheringEnd::Kept } else { GatheringEnd::Failed };
                    gathering.end(end);
                    None
                }
                Awaiting::Page(page) => page.give(replies.next()),
                Awaiting::Head(mailbox, wanted) => self.take_head(&mailbox, wanted, replies.next()),
                Awaiting::Taking(taking) => taking.give(replies.next(), !fenced.is_empty()),
                Awaiting::Era => {
                    self.learn_era(replies.next());
                    None
                }
            };
            self.shard.wake_later(wake);
        }
        self.let_go_fenced(&fenced);
    }
}

/// Bits of a number that count since the start.
const NUMBER_BITS: u32 = 40;
/// A store that takes longer is left alone with what can be left undone.
const EASE_MILLIS: u64 = 100;
/// Bits of a version that count within a millisecond.
const VERSION_BITS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_later_start_are_higher() {
        assert!(numbered(1, 1 << 39) < numbered(2, 1));
        assert!(numbered(u64::MAX, u64::MAX) < 1 << 63);
    }
}
