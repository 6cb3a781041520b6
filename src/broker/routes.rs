//! Routes in the form the publish path wants them: targets with all that is the same for every
//! message made once.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::mqtt::QoS;
use crate::ports::message::SubscriptionTag;
use crate::routing::index::{Subscriber, SubscriberKey};
use crate::routing::route::{Route, Target};
use crate::routing::shared::SharedGroup;
use crate::session::mailbox::Mailbox;

/// A mailbox as the index holds it.
#[derive(Clone, Debug)]
pub struct MailboxRef(pub Arc<Mailbox>);

impl Subscriber for MailboxRef {
    fn key(&self) -> SubscriberKey {
        SubscriberKey(self.0.key().0)
    }
}

/// Who gets the messages of one topic.
#[derive(Debug)]
pub struct Fanout {
    /// One entry per client.
    pub targets: Box<[FanoutTarget]>,
    /// One member of each gets a message.
    pub groups: Box<[FanoutGroup]>,
}

/// A client and the sum of its matching Subscriptions.
#[derive(Clone, Debug)]
pub struct FanoutTarget {
    /// Where its messages go.
    pub mailbox: Arc<Mailbox>,
    /// What the Subscriptions add; `None` when nothing.
    pub tag: Option<Arc<SubscriptionTag>>,
    /// The highest QoS granted.
    pub qos: QoS,
    /// Not to be sent its own messages.
    pub no_local: bool,
    /// Sees RETAIN as it was published.
    pub retain_as_published: bool,
}

/// A Shared Subscription that matches.
#[derive(Debug)]
pub struct FanoutGroup {
    /// The group; its members change under us.
    pub group: Arc<SharedGroup<MailboxRef>>,
    /// `$share/NAME/FILTER`.
    pub filter: Arc<str>,
}

impl Fanout {
    /// Prepares what the index found.
    #[must_use]
    pub fn new(route: &Route<MailboxRef>) -> Self {
        let targets = route.targets.iter().map(|target| FanoutTarget::new(target, None)).collect();
        let groups = route
            .groups
            .iter()
            .map(|group| FanoutGroup { filter: group.filter(), group: Arc::clone(group) })
            .collect();
        Self { targets, groups }
    }
}

impl FanoutTarget {
    /// The target of a Subscription, or of a member of the Shared Subscription `shared_filter`.
    #[must_use]
    pub fn new(target: &Target<MailboxRef>, shared_filter: Option<&Arc<str>>) -> Self {
        let has_tag = shared_filter.is_some() || !target.subscription_ids.is_empty();
        let tag = has_tag.then(|| {
            Arc::new(SubscriptionTag {
                subscription_ids: SmallVec::from_slice(&target.subscription_ids),
                shared_filter: shared_filter.cloned(),
            })
        });
        Self {
            mailbox: Arc::clone(&target.subscriber.0),
            tag,
            qos: target.qos,
            no_local: target.no_local,
            retain_as_published: target.retain_as_published,
        }
    }
}
