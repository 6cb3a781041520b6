//! What brokers tell each other.
//!
//! From one broker to another there are two *streams*, each with sequence numbers of its own from 1:
//! data, which needs credit, and control, which needs none. A frame is taken exactly once and in
//! order, whatever connection or lane it comes by.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::slot_record::SlotRecord;
use crate::cluster::version::Version;
use crate::mqtt::{MessageProperties, QoS, ReasonCode, TopicFilter, TopicName, Will};
use crate::ports::auth::SessionUser;

/// One of the two streams from one broker to another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum StreamKind {
    /// Everything but messages: bounded by what it says, and never held back.
    Control,
    /// Messages: held back when the receiver is behind.
    Data,
}

/// How far two streams have come: the last sequence number, 0 before the first frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursors {
    /// Of the control stream.
    pub control: u64,
    /// Of the data stream.
    pub data: u64,
}

impl Cursors {
    /// That of one stream.
    #[must_use]
    pub fn of(self, kind: StreamKind) -> u64 {
        match kind {
            StreamKind::Control => self.control,
            StreamKind::Data => self.data,
        }
    }

    /// That of one stream, to move it.
    pub fn of_mut(&mut self, kind: StreamKind) -> &mut u64 {
        match kind {
            StreamKind::Control => &mut self.control,
            StreamKind::Data => &mut self.data,
        }
    }

    /// The further one of each stream.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { control: self.control.max(other.control), data: self.data.max(other.data) }
    }
}

/// The first words of whoever dials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Of the cluster both must belong to.
    pub cluster: String,
    /// Who dials.
    pub name: String,
    /// In which life.
    pub boot_id: BootId,
    /// Whom it believes to reach: an address may have a new owner.
    pub to: BootId,
    /// What it speaks.
    pub wire: WireVersions,
    /// What it cannot send again: it was received, or given up when the control stream outgrew its
    /// bound. A receiver that is not there yet goes on behind it.
    pub gone: Cursors,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Welcome {
    /// Go on behind these.
    Accepted {
        /// The version to speak.
        wire: u16,
        /// What has been received before.
        received: Cursors,
    },
    /// Go away.
    Refused {
        /// Why, in words.
        reason: String,
        /// Who answers, so that a name that is taken can be told from an address that has moved.
        boot_id: BootId,
        /// What the caller is to make of it.
        code: RefusalCode,
    },
}

/// What a refusal means to whoever dialled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RefusalCode {
    /// What the words say.
    #[default]
    Other,
    /// It is in doubt that the two belong to one cluster: nothing is to go another way either.
    Mistrust,
    /// All is well; it is too early.
    NotYet,
    /// They speak no common version of the link protocol.
    WireVersion,
}

/// A message on its way to another broker: a frame of the data stream.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishFrame {
    /// Where it was published.
    pub topic: TopicName,
    /// What was published.
    pub payload: Bytes,
    /// The properties that travel end to end.
    pub properties: Option<Arc<MessageProperties>>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether the publisher set RETAIN.
    pub retain: bool,
    /// A hash of the publisher's Client Identifier, for No Local after a takeover; 0 for a message of
    /// a broker.
    pub publisher: u64,
    /// When the message expires, in milliseconds since 1970 on the cluster clock.
    pub expires_at_millis: Option<u64>,
    /// Of the retained message that it makes, where it makes one.
    pub version: Option<Version>,
    /// Whether it goes to ordinary Subscriptions.
    pub is_for_subscribers: bool,
    /// Of which Sessions.
    pub whom: Whom,
    /// The Shared Subscriptions of which one member here gets it.
    pub groups: SmallVec<[TopicFilter; 1]>,
    /// Tells it from all others in the cluster; 0 for QoS 0, and for one that has none.
    pub message_id: u64,
}

/// Which Sessions a message for ordinary Subscriptions goes to. (Any but the first from version 5 of
/// the wire on.)
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Whom {
    /// All that want it.
    #[default]
    Everybody,
    /// Those that are stored: the others have had it, or will not get it.
    Stored,
    /// Those that are not stored: the others get it in another frame.
    Unstored,
}

/// A frame of the control stream.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlFrame {
    /// What I said of my interest before is void: what follows up to [`Self::InterestComplete`] is
    /// all there is.
    InterestSnapshot,
    /// Filters that are new or have changed, up to this version.
    InterestAdded {
        /// Of the whole interest, once this is applied.
        version: u64,
        /// What is wanted.
        entries: Vec<InterestEntry>,
    },
    /// Filters that nobody wants any more.
    InterestRemoved {
        /// Of the whole interest, once this is applied.
        version: u64,
        /// Shared ones with `$share/` and their name.
        filters: Vec<TopicFilter>,
    },
    /// The snapshot is whole, at this version.
    InterestComplete {
        /// Of the whole interest.
        version: u64,
        /// An order-free sum of hashes of the entries.
        checksum: u64,
    },
    /// Your interest is in effect here up to this version.
    InterestApplied {
        /// Up to here.
        version: u64,
    },
    /// What came of your frames of the data stream of QoS 1 and 2.
    Done(Vec<Outcome>),
    /// Tell me what is retained at topics behind this one.
    RetainedWanted {
        /// The last topic of the page before; none for the first page.
        after: Option<TopicName>,
    },
    /// A value that is retained, or was deleted: part of a page.
    Retained(RetainedValue),
    /// I was not connected to the ensemble all the time: what do you have of the topics?
    DigestsWanted(DigestQuestion),
    /// This, part by part.
    Digests {
        /// As in the question.
        number: u64,
        /// In the order of the parts.
        parts: Vec<PartDigest>,
    },
    /// About wills that a second broker keeps.
    Will(Box<WillFrame>),
    /// The latest value of a topic: part of a page.
    Latest(RetainedValue),
    /// That was a page; ask for what is behind this topic.
    RetainedMore {
        /// The last topic of the page.
        after: TopicName,
    },
    /// I told you all retained values I have.
    RetainedComplete,
    /// A client with this Client Identifier is at my door: you coordinate its slot.
    Claim(Claim),
    /// It is yours.
    Grant(Grant),
    /// It is not yours: a later claim came, or the slot has moved; ask again where it is now.
    ClaimRefused {
        /// As in the claim.
        claim: u64,
        /// In words.
        reason: String,
    },
    /// Give this Client Identifier up to another broker.
    Revoke(Revoke),
    /// The Session that you want for your client is another user's, and stays here.
    Foreign {
        /// As in the claim.
        claim: u64,
        /// Whose it is.
        holder: SessionUser,
    },
    /// Here is the Session you were granted.
    Handover(Handover),
    /// This Client Identifier is not mine any more.
    Released {
        /// Whose.
        client_id: String,
        /// The token under which I had it.
        token: Token,
    },
    /// Where these Client Identifiers of slots that you coordinate are, as far as I have to do with
    /// them. What I say of Client Identifiers from here on goes by the same slot map.
    Report {
        /// Of the slot map it answers.
        epoch: i64,
        /// Some of them; more may follow.
        held: Vec<Held>,
    },
    /// That was my report.
    ReportComplete {
        /// Of the slot map it answers.
        epoch: i64,
    },
    /// This Client Identifier is mine, and nothing of its Session is on its way here any more.
    Settled {
        /// Whose.
        client_id: String,
        /// The token under which I have it.
        token: Token,
    },
    /// Are you there? And do we agree?
    Ping {
        /// Of the sender's own interest.
        version: u64,
        /// The sum of its hashes at that version.
        checksum: u64,
        /// Whether the sender's last write to the tree of znodes was committed in time.
        has_lease: bool,
        /// What the sender's cluster clock shows, in milliseconds since 1970.
        cluster_millis: u64,
    },
    /// The tree of znodes is out of my reach: have you read a later slot map than I? (From version 2
    /// of the wire on.)
    SlotsWanted {
        /// Of the map that I go by.
        after: i64,
    },
    /// I go by this slot map.
    Slots(SlotRecord),
    /// I have taken all stored Sessions of a broker that is dead, as far as I coordinate their slots;
    /// also when there were none. (From version 5 of the wire on.)
    Adopted(Adopted),
    /// From now on I hold what is for stored Sessions of a broker that is dead. (From version 5 of the
    /// wire on.)
    Mourned {
        /// Which.
        dead: BootId,
        /// How many messages I had routed to you before.
        data: u64,
    },
    /// Your [`Self::Ping`] shows something else than I have: tell me all again.
    InterestWanted,
    /// I have taken what has come of the Session that you hand over for this claim, and am ready for more:
    /// the first time after all its filters, that is when its messages come to me from everywhere; the
    /// last time, of one that is stored, when I have it from the store.
    HandoverTaken {
        /// As in the hand-over.
        claim: u64,
    },
    /// Nobody here waits for what you hand over for this claim: it is yours again.
    HandoverDeclined {
        /// As in the hand-over.
        claim: u64,
    },
    /// How far have you come with the messages for me?
    MarkWanted {
        /// Drawn by whoever asks.
        mark: u64,
    },
    /// So far: what I route from now on has a higher number, and goes by the interest I confirmed
    /// before.
    Mark {
        /// As in the question.
        mark: u64,
        /// The last sequence number of the data stream to you.
        data: u64,
    },
}

/// What one broker has taken over of one that is dead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adopted {
    /// Whose Sessions they were.
    pub dead: BootId,
    /// Of the slot map by which the sender coordinates.
    pub epoch: i64,
    /// Of the sender's interest, in which theirs is.
    pub version: u64,
}

/// A question for what another broker has of the topics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DigestQuestion {
    /// Drawn by whoever asks.
    pub number: u64,
    /// When the connection of whoever asks was seen to end, on the cluster clock: only who was
    /// connected by then, and still is, may answer.
    pub lost_at_millis: u64,
}

/// What the znodes of one part of the topics are, without saying it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartDigest {
    /// How many there are.
    pub count: u64,
    /// The sum of hashes of topic, version and payer.
    pub sum: u64,
}

/// What is said of wills that are kept for another broker.
#[derive(Clone, Debug, PartialEq)]
pub enum WillFrame {
    /// Keep this, and publish it when I am declared dead.
    Keep {
        /// Drawn by the sender.
        number: u64,
        /// Whose.
        client_id: String,
        /// How long to wait then: the Will Delay Interval, or what the Session has left of it.
        delay_secs: u32,
        /// The will.
        will: Will,
    },
    /// I keep it, or have no room for it.
    Kept {
        /// As in [`Self::Keep`].
        number: u64,
        /// Whether it is kept.
        is_kept: bool,
    },
    /// These are gone: published, withdrawn, or with another broker.
    Gone(Vec<u64>),
}

/// One filter that somebody at a broker wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterestEntry {
    /// Shared ones with `$share/` and their name.
    pub filter: TopicFilter,
    /// The highest QoS asked for.
    pub qos: QoS,
    /// Of a Shared Subscription: how many members can take messages, at most 255; with 0 they are the
    /// last resort. Otherwise 1.
    pub weight: u8,
}

/// What came of one frame, or of several in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The first one.
    pub first: u64,
    /// How many; frames of QoS 0 among them count and mean nothing.
    pub count: u32,
    /// The same for all of them.
    pub fate: Fate,
}

/// What came of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Everybody here who wants it has it in a queue.
    Enqueued,
    /// Nobody here wants it.
    NoMatch,
    /// No member of these Shared Subscriptions could take it: offer it elsewhere. The rest is done.
    GroupsMoved(Vec<TopicFilter>),
    /// A queue that refuses was full.
    Refused(ReasonCode),
    /// A Session that it was collected for has not arrived: offer it again, to whoever has it now. From
    /// version 5 of the wire on.
    Again,
}

/// A retained message, or the mark that there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedValue {
    /// Its topic.
    pub topic: TopicName,
    /// Which of two is the later.
    pub version: Version,
    /// `None`: it was deleted.
    pub message: Option<RetainedMessage>,
}

/// What is retained.
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedMessage {
    /// What was published.
    pub payload: Bytes,
    /// The properties that travel end to end.
    pub properties: Option<Arc<MessageProperties>>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// When it expires, in milliseconds since 1970 on the cluster clock.
    pub expires_at_millis: Option<u64>,
}

/// Orders the owners of one Client Identifier: a later owner has a higher token.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token {
    /// Goes up when the tree of znodes was made anew.
    pub era: u64,
    /// Of the slot map under which it was given.
    pub epoch: i64,
    /// Counted by the coordinator.
    pub counter: u64,
}

impl ControlFrame {
    /// The frame as a broker of this version of the wire reads it; nothing where it has no word for it.
    #[must_use]
    pub fn told_in(mut self, wire: u16) -> Option<Self> {
        if wire < STORED_WIRE_MIN && matches!(self, Self::Adopted(_) | Self::Mourned { .. }) {
            return None;
        }
        if wire >= USER_WIRE_MIN {
            return Some(self);
        }
        if let Self::Claim(Claim { user, .. }) | Self::Revoke(Revoke { user, .. }) = &mut self {
            *user = SessionUser::Unknown;
        }
        (!matches!(self, Self::Foreign { .. })).then_some(self)
    }
}

/// The version of the wire that says of which user a Session is.
pub const USER_WIRE_MIN: u16 = 4;
/// The version of the wire from which on brokers say whose stored Sessions they have taken.
pub const STORED_WIRE_MIN: u16 = 5;

/// A wish for a Client Identifier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Drawn by the claimant.
    pub claim: u64,
    /// Whose.
    pub client_id: String,
    /// Whether the claimant wants the Session that there is: not with Clean Start.
    pub wants_session: bool,
    /// Who wants it; not known of a broker of an earlier version.
    pub user: SessionUser,
}

/// A wish that is granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// As in the claim.
    pub claim: u64,
    /// Whose.
    pub client_id: String,
    /// Under which the claimant has it.
    pub token: Token,
    /// Who had it before: wait for its [`Handover`], or its end.
    pub from: Option<BootId>,
}

/// An order to give a Client Identifier up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoke {
    /// Whose.
    pub client_id: String,
    /// Under which the successor has it: higher than that of the holder.
    pub token: Token,
    /// The successor.
    pub to: BootId,
    /// As in the successor's claim.
    pub claim: u64,
    /// Whether the successor wants the Session.
    pub wants_session: bool,
    /// Who wants it; not known of a broker of an earlier version.
    pub user: SessionUser,
}

/// A Session on its way to another broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handover {
    /// As in the claim it answers.
    pub claim: u64,
    /// Whose.
    pub client_id: String,
    /// The token of the order to hand it over: of two senders the one with the higher token counts.
    pub token: Token,
    /// Parts come in order; the last one is marked.
    pub is_last: bool,
    /// The state, in the words of `broker::handover`; empty when there is no Session.
    pub state: Bytes,
}

/// A Client Identifier that a broker has to do with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Whose.
    pub client_id: String,
    /// Under which it is, was or will be the broker's.
    pub token: Token,
    /// Where the Session is.
    pub whereabouts: Whereabouts,
}

/// Where the Session of a Client Identifier is, as one broker sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whereabouts {
    /// Here, or there is none.
    Here,
    /// On its way here.
    Coming {
        /// The claim by which it was granted.
        claim: u64,
    },
    /// On its way elsewhere, and not gone yet.
    Going,
}
