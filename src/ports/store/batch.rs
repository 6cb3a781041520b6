//! What is asked of the store.

use std::sync::Arc;

use crate::mqtt::{PacketId, QoS, TopicFilter, TopicName};
use crate::ports::auth::SessionUser;
use crate::ports::message::{MessageId, SubscriptionTag};
use crate::ports::store::records::{
    Epoch, OwnerId, RetainedRecord, SessionId, SessionLife, SessionRef, StoredMessage,
    StoredSubscription, StoredWill,
};

/// Operations that are carried out in this order, all or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// On whose behalf.
    pub owner: OwnerId,
    /// What time it is, in milliseconds since 1970 on the cluster clock.
    pub now_millis: u64,
    /// What is to be done.
    pub operations: Vec<Operation>,
}

/// What a Subscription adds to a delivery.
pub type TagRef = Option<Arc<SubscriptionTag>>;

/// One place in one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointer {
    /// Whose queue.
    pub session: SessionRef,
    /// Where in it: the owner counts. It is below 2^63 and never used for two messages.
    pub sequence: u64,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag as this receiver sees it.
    pub retain: bool,
    /// What the Subscription adds.
    pub tag: TagRef,
    /// Whether the same message may be offered to this Session again, also after it was
    /// acknowledged: then it is kept in mind, and taken once.
    pub may_repeat: bool,
}

/// Slots of Client Identifiers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Slots {
    /// All of them.
    All,
    /// These.
    Only(Vec<u16>),
}

/// One thing to do. Those that name a [`SessionRef`] are left out when somebody else owns it.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// The owner of the batch exists. Answered with [`Registered`](super::Reply::Registered).
    Register {
        /// The transaction that created the root of the cluster's znodes. Another one than before
        /// begins another era.
        root: Option<i64>,
    },
    /// Another broker is dead: what it submits from now on is fenced.
    DeclareDead(OwnerId),
    /// A Session exists, is as it says, and is the owner's. An earlier one of the same client, if
    /// its claim is older, ends.
    PutSession {
        /// Its name and the claim.
        session: SessionRef,
        /// Whose it is.
        client_id: Arc<str>,
        /// Of which user.
        user: SessionUser,
        /// Where its Client Identifier belongs.
        slot: u16,
        /// How long it lasts.
        life: SessionLife,
        /// As in [`SessionRecord`](super::SessionRecord).
        sent_below: Option<u64>,
    },
    /// Takes the Session of a client over under a newer claim, or again under the same. If nobody
    /// said how far it was sent, that is as far as it may have been by now. Answered with
    /// [`Session`](super::Reply::Session).
    TakeSession {
        /// Whose it is.
        client_id: Arc<str>,
        /// The claim.
        epoch: Epoch,
    },
    /// The same with the Sessions of another broker, or of everybody. Answered with
    /// [`Count`](super::Reply::Count): fewer than `limit` were the last.
    TakeSessions {
        /// Whose they are; nothing for whoever has them.
        former: Option<OwnerId>,
        /// Of which Client Identifiers.
        slots: Slots,
        /// The claim.
        epoch: Epoch,
        /// How many at most.
        limit: u32,
    },
    /// The Session is over, and all that belongs to it.
    EndSession(SessionRef),
    /// Adds or replaces a Subscription [MQTT-3.8.4-3].
    PutSubscription {
        /// Of this Session.
        session: SessionRef,
        /// As it is now.
        subscription: StoredSubscription,
    },
    /// Takes a Subscription away.
    RemoveSubscription {
        /// From this Session.
        session: SessionRef,
        /// To what.
        filter: TopicFilter,
    },
    /// The Session has this will, in place of an earlier one.
    PutWill {
        /// The Session.
        session: SessionRef,
        /// Its will.
        will: Arc<StoredWill>,
    },
    /// The will of a Session is gone.
    RemoveWill {
        /// The Session.
        session: SessionRef,
        /// Which one: a later one stays. `None`: whichever it has.
        message: Option<MessageId>,
    },
    /// Puts a message into queues.
    Enqueue {
        /// The message.
        message: Arc<StoredMessage>,
        /// The queues.
        pointers: Vec<Pointer>,
    },
    /// A delivery is done: PUBACK, PUBCOMP, or it was dropped.
    Acknowledge {
        /// In the queue of this Session.
        session: SessionRef,
        /// Its place.
        sequence: u64,
        /// What was delivered there.
        message: MessageId,
    },
    /// Another member of a Shared Subscription has what waited here: it counts as never having been in this
    /// queue, and may be stored for the Session again, at another place.
    Forget {
        /// In the queue of this Session.
        session: SessionRef,
        /// Its place, which is not given again.
        sequence: u64,
        /// What waited there.
        message: MessageId,
    },
    /// PUBREC came for a delivery: from now on it is only to be released.
    Release {
        /// In the queue of this Session.
        session: SessionRef,
        /// Its place.
        sequence: u64,
        /// What was delivered there.
        message: MessageId,
    },
    /// A QoS 2 message came from the client. Another one that stands there is one that the client
    /// had no answer to: it is taken out of the queues in which it waits, unless it
    /// [may be repeated](Pointer::may_repeat).
    PutIncoming {
        /// The client's Session.
        session: SessionRef,
        /// The client's Packet Identifier.
        packet_id: PacketId,
        /// The message.
        message: Arc<StoredMessage>,
    },
    /// Everybody has that message: it need not be routed again.
    RouteIncoming {
        /// The client's Session.
        session: SessionRef,
        /// The client's Packet Identifier.
        packet_id: PacketId,
        /// What it names.
        message: MessageId,
    },
    /// PUBREL came for it.
    RemoveIncoming {
        /// The client's Session.
        session: SessionRef,
        /// The client's Packet Identifier.
        packet_id: PacketId,
        /// What it names.
        message: MessageId,
    },
    /// A retained message, or its deletion, unless a later change is known.
    PutRetained(RetainedRecord),
    /// The owner has received a peer's stream this far.
    PutCursor {
        /// Whose stream.
        origin: OwnerId,
        /// Which.
        stream: u8,
        /// How far.
        sequence: u64,
    },
    /// The messages of a queue behind `after`. Answered with [`Queue`](super::Reply::Queue).
    ReadQueue {
        /// Whose queue.
        session: SessionId,
        /// The last sequence that is known; 0 before the first.
        after: u64,
        /// How many at most.
        limit: u32,
        /// How many payload bytes at most, though at least one message.
        bytes_max: u64,
    },
    /// A QoS 2 message that is not released. Answered with [`Message`](super::Reply::Message).
    ReadIncoming {
        /// The client's Session.
        session: SessionId,
        /// The client's Packet Identifier.
        packet_id: PacketId,
    },
    /// The owner's Sessions behind `after`, by id. Answered with
    /// [`Sessions`](super::Reply::Sessions): fewer than `limit` are the last.
    ListSessions {
        /// Those that it has under this claim; nothing for all that are its own.
        claim: Option<Epoch>,
        /// The last one that is known.
        after: Option<SessionId>,
        /// How many at most.
        limit: u32,
    },
    /// The wills of the owner's Sessions that are due, the oldest first. Answered with
    /// [`Wills`](super::Reply::Wills).
    DueWills {
        /// How many at most.
        limit: u32,
    },
    /// Retained messages behind `after`, in an order of the store's own. Answered with
    /// [`Retained`](super::Reply::Retained): fewer than `limit` are the last.
    ListRetained {
        /// The last one that is known.
        after: Option<TopicName>,
        /// How many at most.
        limit: u32,
    },
    /// How far a receiver has come. Answered with [`Cursors`](super::Reply::Cursors).
    ListCursors {
        /// The receiver.
        receiver: OwnerId,
    },
    /// Removes what is of no use any more, a bounded part of it. Answered with
    /// [`Collected`](super::Reply::Collected).
    Collect {
        /// The owner's Sessions that ended before this moment and are still there.
        sessions_before_millis: u64,
        /// Messages that expired before this moment.
        messages_before_millis: u64,
        /// What was kept in mind of repeatable deliveries and deletions since before this moment.
        memories_before_millis: u64,
        /// How much at most, of each kind.
        limit: u32,
    },
}

impl Batch {
    /// Bytes it is charged for while it waits.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        self.operations.iter().map(Operation::charged_bytes).sum()
    }
}

impl Operation {
    /// Bytes it is charged for.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        OPERATION_BYTES
            + match self {
                Self::Enqueue { message, pointers } => {
                    message.payload.len() + pointers.len() * OPERATION_BYTES
                }
                Self::PutIncoming { message, .. } => message.payload.len(),
                Self::PutWill { will, .. } => will.message.payload.len(),
                Self::PutRetained(record) => {
                    record.message.as_ref().map_or(0, |message| message.payload.len())
                }
                Self::PutSubscription { subscription, .. } => subscription.filter.as_str().len(),
                Self::PutSession { client_id, user, .. } => client_id.len() + user.name_bytes(),
                Self::TakeSession { client_id, .. } => client_id.len(),
                Self::Register { .. }
                | Self::DeclareDead(_)
                | Self::TakeSessions { .. }
                | Self::EndSession(_)
                | Self::RemoveSubscription { .. }
                | Self::RemoveWill { .. }
                | Self::Acknowledge { .. }
                | Self::Forget { .. }
                | Self::Release { .. }
                | Self::RouteIncoming { .. }
                | Self::RemoveIncoming { .. }
                | Self::PutCursor { .. }
                | Self::ReadQueue { .. }
                | Self::ReadIncoming { .. }
                | Self::ListSessions { .. }
                | Self::DueWills { .. }
                | Self::ListRetained { .. }
                | Self::ListCursors { .. }
                | Self::Collect { .. } => 0,
            }
    }
}

/// An operation without what it carries.
const OPERATION_BYTES: usize = 128;
