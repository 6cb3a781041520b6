//! Messages on their way to other brokers: once to each that wants it, answered for when their QoS
//! says so.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::peers::Peers;
use crate::broker::peers::peer::{Peer, SharedPart, Unanswered};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::delivery;
use crate::broker::routes::{FanoutGroup, FanoutTarget, Member, PeerTarget};
use crate::broker::turn::Turn;
use crate::cluster::frame::{Fate, Outcome};
use crate::cluster::identity::BootId;
use crate::cluster::lane::Offered;
use crate::cluster::version::Version;
use crate::cluster::wire::{self, PublishParts};
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::Message;
use crate::session::mailbox::{Commit, Room};

/// What one broker gets of a message.
#[derive(Debug)]
pub(crate) struct PeerShare {
    /// The broker.
    pub(crate) peer: Arc<Peer>,
    /// The lower of what was published and what is wanted there.
    pub(crate) qos: QoS,
    /// Whether it goes to ordinary Subscriptions there.
    pub(crate) is_for_subscribers: bool,
    /// The Shared Subscriptions of which a member there gets it.
    pub(crate) groups: SmallVec<[TopicFilter; 1]>,
}

/// What a broker is to do with a message.
#[derive(Clone, Copy, Debug)]
struct Errand<'a> {
    qos: QoS,
    version: Option<Version>,
    is_for_subscribers: bool,
    groups: &'a [TopicFilter],
}

/// One entry per broker that gets a message.
pub(crate) type PeerShares = SmallVec<[PeerShare; 4]>;

impl PeerShare {
    fn errand(&self, version: Option<Version>) -> Errand<'_> {
        let Self { qos, is_for_subscribers, ref groups, .. } = *self;
        Errand { qos, version, is_for_subscribers, groups }
    }
}

/// Adds that `target` is to get a message for its ordinary subscribers.
pub(crate) fn share_with_subscribers(shares: &mut PeerShares, target: &PeerTarget, qos: QoS) {
    let share = share_of(shares, &target.peer);
    share.qos = share.qos.max(qos.min(target.qos));
    share.is_for_subscribers = true;
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
            if share.qos == QoS::AtMostOnce {
                self.forward_at_most_once(message, &share.peer, share.errand(version));
                continue;
            }
            let ticket = ticket.get_or_insert_with(|| Arc::new(PublishTicket::new(is_taken)));
            self.forward_share(message, &share, version, ticket, &[]);
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
        for PeerTarget { peer, qos } in targets {
            let qos = message.qos.min(*qos);
            let errand = Errand { qos, version: None, is_for_subscribers: true, groups: &[] };
            if qos == QoS::AtMostOnce {
                self.forward_at_most_once(message, peer, errand);
                continue;
            }
            let ticket = ticket.get_or_insert_with(|| Arc::new(PublishTicket::new(is_taken)));
            self.forward_answered(message, peer, errand, None, ticket);
        }
    }

    #[inline]
    fn forward_at_most_once(&mut self, message: &Message, peer: &Peer, errand: Errand<'_>) {
        let parts = self.parts(message, errand);
        let offered =
            peer.lane().offer_data(QoS::AtMostOnce, |buffer| wire::encode_publish(&parts, buffer));
        self.note_offered(offered);
    }

    fn forward_share(
        &mut self,
        message: &Arc<Message>,
        share: &PeerShare,
        version: Option<Version>,
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        let shared = (!share.groups.is_empty()).then(|| {
            // Kept until it is answered: not in the publisher's read buffer.
            let message = if message.is_in_transit {
                Arc::new(message.detached())
            } else {
                Arc::clone(message)
            };
            Box::new(SharedPart {
                message,
                groups: share.groups.clone(),
                is_all: !share.is_for_subscribers && version.is_none(),
                tried: SmallVec::from_slice(tried),
            })
        });
        self.forward_answered(message, &share.peer, share.errand(version), shared, ticket);
    }

    fn forward_answered(
        &mut self,
        message: &Message,
        peer: &Peer,
        errand: Errand<'_>,
        shared: Option<Box<SharedPart>>,
        ticket: &Arc<PublishTicket>,
    ) {
        let parts = self.parts(message, errand);
        let offered = peer.send_answered(ticket, shared, |lane| {
            lane.offer_data(errand.qos, |buffer| wire::encode_publish(&parts, buffer))
        });
        if matches!(offered, Offered::Refused | Offered::Dropped) {
            self.note_full(ticket);
        }
        self.note_offered(offered);
    }

    /// Whoever was to get a message has no room for it, and does not have it.
    fn note_full(&mut self, ticket: &PublishTicket) {
        ticket.expect_another();
        let waker = ticket.answer(RemoteOutcome::Full);
        self.shard.wake_later(waker);
    }

    #[inline]
    fn parts<'a>(&self, message: &'a Message, errand: Errand<'a>) -> PublishParts<'a> {
        let peers = self.broker.peers();
        let expires_at_millis =
            message.expires_at.and_then(|at| peers.map(|peers| peers.cluster_millis(at)));
        let Errand { qos, version, is_for_subscribers, groups } = errand;
        PublishParts {
            qos,
            expires_at_millis,
            version,
            is_for_subscribers,
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

    /// A peer says what came of messages it was sent.
    pub(crate) fn handle_outcomes(&mut self, peer: &Arc<Peer>, outcomes: &[Outcome]) {
        for outcome in outcomes {
            for answered in peer.take_answered(outcome) {
                let fate = match &outcome.fate {
                    Fate::Enqueued => RemoteOutcome::Enqueued,
                    Fate::NoMatch => RemoteOutcome::NoMatch,
                    Fate::Refused(reason_code) => RemoteOutcome::Refused(*reason_code),
                    Fate::GroupsMoved(groups) => self.handle_moved(peer, &answered, groups),
                };
                let waker = answered.ticket.answer(fate);
                self.shard.wake_later(waker);
            }
        }
    }

    /// No member of these groups at `peer` could take a message: others are tried. What came of the
    /// rest there.
    fn handle_moved(
        &mut self,
        peer: &Peer,
        answered: &Unanswered,
        groups: &[TopicFilter],
    ) -> RemoteOutcome {
        let Some(shared) = &answered.shared else { return RemoteOutcome::Enqueued };
        let mut tried = shared.tried.clone();
        tried.push(peer.boot_id());
        self.offer_elsewhere(&shared.message, groups, &answered.ticket, &tried);
        if shared.is_all && groups.len() == shared.groups.len() {
            return RemoteOutcome::NoMatch;
        }
        RemoteOutcome::Enqueued
    }

    /// A peer is dead: what its clients had they have lost with it; what members of Shared
    /// Subscriptions there were to have goes to others.
    pub(crate) fn release_unanswered(&mut self, peer: &Peer) {
        for unanswered in peer.take_unanswered() {
            if let Some(shared) = &unanswered.shared {
                let ticket = &unanswered.ticket;
                self.offer_elsewhere(&shared.message, &shared.groups, ticket, &shared.tried);
            }
            let waker = unanswered.ticket.answer(RemoteOutcome::NoMatch);
            self.shard.wake_later(waker);
        }
    }

    fn offer_elsewhere(
        &mut self,
        message: &Arc<Message>,
        groups: &[TopicFilter],
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        let Some(fanout) = self.fanout(&message.topic) else { return };
        for filter in groups {
            let Some(group) = fanout.groups.iter().find(|group| group.filter() == filter) else {
                // Nobody is left who wants it.
                continue;
            };
            if self.offer_to_group(message, group, ticket, tried) {
                continue;
            }
            if group.has_qos() {
                self.shard.counters.shared_publishes_exhausted.increment();
                self.note_full(ticket);
            } else {
                self.shard.counters.deliveries_dropped.increment();
            }
        }
    }

    /// Offers to a member that is at none of the brokers that were `tried`: two whose members are
    /// all full would pass it on to each other for ever.
    fn offer_to_group(
        &mut self,
        message: &Arc<Message>,
        group: &FanoutGroup,
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) -> bool {
        let is_open = |peer: &Peer| tried.len() < TRIED_MAX && !tried.contains(&peer.boot_id());
        let ready = group.in_turn().filter(|member| member.is_ready());
        for member in ready.chain(group.everyone()) {
            match member {
                Member::Local(target) => {
                    if let Some(is_taken) = self.offer_to_member(message, target, ticket) {
                        return is_taken;
                    }
                }
                Member::Remote(target) if is_open(&target.peer) => {
                    let mut shares = PeerShares::new();
                    share_with_group(&mut shares, target, group.filter(), message.qos);
                    for share in shares {
                        if share.qos == QoS::AtMostOnce {
                            // Nobody answers for QoS 0: the publisher would wait for ever.
                            self.forward_at_most_once(message, &share.peer, share.errand(None));
                            self.note_taken(ticket);
                        } else {
                            self.forward_share(message, &share, None, ticket, tried);
                        }
                    }
                    return true;
                }
                Member::Remote(_) => {}
            }
        }
        false
    }

    /// Offers to a member of a group that is here. Nothing when it has no room.
    fn offer_to_member(
        &mut self,
        message: &Arc<Message>,
        target: &FanoutTarget,
        ticket: &PublishTicket,
    ) -> Option<bool> {
        let qos = message.qos.min(target.qos);
        if qos == QoS::AtMostOnce {
            self.note_taken(ticket);
            return Some(self.offer(target, message, qos, &mut None));
        }
        if target.mailbox.reserve(message.charged_bytes(), self.now) != Room::Reserved {
            return None;
        }
        let Commit::Queued(wake) =
            target.mailbox.commit(delivery(target, Arc::clone(message), qos), &mut None)
        else {
            return None;
        };
        self.shard.wake_later(wake);
        self.note_taken(ticket);
        Some(true)
    }

    /// Somebody has it by a way that is not answered.
    fn note_taken(&mut self, ticket: &PublishTicket) {
        ticket.expect_another();
        let waker = ticket.answer(RemoteOutcome::Enqueued);
        self.shard.wake_later(waker);
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

/// Brokers to which one message is offered for a Shared Subscription. Then its members count as full.
const TRIED_MAX: usize = 16;

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
