//! What a mailbox has to say and to give as one of a Shared Subscription's members: whether its
//! client could be sent a message now, and what waits in it that another member could be sent.
//!
//! A mailbox is *behind* while its owner is away, or can send nothing, and something waits that another
//! member could have. The budget counts those that are, so that nobody looks for them where there are none.

use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::{Delivery, SubscriptionTag};
use crate::session::mailbox::content::Content;
use crate::session::mailbox::{Appetite, Credit, Mailbox, Owner, State};

/// What another member is given.
#[derive(Debug, Default)]
pub struct Relief {
    /// The oldest that wait.
    pub deliveries: Vec<Delivery>,
    /// The owner, when it has to ask the store for what follows.
    pub wake: Option<Waker>,
    /// Whether more of the kind is left.
    pub has_more: bool,
}

/// How a member does, as somebody sees who looks at it now and then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// How much more it takes.
    pub credit: Credit,
    /// Whether its owner could send nothing now, nor when it was last looked at, or is away.
    pub is_held_up: bool,
    /// Of what waits for it by Shared Subscriptions, more than it has acknowledged since it was last
    /// looked at: what it will not be sent soon.
    pub surplus: usize,
}

/// Marks of the groups of which something waits.
pub type WaitingGroups = SmallVec<[Arc<SubscriptionTag>; 2]>;

impl Mailbox {
    /// Whether its client would be sent a message of `qos` at once, as far as is known here.
    #[inline]
    #[must_use]
    pub fn can_send(&self, qos: QoS) -> bool {
        let content = self.content.lock();
        let Content::Open(state) = &*content else { return content.is_hungry() };
        match qos {
            QoS::AtMostOnce => {
                state.is_attended()
                    && !state.is_blocked()
                    && state.credit(&self.options) != Credit::Short
            }
            QoS::AtLeastOnce | QoS::ExactlyOnce => state.sendable() > 0,
        }
    }

    /// How many messages of QoS 1 and 2 its client would be sent at once.
    #[must_use]
    pub fn sendable(&self) -> usize {
        match &*self.content.lock() {
            Content::Open(state) => state.sendable(),
            content @ Content::Folded { .. } => usize::from(content.is_hungry()),
        }
    }

    /// How it does. To be asked now and then, by one alone: each answer begins where the last one
    /// ended.
    pub fn look(&self) -> Standing {
        let mut content = self.content.lock();
        let credit = content.credit(&self.options);
        let Content::Open(state) = &mut *content else {
            return Standing { credit, is_held_up: false, surplus: 0 };
        };
        let is_held_up = state.sendable() == 0;
        let was_held_up = std::mem::replace(&mut state.was_held_up, is_held_up);
        let surplus = state.at_least_once.take_surplus();
        Standing { credit, is_held_up: is_held_up && was_held_up, surplus }
    }

    /// Marks of the groups of which something waits that its owner cannot send now.
    #[must_use]
    pub fn groups_behind(&self) -> WaitingGroups {
        let mut groups = WaitingGroups::new();
        let content = self.content.lock();
        let Content::Open(state) = &*content else { return groups };
        if !state.is_behind {
            return groups;
        }
        for queued in state.at_least_once.iter().take(LOOKED_AT_MAX) {
            let Some(tag) = &queued.delivery.tag else { continue };
            let is_new = groups.iter().all(|known| known.shared_filter != tag.shared_filter);
            if tag.shared_filter.is_some() && is_new {
                groups.push(Arc::clone(tag));
            }
        }
        groups
    }

    /// Gives another member of the group `filter` up to `max` messages, if this one is behind.
    #[must_use]
    pub fn relieve(&self, filter: &TopicFilter, max: usize) -> Relief {
        let mut content = self.content.lock();
        match &mut *content {
            Content::Open(state) if state.is_behind => self.give(state, filter, max),
            Content::Open(_) | Content::Folded { .. } => Relief::default(),
        }
    }

    fn give(&self, state: &mut State, filter: &TopicFilter, max: usize) -> Relief {
        let places = state.places.as_ref();
        if places.is_none() && self.gathering().is_some() {
            // What came back would have no place in the store.
            return Relief::default();
        }
        let deliveries = state.at_least_once.take_oldest_of(filter, max, LOOKED_AT_MAX, |queued| {
            places.is_none_or(|places| places.is_certain(queued.delivery.sequence))
        });
        for delivery in &deliveries {
            state.discharge(1, delivery.message.charged_bytes());
        }
        let is_relieved = state.places.as_mut().is_some_and(|places| {
            places.is_relieved = places.can_ask() && state.at_least_once.is_empty();
            places.is_relieved
        });
        let wake = if is_relieved { state.wake() } else { None };
        self.note_behind(state);
        self.give_leases_back(state);
        let has_more = deliveries.len() == max && state.is_behind;
        Relief { deliveries, wake, has_more }
    }

    /// The owner's waker, when it waits and could send a message of QoS 1: another member of its group
    /// is behind.
    #[must_use]
    pub fn wake_if_hungry(&self) -> Option<Waker> {
        let mut content = self.content.lock();
        if !content.is_hungry() {
            return None;
        }
        content.open().wake()
    }

    /// To be called when what waits, or who owns it, has changed.
    #[inline]
    pub(super) fn note_behind(&self, state: &mut State) {
        let is_behind = state.at_least_once.shared() > 0 && state.is_unable_to_send();
        if is_behind != state.is_behind {
            state.is_behind = is_behind;
            self.budget.count_behind(is_behind);
        }
    }
}

impl Content {
    /// Whether the owner waits and could send a message of QoS 1.
    fn is_hungry(&self) -> bool {
        match self {
            Self::Open(state) => state.is_hungry(),
            Self::Folded { owner, .. } => {
                matches!(owner, Owner::Idle { appetite: Appetite::Everything, .. })
            }
        }
    }
}

impl State {
    fn is_hungry(&self) -> bool {
        let waits = matches!(self.owner, Owner::Idle { appetite: Appetite::Everything, .. });
        waits && self.sendable() > 0
    }

    pub(super) fn is_attended(&self) -> bool {
        matches!(self.owner, Owner::Working | Owner::Idle { .. })
    }

    /// Whether the socket takes no more.
    fn is_blocked(&self) -> bool {
        matches!(self.owner, Owner::Idle { appetite: Appetite::Nothing, .. })
    }

    /// Whether the owner is away, or waits, but not for messages of QoS 1 and 2.
    fn is_unable_to_send(&self) -> bool {
        match &self.owner {
            Owner::Absent => true,
            Owner::Idle { appetite, .. } => {
                matches!(appetite, Appetite::AtMostOnce | Appetite::Nothing)
            }
            Owner::Working | Owner::Gone => false,
        }
    }

    /// How many more messages of QoS 1 and 2 the owner could send when it last looked.
    fn sendable(&self) -> usize {
        if !self.is_attended() || self.is_blocked() {
            return 0;
        }
        usize::from(self.window).saturating_sub(self.at_least_once.len())
    }
}

/// Messages of a queue that are looked at for one that another member could have.
const LOOKED_AT_MAX: usize = 256;
