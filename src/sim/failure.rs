//! What a checker found.

/// Who complains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checker {
    /// An acknowledged message did not reach a Session that was entitled to it.
    Loss,
    /// A message came twice that may come once.
    Duplicate,
    /// Messages of one publisher, topic and QoS overtook each other.
    Order,
    /// A queue or a budget went over its bound.
    Bound,
    /// A Session had two owners, or the wrong one.
    Ownership,
    /// Nothing moves although nobody fails any more.
    Progress,
    /// A client was let go too early or too late.
    KeepAlive,
    /// A will was published that should not have been, or not, or at another time.
    Will,
    /// A Session was there after its end, or not before it.
    SessionExpiry,
    /// A message was sent after its end, or with the wrong time left.
    MessageExpiry,
    /// The retained message of a topic is not the last one.
    Retained,
    /// Somebody got a message that was refused.
    Refusal,
    /// More was sent than the client's Receive Maximum or Maximum Packet Size allows.
    Window,
    /// A packet that does not fit what was said before.
    Protocol,
    /// Something was left when everything had ended.
    Gauges,
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

/// A fault of the simulated world itself, which one checker must find.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Plant {
    /// None: what is found is true.
    #[default]
    Nothing,
    /// A client forgets a message it acknowledged.
    LostDelivery,
    /// A client takes a QoS 2 message twice.
    DoubledDelivery,
    /// A client takes two messages in the wrong order.
    SwappedDeliveries,
    /// The checker expects smaller queues than the broker has.
    SmallerBound,
    /// A connection is reported twice.
    TwoOwners,
    /// A wake-up of a connection is lost once everybody is well.
    LostWake,
    /// A client's packet is not counted as heard.
    ShortKeepAlive,
    /// The broker is told of no time-out.
    DeafTimers,
    /// The watcher overlooks a will.
    LostWill,
    /// Sessions are ended late.
    LateExpiry,
    /// The time left of a message is read wrongly.
    LongerMessageExpiry,
    /// The probe overlooks a retained message.
    LostRetained,
    /// A publisher takes an acceptance for a refusal.
    FalseRefusal,
    /// A client believes in a smaller Receive Maximum than it announced.
    SmallerWindow,
    /// A connection is never told that its client has gone.
    ForgottenConnection,
}
