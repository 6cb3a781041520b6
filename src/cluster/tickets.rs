//! Whose request a ticket names: one way to the tree of znodes serves several modules.

use crate::ports::coordination::Ticket;

/// A module that asks the tree of znodes for something.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// Who is alive, who leads, who has which slots.
    Membership,
    /// What time it is.
    Clock,
    /// Who may keep how much in the tree.
    Bank,
    /// Which topics there are, and their values.
    Topics,
    /// Frames between brokers that have no link.
    Relay,
}

impl Owner {
    /// Of all there are, for whoever sets up a table.
    pub const ALL: [Self; 5] =
        [Self::Membership, Self::Clock, Self::Bank, Self::Topics, Self::Relay];

    /// The owner of a ticket that a [`TicketSource`] gave.
    #[must_use]
    pub fn of(ticket: Ticket) -> Option<Self> {
        let digit = ticket.0 >> COUNTER_BITS;
        Self::ALL.into_iter().find(|owner| owner.digit() == digit)
    }

    /// Never 0, so that a number from elsewhere is nobody's.
    const fn digit(self) -> u64 {
        match self {
            Self::Membership => 1,
            Self::Clock => 2,
            Self::Bank => 3,
            Self::Topics => 4,
            Self::Relay => 5,
        }
    }
}

/// Tickets of one owner, each given once.
///
/// It outlives a module that is made anew within one process, so that a late answer never meets
/// somebody else's question.
#[derive(Debug)]
pub struct TicketSource {
    last: u64,
}

impl TicketSource {
    /// None has been given yet.
    #[must_use]
    pub const fn new(owner: Owner) -> Self {
        Self { last: owner.digit() << COUNTER_BITS }
    }

    /// Another one.
    pub fn draw(&mut self) -> Ticket {
        self.last += 1;
        Ticket(self.last)
    }
}

/// What is left for counting: enough for a million requests a second through two thousand years.
const COUNTER_BITS: u32 = 56;

#[cfg(test)]
mod tests {
    use super::{Owner, Ticket, TicketSource};

    #[test]
    fn a_ticket_leads_to_its_owner() {
        for owner in Owner::ALL {
            let mut source = TicketSource::new(owner);
            let (first, second) = (source.draw(), source.draw());
            assert_ne!(first, second);
            assert_eq!((Owner::of(first), Owner::of(second)), (Some(owner), Some(owner)));
        }
        assert_eq!(Owner::of(Ticket(7)), None);
    }
}
