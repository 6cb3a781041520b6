//! Messages of QoS 1 and 2 that wait, in their order, and how many of them came by Shared
//! Subscriptions.

use std::collections::VecDeque;
use std::ops::Deref;

use crate::mqtt::TopicFilter;
use crate::ports::message::Delivery;
use crate::session::mailbox::Queued;

/// The queue. It is looked at like any other, and changed here alone.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Queued>,
    shared: u32,
    /// Messages that the client has acknowledged since somebody last looked.
    acknowledged: u32,
}

impl Waiting {
    /// How many of them came by Shared Subscriptions.
    pub(super) fn shared(&self) -> u32 {
        self.shared
    }

    /// The client has acknowledged so many messages.
    #[inline]
    pub(super) fn note_acknowledged(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.acknowledged = self.acknowledged.saturating_add(messages);
    }

    /// Of those that came by Shared Subscriptions, more than were acknowledged since this was last
    /// asked.
    pub(super) fn take_surplus(&mut self) -> usize {
        self.shared.saturating_sub(std::mem::take(&mut self.acknowledged)) as usize
    }

    #[inline]
    pub(super) fn push_back(&mut self, queued: Queued) {
        self.shared += u32::from(is_shared(&queued));
        self.queue.push_back(queued);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.shared -= u32::from(is_shared(&queued));
        Some(queued)
    }

    pub(super) fn insert(&mut self, at: usize, queued: Queued) {
        self.shared += u32::from(is_shared(&queued));
        self.queue.insert(at, queued);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Queued> {
        let queued = self.queue.remove(at)?;
        self.shared -= u32::from(is_shared(&queued));
        Some(queued)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.queue.iter_mut()
    }

    /// Everything; nothing is left.
    pub(super) fn take(&mut self) -> VecDeque<Queued> {
        self.shared = 0;
        std::mem::take(&mut self.queue)
    }

    /// Gives room back that a queue which has run empty does not need.
    #[inline]
    pub(super) fn shrink_to(&mut self, capacity: usize) {
        if self.queue.is_empty() && self.queue.capacity() > capacity {
            self.queue = VecDeque::new();
        }
    }

    /// What came by Shared Subscriptions and may go.
    pub(super) fn take_shared(&mut self, may_go: impl Fn(&Queued) -> bool) -> Vec<Delivery> {
        if self.shared == 0 {
            return Vec::new();
        }
        let (shared, own): (VecDeque<_>, VecDeque<_>) =
            self.take().into_iter().partition(|queued| is_shared(queued) && may_go(queued));
        for queued in own {
            self.push_back(queued);
        }
        shared.into_iter().map(|queued| queued.delivery).collect()
    }

    /// Up to `max` of those that came by `filter` and may go, the oldest first, among the first
    /// `looked_at_max`: the time this takes does not depend on how many wait.
    pub(super) fn take_oldest_of(
        &mut self,
        filter: &TopicFilter,
        max: usize,
        looked_at_max: usize,
        may_go: impl Fn(&Queued) -> bool,
    ) -> Vec<Delivery> {
        let (mut taken, mut passed_over) = (Vec::new(), Vec::new());
        while self.shared > 0 && taken.len() < max && passed_over.len() < looked_at_max {
            let Some(queued) = self.pop_front() else { break };
            if queued.delivery.shared_filter() == Some(filter) && may_go(&queued) {
                taken.push(queued.delivery);
            } else {
                passed_over.push(queued);
            }
        }
        for queued in passed_over.into_iter().rev() {
            self.insert(0, queued);
        }
        taken
    }
}

impl Deref for Waiting {
    type Target = VecDeque<Queued>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

#[inline]
fn is_shared(queued: &Queued) -> bool {
    queued.delivery.shared_filter().is_some()
}
