//! Routes in the form the publish path wants them: targets with all that is the same for every
//! message made once.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::acknowledge::Level;
use crate::broker::peers::adoption::adopts;
use crate::broker::peers::peer::Peer;
use crate::broker::relief::MEMBERS_LOOKED_AT_MAX;
use crate::cluster::frame::Whom;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::message::SubscriptionTag;
use crate::routing::{Route, SharedGroup, Subscriber, SubscriberKey, Target};
use crate::session::mailbox::{Credit, Mailbox};

/// Where messages of one Subscription go, as the index holds it.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To a Session of this broker.
    Mailbox(Arc<Mailbox>),
    /// To another broker, for whoever there wants them.
    Peer(Arc<Peer>),
}

impl Subscriber for Destination {
    fn key(&self) -> SubscriberKey {
        match self {
            Self::Mailbox(mailbox) => SubscriberKey(mailbox.key().0),
            Self::Peer(peer) => peer.key(),
        }
    }
}

/// Who gets the messages of one topic.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// One entry per client of this broker.
    pub targets: Box<[FanoutTarget]>,
    /// One member of each gets a message.
    pub groups: Box<[FanoutGroup]>,
    /// One entry per broker where somebody subscribes without sharing.
    pub peers: Box<[PeerTarget]>,
    /// Whether its messages are kept as its latest value.
    pub keeps_latest: bool,
    /// What the acknowledgement of its messages waits for, where the topic has a level of its own.
    pub level: Option<Level>,
    /// When it is to be looked up again although nothing has changed.
    pub fresh_until: Tick,
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

/// A broker and the highest QoS anybody there was granted.
#[derive(Clone, Debug)]
pub struct PeerTarget {
    /// The broker.
    pub peer: Arc<Peer>,
    /// The highest QoS granted.
    pub qos: QoS,
    /// Which Sessions there get it.
    pub whom: Whom,
}

/// A Shared Subscription that matches.
#[derive(Clone, Debug)]
pub struct FanoutGroup {
    /// Whose turn it is.
    group: Arc<SharedGroup<Destination>>,
    /// The members in the order of their turns: a broker stands there once for each member it has
    /// that can take messages.
    members: Box<[Member]>,
    /// Brokers none of whose members can.
    spare: Box<[Member]>,
}

/// A member of a Shared Subscription.
#[derive(Clone, Debug)]
pub enum Member {
    /// A client of this broker.
    Local(FanoutTarget),
    /// One of the clients of another broker; which one it decides.
    Remote(PeerTarget),
}

impl FanoutGroup {
    fn new(group: &Arc<SharedGroup<Destination>>) -> Self {
        let filter = group.id().filter();
        let mut members = Vec::with_capacity(group.members().len());
        let mut spare = Vec::new();
        for target in group.members() {
            match &target.subscriber {
                Destination::Mailbox(mailbox) => {
                    let member = FanoutTarget::new(mailbox, target, Some(filter));
                    members.push(Member::Local(member));
                }
                Destination::Peer(peer) => {
                    let member = PeerTarget::new(peer, target.qos);
                    match peer.group_weight(filter).into() {
                        0 => spare.push(Member::Remote(member)),
                        weight => {
                            members.extend(std::iter::repeat_n(Member::Remote(member), weight));
                        }
                    }
                }
            }
        }
        Self { members: members.into(), spare: spare.into(), group: Arc::clone(group) }
    }

    /// The whole filter, with `$share/` and the name.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        self.group.id().filter()
    }

    /// The members to try for one message, but for brokers none of whose members can take one; the
    /// caller stops at the one that takes it.
    pub fn in_turn(&self) -> impl Iterator<Item = &Member> {
        self.group.in_turn_of(self.members.len()).filter_map(|place| self.members.get(place))
    }

    /// The ones that would be sent a message of `qos` at once, of as many as are looked at for it.
    pub fn ready(&self, qos: QoS) -> impl Iterator<Item = &Member> {
        self.in_turn().take(MEMBERS_LOOKED_AT_MAX).filter(move |member| member.is_ready(qos))
    }

    /// Whose turn it is, and who its members are.
    #[must_use]
    pub fn group(&self) -> &SharedGroup<Destination> {
        &self.group
    }

    /// Everyone, those brokers behind all others: it may be otherwise there by now.
    pub fn everyone(&self) -> impl Iterator<Item = &Member> {
        let spare = self.group.in_turn_of(self.spare.len());
        self.in_turn().chain(spare.filter_map(|place| self.spare.get(place)))
    }

    /// Whether all that it has are members at brokers that are dead.
    #[must_use]
    pub fn is_of_dead(&self) -> bool {
        self.members.iter().chain(&self.spare).all(|member| !member.is_open())
    }

    /// Whether a message of `qos` may have to be held for a stored Session of a dead broker.
    fn has_mourned(&self, qos: QoS) -> bool {
        let mut members = self.members.iter().chain(&self.spare);
        members.any(|member| !member.is_open() && member.qos().min(qos) > QoS::AtMostOnce)
    }

    /// Whether any member was granted more than QoS 0.
    #[must_use]
    pub fn has_qos(&self) -> bool {
        let mut members = self.members.iter().chain(&self.spare);
        members.any(|member| member.qos() > QoS::AtMostOnce)
    }
}

impl Member {
    /// Whether it would be sent a message of `qos` at once, as far as is known here.
    #[must_use]
    pub fn is_ready(&self, qos: QoS) -> bool {
        match self {
            Self::Local(target) => target.mailbox.can_send(qos.min(target.qos)),
            Self::Remote(target) => target.peer.lane().is_flowing(),
        }
    }

    /// Whether it has room for more than it has, as far as is known here.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        match self {
            Self::Local(target) => target.mailbox.credit() != Credit::Short,
            Self::Remote(target) => target.peer.lane().is_flowing(),
        }
    }

    /// Whether anybody is there to take a message, now or later.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        match self {
            Self::Local(target) => target.mailbox.is_attended(),
            Self::Remote(target) => target.peer.lane().is_flowing(),
        }
    }

    /// Whether it may take a message of QoS 1 or 2, sooner or later.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Remote(target) => !target.peer.lane().is_closed(),
        }
    }

    /// The QoS it was granted, or the highest of those it stands for.
    #[must_use]
    pub fn qos(&self) -> QoS {
        match self {
            Self::Local(target) => target.qos,
            Self::Remote(target) => target.qos,
        }
    }
}

impl Fanout {
    /// Whether there is nothing to decide: at most one client, and no other broker.
    #[inline]
    #[must_use]
    pub fn is_at_most_one(&self) -> bool {
        self.targets.len() <= 1 && self.groups.is_empty() && self.peers.is_empty()
    }

    /// Whether nobody here gets anything, and somebody elsewhere does.
    #[inline]
    #[must_use]
    pub fn is_for_peers_only(&self) -> bool {
        self.targets.is_empty() && self.groups.is_empty() && !self.peers.is_empty()
    }

    /// Whether a message of this QoS may have to be held for the stored Sessions of a dead broker.
    pub(crate) fn has_mourned(&self, qos: QoS) -> bool {
        self.has_mourned_subscribers(qos) || self.mourned_groups(qos).next().is_some()
    }

    /// Whether it has to be, for those that do not share it.
    pub(crate) fn has_mourned_subscribers(&self, qos: QoS) -> bool {
        let is_dead = |target: &PeerTarget| target.peer.lane().is_closed();
        let has_qos = |target: &PeerTarget| target.qos.min(qos) > QoS::AtMostOnce;
        self.peers.iter().any(|target| is_dead(target) && has_qos(target))
    }

    /// Shared Subscriptions with members at a dead broker.
    pub(crate) fn mourned_groups(&self, qos: QoS) -> impl Iterator<Item = &FanoutGroup> {
        self.groups.iter().filter(move |group| group.has_mourned(qos))
    }

    /// The same without these Shared Subscriptions.
    pub(crate) fn without_groups(mut self, filters: &[TopicFilter]) -> Self {
        let groups = self.groups.into_iter().filter(|group| !filters.contains(group.filter()));
        self.groups = groups.collect();
        self
    }

    /// The same without Sessions that are stored.
    pub(crate) fn unstored(&self) -> Self {
        let is_there = |target: &&PeerTarget| !target.peer.lane().is_closed();
        let unstored = |target: &PeerTarget| {
            let whom = if adopts(&target.peer) { Whom::Unstored } else { Whom::Everybody };
            PeerTarget { whom, ..target.clone() }
        };
        let is_stored = |target: &&FanoutTarget| target.mailbox.is_for_store();
        Self {
            targets: self.targets.iter().filter(|target| !is_stored(target)).cloned().collect(),
            groups: self.groups.clone(),
            peers: self.peers.iter().filter(is_there).map(unstored).collect(),
            ..*self
        }
    }

    /// Prepares what the index found.
    #[must_use]
    pub fn new(route: &Route<Destination>) -> Self {
        let (mut targets, mut peers) = (Vec::with_capacity(route.targets.len()), Vec::new());
        for target in &route.targets {
            match &target.subscriber {
                Destination::Mailbox(mailbox) => {
                    targets.push(FanoutTarget::new(mailbox, target, None));
                }
                Destination::Peer(peer) => {
                    peers.push(PeerTarget::new(peer, target.qos));
                }
            }
        }
        let groups = route.groups.iter().map(FanoutGroup::new).collect();
        let fresh_until = Tick::from_millis(u64::MAX);
        let (targets, peers) = (targets.into(), peers.into());
        Self { targets, groups, peers, keeps_latest: false, level: None, fresh_until }
    }
}

impl PeerTarget {
    fn new(peer: &Arc<Peer>, qos: QoS) -> Self {
        Self { peer: Arc::clone(peer), qos, whom: Whom::Everybody }
    }
}

impl FanoutTarget {
    /// The target of a Subscription, or of a member of the Shared Subscription `shared_filter`.
    #[must_use]
    pub fn new(
        mailbox: &Arc<Mailbox>,
        target: &Target<Destination>,
        shared_filter: Option<&TopicFilter>,
    ) -> Self {
        let has_tag = shared_filter.is_some() || !target.subscription_ids.is_empty();
        let tag = has_tag.then(|| {
            Arc::new(SubscriptionTag {
                subscription_ids: SmallVec::from_slice(&target.subscription_ids),
                shared_filter: shared_filter.cloned(),
            })
        });
        Self {
            mailbox: Arc::clone(mailbox),
            tag,
            qos: target.qos,
            no_local: target.no_local,
            retain_as_published: target.retain_as_published,
        }
    }
}
