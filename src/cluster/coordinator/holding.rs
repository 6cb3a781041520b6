//! Who holds one Client Identifier, and who is to have it next.

use crate::cluster::frame::{Claim, Held, Token, Whereabouts};
use crate::cluster::identity::BootId;

/// Who holds one Client Identifier.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) holder: BootId,
    pub(super) token: Token,
    pub(super) stay: Stay,
}

/// Where the Session is.
#[derive(Debug)]
pub(super) enum Stay {
    /// With the holder, or there is none.
    Settled,
    /// On its way to the holder: whoever else claims it waits.
    Arriving {
        /// By which it was granted.
        claim: u64,
        /// Who has it still, as far as is known.
        from: Option<BootId>,
        /// The newest further claim.
        next: Option<Box<Asker>>,
    },
    /// With the holder, who was told by a former coordinator to give it up to somebody.
    Leaving,
}

/// Who wants a Client Identifier.
pub(super) type Asker = (BootId, Claim);

impl Holding {
    /// As its holder says.
    pub(super) fn reported(holder: BootId, held: &Held) -> Self {
        let stay = match held.whereabouts {
            Whereabouts::Here => Stay::Settled,
            Whereabouts::Coming { claim } => Stay::Arriving { claim, from: None, next: None },
            Whereabouts::Going => Stay::Leaving,
        };
        Self { holder, token: held.token, stay }
    }

    /// Whether it was this claim that was granted, and nothing has come of it yet.
    pub(super) fn is_for(&self, asker: BootId, number: u64) -> bool {
        let is_it = matches!(self.stay, Stay::Arriving { claim, .. } if claim == number);
        self.holder == asker && is_it
    }

    /// Who is to give it up when it goes to `to`.
    pub(super) fn former_of(&self, to: BootId) -> Option<BootId> {
        // Who is about to give it up may want it back.
        let stays = self.holder == to && !matches!(self.stay, Stay::Leaving);
        (!stays).then_some(self.holder)
    }

    /// From whom it comes.
    pub(super) fn comes_from(&self) -> Option<BootId> {
        match &self.stay {
            Stay::Arriving { from, .. } => *from,
            Stay::Settled | Stay::Leaving => None,
        }
    }

    /// Of two brokers that have to do with an identifier the one with the higher rank holds it. Under
    /// one token are who waits for a Session and who keeps it after all.
    pub(super) fn rank(&self) -> (Token, bool) {
        (self.token, matches!(self.stay, Stay::Settled))
    }

    /// The holder says more of itself. Whoever was to have it next may be granted it now.
    pub(super) fn update(&mut self, reported: Self) -> Option<Box<Asker>> {
        // What it has been granted since is more than what it knew.
        if reported.token < self.token {
            return None;
        }
        self.token = reported.token;
        match (&self.stay, &reported.stay) {
            (Stay::Arriving { .. }, Stay::Arriving { .. } | Stay::Leaving) => None,
            _ => std::mem::replace(&mut self.stay, reported.stay).next(),
        }
    }

    /// Another broker has it still, and gives it up.
    pub(super) fn expect_from(&mut self, other: BootId) {
        if let Stay::Arriving { from: from @ None, .. } = &mut self.stay {
            *from = Some(other);
        }
    }

    /// The holder is gone, or does not want it. What was on its way is where it was.
    pub(super) fn fall_back(self, dead: Option<BootId>) -> (Option<Self>, Option<Box<Asker>>) {
        match self.stay {
            Stay::Arriving { from: Some(former), next, .. } if Some(former) != dead => {
                (Some(Self { holder: former, token: self.token, stay: Stay::Leaving }), next)
            }
            stay @ (Stay::Settled | Stay::Arriving { .. } | Stay::Leaving) => (None, stay.next()),
        }
    }
}

impl Stay {
    /// Who was to have it next.
    pub(super) fn next(self) -> Option<Box<Asker>> {
        match self {
            Self::Arriving { next, .. } => next,
            Self::Settled | Self::Leaving => None,
        }
    }
}
