//! Takes the stored Sessions of dead brokers: those of the slots that this one coordinates.
//!
//! One dead broker after the other, and of each the same steps, a page at a time: it is declared dead
//! to the store, so that nothing it still has on its way there is written; its Sessions are taken
//! under one token; those that it has under that are read and restored. Then everybody is told. A step that
//! fails is taken again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use crate::broker::durable::Durable;
use crate::broker::peers::Peers;
use crate::broker::peers::adoption::adopts;
use crate::broker::peers::adoption::promised::Promised;
use crate::broker::turn::Turn;
use crate::cluster::frame::{Adopted, ControlFrame, Token};
use crate::cluster::identity::BootId;
use crate::cluster::slots::{Slot, SlotMap};
use crate::ports::clock::Tick;
use crate::ports::store::{
    Batch, Done, Full, Operation, OwnerId, Reply, SessionId, SessionRecord, Slots, Submitter,
};

/// Where it stands.
#[derive(Default)]
pub(super) struct Taking {
    door: Option<Box<dyn Submitter>>,
    /// Whether the store owes an answer.
    is_asked: bool,
    /// After a failure nothing is asked before this moment.
    again_at: Option<Tick>,
    /// Of the slot map that counts.
    epoch: i64,
    slots: BTreeSet<u16>,
    /// Who is to be looked at.
    queue: VecDeque<BootId>,
    /// Sessions that clients are to have, and the store was asked for before everybody is told: they are
    /// to be here by then.
    flights: Option<u64>,
    /// Whether it is known of all of them that nothing is left, here and elsewhere.
    is_complete: bool,
    job: Option<Job>,
    promised: Promised,
    /// Slots of which nothing is left of a dead broker.
    done: BTreeMap<BootId, BTreeSet<u16>>,
}

/// The Sessions of one dead broker.
struct Job {
    dead: BootId,
    slots: BTreeSet<u16>,
    token: Token,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    /// It is declared dead.
    Fence,
    /// Its Sessions are taken.
    Take,
    /// They are read, behind this one.
    Read(Option<SessionId>),
}

impl Taking {
    /// Goes by another slot map, by which `slots` are ours: all that are dead are looked at again.
    fn follow(&mut self, map: &SlotMap, me: BootId) {
        if self.epoch == map.epoch() {
            return;
        }
        self.epoch = map.epoch();
        self.is_complete = false;
        self.slots = Slot::all()
            .filter(|slot| map.owner(*slot) == Some(me))
            .filter_map(|slot| u16::try_from(slot.index()).ok())
            .collect();
        self.queue = map.dead().collect();
        self.done.retain(|dead, _| map.is_dead(*dead));
    }

    pub(super) fn promised(&mut self) -> &mut Promised {
        &mut self.promised
    }

    /// Everybody is told when nothing is left of the slots that are ours by now.
    fn finish_job(&mut self) {
        let Some(job) = self.job.take() else { return };
        self.done.entry(job.dead).or_default().extend(job.slots);
        self.queue.push_front(job.dead);
    }

    /// Whether all that the store had been asked for when this was first asked is here.
    fn have_landed(&mut self, durable: &Durable) -> bool {
        let flights = durable.flights();
        let last = *self.flights.get_or_insert_with(|| flights.last());
        let have_landed = flights.have_landed(last);
        if have_landed {
            self.flights = None;
        }
        have_landed
    }

    /// The slots of which something may be left.
    fn missing(&self, dead: BootId) -> BTreeSet<u16> {
        match self.done.get(&dead) {
            Some(done) => self.slots.difference(done).copied().collect(),
            None => self.slots.clone(),
        }
    }
}

impl Job {
    /// Whether the Session of this client is one of those that it takes.
    fn is_about(&self, client_id: &str) -> bool {
        let slot = u16::try_from(Slot::of(client_id).index());
        slot.is_ok_and(|slot| self.slots.contains(&slot))
    }

    fn operation(&self, durable: &Durable) -> Operation {
        match self.step {
            Step::Fence => Operation::DeclareDead(OwnerId(self.dead.0)),
            Step::Take => Operation::TakeSessions {
                former: Some(OwnerId(self.dead.0)),
                slots: Slots::Only(self.slots.iter().copied().collect()),
                epoch: durable.epoch_of(self.token),
                limit: PAGE_MAX,
            },
            Step::Read(after) => {
                let claim = Some(durable.epoch_of(self.token));
                Operation::ListSessions { claim, after, limit: PAGE_MAX }
            }
        }
    }
}

impl Turn<'_> {
    pub(super) fn take_sessions_of_the_dead(
        &mut self,
        peers: &Peers,
        durable: &Durable,
        taking: &mut Taking,
        waker: &Waker,
    ) {
        let map = {
            let mut state = peers.adoptions().state.lock();
            taking.queue.extend(std::mem::take(&mut state.news));
            state.map.clone()
        };
        let Some(map) = map.filter(|_| durable.is_registered()) else { return };
        taking.follow(&map, peers.boot_id());
        loop {
            if let Some(Job { dead, step: Step::Read(None), .. }) = taking.job
                && !taking.is_asked
                && !peers.adoptions().is_mourned_by_all(peers, &map, dead)
            {
                return;
            }
            if !taking.is_asked && !self.ask_store(peers, durable, taking, waker) {
                return;
            }
            let door = taking.door.get_or_insert_with(|| durable.store().submitter());
            let Some(completion) = door.poll(waker) else { return };
            taking.is_asked = false;
            match completion.outcome {
                Ok(done) => self.go_on(peers, durable, taking, done),
                Err(_said_by_the_store) => {
                    self.shard.counters.store_batches_failed.increment();
                    taking.again_at = Some(self.now.plus_millis(PAUSE_MILLIS));
                }
            }
        }
    }

    /// Asks for the next step. `false` when there is none, or not now.
    fn ask_store(
        &mut self,
        peers: &Peers,
        durable: &Durable,
        taking: &mut Taking,
        waker: &Waker,
    ) -> bool {
        if taking.again_at.is_some_and(|at| self.now < at) {
            return false;
        }
        taking.again_at = None;
        if taking.job.is_none() && !self.begin_job(peers, durable, taking) {
            return false;
        }
        let Some(job) = &taking.job else { return false };
        let batch = Batch {
            owner: durable.owner(),
            now_millis: durable.unix_millis(self.now),
            operations: vec![job.operation(durable)],
        };
        let door = taking.door.get_or_insert_with(|| durable.store().submitter());
        match door.submit(batch) {
            Ok(_ticket) => taking.is_asked = true,
            Err(Full(_comes_again)) => {
                let _room = door.poll(waker);
                return false;
            }
        }
        true
    }

    /// The next dead broker of whom something may be left. Of the others everybody is told.
    fn begin_job(&mut self, peers: &Peers, durable: &Durable, taking: &mut Taking) -> bool {
        while let Some(dead) = taking.queue.pop_front() {
            let slots = taking.missing(dead);
            if slots.is_empty() {
                if peers.ownership().gives_to(dead) || !taking.have_landed(durable) {
                    // What it was to have stays here, and is to be told of with the rest.
                    taking.queue.push_front(dead);
                    return false;
                }
                self.tell_adopted(peers, dead, taking.epoch);
                continue;
            }
            let token = self.draw_token(peers);
            taking.job = Some(Job { dead, slots, token, step: Step::Fence });
            return true;
        }
        if !taking.is_complete && peers.adoptions().is_nothing_late(peers, taking.epoch) {
            taking.is_complete = true;
            self.note_sessions_taken(peers, taking.epoch);
        }
        false
    }

    fn go_on(&mut self, peers: &Peers, durable: &Durable, taking: &mut Taking, done: Done) {
        let Some(job) = &mut taking.job else { return };
        match (job.step, done.replies.into_iter().next()) {
            (Step::Fence, _) => job.step = Step::Take,
            // Which is none where it was asked twice, since the first answer was lost: what is ours by now
            // is read in any case.
            (Step::Take, Some(Reply::Count(count))) if count < PAGE_MAX => {
                job.step = Step::Read(None);
            }
            (Step::Take, Some(Reply::Count(_there_may_be_more))) => {}
            (Step::Read(_), Some(Reply::Sessions(page))) => {
                // Who coordinates other slots may have given us one of theirs under the same token.
                for record in page.iter().filter(|record| job.is_about(&record.client_id)) {
                    self.adopt_session(peers, durable, record, (job.token, &mut taking.promised));
                }
                match page.last().filter(|_| page.len() >= PAGE_MAX as usize) {
                    Some(last) => job.step = Step::Read(Some(last.session.id)),
                    None => taking.finish_job(),
                }
            }
            (Step::Take | Step::Read(_), _) => debug_assert!(false, "the store answers otherwise"),
        }
    }

    fn adopt_session(
        &mut self,
        peers: &Peers,
        durable: &Durable,
        record: &SessionRecord,
        (token, promised): (Token, &mut Promised),
    ) {
        let may_keep = self.may_adopt(peers, &record.client_id, token);
        if !may_keep && self.broker.registry().contains(&record.client_id) {
            // Its client has come here meanwhile.
            return;
        }
        // Whoever was granted it takes it from the store. Until then what is published comes to it here.
        match self.restore_session(durable, record) {
            Ok(()) => {
                self.shard.counters.sessions_adopted.increment();
                if may_keep {
                    self.keep_adopted(peers, &record.client_id, token);
                } else {
                    promised.add(&record.client_id, record.session);
                }
            }
            // A client waits for it here, and has asked the store under its claim. That asks again under this
            // token.
            Err(_is_wanted) if self.broker.registry().contains(&record.client_id) => {
                self.keep_adopted(peers, &record.client_id, token);
            }
            Err(_no_room) => self.shard.counters.sessions_adopted_exceeded.increment(),
        }
    }

    fn tell_adopted(&mut self, peers: &Peers, dead: BootId, epoch: i64) {
        let (version, ..) = peers.interest().summary();
        let adopted = Adopted { dead, epoch, version };
        self.shard.wake_later(peers.adoptions().hear(peers.boot_id(), adopted));
        for peer in peers.live().iter().filter(|peer| adopts(peer)) {
            self.tell(peer, &ControlFrame::Adopted(adopted));
        }
    }
}

/// Sessions taken, and read, at a time.
const PAGE_MAX: u32 = 512;
/// How long the store is left alone after a failure.
const PAUSE_MILLIS: u64 = 500;
