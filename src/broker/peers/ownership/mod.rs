//! Who holds which Client Identifier, among several brokers.
//!
//! A broker holds the identifiers of its Sessions under tokens; the coordinator of a slot gives them
//! out. A connection with one that is not held here makes a [`claims`] claim. Whoever held it before
//! is told to give it up and has an [`exports`] export, the claimant an [`imports`] import.
//!
//! Two locks. That of [`State`] is short: frames are handled and told under it, so that what brokers
//! are told leaves in the order in which it was decided. It takes lanes, admissions and parts of the
//! registry inside. That of [`Work`] is held while Sessions are taken apart and put together, by
//! [`Turn::poll_exports`] alone, and takes any other inside.

pub mod admission;
mod adopted;
mod bells;
pub(crate) mod claims;
mod exports;
mod holdings;
mod imports;
mod leaving;
mod lives;
mod marks;
mod pending;
mod recovery;
mod rounds;
mod stored;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::ownership::bells::Bells;
use crate::broker::peers::ownership::exports::Outgoing;
use crate::broker::peers::ownership::imports::{Import, Incoming};
use crate::broker::peers::ownership::leaving::Exports;
use crate::broker::peers::ownership::marks::MarkRound;
use crate::broker::peers::ownership::pending::PendingClaims;
use crate::broker::peers::ownership::rounds::Rounds;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::coordinator::{Coordinator, Telling, Word};
use crate::cluster::frame::{ControlFrame, Token};
use crate::cluster::identity::BootId;
use crate::cluster::slots::SlotMap;

/// The Client Identifiers of this broker, and of the slots it coordinates.
pub struct Ownership {
    state: Mutex<State>,
    work: Mutex<Work>,
    /// Whether somebody waits for messages of peers to be received.
    awaits_data: AtomicBool,
}

/// What frames change.
struct State {
    me: BootId,
    coordinator: Coordinator,
    slots: Option<Arc<SlotMap>>,
    /// What is ours, whether a connection or nobody has the Session.
    held: HashMap<Arc<str>, Token, FixedState>,
    /// What connections of ours want.
    pending: PendingClaims,
    /// Sessions on their way here, by the number of the claim.
    imports: BTreeMap<u64, Import>,
    /// Those of them of which there is something new.
    due_imports: BTreeSet<u64>,
    /// Sessions on their way elsewhere, by a number of ours.
    exports: Exports,
    rounds: BTreeMap<u64, MarkRound>,
    next_number: u64,
    /// How often an import was looked at.
    looks: u64,
    /// What is to be told to other brokers, and to this one.
    outbox: VecDeque<Telling>,
    /// Whom to wake when the turn ends.
    wakes: Vec<Waker>,
    /// Granted, but no connection waits: to be given back unless there is a Session.
    unattended: Vec<Arc<str>>,
    /// The task that calls [`Turn::poll_exports`].
    task: Option<Waker>,
}

/// Sessions that are being taken apart and put together.
#[derive(Default)]
struct Work {
    incoming: BTreeMap<u64, Incoming>,
    /// Imports that wait until a version of our interest is in effect everywhere.
    applying: BTreeSet<(u64, u64)>,
    outgoing: BTreeMap<u64, Outgoing>,
    rounds: Rounds,
    /// Exports whose question has been answered.
    passed: BTreeSet<u64>,
    bells: Arc<Bells>,
    /// Imports for which the store has answered.
    fetched: Arc<Bells>,
}

impl State {
    fn new(me: BootId, hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        Self {
            me,
            coordinator: Coordinator::new(hash_seed),
            slots: None,
            held: HashMap::with_hasher(hashing.clone()),
            pending: PendingClaims::new(hashing),
            imports: BTreeMap::new(),
            due_imports: BTreeSet::new(),
            exports: Exports::default(),
            rounds: BTreeMap::new(),
            next_number: 0,
            looks: 0,
            outbox: VecDeque::new(),
            wakes: Vec::new(),
            unattended: Vec::new(),
            task: None,
        }
    }
}

/// How much there is, for gauges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OwnershipCounts {
    /// Client Identifiers this broker holds.
    pub held: usize,
    /// Client Identifiers it coordinates.
    pub coordinated: usize,
    /// Claims of its connections that are not settled.
    pub pending: usize,
    /// Sessions on their way here.
    pub imports: usize,
    /// Sessions on their way elsewhere.
    pub exports: usize,
    /// How often a Session on its way was looked at: a few times each, however many there are.
    pub looks: u64,
    /// Brokers whose reports it waits for before it answers claims.
    pub reports_awaited: usize,
    /// Of the slot map it goes by; 0 before the first.
    pub epoch: i64,
}

impl Ownership {
    pub(super) fn new(me: BootId, hash_seed: u64) -> Self {
        let state = Mutex::new(State::new(me, hash_seed));
        Self { state, work: Mutex::default(), awaits_data: AtomicBool::new(false) }
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> OwnershipCounts {
        let state = self.state.lock();
        OwnershipCounts {
            held: state.held.len(),
            coordinated: state.coordinator.len(),
            pending: state.pending.len(),
            imports: state.imports.len(),
            exports: state.exports.len(),
            looks: state.looks + state.exports.looks(),
            reports_awaited: state.coordinator.reports_awaited(),
            epoch: state.slots.as_ref().map_or(0, |map| map.epoch()),
        }
    }

    /// Under which token this broker holds a Client Identifier.
    #[must_use]
    pub fn token(&self, client_id: &str) -> Option<Token> {
        self.state.lock().held.get(client_id).copied()
    }

    /// Whether this broker has to do with a Client Identifier: it holds it, waits for it, or gives it
    /// away.
    #[must_use]
    pub fn is_about(&self, client_id: &str) -> bool {
        let state = self.state.lock();
        let is_leaving = || state.exports.values().any(|export| *export.client_id == *client_id);
        state.held.contains_key(client_id) || state.pending.get(client_id).is_some() || is_leaving()
    }

    /// Whether Sessions are on their way to a broker: of one that is dead they are not where they will
    /// stay.
    pub(super) fn gives_to(&self, broker: BootId) -> bool {
        self.state.lock().exports.are_any_to(broker)
    }

    /// Messages of a peer have been received, which somebody may have waited for.
    pub(super) fn note_data(&self) -> Option<Waker> {
        if !self.awaits_data.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().task.clone()
    }
}

impl State {
    /// A word of `from`, which may be this broker, about Client Identifiers.
    fn receive(&mut self, peers: &Peers, from: BootId, frame: ControlFrame) {
        match frame {
            ControlFrame::Claim(claim) => self.coordinate(from, Word::Claim(claim)),
            ControlFrame::Grant(grant) => self.note_grant(peers, from, grant),
            ControlFrame::ClaimRefused { claim, reason } => {
                self.note_refusal(from, claim, &reason);
            }
            ControlFrame::Revoke(revoke) => self.note_revoke(from, &revoke),
            ControlFrame::Foreign { claim, holder } => self.note_foreign(from, claim, holder),
            ControlFrame::Handover(handover) => self.note_part(from, handover),
            ControlFrame::HandoverTaken { claim } => self.note_taken(from, claim),
            ControlFrame::HandoverDeclined { claim } => self.note_declined(from, claim),
            ControlFrame::Released { client_id, token } => {
                self.coordinate(from, Word::Released(client_id, token));
            }
            ControlFrame::Report { epoch, held } => {
                self.coordinate(from, Word::Report(epoch, held));
            }
            ControlFrame::ReportComplete { epoch } => {
                self.coordinate(from, Word::ReportComplete(epoch));
            }
            ControlFrame::Settled { client_id, token } => {
                self.coordinate(from, Word::Settled(client_id, token));
            }
            ControlFrame::MarkWanted { mark } => {
                if let Some(peer) = peers.find(from) {
                    let data = peer.lane().counts().offered.data;
                    self.tell(from, ControlFrame::Mark { mark, data });
                }
            }
            ControlFrame::Mark { mark, data } => {
                if let Some(round) = self.rounds.get_mut(&mark) {
                    round.note(from, data);
                    self.wake_task();
                }
            }
            ControlFrame::InterestSnapshot
            | ControlFrame::InterestAdded { .. }
            | ControlFrame::InterestRemoved { .. }
            | ControlFrame::InterestComplete { .. }
            | ControlFrame::InterestApplied { .. }
            | ControlFrame::InterestWanted
            | ControlFrame::Done(_)
            | ControlFrame::RetainedWanted { .. }
            | ControlFrame::Retained(_)
            | ControlFrame::RetainedMore { .. }
            | ControlFrame::RetainedComplete
            | ControlFrame::Latest(_)
            | ControlFrame::Will(_)
            | ControlFrame::DigestsWanted(_)
            | ControlFrame::Digests { .. }
            | ControlFrame::SlotsWanted { .. }
            | ControlFrame::Slots(_)
            | ControlFrame::Adopted(_)
            | ControlFrame::Mourned { .. }
            | ControlFrame::Ping { .. } => debug_assert!(false, "it is about something else"),
        }
    }

    fn coordinate(&mut self, from: BootId, word: Word) {
        self.outbox.extend(self.coordinator.hear(from, word));
    }

    /// Tells everybody what is to be told. What is for this broker is handled here and now, and may
    /// give rise to more.
    fn flush(&mut self, peers: &Peers) {
        while let Some(Telling { to, frame }) = self.outbox.pop_front() {
            if to == self.me {
                self.receive(peers, to, frame);
            } else if let Some(peer) = peers.find(to)
                && let Some(frame) = frame.told_in(peer.wire())
            {
                self.wakes.extend(peer.tell(&frame));
            }
        }
    }

    fn tell(&mut self, to: BootId, frame: ControlFrame) {
        self.outbox.push_back(Telling { to, frame });
    }

    fn coordinator_of(&self, client_id: &str) -> Option<BootId> {
        self.slots.as_ref()?.coordinator_of(client_id)
    }

    /// Whether this broker goes by the slot map under which it was given the token, and by that map
    /// it was `from` who had to give it. What was said by another map counts no more: whoever
    /// coordinates now has been told what came of it.
    fn goes_by(&self, from: BootId, client_id: &str, token: Token) -> bool {
        let Some(slots) = &self.slots else { return false };
        slots.epoch() == token.epoch && slots.coordinator_of(client_id) == Some(from)
    }

    fn tell_coordinator(&mut self, client_id: &str, frame: ControlFrame) {
        if let Some(coordinator) = self.coordinator_of(client_id) {
            self.tell(coordinator, frame);
        }
    }

    fn draw_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn wake_task(&mut self) {
        self.wakes.extend(self.task.clone());
    }
}

impl Turn<'_> {
    /// Changes what this broker knows of Client Identifiers, and tells everybody what follows.
    fn own<R>(&mut self, peers: &Peers, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = peers.ownership().state.lock();
        let result = change(&mut state);
        state.flush(peers);
        self.shard.wake_each(std::mem::take(&mut state.wakes));
        let unattended = std::mem::take(&mut state.unattended);
        drop(state);
        for client_id in unattended {
            self.surrender(&client_id);
        }
        result
    }

    /// A word of `peer` about Client Identifiers.
    pub(crate) fn receive_ownership(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        frame: ControlFrame,
    ) {
        self.own(peers, |state| state.receive(peers, peer.boot_id(), frame));
    }

    /// Does what is to be done for Sessions that move from one broker to another. To be called once
    /// when the broker starts, and whenever `waker` is woken; not by two at a time.
    pub fn poll_exports(&mut self, peers: &Peers, waker: &Waker) {
        let ownership = peers.ownership();
        let mut work = ownership.work.lock();
        ownership.state.lock().task = Some(waker.clone());
        Self::poll_rounds(peers, &mut work);
        self.poll_imports(peers, &mut work, waker);
        self.poll_outgoing(peers, &mut work, waker);
        self.poll_marks(peers, &mut work);
    }

    /// Goes on with whoever waited for answers that have come.
    fn poll_rounds(peers: &Peers, work: &mut Work) {
        for round in work.rounds.asked() {
            if Self::has_passed(peers, round) {
                let waiting = work.rounds.pass(round);
                work.passed.extend(waiting.exports);
                // None of what came with these can come again.
                waiting.arrived.iter().for_each(|mailbox| mailbox.forget_moved());
            }
        }
    }

    /// Puts one question to all peers for everybody who has come to where it matters.
    fn poll_marks(&mut self, peers: &Peers, work: &mut Work) {
        let wants = work.rounds.is_due();
        let rounds = &work.rounds;
        let is_any_left = self.own(peers, |state| {
            state.rounds.retain(|round, _| rounds.is_asked(*round));
            !state.rounds.is_empty()
        });
        let awaits_data = &peers.ownership().awaits_data;
        awaits_data.store(wants || is_any_left, Ordering::Release);
        if !wants {
            return;
        }
        let round = self.own(peers, |state| {
            let mark = state.draw_number();
            let live = peers.live();
            for peer in live.iter() {
                state.tell(peer.boot_id(), ControlFrame::MarkWanted { mark });
            }
            state.rounds.insert(mark, MarkRound::new(live.iter().map(|peer| peer.boot_id())));
            // A round that nobody has to answer is over at once.
            state.wake_task();
            mark
        });
        for number in work.rounds.put(round) {
            if let Some(outgoing) = work.outgoing.get_mut(&number) {
                outgoing.join_round(round);
            }
        }
    }

    /// Whether everything has come that peers had routed here before they answered. The dead drop
    /// out.
    fn has_passed(peers: &Peers, round: u64) -> bool {
        let state = peers.ownership().state.lock();
        let Some(marks) = state.rounds.get(&round).map(MarkRound::marks) else { return true };
        drop(state);
        let has_passed = |(boot_id, mark): (BootId, Option<u64>)| {
            let Some(peer) = peers.find(boot_id) else { return true };
            mark.is_some_and(|data| peer.inbound().lock().received().data >= data)
        };
        if !marks.into_iter().all(has_passed) {
            return false;
        }
        peers.ownership().state.lock().rounds.remove(&round);
        true
    }
}
