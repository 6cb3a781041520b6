//! What a [`super::Membership`] is made with, and what it has to say.

use std::sync::Arc;

use crate::cluster::identity::{BootId, Member, WireVersions};
use crate::cluster::slots::SlotMap;
use crate::ports::clock::Tick;
use crate::ports::coordination::{Request, Stat, Ticket};

/// What a broker says about itself, and how long a session lasts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MembershipOptions {
    /// Unique among live brokers.
    pub name: Arc<str>,
    /// Where its peers dial it, `host:port`.
    pub link_address: String,
    /// Where it stands; may be empty.
    pub zone: String,
    /// The versions of the link protocol it speaks.
    pub wire: WireVersions,
    /// T: how long the ensemble keeps a session of which it hears nothing, as agreed with it.
    pub session_timeout_millis: u64,
}

/// Something to do, or to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Hand this to the tree of znodes.
    Submit(Ticket, Request),
    /// A broker is there that was not known.
    MemberJoined(Member),
    /// A broker says something else about itself than before.
    MemberChanged(Member),
    /// The znode of a broker is gone: send it nothing of QoS 0, and hold the rest.
    MemberSuspect(BootId),
    /// It is there again, in the same life.
    MemberBack(BootId),
    /// It has been declared dead. The map that says so came before.
    MemberDead(BootId),
    /// A later map.
    Slots(Arc<SlotMap>),
    /// Whether this broker leads from now on.
    Leading(bool),
    /// This broker has its znode, and these were there when it was made: have their snapshots before
    /// you take a client. It comes once in a life.
    Registered {
        /// Those whose znode was there.
        listed: Vec<Member>,
        /// Those that the map knows and whose znode was not there. They may come back with clients:
        /// wait for each to join or to be declared dead.
        absent: Vec<BootId>,
    },
    /// A broker with another boot id has the name: ask it over its link, and call
    /// [`super::Membership::name_holder_answered`] if it answers. If it does not, do nothing: its
    /// znode ends by itself.
    NameTaken {
        /// Who has it.
        holder: Member,
    },
    /// This broker cannot take part: say why and stop.
    Fatal(String),
    /// The others believe this broker dead: let the clients go, and begin a new life with a new boot
    /// id and a new [`super::Membership`]. Nothing follows.
    DeclaredDead,
    /// This broker has left. Nothing follows.
    Left,
    /// It has left before it took a client, since it does not belong to those that were there
    /// before it: begin a new life, which waits at the door. Nothing follows.
    Withdrawn,
    /// Acknowledgements may leave until then.
    Lease {
        /// The first moment at which they may not.
        until: Tick,
    },
    /// The heartbeat was committed: a reading for the clock of the cluster.
    Heartbeat(Heartbeat),
    /// The ensemble keeps no znodes with a time to live.
    TtlMissing,
    /// Something does not work, in one line. It is tried again.
    Trouble(String),
}

/// A write to the own znode below `/clock` that was committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// When it was handed over.
    pub sent: Tick,
    /// When its answer came.
    pub answered: Tick,
    /// When the ensemble says it was.
    pub stat: Stat,
}

/// What a broker says of its own lease when a peer asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerLease {
    /// Its writes to the tree of znodes are committed.
    Committed,
    /// They are not.
    Uncommitted,
}
