//! Routes in the form the publish path wants them: targets with all that is the same for every
//! message made once.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::SubscriptionTag;
use crate::routing::{Route, SharedGroup, Subscriber, SubscriberKey, Target};
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
    /// Whose turn it is.
    group: Arc<SharedGroup<MailboxRef>>,
    /// The members, in the group's order.
    members: Box<[FanoutTarget]>,
}

impl FanoutGroup {
    fn new(group: &Arc<SharedGroup<MailboxRef>>) -> Self {
        let filter = group.id().filter();
        let member = |target: &Arc<Target<MailboxRef>>| FanoutTarget::new(target, Some(filter));
        Self { members: group.members().iter().map(member).collect(), group: Arc::clone(group) }
    }

    /// The members to try for one message; the caller stops at the one that takes it.
    pub fn in_turn(&self) -> impl Iterator<Item = &FanoutTarget> {
        self.group.in_turn().filter_map(|place| self.members.get(place))
    }

    /// Whether any member was granted more than QoS 0.
    #[must_use]
    pub fn has_qos(&self) -> bool {
        self.members.iter().any(|member| member.qos > QoS::AtMostOnce)
    }
}

impl Fanout {
    /// Prepares what the index found.
    #[must_use]
    pub fn new(route: &Route<MailboxRef>) -> Self {
        let targets = route.targets.iter().map(|target| FanoutTarget::new(target, None)).collect();
        let groups = route.groups.iter().map(FanoutGroup::new).collect();
        Self { targets, groups }
    }
}

impl FanoutTarget {
    /// The target of a Subscription, or of a member of the Shared Subscription `shared_filter`.
    #[must_use]
    pub fn new(target: &Target<MailboxRef>, shared_filter: Option<&TopicFilter>) -> Self {
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
