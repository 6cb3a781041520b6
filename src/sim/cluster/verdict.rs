//! What a checker found, and what may be broken on purpose.

use std::collections::BTreeMap;

/// Who complains.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Checker {
    /// An acknowledged message did not reach a subscriber that had its SUBACK.
    Loss,
    /// A message came twice that may come once.
    Duplicate,
    /// Messages of one connection, topic and QoS overtook each other.
    Order,
    /// A broker acknowledged although the others may have gone on, or have gone on, without it.
    Lease,
    /// Something is still pending although nothing fails any more.
    Progress,
    /// Two brokers do not agree on what one of them wants.
    Interest,
    /// Something was left when everybody had gone.
    Gauges,
    /// A Session that was promised to last was not there, or was with two brokers.
    Session,
    /// Brokers have different retained messages, or one that is out of date.
    Retained,
    /// A broker has a latest value whose time is over, or has none that all should have.
    Latest,
    /// Brokers have other topics registered than the tree, or one is registered for ever, or not again.
    Registry,
    /// More is in the tree than may be, or than was paid for, or something was paid for nothing.
    Bank,
    /// What no link carries is not relayed, or is relayed although a link carries it.
    Relay,
    /// A packet that does not fit what was said before.
    Protocol,
}

/// A run that broke a promise.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("seed {seed}, {at_millis} ms: {checker:?}: {words}")]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// When, in virtual time.
    pub at_millis: u64,
    /// Who found it.
    pub checker: Checker,
    /// What.
    pub words: String,
    /// What happened before, the latest at the end.
    pub trace: Vec<String>,
}

/// What a run that kept all promises was like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Follows from every packet and every fault: equal when two runs were.
    pub trace: u64,
    /// Virtual time that passed.
    pub millis: u64,
    /// What happened, by name.
    pub tally: BTreeMap<&'static str, u64>,
}

/// A failure before it is known which run it belongs to.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) checker: Checker,
    pub(super) words: String,
}

pub(super) fn complaint<T>(checker: Checker, words: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { checker, words: words.into() })
}

/// A rule that is broken on purpose, for a checker to notice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Plant {
    /// None: what is found is true.
    #[default]
    Nothing,
    /// A message counts as answered for when it has been sent.
    AcknowledgeBeforeDone,
    /// A peer counts as having applied what it has been told.
    SubackBeforeApplied,
    /// A receiver takes a batch although frames before it are missing.
    AcceptGap,
    /// A receiver that is dialled again goes back to what the sender still has.
    ForgetDedupe,
    /// A message of QoS 0 that is dropped has had its sequence number.
    SequenceBeforeDrop,
    /// A broker that is in doubt is taken for dead.
    BuryInDoubt,
    /// The lease never ends.
    EndlessLease,
    /// A link to a former life is taken for one to this life.
    WrongLife,
    /// A broker that was declared dead is waited for.
    MissedDeath,
    /// A link is not woken.
    LostWake,
    /// A broker whose lease has ended keeps no Sessions.
    EndWithLease,
    /// What the store has to say to a broker is lost now and then.
    NoAnswer,
    /// The store takes a message that a Session has already for a new one.
    StoreForgets,
    /// The store does not find the Session that is looked for.
    SessionLost,
    /// Sessions of the dead are taken by nobody.
    NoAdoption,
    /// What a dead broker had not answered counts as answered.
    NothingHeld,
    /// A Session moves without its queue and what is in flight.
    QueueLeftBehind,
    /// What peers had sent before a Session moved is not waited for.
    MarksAtOnce,
    /// A broker that joins is not told what is retained.
    EmptySnapshot,
    /// Brokers do not notice that the ensemble has collected the znode of a topic.
    CollectionUnheard,
    /// Latest values in the tree are not taken from there.
    LatestUnheard,
    /// Those that are taken from there hold for an hour more.
    LatestForEver,
    /// Nobody takes away the znode of a topic.
    NothingSwept,
    /// What the lease of a broker grows by is taken from nobody.
    FreeForAll,
    /// What is to be relayed is not written into the tree.
    NotRelayed,
    /// Who is relayed to forgets what it had with each run.
    ForgetRelayed,
}
