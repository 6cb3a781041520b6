//! Who gets the messages of one topic.

use std::sync::Arc;

use smallvec::SmallVec;

use super::shared::SharedGroup;
use crate::mqtt::{QoS, SubscriptionOptions};

/// Names a subscriber. Two handles with the same key are the same subscriber.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubscriberKey(pub u64);

/// The handle of a subscriber, cheap to clone.
pub trait Subscriber: Clone {
    /// Whose handle this is.
    fn key(&self) -> SubscriberKey;
}

/// A subscriber and how it wants the messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target<S> {
    /// Who.
    pub subscriber: S,
    /// The highest QoS its subscriptions allow.
    pub qos: QoS,
    /// Whether its own messages are not for it.
    pub no_local: bool,
    /// Whether RETAIN is sent as it was published.
    pub retain_as_published: bool,
    /// The Subscription Identifiers of all matching subscriptions that have one.
    pub subscription_ids: SmallVec<[u32; 2]>,
}

/// Who gets the messages of one topic: every target, and of each group one member. A snapshot: it
/// stays whole when the index changes.
#[derive(Debug)]
pub struct Route<S> {
    /// The subscribers with a subscription of their own, each once, in the order of their keys.
    pub targets: Box<[Arc<Target<S>>]>,
    /// The Shared Subscriptions that match.
    pub groups: Box<[Arc<SharedGroup<S>>]>,
}

impl<S> Target<S> {
    pub(super) fn new(
        subscriber: S,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) -> Self {
        Self {
            subscriber,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            subscription_ids: subscription_id.into_iter().collect(),
        }
    }

    /// Adds another matching subscription of the same subscriber. It gets one copy, with the
    /// highest QoS [MQTT-3.3.4-2] and every identifier [MQTT-3.3.4-3] [MQTT-3.3.4-4], also when two
    /// are equal; its own messages come back as soon as one subscription does not say `no_local`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.qos = self.qos.max(other.qos);
        self.no_local &= other.no_local;
        self.retain_as_published |= other.retain_as_published;
        self.subscription_ids.extend_from_slice(&other.subscription_ids);
        self.subscription_ids.sort_unstable();
    }
}

impl<S> Route<S> {
    /// Whether nobody gets it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.groups.is_empty()
    }
}

impl<S> Default for Route<S> {
    fn default() -> Self {
        Self { targets: Box::default(), groups: Box::default() }
    }
}
