//! One broker: its bank, and what is on its way to and from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cluster::bank::{Bank, BankOutput, Funds, Holdings, Mark};
use crate::cluster::identity::BootId;
use crate::cluster::znodes::Tree;
use crate::ports::coordination::{CoordinationError, CoordinationEvent, Request, Ticket};

pub(super) struct Broker {
    pub(super) name: Arc<str>,
    pub(super) boot_id: BootId,
    pub(super) bank: Bank,
    pub(super) holdings: Holdings,
    pub(super) session: i64,
    pub(super) is_connected: bool,
    /// Submitted and not yet seen by the tree.
    pub(super) requests: VecDeque<(Ticket, Request)>,
    /// What the tree has said and the broker not yet heard.
    pub(super) events: VecDeque<CoordinationEvent>,
    /// What it has read of the znodes.
    pub(super) view: BTreeMap<String, (BootId, Funds)>,
    pub(super) unread: VecDeque<(String, Mark)>,
    /// The tree as a server shows it that has not seen the last change of this broker.
    pub(super) lagging: Option<Box<Tree>>,
}

impl Broker {
    pub(super) fn gather_requests(&mut self) {
        while let Some(BankOutput::Submit(ticket, request)) = self.bank.poll_output() {
            self.requests.push_back((ticket, request));
        }
    }

    pub(super) fn lose_requests(&mut self) {
        for (ticket, _) in self.requests.drain(..) {
            let outcome = Err(CoordinationError::ConnectionLost);
            self.events.push_back(CoordinationEvent::Answered { ticket, outcome });
        }
    }

    /// Everything is to be read again, as after a reconnect.
    pub(super) fn list(&mut self, nodes: &[String]) {
        self.holdings.note_listing();
        let known: Vec<String> = self.view.keys().cloned().collect();
        for path in nodes.iter().chain(&known) {
            let mark = self.holdings.note_change();
            self.unread.push_back((path.clone(), mark));
        }
        self.holdings.note_listed();
    }

    pub(super) fn note(&mut self, path: String, found: Option<(BootId, Funds)>, mark: Mark) {
        if let Some((payer, cost)) = self.view.remove(&path) {
            self.holdings.remove(payer, cost);
        }
        if let Some((payer, cost)) = found {
            self.holdings.add(payer, cost);
            self.view.insert(path, (payer, cost));
        }
        self.holdings.note_read(mark);
    }
}
