//! What this broker's clients want, and how far the peers have applied it: the promise of SUBACK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::peer::{Peer, Withheld};
use crate::cluster::frame::{ControlFrame, InterestEntry};
use crate::cluster::identity::BootId;
use crate::cluster::interest::{InterestChange, LocalInterest};
use crate::mqtt::{QoS, TopicFilter};

/// The interest of all shards together. One lock; a lane's is taken inside.
pub struct AnnouncedInterest(Mutex<State>);

struct State {
    local: LocalInterest,
    /// Whoever must have applied a filter before its SUBACK goes out.
    listeners: Vec<Listener>,
    /// Connections that wait, by the version they wait for.
    waiting: BTreeMap<u64, Vec<Waker>>,
    /// Nobody is told of changes: what was wanted here is others' by now.
    is_silent: bool,
}

struct Listener {
    peer: Arc<Peer>,
    applied: u64,
    /// Changes were not told: nothing is, until it can be told all.
    is_behind: bool,
}

impl AnnouncedInterest {
    /// Nobody wants anything, and nobody listens.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        let local = LocalInterest::new(hash_seed);
        let (listeners, waiting) = (Vec::new(), BTreeMap::new());
        Self(Mutex::new(State { local, listeners, waiting, is_silent: false }))
    }

    /// A client subscribes to all of these. The version that every peer must have applied before it
    /// may be told so. What is told to peers wakes their links.
    pub fn add<'a>(
        &self,
        filters: impl Iterator<Item = (&'a TopicFilter, QoS)>,
        wakes: &mut Vec<Waker>,
    ) -> u64 {
        let mut state = self.0.lock();
        let before = state.local.version();
        let (mut barrier, mut entries) = (0, Vec::new());
        for (filter, qos) in filters {
            let (change, since) = state.local.add(filter, qos);
            barrier = barrier.max(since);
            if let InterestChange::Added(entry) = change {
                entries.push(entry);
            }
        }
        state.announce(before, entries, Vec::new(), wakes);
        barrier
    }

    /// A client has none of these any more.
    pub fn remove<'a>(
        &self,
        filters: impl Iterator<Item = (&'a TopicFilter, QoS)>,
        wakes: &mut Vec<Waker>,
    ) {
        let mut state = self.0.lock();
        let before = state.local.version();
        let (mut entries, mut removed) = (Vec::new(), Vec::new());
        for (filter, qos) in filters {
            match state.local.remove(filter, qos) {
                InterestChange::Nothing => {}
                InterestChange::Added(entry) => entries.push(entry),
                InterestChange::Removed => removed.push(filter.clone()),
            }
        }
        state.announce(before, entries, removed, wakes);
    }

    /// The Shared Subscriptions that clients here have.
    pub(crate) fn shared_filters(&self) -> Vec<TopicFilter> {
        self.0.lock().local.shared_filters().cloned().collect()
    }

    /// So many members of these Shared Subscriptions can take nothing. Peers are told what is new.
    pub(crate) fn set_short(&self, counts: &[(TopicFilter, u32)], wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        let before = state.local.version();
        let mut entries = Vec::new();
        for (filter, short) in counts {
            match state.local.set_short(filter, *short) {
                InterestChange::Added(entry) => entries.push(entry),
                InterestChange::Nothing | InterestChange::Removed => {}
            }
        }
        state.announce(before, entries, Vec::new(), wakes);
    }

    /// Whether every peer has applied `version`; else `waker` is called when they have, or when one
    /// that has not is dead.
    pub fn is_applied(&self, version: u64, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if version <= state.applied_by_all() {
            return true;
        }
        let waiting = state.waiting.entry(version).or_default();
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        false
    }

    /// Nobody waits for `version` with this waker any more.
    pub fn stop_waiting(&self, version: u64, waker: &Waker) {
        let mut state = self.0.lock();
        if let Some(waiting) = state.waiting.get_mut(&version) {
            waiting.retain(|other| !other.will_wake(waker));
            if waiting.is_empty() {
                state.waiting.remove(&version);
            }
        }
    }

    /// The brokers that have not applied `version`.
    #[must_use]
    pub fn behind(&self, version: u64) -> Vec<Arc<str>> {
        let state = self.0.lock();
        let behind = state.listeners.iter().filter(|listener| listener.applied < version);
        behind.map(|listener| Arc::clone(listener.peer.name())).collect()
    }

    /// A broker has joined: from here on it is waited for. It is told all there is.
    pub fn enter(&self, peer: &Arc<Peer>, wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        state.listeners.retain(|listener| listener.peer.boot_id() != peer.boot_id());
        let is_behind = state.is_silent;
        if !is_behind {
            state.tell_all(peer, wakes);
        }
        let peer = Arc::clone(peer);
        state.listeners.push(Listener { peer, applied: 0, is_behind });
    }

    /// This broker is dead, and others do not know it yet: that its Sessions end here is not told to them. What
    /// they publish is to go to it, and to wait for those who have the Sessions next.
    pub(crate) fn fall_silent(&self) {
        let mut state = self.0.lock();
        state.is_silent = true;
        for listener in &mut state.listeners {
            listener.is_behind = true;
        }
    }

    /// It lives after all, or anew. Whoever was not told of changes is told all by [`Self::catch_up`].
    pub(crate) fn speak(&self) {
        self.0.lock().is_silent = false;
    }

    /// A broker has lost what it was told: it is told again. What it has applied it still has.
    pub fn repeat(&self, boot_id: BootId, wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        let is_silent = state.is_silent;
        let listener = state.listeners.iter_mut().find(|one| one.peer.boot_id() == boot_id);
        let Some(listener) = listener else { return };
        if is_silent {
            return;
        }
        listener.is_behind = false;
        let peer = Arc::clone(&listener.peer);
        state.tell_all(&peer, wakes);
    }

    /// Tells all to brokers that were not told of changes, once they take what they are told.
    pub(crate) fn catch_up(&self, wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        let mut ready = Vec::new();
        if state.is_silent {
            return;
        }
        for listener in &mut state.listeners {
            if listener.is_behind && listener.peer.lane().has_control_room() {
                listener.is_behind = false;
                ready.push(Arc::clone(&listener.peer));
            }
        }
        for peer in ready {
            state.tell_all(&peer, wakes);
        }
    }

    /// A broker is dead: nobody waits for it any more.
    pub fn leave(&self, boot_id: BootId, wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        state.listeners.retain(|listener| listener.peer.boot_id() != boot_id);
        state.wake_satisfied(wakes);
    }

    /// A broker has applied everything up to `version`.
    pub fn note_applied(&self, boot_id: BootId, version: u64, wakes: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        let listener = state.listeners.iter_mut().find(|one| one.peer.boot_id() == boot_id);
        let Some(listener) = listener else { return };
        listener.applied = listener.applied.max(version);
        state.wake_satisfied(wakes);
    }

    /// Version, checksum and number of the filters.
    #[must_use]
    pub fn summary(&self) -> (u64, u64, usize) {
        let state = self.0.lock();
        (state.local.version(), state.local.checksum(), state.local.len())
    }

    /// How far each peer has come.
    #[must_use]
    pub fn applied(&self) -> Vec<(BootId, u64)> {
        let state = self.0.lock();
        state.listeners.iter().map(|one| (one.peer.boot_id(), one.applied)).collect()
    }

    /// Connections that wait for a barrier.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.0.lock().waiting.values().map(Vec::len).sum()
    }
}

impl State {
    fn applied_by_all(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.applied).min().unwrap_or(u64::MAX)
    }

    fn wake_satisfied(&mut self, wakes: &mut Vec<Waker>) {
        let applied = self.applied_by_all();
        let still_waiting = match applied.checked_add(1) {
            Some(next) => self.waiting.split_off(&next),
            None => BTreeMap::new(),
        };
        let satisfied = std::mem::replace(&mut self.waiting, still_waiting);
        wakes.extend(satisfied.into_values().flatten());
    }

    /// Tells all of it, in frames of a bounded size. Only with the last one has a peer applied the
    /// new version: until then it is at the one `before`.
    fn announce(
        &mut self,
        before: u64,
        mut entries: Vec<InterestEntry>,
        mut removed: Vec<TopicFilter>,
        wakes: &mut Vec<Waker>,
    ) {
        if self.listeners.is_empty() || (entries.is_empty() && removed.is_empty()) {
            return;
        }
        let version = self.local.version();
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(ENTRIES_MAX));
            let is_last = rest.is_empty() && removed.is_empty();
            let version = if is_last { version } else { before };
            self.tell_each(&ControlFrame::InterestAdded { version, entries }, wakes);
            entries = rest;
        }
        while !removed.is_empty() {
            let rest = removed.split_off(removed.len().min(ENTRIES_MAX));
            let version = if rest.is_empty() { version } else { before };
            self.tell_each(&ControlFrame::InterestRemoved { version, filters: removed }, wakes);
            removed = rest;
        }
    }

    fn tell_each(&mut self, frame: &ControlFrame, wakes: &mut Vec<Waker>) {
        for listener in self.listeners.iter_mut().filter(|listener| !listener.is_behind) {
            match listener.peer.tell_unless_behind(frame) {
                Ok(wake) => wakes.extend(wake),
                Err(Withheld) => listener.is_behind = true,
            }
        }
    }

    fn tell_all(&self, peer: &Peer, wakes: &mut Vec<Waker>) {
        wakes.extend(peer.tell(&ControlFrame::InterestSnapshot));
        let version = self.local.version();
        let mut part = Vec::with_capacity(ENTRIES_MAX.min(self.local.len()));
        for entry in self.local.entries() {
            part.push(entry);
            if part.len() == ENTRIES_MAX {
                let entries = std::mem::take(&mut part);
                let frame = ControlFrame::InterestAdded { version, entries };
                wakes.extend(peer.tell(&frame));
            }
        }
        if !part.is_empty() {
            let frame = ControlFrame::InterestAdded { version, entries: part };
            wakes.extend(peer.tell(&frame));
        }
        let checksum = self.local.checksum();
        let complete = ControlFrame::InterestComplete { version, checksum };
        wakes.extend(peer.tell(&complete));
    }
}

/// Entries of one frame.
const ENTRIES_MAX: usize = 512;
