//! Messages on their way to other brokers: once to each that wants it, answered for when their QoS
//! says so.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::peers::Peers;
use crate::broker::peers::adoption::adopts;
use crate::broker::peers::again::LeftOut;
use crate::broker::peers::peer::{Peer, SharedPart};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::routes::PeerTarget;
use crate::broker::turn::Turn;
use crate::cluster::frame::Whom;
use crate::cluster::identity::BootId;
use crate::cluster::lane::Offered;
use crate::cluster::version::Version;
use crate::cluster::wire::{self, ENTRIES_MAX, PublishParts};
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::Message;

/// What one broker gets of a message.
#[derive(Debug)]
pub(crate) struct PeerShare {
    /// The broker.
    pub(crate) peer: Arc<Peer>,
    /// The lower of what was published and what is wanted there.
    pub(crate) qos: QoS,
    /// Whether it goes to ordinary Subscriptions there.
    pub(crate) is_for_subscribers: bool,
    /// Of which Sessions.
    pub(crate) whom: Whom,
    /// The Shared Subscriptions of which a member there gets it.
    pub(crate) groups: SmallVec<[TopicFilter; 1]>,
}

/// What a broker is to do with a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    qos: QoS,
    version: Option<Version>,
    is_for_subscribers: bool,
    whom: Whom,
    groups: &'a [TopicFilter],
}

/// One entry per broker that gets a message.
pub(crate) type PeerShares = SmallVec<[PeerShare; 4]>;

impl<'a> Errand<'a> {
    /// For a member of each of these groups, and nobody else: as many as one frame has room for.
    pub(super) fn to_groups(qos: QoS, groups: &'a [TopicFilter]) -> Self {
        let whom = Whom::Everybody;
        Self { qos, version: None, is_for_subscribers: false, whom, groups }
    }

    /// For ordinary subscribers, and nobody else.
    pub(super) fn to_subscribers(qos: QoS, whom: Whom) -> Self {
        Self { qos, version: None, is_for_subscribers: true, whom, groups: &[] }
    }

    /// What `peer` does not have if it is not told.
    fn left_out(&self, peer: &Peer) -> LeftOut {
        LeftOut {
            peer: Some(peer.boot_id()),
            is_for_subscribers: self.is_for_subscribers,
            groups: self.groups.iter().cloned().collect(),
            version: self.version,
        }
    }
}

impl PeerShare {
    /// One frame each: the receiver takes none that is larger than it must be. Only the first one is
    /// about more than groups, so that nothing is done twice.
    pub(super) fn errands(&self, version: Option<Version>) -> impl Iterator<Item = Errand<'_>> {
        let Self { qos, is_for_subscribers, whom, ref groups, .. } = *self;
        let (groups, mut rest) = split_groups(groups);
        let more = std::iter::from_fn(move || {
            let (groups, others) = split_groups(rest);
            rest = others;
            (!groups.is_empty()).then_some(Errand::to_groups(qos, groups))
        });
        std::iter::once(Errand { qos, version, is_for_subscribers, whom, groups }).chain(more)
    }
}

/// As many of them as one frame has room for, and the others.
fn split_groups(groups: &[TopicFilter]) -> (&[TopicFilter], &[TopicFilter]) {
    let mut bytes = 0;
    let is_too_many = |filter: &TopicFilter| {
        let is_first = bytes == 0;
        bytes += filter.as_str().len();
        !is_first && bytes > GROUPS_BYTES_MAX
    };
    let end = groups.iter().take(ENTRIES_MAX).position(is_too_many);
    groups.split_at(end.unwrap_or(groups.len().min(ENTRIES_MAX)))
}

/// Adds that `target` is to get a message for its ordinary subscribers.
pub(crate) fn share_with_subscribers(shares: &mut PeerShares, target: &PeerTarget, qos: QoS) {
    let share = share_of(shares, &target.peer);
    share.qos = share.qos.max(qos.min(target.qos));
    share.is_for_subscribers = true;
    share.whom = target.whom;
}

/// Adds that a member of `group` at `target` is to get a message.
pub(crate) fn share_with_group(
    shares: &mut PeerShares,
    target: &PeerTarget,
    group: &TopicFilter,
    qos: QoS,
) {
    let share = share_of(shares, &target.peer);
    share.qos = share.qos.max(qos.min(target.qos));
    share.groups.push(group.clone());
}

/// Adds that `peer` is to keep a retained message, whoever wants it there.
pub(crate) fn share_to_retain(shares: &mut PeerShares, peer: &Arc<Peer>, qos: QoS) {
    let share = share_of(shares, peer);
    share.qos = share.qos.max(qos);
}

fn share_of<'a>(shares: &'a mut PeerShares, peer: &Arc<Peer>) -> &'a mut PeerShare {
    let place = shares.iter().position(|share| Arc::ptr_eq(&share.peer, peer));
    let place = place.unwrap_or_else(|| {
        shares.push(PeerShare {
            peer: Arc::clone(peer),
            qos: QoS::AtMostOnce,
            is_for_subscribers: false,
            whom: Whom::Everybody,
            groups: SmallVec::new(),
        });
        shares.len() - 1
    });
    shares.get_mut(place).expect("it was found or has just been added")
}

impl Turn<'_> {
    /// Sends `message` to other brokers. There is a ticket then when their answers are to be waited
    /// for.
    pub(crate) fn forward(
        &mut self,
        message: &Arc<Message>,
        shares: PeerShares,
        version: Option<Version>,
        matched_here: bool,
        ticket: &mut Option<Arc<PublishTicket>>,
    ) {
        // Nobody tells of QoS 0 that it has not come.
        let is_taken = matched_here || shares.iter().any(|share| share.qos == QoS::AtMostOnce);
        for share in shares {
            // A latest value is kept with the QoS it was published with, or not by this way.
            let version = version.filter(|_| message.retain || share.qos == message.qos);
            for errand in share.errands(version) {
                if errand.qos == QoS::AtMostOnce {
                    self.forward_at_most_once(message, &share.peer, errand);
                    continue;
                }
                let ticket =
                    ticket.get_or_insert_with(|| Arc::new(PublishTicket::of(message.id, is_taken)));
                self.forward_errand(message, &share.peer, errand, ticket, &[]);
            }
        }
    }

    /// Sends `message` to each of `targets`, for ordinary subscribers there, when it goes to nobody
    /// else. There is a ticket then when their answers are to be waited for.
    #[inline]
    pub(crate) fn forward_to_subscribers(
        &mut self,
        message: &Message,
        targets: &[PeerTarget],
        ticket: &mut Option<Arc<PublishTicket>>,
    ) {
        // Nobody tells of QoS 0 that it has not come.
        let is_taken = targets.iter().any(|target| target.qos == QoS::AtMostOnce);
        let mut kept = None;
        for PeerTarget { peer, qos, whom } in targets {
            let qos = message.qos.min(*qos);
            let errand = Errand::to_subscribers(qos, *whom);
            if qos == QoS::AtMostOnce {
                self.forward_at_most_once(message, peer, errand);
                continue;
            }
            let ticket =
                ticket.get_or_insert_with(|| Arc::new(PublishTicket::of(message.id, is_taken)));
            self.forward_answered(message, peer, errand, None, ticket, &mut kept);
        }
    }

    #[inline]
    pub(super) fn forward_at_most_once(
        &mut self,
        message: &Message,
        peer: &Peer,
        errand: Errand<'_>,
    ) {
        let parts = self.parts(message, errand);
        let offered =
            peer.lane().offer_data(QoS::AtMostOnce, |buffer| wire::encode_publish(&parts, buffer));
        self.note_offered(offered);
    }

    pub(super) fn forward_errand(
        &mut self,
        message: &Arc<Message>,
        peer: &Peer,
        errand: Errand<'_>,
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        let shared = (!errand.groups.is_empty()).then(|| {
            // Kept until it is answered: not in the publisher's read buffer.
            let message = if message.is_in_transit {
                Arc::new(message.detached())
            } else {
                Arc::clone(message)
            };
            Box::new(SharedPart {
                message,
                groups: errand.groups.iter().cloned().collect(),
                is_all: !errand.is_for_subscribers && errand.version.is_none(),
                tried: SmallVec::from_slice(tried),
            })
        });
        self.forward_answered(message, peer, errand, shared, ticket, &mut None);
    }

    /// `kept` is what is made of the message when it has to be kept, once for all peers.
    pub(super) fn forward_answered(
        &mut self,
        message: &Message,
        peer: &Peer,
        errand: Errand<'_>,
        mut shared: Option<Box<SharedPart>>,
        ticket: &Arc<PublishTicket>,
        kept: &mut Option<Arc<Message>>,
    ) {
        // What is for Sessions that are not stored is lost with them.
        let is_for_stored = errand.is_for_subscribers && errand.whom != Whom::Unstored;
        let is_kept = self.broker.durable.is_some() && is_for_stored && adopts(peer);
        let mut kept =
            is_kept.then(|| Arc::clone(kept.get_or_insert_with(|| Arc::new(message.detached()))));
        let parts = self.parts(message, errand);
        let offered = peer.send_answered(ticket, &mut shared, &mut kept, |lane| {
            lane.offer_data(errand.qos, |buffer| wire::encode_publish(&parts, buffer))
        });
        if matches!(offered, Offered::Refused | Offered::Dropped) {
            self.note_full(ticket, errand.left_out(peer));
        }
        if let (Offered::Closed, Some(shared)) = (&offered, &shared) {
            self.pass_on_shared(peer, shared, ticket);
        }
        if let (Offered::Closed, Some(kept)) = (&offered, &kept) {
            self.offer_behind_held(kept, ticket);
        }
        self.note_offered(offered);
    }

    /// Whoever was to get a message has no room for it, and does not have it.
    pub(super) fn note_full(&mut self, ticket: &PublishTicket, left_out: LeftOut) {
        ticket.expect_another();
        let waker = ticket.leave_out(RemoteOutcome::Full, left_out);
        self.shard.wake_later(waker);
    }

    #[inline]
    fn parts<'a>(&self, message: &'a Message, errand: Errand<'a>) -> PublishParts<'a> {
        let peers = self.broker.peers();
        let expires_at_millis =
            message.expires_at.and_then(|at| peers.map(|peers| peers.cluster_millis(at)));
        let Errand { qos, version, is_for_subscribers, whom, groups } = errand;
        PublishParts {
            qos,
            expires_at_millis,
            version,
            is_for_subscribers,
            whom,
            groups,
            ..PublishParts::of(message)
        }
    }

    #[inline]
    fn note_offered(&mut self, offered: Offered) {
        match offered {
            Offered::Queued { wake, is_congested, .. } => {
                self.shard.counters.peer_publishes_sent.increment();
                self.shard.wake_later(wake);
                self.shard.is_congested |= is_congested;
            }
            Offered::Dropped => self.shard.counters.peer_publishes_dropped.increment(),
            Offered::Refused => self.shard.counters.peer_publishes_refused.increment(),
            // It has been declared dead since the route was made.
            Offered::Closed => {}
        }
    }

    /// Everybody but us, when a retained message is to be kept everywhere.
    pub(crate) fn share_with_all(&self, shares: &mut PeerShares, message: &Message) {
        if let Some(peers) = self.broker.peers() {
            for peer in peers.live().iter() {
                share_to_retain(shares, peer, message.qos);
            }
        }
    }
}

/// Bytes of the filters of one frame, unless it is one filter: less than the room that a frame has
/// beside the largest packet.
const GROUPS_BYTES_MAX: usize = 512 * 1_024;

/// Whether messages of this topic concern one broker only.
pub(crate) fn is_own_business(topic: &str) -> bool {
    topic.starts_with("$SYS/")
}

impl Peers {
    /// Messages of QoS 1 and 2 that other brokers have not answered for.
    #[must_use]
    pub fn unanswered_count(&self) -> usize {
        self.live().iter().map(|peer| peer.unanswered_count()).sum()
    }
}
