//! Messages for Sessions of a dead broker, until others have these Sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::broker::peers::Peers;
use crate::broker::peers::adoption::{Adoptions, adopts};
use crate::broker::peers::peer::{Peer, Unanswered};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::turn::Turn;
use crate::cluster::identity::BootId;
use crate::mqtt::{ReasonCode, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::message::Message;

/// A dead broker whose Sessions not everybody has taken.
pub(super) struct Mourned {
    peer: Arc<Peer>,
    /// What its clients wanted: its routes.
    filters: Vec<TopicFilter>,
    /// What it was sent and had not answered.
    sent: VecDeque<HeldPublish>,
    /// What has come since.
    later: VecDeque<HeldPublish>,
}

/// A message whose publisher waits.
pub(super) struct HeldPublish {
    pub(super) message: Arc<Message>,
    pub(super) ticket: Arc<PublishTicket>,
    /// For so long.
    until: Tick,
}

/// What came of a wish to hold a message.
enum Hold {
    Held,
    /// As much is held as may be.
    Full,
    /// Everybody has the Sessions it was for.
    Over,
}

impl Mourned {
    pub(super) fn into_publishes(self) -> impl Iterator<Item = HeldPublish> {
        self.sent.into_iter().chain(self.later)
    }

    fn pop(&mut self) -> Option<HeldPublish> {
        self.sent.pop_front().or_else(|| self.later.pop_front())
    }

    fn pop_overdue(&mut self, now: Tick) -> Option<HeldPublish> {
        let is_overdue =
            |queue: &VecDeque<HeldPublish>| queue.front().is_some_and(|held| held.until <= now);
        let queue = if is_overdue(&self.sent) { &mut self.sent } else { &mut self.later };
        if is_overdue(queue) { queue.pop_front() } else { None }
    }
}

impl Adoptions {
    /// A broker is dead that kept Sessions in the store: its routes, `filters`, are kept as well.
    fn mourn(&self, peer: &Arc<Peer>) {
        let mut state = self.state.lock();
        let (sent, later) = (VecDeque::new(), VecDeque::new());
        let mourned = Mourned { peer: Arc::clone(peer), filters: Vec::new(), sent, later };
        state.mourned.insert(peer.boot_id(), mourned);
        state.news.insert(peer.boot_id());
        self.is_mourning.store(true, Ordering::Release);
    }

    fn hold(&self, dead: BootId, publish: HeldPublish) -> (Hold, Option<HeldPublish>) {
        let mut state = self.state.lock();
        let bytes = publish.message.charged_bytes();
        let is_full = state.messages >= HELD_MAX || state.bytes + bytes > HELD_BYTES_MAX;
        let Some(mourned) = state.mourned.get_mut(&dead) else {
            return (Hold::Over, Some(publish));
        };
        if is_full {
            return (Hold::Full, Some(publish));
        }
        mourned.later.push_back(publish);
        state.bytes += bytes;
        state.messages += 1;
        (Hold::Held, None)
    }

    /// The next message that was held for `dead`. When there is none it is mourned no more, and its
    /// routes are returned.
    fn release(&self, dead: BootId) -> Result<HeldPublish, Option<(Arc<Peer>, Vec<TopicFilter>)>> {
        let mut state = self.state.lock();
        let Some(mourned) = state.mourned.get_mut(&dead) else { return Err(None) };
        if let Some(publish) = mourned.pop() {
            state.bytes -= publish.message.charged_bytes();
            state.messages -= 1;
            return Ok(publish);
        }
        let mourned = state.mourned.remove(&dead);
        self.is_mourning.store(!state.mourned.is_empty(), Ordering::Release);
        Err(mourned.map(|mourned| (mourned.peer, mourned.filters)))
    }

    fn take_overdue(&self, now: Tick) -> Vec<HeldPublish> {
        let mut state = self.state.lock();
        let mut overdue = Vec::new();
        for mourned in state.mourned.values_mut() {
            while let Some(publish) = mourned.pop_overdue(now) {
                overdue.push(publish);
            }
        }
        state.bytes -= overdue.iter().map(|one| one.message.charged_bytes()).sum::<usize>();
        state.messages -= overdue.len();
        overdue
    }

    fn mourned(&self) -> Vec<BootId> {
        self.state.lock().mourned.keys().copied().collect()
    }
}

impl Turn<'_> {
    /// `peer` is dead. Whether its stored Sessions are waited for.
    pub(in crate::broker::peers) fn mourn(&mut self, peers: &Peers, peer: &Arc<Peer>) -> bool {
        if self.broker.durable.is_none() || !adopts(peer) {
            return false;
        }
        peers.adoptions().mourn(peer);
        true
    }

    /// Keeps the routes to a dead broker but for those of Shared Subscriptions. The others, which are
    /// to be removed.
    pub(in crate::broker::peers) fn keep_routes(
        &mut self,
        peers: &Peers,
        peer: &Peer,
        filters: Vec<TopicFilter>,
    ) -> Vec<TopicFilter> {
        let is_shared = |filter: &TopicFilter| filter.share().is_some();
        let (shared, own) = filters.into_iter().partition(is_shared);
        let mut state = peers.adoptions().state.lock();
        if let Some(mourned) = state.mourned.get_mut(&peer.boot_id()) {
            mourned.filters = own;
        }
        shared
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
        let publish = self.held_publish(message, ticket);
        let mut state = peers.adoptions().state.lock();
        let bytes = publish.message.charged_bytes();
        let Some(mourned) = state.mourned.get_mut(&peer.boot_id()) else { return false };
        // Within the bounds of what its publishers may have under way.
        mourned.sent.push_back(publish);
        state.bytes += bytes;
        state.messages += 1;
        self.shard.counters.adoption_publishes_held.increment();
        true
    }

    fn held_publish(&self, message: Arc<Message>, ticket: Arc<PublishTicket>) -> HeldPublish {
        let until = self.now.plus_millis(self.broker.options.store_wait_millis);
        HeldPublish { message, ticket, until }
    }

    /// Holds a message for the stored Sessions of `peer`, which is dead; `ticket` waits for it.
    #[cold]
    pub(crate) fn hold_for(
        &mut self,
        peer: &Peer,
        message: &Arc<Message>,
        ticket: &Arc<PublishTicket>,
    ) {
        let Some(peers) = self.broker.peers() else { return };
        ticket.expect_another();
        let publish = self.held_publish(Arc::clone(message), Arc::clone(ticket));
        match peers.adoptions().hold(peer.boot_id(), publish) {
            (Hold::Held, _) => self.shard.counters.adoption_publishes_held.increment(),
            (Hold::Over, _) => {
                self.offer_to_stored(message, ticket);
                let waker = ticket.answer(RemoteOutcome::NoMatch);
                self.shard.wake_later(waker);
            }
            (Hold::Full, publish) => self.give_up(publish),
        }
    }

    /// Nobody takes these in time: their publishers are let go without an answer.
    pub(super) fn give_up(&mut self, publishes: impl IntoIterator<Item = HeldPublish>) {
        for publish in publishes {
            self.shard.counters.adoption_publishes_given_up.increment();
            let refused = RemoteOutcome::Refused(ReasonCode::ServerBusy);
            let waker = publish.ticket.answer(refused);
            self.shard.wake_later(waker);
        }
    }

    /// Offers what was held for brokers whose Sessions everybody has taken, and gives up what has
    /// waited too long.
    pub(super) fn release_held(&mut self, peers: &Peers, waker: &Waker) {
        let adoptions = peers.adoptions();
        if !adoptions.is_mourning() {
            return;
        }
        let overdue = adoptions.take_overdue(self.now);
        self.give_up(overdue);
        let mut left = RELEASED_MAX;
        for dead in adoptions.mourned() {
            if !adoptions.is_adopted(peers, dead) {
                continue;
            }
            loop {
                if left == 0 {
                    waker.wake_by_ref();
                    return;
                }
                left -= 1;
                match adoptions.release(dead) {
                    Ok(publish) => self.offer_held(&publish),
                    Err(routes) => {
                        self.forget_routes(routes);
                        break;
                    }
                }
            }
        }
    }

    fn offer_held(&mut self, HeldPublish { message, ticket, .. }: &HeldPublish) {
        self.offer_to_stored(message, ticket);
        let waker = ticket.answer(RemoteOutcome::NoMatch);
        self.shard.wake_later(waker);
    }

    /// Behind the last that was held: what comes now goes straight to whoever has the Sessions.
    fn forget_routes(&mut self, routes: Option<(Arc<Peer>, Vec<TopicFilter>)>) {
        if let Some((peer, filters)) = routes {
            self.broker.remove_routes(&peer, &filters);
        }
    }
}

/// Messages that are held, beside those that a dead broker had been sent, and their bytes.
const HELD_MAX: usize = 65_536;
const HELD_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Messages offered in one turn.
const RELEASED_MAX: usize = 1_024;
