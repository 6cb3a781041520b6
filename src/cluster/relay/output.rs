//! What a relay has to say.

use crate::cluster::frame::Cursors;
use crate::cluster::identity::BootId;
use crate::cluster::wire::Batch;
use crate::ports::coordination::{Request, Ticket};

/// Something to do, or to know.
#[derive(Debug)]
pub enum RelayOutput {
    /// Hand this to the tree of znodes.
    Submit(Ticket, Request),
    /// A broker begins to relay to us and cannot send again what is up to `gone`. Say with
    /// [`super::Relay::note_received`] what has been received.
    Resume {
        /// Who relays.
        from: BootId,
        /// Up to here.
        gone: Cursors,
    },
    /// A batch of a broker, whole. Say with [`super::Relay::note_received`] what has been received,
    /// or with [`super::Relay::refuse`] that it cannot be taken.
    Batch {
        /// Who relays.
        from: BootId,
        /// What it says.
        batch: Batch,
    },
    /// The link to this broker stands and nothing gets through: close it and dial again.
    CutLink(BootId),
    /// From now on frames to this broker go by another lane.
    Changed {
        /// To whom.
        peer: BootId,
        /// How.
        lane: LaneInUse,
    },
}

/// By which lane frames go to a broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneInUse {
    /// By the link.
    Link,
    /// Through the tree of znodes.
    Relay,
    /// By none at the moment: they wait.
    None,
}

impl LaneInUse {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Relay => "relay",
            Self::None => "none",
        }
    }
}

/// Figures of a relay.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RelayReadings {
    /// Brokers to which the relay carries now.
    pub relayed: usize,
    /// Bytes in the own ring that have not been read.
    pub ring_bytes: usize,
    /// Requests that wrote windows or the header.
    pub writes: u64,
    /// Those that failed, or whose answer was lost.
    pub failed_writes: u64,
    /// Bytes of frames put into the ring, with what is said of them.
    pub sent_bytes: u64,
    /// Frames put into the ring, those that were sent again included.
    pub sent_frames: u64,
    /// Bytes of batches taken from the rings of others.
    pub received_bytes: u64,
    /// Frames taken from the rings of others, those that were known included.
    pub received_frames: u64,
    /// How often frames changed from the link to the relay.
    pub changes_to_relay: u64,
    /// How often they changed back.
    pub changes_to_link: u64,
    /// How often what was relayed was sent again.
    pub rewinds: u64,
    /// Messages of QoS 0 that were dropped because they are too large.
    pub dropped: u64,
    /// How often a reader that did not move was left out.
    pub left_out: u64,
    /// How often what came made no sense.
    pub stuck: u64,
    /// How often there was no room in the bank for a ring.
    pub unfunded: u64,
    /// Znodes that no broker has written, or one of a later version.
    pub unreadable: u64,
    /// Rings of brokers that are gone, removed by this one while it led.
    pub removed_rings: u64,
}
