//! Coordination: a small tree of znodes that all brokers of a cluster see, as ZooKeeper keeps it.
//!
//! Requests are handed over with a ticket; the reply comes back as an event that bears it. A reply
//! may never say whether a change was made ([`CoordinationError::ConnectionLost`]): whoever asks must
//! be able to look.

use bytes::Bytes;

/// Names a request until its reply. The caller draws it and never uses it twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// How a znode lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// Until it is deleted, or has had no change and no children for this long.
    PersistentWithTtl {
        /// In milliseconds; fixed when the znode is created.
        ttl_millis: u64,
    },
    /// As long as the session that created it.
    Ephemeral,
    /// The same, with a number appended that grows with each creation under one parent.
    EphemeralSequential,
}

/// What the tree knows of a znode.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: i64,
    /// The transaction that last changed its data.
    pub mzxid: i64,
    /// When it was created, by the clock of the server that led: milliseconds since 1970.
    pub ctime_millis: i64,
    /// When its data last changed, by the clock of the server that led: milliseconds since 1970.
    pub mtime_millis: i64,
    /// Goes up with each change of its data.
    pub version: i32,
    /// The session whose end ends it; 0 for a persistent one.
    pub ephemeral_owner: i64,
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Nothing changes; it fails unless the znode has this version.
    Check {
        /// Of the znode.
        path: String,
        /// That it must have.
        version: i32,
    },
    /// A new znode.
    Create {
        /// Of the znode; the beginning of it where a number is appended.
        path: String,
        /// Its content.
        data: Bytes,
        /// How it lives.
        mode: CreateMode,
    },
    /// New content.
    Set {
        /// Of the znode.
        path: String,
        /// Its content.
        data: Bytes,
        /// That it must have; any when `None`.
        version: Option<i32>,
    },
    /// An end.
    Delete {
        /// Of the znode.
        path: String,
        /// That it must have; any when `None`.
        version: Option<i32>,
    },
}

/// Something to ask of the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// One change: answered with [`Reply::Created`], [`Reply::Changed`] or [`Reply::Done`].
    Change(Change),
    /// All of these or none; answered with [`Reply::Done`]. What they wrote must be read back.
    All(Vec<Change>),
    /// The content of a znode: [`Reply::Data`].
    Get(String),
    /// The names of its children: [`Reply::Children`].
    List(String),
    /// From now on, until the session ends, report changes of this znode and all below it:
    /// [`Reply::Done`].
    Watch(String),
}

/// What the tree answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The znode is there.
    Created {
        /// With the number that was appended, where one was.
        path: String,
        /// As it was created.
        stat: Stat,
    },
    /// The content was changed.
    Changed(Stat),
    /// Nothing more is to be said.
    Done,
    /// The content.
    Data {
        /// Its bytes.
        data: Bytes,
        /// As of the same moment.
        stat: Stat,
    },
    /// Names, without the path, in no particular order.
    Children(Vec<String>),
}

/// Why a request came to nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CoordinationError {
    /// There is no such znode, or no parent for it.
    #[error("there is no such znode")]
    NoNode,
    /// There is one already.
    #[error("there is such a znode already")]
    NodeExists,
    /// It has another version.
    #[error("the znode has changed")]
    BadVersion,
    /// It has children.
    #[error("the znode has children")]
    NotEmpty,
    /// One part of [`Request::All`] failed, so that nothing was changed.
    #[error("part {part} of the change: {error}")]
    Part {
        /// Its place, from zero.
        part: usize,
        /// Why.
        #[source]
        error: Box<CoordinationError>,
    },
    /// The ensemble keeps no znodes with a time to live.
    #[error("the ensemble has no TTL nodes: zoo.cfg needs extendedTypesEnabled=true")]
    NoTtl,
    /// We may not.
    #[error("not authorized by the access list of the znode")]
    NoAuth,
    /// The connection ended before the answer: the change was made, or it was not.
    #[error("the connection to the ensemble was lost before the answer")]
    ConnectionLost,
    /// The session is over, and everything ephemeral with it.
    #[error("the session has expired")]
    SessionExpired,
    /// As many requests are outstanding as may be. Nothing was sent.
    #[error("too many requests are waiting for the ensemble")]
    Busy,
    /// Anything else, in the words of the ensemble.
    #[error("{0}")]
    Other(String),
}

/// What became of a znode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It has new content.
    DataChanged,
    /// It is gone.
    Deleted,
}

/// What the tree has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CoordinationEvent {
    /// A session stands. A new one has no watches and no ephemeral znodes. Whoever watches must
    /// list again in either case, for what changed while there was no connection may go unsaid.
    Connected {
        /// Its number.
        session: i64,
        /// Whether it is another one than before.
        is_new: bool,
    },
    /// The connection is gone; the session may live on.
    Disconnected,
    /// The session is over. Another one is being made.
    Expired,
    /// The answer to a request.
    Answered {
        /// That it was submitted with.
        ticket: Ticket,
        /// The answer.
        outcome: Result<Reply, CoordinationError>,
    },
    /// A watched znode has changed.
    Changed {
        /// The znode.
        path: String,
        /// How.
        kind: ChangeKind,
    },
}

/// The way to the tree. Paths are absolute, below the chroot of the cluster.
pub trait Coordination: Send + Sync {
    /// Hands a request over; its answer comes as [`CoordinationEvent::Answered`], always: an
    /// implementation that has no room answers [`CoordinationError::Busy`].
    fn submit(&self, ticket: Ticket, request: Request);

    /// To be said once for each [`CoordinationEvent::Expired`], before anything is done about it. What was
    /// submitted before was meant for the session that is over, and is answered with
    /// [`CoordinationError::SessionExpired`], also where the next one stands by then.
    fn note_expired(&self);

    /// How long the present session lives without a word from us, in milliseconds, as the tree has
    /// granted it, whatever was asked for. `None` before the first session.
    fn session_timeout_millis(&self) -> Option<u64>;
}
