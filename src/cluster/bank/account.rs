//! A broker's own account: its lease, and what of it is used.
//!
//! The lease is a cap on what exists with this broker as payer. What is not known is taken as it
//! hurts: while a change of the lease is under way, its room is the lower of before and after. An
//! answer that was lost is looked up, and what was read is confirmed by a write at the version that
//! was read: a follower that lags may show an old lease, but a write at an old version fails, and
//! one that succeeds shuts the lost change out for good.

mod moving;
mod opening;

use super::content::{decode_free, encode_lease};
use super::desk::Desk;
use super::funds::Funds;
use super::holdings::{Holdings, Mark};
use super::options::BankOptions;
use super::readings::BankReadings;
use super::sizing::{Books, UNLIMITED, lease_after};
use crate::cluster::jitter::Jitter;
use crate::cluster::paths::{BANK, below};
use crate::ports::Tick;
use crate::ports::coordination::{Change, CoordinationError, CreateMode, Reply, Request, Ticket};

/// What came of a wish to spend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Spending {
    /// It is yours. Give it back when what it paid for is gone.
    Taken,
    /// There is no room in the lease. More is being asked for.
    Short,
}

/// What the tree holds for us.
#[derive(Clone, Copy, Debug)]
struct Lease {
    /// At least this much.
    funds: Funds,
    /// Only we write it, so that it tells whether a change of ours was made.
    version: i32,
}

/// What the account waits for.
#[derive(Debug)]
enum Step {
    Idle,
    /// What is our lease?
    Looking(Ticket),
    /// Is it really?
    Confirming(Ticket, Funds),
    /// The free budget, before a lease is made again under what we still hold.
    Restoring(Ticket),
    /// What do we hold? The free budget of this version is not to change meanwhile.
    Tallying(Option<Mark>, Funds, i32),
    /// A lease where there was none, or in place of one of our last session.
    Opening(Ticket, Funds),
    /// The free budget, before some of it is moved.
    Reading(Ticket),
    /// The lease before and after.
    Moving(Ticket, Lease, Funds),
}

/// The account of this broker.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Account {
    options: BankOptions,
    path: String,
    session: Option<i64>,
    is_connected: bool,
    lease: Option<Lease>,
    /// An answer was lost: the lease is at least what it says, and must be looked up.
    is_unsure: bool,
    used: Funds,
    /// The largest wish that was refused since the last top-up.
    wanted: Funds,
    /// What the last top-up was wished for, until it is taken or nobody comes for it in time.
    granted: Funds,
    granted_until: Tick,
    is_exhausted: bool,
    /// Whether there is something to show to whoever asks how much may still be had.
    has_read_free: bool,
    step: Step,
    /// Not before this; `None` when nothing is to be done.
    due: Option<Tick>,
    failures_in_row: u32,
    jitter: Jitter,
}

impl Account {
    pub(super) fn new(options: BankOptions) -> Self {
        Self {
            path: below(BANK, &options.name),
            session: None,
            is_connected: false,
            lease: None,
            is_unsure: false,
            used: Funds::ZERO,
            wanted: Funds::ZERO,
            granted: Funds::ZERO,
            granted_until: Tick::ZERO,
            is_exhausted: false,
            has_read_free: false,
            step: Step::Idle,
            due: None,
            failures_in_row: 0,
            jitter: Jitter::new(options.jitter_seed),
            options,
        }
    }

    pub(super) fn take(&mut self, now: Tick, cost: Funds, readings: &mut BankReadings) -> Spending {
        let is_room = self.room().covers(cost);
        if is_room {
            self.used = self.used.plus(cost);
            self.granted = self.granted.saturating_minus(cost);
        } else {
            readings.refusals += 1;
            self.wanted = self.wanted.max(cost);
        }
        self.ask_at(now);
        if is_room { Spending::Taken } else { Spending::Short }
    }

    pub(super) fn give_back(&mut self, now: Tick, cost: Funds) {
        debug_assert!(self.used.covers(cost), "{cost} of {} given back", self.used);
        self.used = self.used.saturating_minus(cost);
        self.ask_at(now);
    }

    /// Something exists that was not paid for: an answer was lost and its znode came late.
    pub(super) fn charge(&mut self, now: Tick, cost: Funds) {
        self.used = self.used.plus(cost);
        self.ask_at(now);
    }

    pub(super) fn handle_connected(&mut self, now: Tick, session: i64, is_new: bool) {
        self.session = Some(session);
        self.is_connected = true;
        if is_new {
            self.handle_expired();
        }
        self.due = Some(now);
    }

    pub(super) fn handle_disconnected(&mut self) {
        self.is_connected = false;
    }

    /// The lease went with the session. Whatever was under way is void.
    pub(super) fn handle_expired(&mut self) {
        self.lease = None;
        self.is_unsure = false;
        self.is_exhausted = false;
        self.step = Step::Idle;
    }

    /// Takes an answer, if it is one to us; whether it was.
    pub(super) fn handle_answer(
        &mut self,
        now: Tick,
        ticket: Ticket,
        outcome: &Result<Reply, CoordinationError>,
        desk: &mut Desk,
        readings: &mut BankReadings,
    ) -> bool {
        if self.awaited() != Some(ticket) {
            return false;
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle | Step::Tallying(..) => {}
            Step::Looking(_) => self.handle_looked(now, outcome, desk),
            Step::Confirming(_, funds) => self.handle_confirmed(now, funds, outcome),
            Step::Restoring(_) => self.handle_restoring(now, outcome, readings),
            Step::Opening(_, funds) => self.handle_opened(now, funds, outcome),
            Step::Reading(_) => self.handle_free(now, outcome, desk, readings),
            Step::Moving(_, before, after) => {
                self.handle_moved(now, (before, after), outcome, readings);
            }
        }
        true
    }

    /// Starts whatever is to be done.
    pub(super) fn advance(&mut self, now: Tick, desk: &mut Desk, holdings: &mut Holdings) {
        if let Step::Tallying(mark, free, version) = self.step {
            let mark = mark.unwrap_or_else(|| holdings.mark());
            self.step = Step::Tallying(Some(mark), free, version);
            if holdings.is_settled(mark) {
                self.restore(free, version, holdings.of(self.options.boot_id), desk);
            }
            return;
        }
        if self.granted != Funds::ZERO && self.granted_until <= now {
            self.granted = Funds::ZERO;
            self.ask_at(now);
        }
        let is_due = self.due.is_some_and(|due| due <= now);
        if !is_due || !self.is_connected || !matches!(self.step, Step::Idle) {
            return;
        }
        self.due = None;
        if self.lease.is_none() || self.is_unsure {
            self.step = Step::Looking(desk.submit(Request::Get(self.path.clone())));
        } else if self.is_move_needed() || !self.has_read_free {
            self.step = Step::Reading(desk.submit(Request::Get(BANK.into())));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Tick> {
        let is_idle = self.is_connected && matches!(self.step, Step::Idle);
        let granted = (self.granted != Funds::ZERO).then_some(self.granted_until);
        self.due.into_iter().chain(granted).min().filter(|_| is_idle)
    }

    /// Whether [`Self::advance`] waits for a figure of what exists.
    pub(super) fn awaits_holdings(&self) -> bool {
        matches!(self.step, Step::Tallying(..))
    }

    /// Whether a wish that was refused may be granted soon.
    pub(super) fn has_prospect(&self) -> bool {
        !self.is_exhausted
    }

    /// Whether the lease covers what is used of each currency that `cost` is in.
    pub(super) fn is_covered(&self, cost: Funds) -> bool {
        let overdrawn = self.used.saturating_minus(self.lease());
        overdrawn.min(cost) == Funds::ZERO
    }

    pub(super) fn is_crowded(&self, total: Funds) -> bool {
        !self.options.budget.covers(total.plus(total))
    }

    pub(super) fn lease(&self) -> Funds {
        self.lease.map_or(Funds::ZERO, |lease| lease.funds)
    }

    pub(super) fn used(&self) -> Funds {
        self.used
    }

    fn room(&self) -> Funds {
        self.lease().saturating_minus(self.used)
    }

    fn awaited(&self) -> Option<Ticket> {
        match self.step {
            Step::Idle | Step::Tallying(..) => None,
            Step::Looking(ticket)
            | Step::Confirming(ticket, _)
            | Step::Restoring(ticket)
            | Step::Opening(ticket, _)
            | Step::Reading(ticket)
            | Step::Moving(ticket, ..) => Some(ticket),
        }
    }

    fn open(&mut self, now: Tick, lease: Lease) {
        self.lease = Some(lease);
        self.is_unsure = false;
        self.failures_in_row = 0;
        self.due = Some(now);
    }

    /// Whatever was tried has failed, or nobody knows: look first.
    fn try_again(&mut self, now: Tick) {
        self.is_unsure = true;
        self.pause(now);
    }

    fn pause(&mut self, now: Tick) {
        let exponent = self.failures_in_row.min(PAUSE_DOUBLINGS_MAX);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let window = RETRY_MILLIS << exponent;
        self.due = Some(now.plus_millis(window / 2 + self.jitter.below(window)));
    }

    /// The bank was not counted when it was asked. It is nobody's failure, and will not be long.
    fn await_count(&mut self, now: Tick) {
        self.due = Some(now.plus_millis(COUNT_MILLIS / 2 + self.jitter.below(COUNT_MILLIS)));
    }

    /// Something has changed that may call for a move, unless one is planned for later.
    fn ask_at(&mut self, now: Tick) {
        if self.due.is_none() && self.lease.is_some() && self.is_move_needed() {
            self.due = Some(now);
        }
    }

    fn is_move_needed(&self) -> bool {
        let lease = self.lease();
        self.lease_after(lease, UNLIMITED) != lease
    }

    /// What the lease should be, with so much free.
    fn lease_after(&self, lease: Funds, free: Funds) -> Funds {
        let Self { used, wanted, granted, .. } = *self;
        lease_after(&Books { lease, used, wanted, granted, chunk: self.options.chunk, free })
    }

    fn created(&self, funds: Funds) -> Change {
        let data = encode_lease(self.options.boot_id, funds);
        Change::Create { path: self.path.clone(), data, mode: CreateMode::Ephemeral }
    }
}

pub(super) fn read_free(outcome: &Result<Reply, CoordinationError>) -> Option<(Funds, i32)> {
    let Ok(Reply::Data { data, stat }) = outcome else { return None };
    Some((decode_free(data)?, stat.version))
}

/// The first pause after a failure; it doubles.
const RETRY_MILLIS: u64 = 50;
const PAUSE_DOUBLINGS_MAX: u32 = 6;
/// How often the bank is asked until the leader has counted it.
const COUNT_MILLIS: u64 = 400;
/// How long room is kept for a wish that is not made again.
const GRANT_MILLIS: u64 = 2_000;
/// The pause after the bank had nothing.
const EXHAUSTED_MILLIS: u64 = 2_000;
