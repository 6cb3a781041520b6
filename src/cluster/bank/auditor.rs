//! The leader's part: the free budget, counted anew.
//!
//! free = budget - leases - what exists whose payer has no lease. Leases are read first; then all
//! that had changed by then is read; the result is written at the version that the free budget had
//! before either. Whoever moves funds, or takes up a lease under what it holds, changes that
//! version. A broker that ends between the two reads is counted with its lease, which is no less
//! than what it leaves; its end calls for the next audit.

use std::collections::BTreeSet;

use super::account::read_free;
use super::content::{decode_lease, encode_free};
use super::desk::Desk;
use super::funds::Funds;
use super::holdings::{Holdings, Mark};
use super::readings::BankReadings;
use crate::cluster::identity::BootId;
use crate::cluster::paths::{BANK, below};
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Reply, Request, Ticket};

use CoordinationError::NoNode;

type Outcome = Result<Reply, CoordinationError>;

/// Counts while this broker leads.
pub(super) struct Auditor {
    budget: Funds,
    /// Fails when we lead no more.
    lock: Option<Change>,
    is_connected: bool,
    is_watching: bool,
    step: Step,
    due: Option<Tick>,
    /// Who had a lease in the last audit, and what existed beside theirs.
    last: Option<(Vec<BootId>, Funds)>,
    last_at: Tick,
    look_at: Tick,
}

enum Step {
    Idle,
    Watching(Ticket),
    Founding(Ticket),
    Reading(Ticket),
    Listing(Ticket, Base),
    Leases(BTreeSet<Ticket>, Count),
    Tallying(Option<Mark>, Count),
    Writing(Ticket, Vec<BootId>, Funds),
}

/// The free budget as it was read first.
#[derive(Clone, Copy)]
struct Base {
    free: Funds,
    version: i32,
}

struct Count {
    base: Base,
    payers: Vec<BootId>,
    leases: Funds,
}

impl Auditor {
    pub(super) fn new(budget: Funds) -> Self {
        Self {
            budget,
            lock: None,
            is_connected: false,
            is_watching: false,
            step: Step::Idle,
            due: None,
            last: None,
            last_at: Tick::ZERO,
            look_at: Tick::ZERO,
        }
    }

    pub(super) fn set_leading(&mut self, now: Tick, lock: Option<Change>) {
        self.due = lock.is_some().then_some(now);
        self.lock = lock;
        self.step = Step::Idle;
        self.last = None;
    }

    pub(super) fn handle_connected(&mut self, now: Tick, is_new: bool) {
        self.is_connected = true;
        self.is_watching &= !is_new;
        self.call(now);
    }

    pub(super) fn handle_disconnected(&mut self) {
        self.is_connected = false;
        self.step = Step::Idle;
    }

    /// A lease has come or gone.
    pub(super) fn call(&mut self, now: Tick) {
        if self.lock.is_some() {
            self.due = Some(self.due.map_or(now, |due| due.min(now)));
        }
    }

    /// Takes an answer, if it is one to us.
    pub(super) fn handle_answer(
        &mut self,
        now: Tick,
        ticket: Ticket,
        outcome: &Outcome,
        desk: &mut Desk,
        readings: &mut BankReadings,
    ) {
        if !self.awaits(ticket) {
            return;
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle | Step::Tallying(..) => {}
            Step::Watching(_) => self.handle_watched(now, outcome, desk),
            // Founded by us or by another leader: look again.
            Step::Founding(_) => self.pause(now),
            Step::Reading(_) => self.handle_free(now, outcome, desk, readings),
            Step::Listing(_, base) => self.handle_names(now, base, outcome, desk),
            Step::Leases(mut waiting, count) => {
                waiting.remove(&ticket);
                self.handle_lease(now, (waiting, count), outcome, readings);
            }
            Step::Writing(_, payers, orphans) => {
                self.handle_written(now, (payers, orphans), outcome, readings);
            }
        }
    }

    /// Starts whatever is to be done.
    pub(super) fn advance(
        &mut self,
        now: Tick,
        desk: &mut Desk,
        holdings: &mut Holdings,
        readings: &mut BankReadings,
    ) {
        if matches!(self.step, Step::Tallying(..)) {
            return self.tally(now, desk, holdings, readings);
        }
        if self.lock.is_none() || !self.is_connected || !matches!(self.step, Step::Idle) {
            return;
        }
        if self.due.is_some_and(|due| due > now) {
            return;
        }
        let is_called = self.due.take().is_some();
        if !is_called && self.look_at > now {
            return;
        }
        self.look_at = now.plus_millis(LOOK_MILLIS);
        if is_called || self.is_drifting(now, holdings) {
            self.begin(desk);
        }
    }

    /// While it leads it also looks by itself whether what nobody pays for has changed.
    pub(super) fn next_timeout(&self) -> Option<Tick> {
        let can_begin = self.lock.is_some() && self.is_connected && matches!(self.step, Step::Idle);
        can_begin.then(|| self.due.unwrap_or(self.look_at))
    }

    pub(super) fn awaits_holdings(&self) -> bool {
        matches!(self.step, Step::Tallying(..))
    }

    /// Whether what nobody pays for has changed, or the last audit is long ago.
    fn is_drifting(&self, now: Tick, holdings: &Holdings) -> bool {
        let Some((payers, orphans)) = &self.last else { return true };
        holdings.of_others_than(payers) != *orphans
            || now.saturating_since(self.last_at) >= AUDIT_MILLIS
    }

    fn awaits(&self, answered: Ticket) -> bool {
        match &self.step {
            Step::Idle | Step::Tallying(..) => false,
            Step::Watching(ticket)
            | Step::Founding(ticket)
            | Step::Reading(ticket)
            | Step::Listing(ticket, _)
            | Step::Writing(ticket, ..) => *ticket == answered,
            Step::Leases(waiting, _) => waiting.contains(&answered),
        }
    }

    fn begin(&mut self, desk: &mut Desk) {
        self.step = if self.is_watching {
            Step::Reading(desk.submit(Request::Get(BANK.into())))
        } else {
            Step::Watching(desk.submit(Request::Watch(BANK.into())))
        };
    }

    fn handle_watched(&mut self, now: Tick, outcome: &Outcome, desk: &mut Desk) {
        match outcome {
            Ok(_) => {
                self.is_watching = true;
                self.begin(desk);
            }
            Err(NoNode) => self.found(desk),
            Err(_) => self.pause(now),
        }
    }

    /// The first leader of a cluster opens the bank, with nothing in it until the first audit.
    fn found(&mut self, desk: &mut Desk) {
        let Some(lock) = self.lock.clone() else { return };
        let bank = Change::Create {
            path: BANK.into(),
            data: encode_free(Funds::ZERO),
            mode: CreateMode::Persistent,
        };
        self.step = Step::Founding(desk.submit(Request::All(vec![lock, bank])));
    }

    fn handle_free(
        &mut self,
        now: Tick,
        outcome: &Outcome,
        desk: &mut Desk,
        readings: &mut BankReadings,
    ) {
        if matches!(outcome, Err(NoNode)) {
            return self.found(desk);
        }
        let Some((free, version)) = read_free(outcome) else {
            readings.unreadable += u64::from(outcome.is_ok());
            return self.pause(now);
        };
        readings.free = Some(free);
        let list = desk.submit(Request::List(BANK.into()));
        self.step = Step::Listing(list, Base { free, version });
    }

    fn handle_names(&mut self, now: Tick, base: Base, outcome: &Outcome, desk: &mut Desk) {
        let Ok(Reply::Children(names)) = outcome else { return self.pause(now) };
        let count = Count { base, payers: Vec::new(), leases: Funds::ZERO };
        let leases = names.iter().map(|name| desk.submit(Request::Get(below(BANK, name))));
        let waiting: BTreeSet<Ticket> = leases.collect();
        self.step = next_of(waiting, count);
    }

    fn handle_lease(
        &mut self,
        now: Tick,
        (waiting, mut count): (BTreeSet<Ticket>, Count),
        outcome: &Outcome,
        readings: &mut BankReadings,
    ) {
        match outcome {
            Ok(Reply::Data { data, .. }) => {
                let Some((boot_id, funds)) = decode_lease(data) else {
                    readings.unreadable += 1;
                    return self.pause(now);
                };
                count.payers.push(boot_id);
                count.leases = count.leases.plus(funds);
            }
            Err(NoNode) => {}
            Ok(_) | Err(_) => return self.pause(now),
        }
        self.step = next_of(waiting, count);
    }

    fn tally(
        &mut self,
        now: Tick,
        desk: &mut Desk,
        holdings: &mut Holdings,
        readings: &mut BankReadings,
    ) {
        let Step::Tallying(mark, count) = std::mem::replace(&mut self.step, Step::Idle) else {
            return;
        };
        let mark = mark.unwrap_or_else(|| holdings.mark());
        let Some(lock) = self.lock.clone() else { return };
        if !holdings.is_settled(mark) {
            self.step = Step::Tallying(Some(mark), count);
            return;
        }
        let orphans = holdings.of_others_than(&count.payers);
        let spoken_for = count.leases.plus(orphans);
        let free = self.budget.saturating_minus(spoken_for);
        readings.over_budget = spoken_for.saturating_minus(self.budget);
        readings.audits += 1;
        if free == count.base.free {
            return self.finish(now, count.payers, orphans);
        }
        let (data, version) = (encode_free(free), Some(count.base.version));
        let write = Change::Set { path: BANK.into(), data, version };
        let ticket = desk.submit(Request::All(vec![lock, write]));
        readings.free = Some(free);
        self.step = Step::Writing(ticket, count.payers, orphans);
    }

    fn handle_written(
        &mut self,
        now: Tick,
        (payers, orphans): (Vec<BootId>, Funds),
        outcome: &Outcome,
        readings: &mut BankReadings,
    ) {
        match outcome {
            Ok(_) => {
                readings.corrections += 1;
                self.finish(now, payers, orphans);
            }
            Err(CoordinationError::Part { part: 0, .. }) => {
                // Another one leads. Whoever watches the lock will say so as well.
                self.set_leading(now, None);
            }
            // Somebody moved funds meanwhile, or nobody knows: count again.
            Err(_) => self.pause(now),
        }
    }

    fn finish(&mut self, now: Tick, payers: Vec<BootId>, orphans: Funds) {
        self.last = Some((payers, orphans));
        self.last_at = now;
    }

    fn pause(&mut self, now: Tick) {
        self.due = Some(now.plus_millis(RETRY_MILLIS));
    }
}

fn next_of(waiting: BTreeSet<Ticket>, count: Count) -> Step {
    if waiting.is_empty() { Step::Tallying(None, count) } else { Step::Leases(waiting, count) }
}

const RETRY_MILLIS: u64 = 100;
/// How often the leader looks whether what nobody pays for has changed.
const LOOK_MILLIS: u64 = 1_000;
/// How often it counts although nothing calls for it.
const AUDIT_MILLIS: u64 = 60_000;
