//! What the lock of a mailbox guards: its state, or what is left of it while it is empty and its owner
//! is not expected back soon.

use crate::mqtt::QoS;
use crate::session::mailbox::{Credit, MailboxOptions, Owner, State};

/// All of it, or next to nothing.
#[derive(Debug)]
pub(super) enum Content {
    /// Somebody works with it.
    Open(Box<State>),
    /// Nothing waits in it and nothing is counted.
    Folded {
        /// As in [`State`].
        owner: Owner,
        /// As in [`State`].
        dropped: u64,
    },
}

impl Content {
    /// That of a mailbox whose owner is away.
    pub(super) fn new() -> Self {
        Self::Folded { owner: Owner::Absent, dropped: 0 }
    }

    /// The state to work with; what was folded is unfolded first.
    #[inline]
    pub(super) fn open(&mut self) -> &mut State {
        if matches!(self, Self::Folded { .. }) {
            self.unfold();
        }
        match self {
            Self::Open(state) => state,
            Self::Folded { .. } => unreachable!("it has just been unfolded"),
        }
    }

    #[cold]
    fn unfold(&mut self) {
        if let Self::Folded { owner, dropped } = self {
            let owner = std::mem::replace(owner, Owner::Absent);
            *self = Self::Open(Box::new(State::new(owner, *dropped)));
        }
    }

    /// Gives the memory back, if there is nothing in it.
    pub(super) fn fold(&mut self) {
        if let Self::Open(state) = self
            && state.is_blank()
        {
            let owner = std::mem::replace(&mut state.owner, Owner::Absent);
            *self = Self::Folded { owner, dropped: state.dropped };
        }
    }

    /// Whether it would not keep a message of this QoS: nobody is there for it, or ever will be.
    #[inline]
    pub(super) fn ignores(&self, qos: QoS) -> bool {
        match self.owner() {
            Owner::Gone => true,
            Owner::Absent => qos == QoS::AtMostOnce,
            Owner::Working | Owner::Idle { .. } => false,
        }
    }

    /// Who has the Session.
    pub(super) fn owner(&self) -> &Owner {
        match self {
            Self::Open(state) => &state.owner,
            Self::Folded { owner, .. } => owner,
        }
    }

    /// Whether there is somebody to take more, and room for it.
    pub(super) fn credit(&self, options: &MailboxOptions) -> Credit {
        match self {
            _ if matches!(self.owner(), Owner::Absent | Owner::Gone) => Credit::Short,
            Self::Open(state) => state.credit(options),
            Self::Folded { .. } => Credit::Free,
        }
    }
}

#[cfg(all(test, not(mqttzoo_loom)))]
mod tests {
    use super::*;
    use crate::session::mailbox::Mailbox;

    /// There may be a million. With the counts of its `Arc` a mailbox fills a size class of the
    /// allocator, and so does a state. Neither class is the one of timers (112), which are freed when
    /// connections are parked: what stays among those keeps their pages.
    #[test]
    fn a_mailbox_and_its_state_are_small() {
        let mailbox = size_of::<Mailbox>() + 16;
        assert!((113..=128).contains(&mailbox) || mailbox <= 96, "{mailbox}");
        assert!(size_of::<State>() <= 192, "{}", size_of::<State>());
    }
}
