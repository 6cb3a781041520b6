//! The bank: how much may exist in the tree of znodes, and who may make it.
//!
//! `/bank` holds the free budget of three currencies, its ephemeral children the leases of the
//! brokers. A lease is a *cap on what exists* with its broker as payer: whoever makes a znode takes
//! its cost from the room in its own lease first, and has the room back when the znode is gone or
//! somebody else pays for it. Funds move between `/bank` and a lease in one multi. When a lease ends
//! with its session, what it covered beyond what exists is lost, until the leader counts.
//!
//! Of the tree, at any moment: free + leases + what exists whose payer has no lease is at most the
//! budget, and equal to it at rest. What a broker with a lease pays for is at most its lease.
//!
//! The caller hands over every [`CoordinationEvent`], and calls [`Bank::handle_timeout`] when
//! [`Bank::next_timeout`] has come and, while [`Bank::awaits_holdings`], when more has been read.

mod account;
mod auditor;
mod content;
mod desk;
mod funds;
mod holdings;
mod options;
mod readings;
mod sizing;
#[cfg(test)]
mod tests;

pub use account::Spending;
pub use content::{decode_free, decode_lease};
pub use funds::Funds;
pub use holdings::{Holdings, Mark};
pub use options::BankOptions;
pub use readings::BankReadings;

use std::collections::VecDeque;

use account::Account;
use auditor::Auditor;
use desk::Desk;

use crate::cluster::paths::{BANK, child_of};
use crate::cluster::tickets::{Owner, TicketSource};
use crate::ports::Tick;
use crate::ports::coordination::{Change, ChangeKind, CoordinationEvent, Request, Ticket};

/// This broker's account, and the audit while it leads.
pub struct Bank {
    account: Account,
    auditor: Auditor,
    desk: Desk,
    readings: BankReadings,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BankOutput {
    /// Ask the tree.
    Submit(Ticket, Request),
}

impl Bank {
    /// One without a lease, before the first session.
    #[must_use]
    pub fn new(options: BankOptions) -> Self {
        let tickets = TicketSource::new(Owner::Bank);
        Self {
            auditor: Auditor::new(options.budget),
            account: Account::new(options),
            desk: Desk { tickets, outputs: VecDeque::new() },
            readings: BankReadings::default(),
        }
    }

    /// This process goes on as another broker, which has no lease and has heard of no session yet.
    /// Its tickets go on: a late answer to the former life is an answer to nobody.
    pub fn begin_life(&mut self, options: BankOptions) {
        let former = std::mem::replace(self, Self::new(options));
        self.desk.tickets = former.desk.tickets;
        self.readings = former.readings;
    }

    /// Takes in what the tree has to say.
    pub fn handle(&mut self, now: Tick, event: &CoordinationEvent, holdings: &mut Holdings) {
        match event {
            CoordinationEvent::Connected { session, is_new } => {
                self.account.handle_connected(now, *session, *is_new);
                self.auditor.handle_connected(now, *is_new);
            }
            CoordinationEvent::Disconnected => {
                self.account.handle_disconnected();
                self.auditor.handle_disconnected();
            }
            CoordinationEvent::Expired => {
                self.account.handle_expired();
                self.account.handle_disconnected();
                self.auditor.handle_disconnected();
            }
            CoordinationEvent::Answered { ticket, outcome } => {
                let Self { account, auditor, desk, readings } = self;
                if !account.handle_answer(now, *ticket, outcome, desk, readings) {
                    auditor.handle_answer(now, *ticket, outcome, desk, readings);
                }
            }
            CoordinationEvent::Changed { path, kind } => self.handle_change(now, path, *kind),
        }
        self.handle_timeout(now, holdings);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Tick, holdings: &mut Holdings) {
        self.account.advance(now, &mut self.desk, holdings);
        self.auditor.advance(now, &mut self.desk, holdings, &mut self.readings);
    }

    /// This broker leads, and each of its writes must stand together with this check of its lock;
    /// or it leads no more.
    pub fn set_leading(&mut self, now: Tick, lock: Option<Change>) {
        self.auditor.set_leading(now, lock);
    }

    /// Takes `cost` from the room in the lease, at once or not at all. More is asked for in the
    /// background when there is little left.
    pub fn take(&mut self, now: Tick, cost: Funds) -> Spending {
        self.account.take(now, cost, &mut self.readings)
    }

    /// Whether what was taken at `cost` is still covered. The lease goes with its session, and others may
    /// have then what is not there yet, or not any more: whoever has taken something asks before making it.
    #[must_use]
    pub fn is_covered(&self, cost: Funds) -> bool {
        self.account.is_covered(cost)
    }

    /// What was taken has not come to be, or is gone, or somebody else pays for it.
    pub fn give_back(&mut self, now: Tick, cost: Funds) {
        self.account.give_back(now, cost);
    }

    /// Something exists that was given back before: the answer to its making was lost and it came
    /// late. It is charged even where there is no room.
    pub fn charge(&mut self, now: Tick, cost: Funds) {
        self.readings.late_charges += 1;
        self.account.charge(now, cost);
    }

    /// An own registration was deleted to make room.
    pub fn note_eviction(&mut self) {
        self.readings.evictions += 1;
    }

    /// Whether more room may come although [`Self::take`] said [`Spending::Short`]: not when the bank
    /// had nothing left.
    #[must_use]
    pub fn has_prospect(&self) -> bool {
        self.account.has_prospect()
    }

    /// Whether more than half of what there may be is there. Then what nobody would miss is to go.
    #[must_use]
    pub fn is_crowded(&self, holdings: &Holdings) -> bool {
        self.account.is_crowded(holdings.total())
    }

    /// Whether [`Self::handle_timeout`] is to be called whenever [`Holdings`] have been brought up
    /// to date.
    #[must_use]
    pub fn awaits_holdings(&self) -> bool {
        self.account.awaits_holdings() || self.auditor.awaits_holdings()
    }

    /// When [`Self::handle_timeout`] is due. It may be past: after a wish that leaves little room.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Tick> {
        self.account.next_timeout().into_iter().chain(self.auditor.next_timeout()).min()
    }

    /// What is to be done next; call until there is nothing.
    pub fn poll_output(&mut self) -> Option<BankOutput> {
        let (ticket, request) = self.desk.outputs.pop_front()?;
        Some(BankOutput::Submit(ticket, request))
    }

    /// Figures for whoever watches.
    #[must_use]
    pub fn readings(&self) -> BankReadings {
        BankReadings { lease: self.account.lease(), used: self.account.used(), ..self.readings }
    }

    /// A lease that comes or goes calls for an audit.
    fn handle_change(&mut self, now: Tick, path: &str, kind: ChangeKind) {
        let is_lease = child_of(BANK, path).is_some();
        match kind {
            ChangeKind::Created | ChangeKind::Deleted if is_lease => self.auditor.call(now),
            ChangeKind::Created | ChangeKind::Deleted | ChangeKind::DataChanged => {}
        }
    }
}
