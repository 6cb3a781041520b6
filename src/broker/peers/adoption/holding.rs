//! Messages for Sessions of a dead broker, until others have these Sessions.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use smallvec::SmallVec;

use crate::broker::peers::Peers;
use crate::broker::peers::adoption::{Adoptions, adopts};
use crate::broker::peers::again::LeftOut;
use crate::broker::peers::peer::{Peer, Unanswered};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::routes::{Fanout, FanoutGroup};
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, ReasonCode, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId};

/// A dead broker whose Sessions not everybody has taken.
pub(super) struct Mourned {
    pub(super) peer: Arc<Peer>,
    /// What its clients wanted: its routes.
    pub(super) filters: Vec<TopicFilter>,
}

/// Messages that are held, in the order of their identifiers: that in which each publisher sent them.
#[derive(Default)]
pub(super) struct HeldPublishes {
    publishes: BTreeMap<MessageId, HeldPublish>,
    /// Shared Subscriptions for which something is held: what is published to them comes behind that,
    /// also when others have members by then.
    groups: BTreeSet<TopicFilter>,
    bytes: usize,
}

/// For whom a message is held.
#[derive(Default)]
pub(crate) struct HeldFor {
    /// All stored Sessions that want it and do not share it.
    pub(crate) are_stored: bool,
    /// A member of each of these Shared Subscriptions.
    pub(crate) groups: Vec<TopicFilter>,
}

/// A message whose publisher waits.
pub(super) struct HeldPublish {
    message: Arc<Message>,
    held_for: HeldFor,
    /// Each expects one answer.
    tickets: SmallVec<[Arc<PublishTicket>; 1]>,
    /// For so long.
    until: Tick,
}

/// What came of a wish to hold a message.
enum Hold {
    Held,
    /// As much is held as may be.
    Full(HeldPublish),
    /// Everybody has the Sessions it was for.
    Over(HeldPublish),
}

impl HeldPublishes {
    pub(super) fn len(&self) -> usize {
        self.publishes.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_full(&self) -> bool {
        self.publishes.len() >= HELD_MAX || self.bytes >= HELD_BYTES_MAX
    }

    fn insert(&mut self, publish: HeldPublish) {
        self.groups.extend(publish.held_for.groups.iter().cloned());
        match self.publishes.entry(publish.message.id) {
            Entry::Vacant(entry) => {
                self.bytes += publish.message.charged_bytes();
                entry.insert(publish);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.tickets.extend(publish.tickets);
                known.held_for.add(publish.held_for);
            }
        }
    }

    fn take_first(&mut self) -> Option<HeldPublish> {
        let (_, publish) = self.publishes.pop_first()?;
        self.bytes -= publish.message.charged_bytes();
        Some(publish)
    }

    fn take_overdue(&mut self, now: Tick) -> Vec<HeldPublish> {
        let overdue = self.publishes.iter().filter(|(_, publish)| publish.until <= now);
        let overdue: Vec<_> = overdue.map(|(id, _)| *id).collect();
        let overdue: Vec<_> =
            overdue.into_iter().filter_map(|id| self.publishes.remove(&id)).collect();
        self.bytes -= overdue.iter().map(|one| one.message.charged_bytes()).sum::<usize>();
        overdue
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = HeldPublish> {
        self.publishes.into_values()
    }
}

impl HeldFor {
    /// For stored Sessions alone.
    const STORED: Self = Self { are_stored: true, groups: Vec::new() };

    fn add(&mut self, other: Self) {
        self.are_stored |= other.are_stored;
        for group in other.groups {
            if !self.groups.contains(&group) {
                self.groups.push(group);
            }
        }
    }
}

impl Adoptions {
    /// A broker is dead that kept Sessions in the store: its routes are kept as well.
    fn mourn(&self, peer: &Arc<Peer>) {
        let mut state = self.state.lock();
        let mourned = Mourned { peer: Arc::clone(peer), filters: Vec::new() };
        state.mourned.insert(peer.boot_id(), mourned);
        state.news.insert(peer.boot_id());
        self.is_mourning.store(true, Ordering::Release);
    }

    fn hold(&self, publish: HeldPublish) -> Hold {
        let mut state = self.state.lock();
        if state.mourned.is_empty() {
            return Hold::Over(publish);
        }
        if state.held.is_full() {
            return Hold::Full(publish);
        }
        state.held.insert(publish);
        Hold::Held
    }

    /// The next message that was held. When there is none nobody is mourned any more, and the routes
    /// of the dead are returned.
    fn release(&self) -> Result<HeldPublish, Vec<Mourned>> {
        let mut state = self.state.lock();
        if let Some(publish) = state.held.take_first() {
            return Ok(publish);
        }
        self.is_mourning.store(false, Ordering::Release);
        state.held.groups.clear();
        Err(std::mem::take(&mut state.mourned).into_values().collect())
    }

    /// Whether the message is held for which this ticket waits.
    pub(in crate::broker::peers) fn holds(&self, ticket: &Arc<PublishTicket>) -> bool {
        let state = self.state.lock();
        let publish = state.held.publishes.get(&ticket.message());
        publish.is_some_and(|one| one.tickets.iter().any(|known| Arc::ptr_eq(known, ticket)))
    }

    fn take_overdue(&self, now: Tick) -> Vec<HeldPublish> {
        self.state.lock().held.take_overdue(now)
    }

    /// Whether everybody who is mourned has been taken care of.
    fn are_all_adopted(&self, peers: &Peers) -> bool {
        let mourned: Vec<_> = self.state.lock().mourned.keys().copied().collect();
        mourned.into_iter().all(|dead| self.is_adopted(peers, dead))
    }
}

impl Turn<'_> {
    /// `peer` is dead. Whether its stored Sessions are waited for.
    pub(in crate::broker::peers) fn mourn(&mut self, peers: &Peers, peer: &Arc<Peer>) -> bool {
        if self.broker.durable.is_none() {
            return false;
        }
        let is_mourned = adopts(peer);
        if is_mourned {
            peers.adoptions().mourn(peer);
        }
        peers.adoptions().state.lock().mourning.note_change();
        is_mourned
    }

    /// Keeps the routes to a dead broker.
    pub(in crate::broker::peers) fn keep_routes(
        &self,
        peers: &Peers,
        peer: &Peer,
        filters: Vec<TopicFilter>,
    ) {
        let mut state = peers.adoptions().state.lock();
        if let Some(mourned) = state.mourned.get_mut(&peer.boot_id()) {
            mourned.filters = filters;
        }
        drop(state);
        // Its share of a group has changed.
        self.broker.bump_generation();
    }

    /// The Shared Subscriptions for which a message is held: all of whose members were at dead brokers, and
    /// those for which something is held already.
    pub(crate) fn groups_to_hold_for(&self, fanout: &Fanout, qos: QoS) -> Vec<TopicFilter> {
        let Some(peers) = self.broker.peers() else { return Vec::new() };
        let state = peers.adoptions().state.lock();
        let is_held =
            |group: &&FanoutGroup| group.is_of_dead() || state.held.groups.contains(group.filter());
        let groups = fanout.mourned_groups(qos).filter(is_held);
        groups.map(|group| group.filter().clone()).collect()
    }

    /// Keeps what a dead broker has not answered, if it can be offered to somebody later. `false` when
    /// it cannot.
    pub(in crate::broker::peers) fn hold_unanswered(
        &mut self,
        peer: &Peer,
        unanswered: &mut Unanswered,
    ) -> bool {
        let Some(peers) = self.broker.peers() else { return false };
        let Some(message) = unanswered.kept.take() else { return false };
        let ticket = Arc::clone(&unanswered.ticket);
        let publish = self.held_publish(message, ticket, HeldFor::STORED);
        let mut state = peers.adoptions().state.lock();
        if !state.mourned.contains_key(&peer.boot_id()) {
            return false;
        }
        // Within the bounds of what its publishers may have under way.
        state.held.insert(publish);
        self.shard.counters.adoption_publishes_held.increment();
        true
    }

    fn held_publish(
        &self,
        message: Arc<Message>,
        ticket: Arc<PublishTicket>,
        held_for: HeldFor,
    ) -> HeldPublish {
        let until = self.now.plus_millis(self.broker.options.store_wait_millis);
        HeldPublish { message, held_for, tickets: SmallVec::from_iter([ticket]), until }
    }

    /// Offers a message to stored Sessions behind what is held for those of the dead, with which it is held;
    /// at once where nothing is to be held any more. `ticket` waits for it.
    #[cold]
    pub(crate) fn offer_behind_held(
        &mut self,
        message: &Arc<Message>,
        ticket: &Arc<PublishTicket>,
    ) {
        self.hold_or_offer(message, ticket, HeldFor::STORED);
    }

    /// Holds what a member of a Shared Subscription left, where all others were at dead brokers. `false`
    /// where that is not so.
    pub(crate) fn hold_for_group(
        &mut self,
        delivery: &Delivery,
        ticket: &Arc<PublishTicket>,
    ) -> bool {
        let Some(filter) = delivery.shared_filter().filter(|_| self.is_mourning()) else {
            return false;
        };
        let Some(fanout) = self.fanout(&delivery.message.topic) else { return false };
        if !self.groups_to_hold_for(&fanout, delivery.qos).contains(filter) {
            return false;
        }
        let held_for = HeldFor { groups: vec![filter.clone()], ..HeldFor::default() };
        self.hold_or_offer(&delivery.message, ticket, held_for);
        true
    }

    /// The same for whoever is meant.
    #[cold]
    pub(crate) fn hold_or_offer(
        &mut self,
        message: &Arc<Message>,
        ticket: &Arc<PublishTicket>,
        held_for: HeldFor,
    ) {
        let Some(peers) = self.broker.peers() else { return };
        ticket.expect_another();
        let publish = self.held_publish(Arc::clone(message), Arc::clone(ticket), held_for);
        match peers.adoptions().hold(publish) {
            Hold::Held => self.shard.counters.adoption_publishes_held.increment(),
            Hold::Over(HeldPublish { held_for, .. }) => {
                self.offer_to_held_for(message, &held_for, ticket);
                let waker = ticket.answer(RemoteOutcome::NoMatch);
                self.shard.wake_later(waker);
            }
            Hold::Full(publish) => self.give_up([publish]),
        }
    }

    /// Nobody takes these in time: their publishers are let go without an answer.
    pub(super) fn give_up(&mut self, publishes: impl IntoIterator<Item = HeldPublish>) {
        for ticket in publishes.into_iter().flat_map(|publish| publish.tickets) {
            self.shard.counters.adoption_publishes_given_up.increment();
            let waker = ticket.answer(RemoteOutcome::Refused(ReasonCode::ServerBusy));
            self.shard.wake_later(waker);
        }
    }

    /// Offers what was held once everybody has the Sessions of all that are dead, and gives up what
    /// has waited too long.
    pub(super) fn release_held(&mut self, peers: &Peers, waker: &Waker) {
        let adoptions = peers.adoptions();
        if !adoptions.is_mourning() {
            return;
        }
        let overdue = adoptions.take_overdue(self.now);
        self.give_up(overdue);
        if !adoptions.are_all_adopted(peers) {
            return;
        }
        for _ in 0..RELEASED_MAX {
            match adoptions.release() {
                Ok(publish) => self.offer_held(&publish),
                Err(mourned) => {
                    // Behind the last that was held: what comes now goes straight to whoever has the
                    // Sessions.
                    for Mourned { peer, filters } in mourned {
                        self.broker.remove_routes(&peer, &filters);
                    }
                    return;
                }
            }
        }
        waker.wake_by_ref();
    }

    fn offer_to_held_for(
        &mut self,
        message: &Arc<Message>,
        held_for: &HeldFor,
        ticket: &Arc<PublishTicket>,
    ) {
        if held_for.are_stored {
            self.offer_to_stored(message, ticket);
        }
        let Some(fanout) = self.fanout(&message.topic) else { return };
        // Nobody has Sessions of the dead any more who shared the others.
        let is_left = |filter: &&TopicFilter| {
            fanout.groups.iter().any(|group| group.filter() == *filter && !group.is_of_dead())
        };
        let groups: Vec<_> = held_for.groups.iter().filter(is_left).cloned().collect();
        self.offer_to_groups(message, &groups, ticket, &[]);
    }

    fn offer_held(&mut self, HeldPublish { message, held_for, tickets, .. }: &HeldPublish) {
        // Whose publisher is let go in any case, and sends it again, is not to come before that: others
        // may have been sent since by whom it was not taken.
        let (refused, waiting): (Vec<_>, Vec<_>) =
            tickets.iter().partition(|ticket| ticket.is_refused());
        if !waiting.is_empty() {
            // Each waits for what comes of it, and not only the first: that may be of somebody who has gone.
            let waiting = waiting.into_iter().map(Arc::clone).collect();
            let ticket = Arc::new(PublishTicket::for_all(message.id, waiting));
            self.offer_to_held_for(message, held_for, &ticket);
            let waker = ticket.close();
            self.shard.wake_later(waker);
        }
        for ticket in refused {
            let refused = RemoteOutcome::Refused(ReasonCode::ServerBusy);
            let waker = ticket.leave_out(refused, LeftOut::of_dead());
            self.shard.wake_later(waker);
        }
    }
}

/// Messages that are held, beside those that a dead broker had been sent, and their bytes.
const HELD_MAX: usize = 65_536;
const HELD_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Messages offered in one turn.
const RELEASED_MAX: usize = 1_024;
