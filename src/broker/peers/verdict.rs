//! What a publish has come to at other brokers, and what its publisher can be told of it.
//!
//! A queue that is full at another broker is said as one here is, though others may have the message:
//! PUBACK or PUBREC with 0x97 ends the exchange, and who publishes it anew does so knowingly. Who cannot
//! be told is held for a while, and then let go: it would come back, and send all again, at once.

use std::task::Waker;

use crate::broker::disconnect::Client;
use crate::broker::peers::again::Unfinished;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::mqtt::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// What a publish has come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// Its publisher is told so.
    Told(ReasonCode, Option<&'static str>),
    /// A queue at another broker has no room: its publisher is told so, if it can be.
    Full(&'static str),
    /// Nothing that could be told would be true: the connection is to be closed for this reason.
    Untold(ReasonCode, &'static str),
}

impl Verdict {
    /// What `ticket` has come to; `waker` is called once that is known.
    pub(super) fn of(ticket: &PublishTicket, waker: &Waker) -> Option<Self> {
        Some(match ticket.poll(waker)? {
            RemoteOutcome::Enqueued => Self::Told(ReasonCode::Success, None),
            RemoteOutcome::NoMatch => Self::Told(ReasonCode::NoMatchingSubscribers, None),
            RemoteOutcome::Full => Self::Full(FULL_FOR_ALL),
            RemoteOutcome::Refused(ReasonCode::QuotaExceeded) => Self::Full(FULL_FOR_SOME),
            RemoteOutcome::Refused(reason_code) => Self::Untold(reason_code, REFUSED),
            RemoteOutcome::Unknown => Self::Untold(ReasonCode::UnspecifiedError, ANSWER_LOST),
        })
    }

    /// Whether those who are to have the message have it.
    pub(super) fn is_success(self) -> bool {
        match self {
            Self::Told(reason_code, _) => !reason_code.is_error(),
            Self::Full(_) | Self::Untold(..) => false,
        }
    }
}

/// Who has not taken a message of QoS 2, where others may have it. Nothing when it is new to all when it
/// comes again: nobody has it, or it is not known who does not.
pub(super) fn untaken(ticket: &PublishTicket) -> Option<Unfinished> {
    if ticket.poll(Waker::noop()) == Some(RemoteOutcome::Full) {
        return None;
    }
    ticket.take_left_out()
}

impl Client {
    /// Whether it can be told that a publish is refused. Of QoS 2 that frees the Packet Identifier: not
    /// where the store has the message under it, which would take the next one for the same.
    pub(super) fn can_hear_refusal(&self, qos: QoS, id: PacketId) -> bool {
        let is_stored =
            || self.stored.as_ref().is_some_and(|stored| stored.incoming.contains_key(&id));
        self.session.version() == ProtocolVersion::V5
            && (qos == QoS::AtLeastOnce || !(is_stored() || self.is_in_doubt(id)))
    }
}

const FULL_FOR_ALL: &str = "the queue of a subscriber on another broker is full";

const FULL_FOR_SOME: &str =
    "not every subscriber has it: the queue of one on another broker is full";

const REFUSED: &str = "the message could not be stored, or not by another broker";

const ANSWER_LOST: &str = "another broker's answer to a publish is lost";
