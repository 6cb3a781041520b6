//! Where requests of the bank leave it.

use std::collections::VecDeque;

use crate::cluster::tickets::TicketSource;
use crate::ports::coordination::{Request, Ticket};

/// Draws tickets and collects what is to be submitted.
pub(super) struct Desk {
    pub(super) tickets: TicketSource,
    /// Bounded: the account and the audit have one step under way each, and the longest step reads
    /// the lease of every broker.
    pub(super) outputs: VecDeque<(Ticket, Request)>,
}

impl Desk {
    pub(super) fn submit(&mut self, request: Request) -> Ticket {
        let ticket = self.tickets.draw();
        self.outputs.push_back((ticket, request));
        ticket
    }
}
