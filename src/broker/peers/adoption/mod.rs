//! The stored Sessions of a broker that is dead, until others have them.
//!
//! Two parts, which know of each other only by what brokers say. Whoever coordinates slots takes the
//! Sessions of the dead that belong there from the store and says so ([`taking`]). Whoever had
//! messages for the dead broker, or gets such now, keeps them until all have said so, and then offers
//! them to Sessions that are stored, wherever they are ([`holding`]). The store knows a message by its
//! identifier: a Session that has it, or had it, does not get it again.
//!
//! While that lasts, a message that also goes to others goes to those of their Sessions that are not
//! stored, and to the stored ones behind what is held: none overtakes another.
//!
//! Nothing of this happens where there is no store.

mod holding;
mod mourning;
mod offering;
mod promised;
mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::adoption::holding::{HeldPublishes, Mourned};
use crate::broker::peers::adoption::mourning::Mourning;
use crate::broker::peers::adoption::taking::Taking;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::{Adopted, ControlFrame, STORED_WIRE_MIN};
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;

pub(crate) use holding::HeldFor;

/// What is known here of Sessions of dead brokers.
#[derive(Default)]
pub struct Adoptions {
    /// Short. No other is taken inside.
    state: Mutex<State>,
    /// Held while Sessions are taken and held messages are offered, by [`Turn::poll_adoptions`] alone;
    /// takes any other inside.
    taking: Mutex<Taking>,
    /// Whether a dead broker is mourned: looked at with each publish.
    is_mourning: AtomicBool,
    /// Whether messages of peers are waited for: looked at with each batch of them.
    awaits_data: AtomicBool,
}

#[derive(Default)]
struct State {
    map: Option<Arc<SlotMap>>,
    /// Those whose routes and messages are kept.
    mourned: BTreeMap<BootId, Mourned>,
    held: HeldPublishes,
    /// Who died, and has not been looked at.
    news: BTreeSet<BootId>,
    mourning: Mourning,
    /// Who coordinated slots by an earlier map, and had not said by that what it has of the dead: it may be taking
    /// Sessions still whose slots are others' by now, and those find none.
    late: BTreeSet<BootId>,
    /// What each broker, this one included, last said of each dead one: epoch and version.
    heard: BTreeMap<(BootId, BootId), (i64, u64)>,
    task: Option<Waker>,
}

/// How much there is, for gauges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AdoptionCounts {
    /// Dead brokers whose Sessions not everybody has taken.
    pub mourned: usize,
    /// Messages held for these Sessions.
    pub held: usize,
    /// Bytes of those.
    pub held_bytes: usize,
}

impl Adoptions {
    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> AdoptionCounts {
        let state = self.state.lock();
        let (held, held_bytes) = (state.held.len(), state.held.bytes());
        AdoptionCounts { mourned: state.mourned.len(), held, held_bytes }
    }

    /// Whether everybody has the Sessions of all that are dead: a broker that joins knows nothing of what
    /// their clients want, and takes no publishes before that.
    #[must_use]
    pub fn is_settled(&self, peers: &Peers) -> bool {
        let Some(map) = self.state.lock().map.clone() else { return false };
        map.dead().all(|dead| self.is_adopted(peers, dead))
    }

    /// Whether, by the map of `epoch`, nobody else is about to say that it has Sessions of the dead whose slots
    /// are no longer its own.
    fn is_nothing_late(&self, peers: &Peers, epoch: i64) -> bool {
        let late = self.state.lock().late.clone();
        // Those of an earlier version take none.
        let may_speak = |one: &BootId| peers.find(*one).is_none_or(|peer| adopts(&peer));
        let late: Vec<_> = late.into_iter().filter(may_speak).collect();
        let state = self.state.lock();
        let map = state.map.as_ref().filter(|map| map.epoch() == epoch);
        // What is said by a later map is said to who goes by that.
        map.is_some_and(|map| {
            late.iter().all(|one| state.has_said(*one, map, |said| said == epoch))
        })
    }

    /// Whether messages for the dead are kept.
    #[inline]
    pub(crate) fn is_mourning(&self) -> bool {
        self.is_mourning.load(Ordering::Acquire)
    }

    /// Another slot map counts: whoever coordinates by it has to say anew what it has taken.
    pub(super) fn set_slots(&self, map: &Arc<SlotMap>) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.map.as_ref().is_some_and(|known| known.epoch() >= map.epoch()) {
            return None;
        }
        state.late = state.late_by(map);
        state.map = Some(Arc::clone(map));
        let State { heard, mourned, mourning, .. } = &mut *state;
        heard.retain(|(dead, _), said| {
            // What was said by a later map counts when that comes.
            said.0 > map.epoch() || map.is_dead(*dead) || mourned.contains_key(dead)
        });
        mourning.follow(map);
        state.task.clone()
    }

    fn hear(&self, from: BootId, adopted: Adopted) -> Option<Waker> {
        let Adopted { dead, epoch, version } = adopted;
        let mut state = self.state.lock();
        if state.heard.len() >= HEARD_MAX && !state.heard.contains_key(&(dead, from)) {
            // Said again with the next slot map.
            return None;
        }
        let known = state.heard.entry((dead, from)).or_insert((epoch, version));
        if known.0 <= epoch {
            *known = (epoch, version);
        }
        state.task.clone()
    }

    /// Whether everybody who coordinates slots has the Sessions of `dead`, and their interest is in
    /// effect here.
    fn is_adopted(&self, peers: &Peers, dead: BootId) -> bool {
        let (map, heard) = {
            let state = self.state.lock();
            let Some(map) = state.map.clone() else { return false };
            let of_dead = state.heard.range((dead, BootId(0))..=(dead, BootId(u128::MAX)));
            let heard: BTreeMap<_, _> = of_dead.map(|((_, from), said)| (*from, *said)).collect();
            (map, heard)
        };
        let me = peers.boot_id();
        map.coordinators().into_iter().all(|coordinator| {
            let said = heard.get(&coordinator).filter(|said| said.0 >= map.epoch());
            if coordinator == me {
                return said.is_some();
            }
            // Who is not known here will be, or another slot map comes.
            let Some(peer) = peers.find(coordinator) else { return false };
            !adopts(&peer) || said.is_some_and(|said| is_in_effect(&peer, said.1))
        })
    }
}

impl State {
    /// Who is late when `map` comes. A broker that knows of no earlier one takes everybody for late.
    fn late_by(&self, map: &SlotMap) -> BTreeSet<BootId> {
        let Some(former) = &self.map else { return map.coordinators().into_iter().collect() };
        let all = self.late.iter().copied().chain(former.coordinators());
        let is_late = |one: &BootId| {
            !map.is_dead(*one) && !self.has_said(*one, former, |said| said >= former.epoch())
        };
        all.filter(is_late).collect()
    }

    /// Whether a broker has said what it has of all that are dead by `map`, when it went by a map that counts.
    fn has_said(&self, from: BootId, map: &SlotMap, counts: impl Fn(i64) -> bool) -> bool {
        let mut dead = map.dead();
        dead.all(|dead| self.heard.get(&(dead, from)).is_some_and(|said| counts(said.0)))
    }
}

fn is_in_effect(peer: &Peer, version: u64) -> bool {
    let interest = peer.interest().lock();
    !interest.is_in_snapshot() && interest.routed_version() >= version
}

/// Whether a broker keeps Sessions in a store that others can take them from.
pub(crate) fn adopts(peer: &Peer) -> bool {
    peer.wire() >= STORED_WIRE_MIN
}

impl Turn<'_> {
    /// A peer has taken the Sessions of a dead one.
    pub(super) fn hear_adopted(&mut self, peers: &Peers, peer: &Peer, adopted: Adopted) {
        self.shard.wake_later(peers.adoptions().hear(peer.boot_id(), adopted));
    }

    /// The interest of a peer has changed: somebody may have waited for that.
    pub(super) fn note_interest_in_effect(&mut self, peers: &Peers) {
        let adoptions = peers.adoptions();
        if adoptions.is_mourning() {
            let task = adoptions.state.lock().task.clone();
            self.shard.wake_later(task);
        }
    }

    /// Takes Sessions of dead brokers from the store, and offers what was held for them. To be called
    /// once when the broker starts, whenever `waker` is woken, and now and then; not by two at a time.
    pub fn poll_adoptions(&mut self, peers: &Peers, waker: &Waker) {
        let Some(durable) = self.broker.durable.clone() else { return };
        let adoptions = peers.adoptions();
        let mut taking = adoptions.taking.lock();
        adoptions.state.lock().task = Some(waker.clone());
        self.tell_mourned(peers);
        self.take_sessions_of_the_dead(peers, &durable, &mut taking, waker);
        self.let_promised_go(peers, taking.promised(), waker);
        self.release_held(peers, waker);
    }

    /// Tells `peer` again what has been taken.
    pub(super) fn repeat_adopted(&mut self, peers: &Peers, peer: &Peer) {
        if self.broker.durable.is_none() || !adopts(peer) {
            return;
        }
        let me = peers.boot_id();
        let told: Vec<_> = {
            let mut state = peers.adoptions().state.lock();
            state.mourning.forget_told(peer.boot_id());
            let task = state.task.clone();
            self.shard.wake_later(task);
            let own = state.heard.iter().filter(|((_, from), _)| *from == me);
            own.map(|((dead, _), said)| (*dead, *said)).collect()
        };
        for (dead, (epoch, version)) in told {
            let adopted = Adopted { dead, epoch, version };
            self.tell(peer, &ControlFrame::Adopted(adopted));
        }
    }

    /// A new life has nothing of what the former one held.
    pub(super) fn begin_life_of_adoptions(&mut self, peers: &Peers) {
        let adoptions = peers.adoptions();
        *adoptions.taking.lock() = Taking::default();
        let former = {
            let mut state = adoptions.state.lock();
            let task = state.task.clone();
            std::mem::replace(&mut *state, State { task, ..State::default() })
        };
        adoptions.is_mourning.store(false, Ordering::Release);
        for Mourned { peer, filters } in former.mourned.into_values() {
            self.broker.remove_routes(&peer, &filters);
        }
        self.give_up(former.held.into_all());
    }
}

/// What is kept of what brokers say: as many dead as a slot map has room for, said by fifty brokers.
const HEARD_MAX: usize = 256 * 50;
