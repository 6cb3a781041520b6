//! Another broker, as this one sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::broker::peers::again::LeftOut;
use crate::broker::peers::doubtful::Unconfirmed;
use crate::broker::peers::ticket::PublishTicket;
use crate::cluster::frame::{ControlFrame, Outcome};
use crate::cluster::identity::{BootId, Member, WireVersions};
use crate::cluster::inbound::Inbound;
use crate::cluster::interest::RemoteInterest;
use crate::cluster::lane::{Lane, Offered, OfferedControl};
use crate::cluster::wire;
use crate::mqtt::TopicFilter;
use crate::ports::clock::Tick;
use crate::ports::message::Message;
use crate::routing::SubscriberKey;

/// One life of another broker. It is a subscriber in the index, with the filters its clients have.
pub struct Peer {
    boot_id: BootId,
    name: Arc<str>,
    /// The version of the link protocol that both speak; 0 when there is none.
    wire: u16,
    key: SubscriberKey,
    lane: Arc<Lane>,
    /// Messages of QoS 1 and 2 on their way there, in the order of their sequence numbers. Held
    /// while the lane is offered one, so that both orders are the same.
    unanswered: Mutex<VecDeque<Unanswered>>,
    interest: Mutex<RemoteInterest>,
    inbound: Mutex<Inbound>,
    unconfirmed: Unconfirmed,
    /// Whether all of its interest has come at least once.
    has_told_interest: AtomicBool,
    /// Whether all of its retained messages have.
    has_told_retained: AtomicBool,
    /// Whether its interest is in effect further than it has been told.
    owes_confirmation: AtomicBool,
    heard: Mutex<Heard>,
}

/// What a peer last said of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heard {
    /// When.
    pub at: Tick,
    /// Whether it could still write to the tree of znodes.
    pub has_lease: bool,
    /// What its cluster clock showed, in milliseconds since 1970.
    pub cluster_millis: u64,
}

/// A message that the peer has not answered for.
#[derive(Debug)]
pub struct Unanswered {
    /// Of the data stream.
    pub seq: u64,
    /// Who waits.
    pub ticket: Arc<PublishTicket>,
    /// Where a member of a group is to get it: the message and the groups, for another broker when
    /// this one has no member any more.
    pub shared: Option<Box<SharedPart>>,
    /// The message, for Sessions there that are stored: others may have them when the peer is dead.
    pub kept: Option<Arc<Message>>,
}

/// What was sent to a peer for Shared Subscriptions.
#[derive(Clone, Debug)]
pub struct SharedPart {
    /// The message.
    pub message: Arc<Message>,
    /// The groups the peer was chosen for.
    pub groups: SmallVec<[TopicFilter; 1]>,
    /// Whether it was sent for nothing but these.
    pub is_all: bool,
    /// Brokers that were offered it before and had no member with room.
    pub tried: SmallVec<[BootId; 2]>,
}

impl SharedPart {
    /// The same, and `peer`, which did not take it either.
    pub(super) fn tried_with(&self, peer: &Peer) -> SmallVec<[BootId; 2]> {
        self.tried.iter().copied().chain([peer.boot_id()]).collect()
    }
}

/// Something is to be told later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Withheld;

impl Peer {
    /// A broker that has just been heard of. `key` is its place in the index.
    #[must_use]
    pub fn new(member: &Member, key: SubscriberKey, lane: Arc<Lane>, hash_seed: u64) -> Self {
        Self {
            boot_id: member.boot_id,
            name: Arc::clone(&member.name),
            wire: WireVersions::OURS.common(member.wire).unwrap_or_default(),
            key,
            lane,
            unanswered: Mutex::default(),
            interest: Mutex::new(RemoteInterest::new(hash_seed)),
            inbound: Mutex::new(Inbound::default()),
            unconfirmed: Unconfirmed::default(),
            has_told_interest: AtomicBool::new(false),
            has_told_retained: AtomicBool::new(false),
            owes_confirmation: AtomicBool::new(false),
            heard: Mutex::default(),
        }
    }

    /// Which life of which broker.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version of the link protocol to speak with it; 0 when there is none, and no link.
    #[must_use]
    pub fn wire(&self) -> u16 {
        self.wire
    }

    /// Its place in the index.
    #[must_use]
    pub fn key(&self) -> SubscriberKey {
        self.key
    }

    /// The way there.
    #[must_use]
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Its interest, as far as it has said.
    pub(crate) fn interest(&self) -> &Mutex<RemoteInterest> {
        &self.interest
    }

    /// How far its streams have been received.
    pub(crate) fn inbound(&self) -> &Mutex<Inbound> {
        &self.inbound
    }

    /// What it may give to another member although it is here.
    pub(super) fn unconfirmed(&self) -> &Unconfirmed {
        &self.unconfirmed
    }

    /// All of its interest is known here.
    pub(crate) fn note_interest_told(&self) {
        self.has_told_interest.store(true, Ordering::Release);
    }

    /// All of its retained messages are known here.
    pub(crate) fn note_retained_told(&self) {
        self.has_told_retained.store(true, Ordering::Release);
    }

    /// Whether all of its interest is known here.
    #[must_use]
    pub fn has_told_interest(&self) -> bool {
        self.has_told_interest.load(Ordering::Acquire)
    }

    /// Whether all of its retained messages are known here.
    #[must_use]
    pub fn has_told_retained(&self) -> bool {
        self.has_told_retained.load(Ordering::Acquire)
    }

    /// Distinct filters its clients have.
    #[must_use]
    pub fn interest_len(&self) -> usize {
        self.interest.lock().len()
    }

    pub(crate) fn note_ping(&self, at: Tick, has_lease: bool, cluster_millis: u64) {
        *self.heard.lock() = Heard { at, has_lease, cluster_millis };
    }

    /// What it last said of itself.
    #[must_use]
    pub fn heard(&self) -> Heard {
        *self.heard.lock()
    }

    /// How many members of a Shared Subscription it has.
    #[must_use]
    pub fn group_weight(&self, filter: &TopicFilter) -> u8 {
        self.interest.lock().weight(filter)
    }

    /// Messages of QoS 1 and 2 it has not answered for.
    #[must_use]
    pub fn unanswered_count(&self) -> usize {
        self.unanswered.lock().len()
    }

    /// Tells it something. Whom to wake when the turn ends.
    ///
    /// When so much is unsaid that the control stream is cut, it is not repeated here: the receiver
    /// notices at the next HELLO and asks for what it misses.
    pub(crate) fn tell(&self, frame: &ControlFrame) -> Option<Waker> {
        waker_of(self.lane.offer_control(|buffer| wire::encode_control(frame, buffer)))
    }

    /// Tells it what has come of messages that it sent.
    pub(crate) fn tell_done(&self, outcomes: &[Outcome]) -> Option<Waker> {
        let frame = ControlFrame::Done(outcomes.to_vec());
        let offered = self.lane.offer_control(|buffer| wire::encode_control(&frame, buffer));
        if let OfferedControl::Queued { seq, .. } = &offered {
            self.unconfirmed.note_answered(outcomes, *seq);
        }
        waker_of(offered)
    }

    /// Tells it something that can be told later, unless it does not take what it is told.
    pub(crate) fn tell_unless_behind(
        &self,
        frame: &ControlFrame,
    ) -> Result<Option<Waker>, Withheld> {
        let encode = |buffer: &mut _| wire::encode_control(frame, buffer);
        self.lane.offer_unless_behind(encode).map(waker_of).ok_or(Withheld)
    }

    /// That its interest is in effect has not been told.
    pub(crate) fn owe_confirmation(&self) {
        self.owes_confirmation.store(true, Ordering::Release);
    }

    /// Whether that is to be told; asked once for each time.
    pub(crate) fn take_owed_confirmation(&self) -> bool {
        self.owes_confirmation.swap(false, Ordering::AcqRel)
    }

    /// Sends a message that is to be answered for; `offer` hands it to the lane. What of it is
    /// `shared`, or `kept`, is taken when it is on its way.
    pub(crate) fn send_answered(
        &self,
        ticket: &Arc<PublishTicket>,
        shared: &mut Option<Box<SharedPart>>,
        kept: &mut Option<Arc<Message>>,
        offer: impl FnOnce(&Lane) -> Offered,
    ) -> Offered {
        let mut unanswered = self.unanswered.lock();
        let offered = offer(&self.lane);
        if let Offered::Queued { seq, .. } = &offered {
            ticket.expect_another();
            let (ticket, shared, kept) = (Arc::clone(ticket), shared.take(), kept.take());
            unanswered.push_back(Unanswered { seq: *seq, ticket, shared, kept });
        }
        offered
    }

    /// What it has been sent and has not answered, of what this ticket waits for.
    pub(crate) fn unanswered_of(&self, ticket: &Arc<PublishTicket>) -> Vec<LeftOut> {
        let unanswered = self.unanswered.lock();
        let of_ticket = unanswered.iter().filter(|entry| Arc::ptr_eq(&entry.ticket, ticket));
        of_ticket.map(|entry| LeftOut::of_answer(self, entry)).collect()
    }

    /// Takes out what `outcome` answers.
    pub(crate) fn take_answered(&self, outcome: &Outcome) -> Vec<Unanswered> {
        let end = outcome.first.saturating_add(outcome.count.into());
        let mut unanswered = self.unanswered.lock();
        let from = unanswered.partition_point(|entry| entry.seq < outcome.first);
        let to = unanswered.partition_point(|entry| entry.seq < end);
        unanswered.drain(from..to).collect()
    }

    /// Takes out everything: it is dead and answers nothing any more.
    pub(crate) fn take_unanswered(&self) -> VecDeque<Unanswered> {
        std::mem::take(&mut *self.unanswered.lock())
    }
}

fn waker_of(offered: OfferedControl) -> Option<Waker> {
    match offered {
        OfferedControl::Queued { wake, .. } | OfferedControl::Broken(wake) => wake,
        OfferedControl::Closed => None,
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Peer")
            .field("name", &self.name)
            .field("boot_id", &self.boot_id)
            .finish_non_exhaustive()
    }
}
