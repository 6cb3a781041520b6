//! What comes of offering to a lane, and of taking from it.

use std::task::Waker;

/// What came of offering a message.
#[must_use]
#[derive(Debug)]
pub enum Offered {
    /// It is on its way.
    Queued {
        /// Its sequence number in the data stream.
        seq: u64,
        /// To be woken at the end of the turn.
        wake: Option<Waker>,
        /// Whether its publisher should be slowed: the receiver is behind.
        is_congested: bool,
    },
    /// It was QoS 0, and the receiver is behind or in doubt.
    Dropped,
    /// The receiver is so far behind that nothing is taken any more.
    Refused,
    /// The receiver is gone for good.
    Closed,
}

/// What came of offering a control frame.
#[must_use]
#[derive(Debug)]
pub enum OfferedControl {
    /// It is on its way.
    Queued {
        /// Its sequence number in the control stream.
        seq: u64,
        /// To be woken at the end of the turn.
        wake: Option<Waker>,
    },
    /// The bound was reached. This frame and all control frames the receiver is not known to have
    /// are gone; the link starts anew. Begin again, with a snapshot.
    Broken(Option<Waker>),
    /// The receiver is gone for good.
    Closed,
}

/// What [`super::Lane::take`] found.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// Batches. Come again when they are written.
    Batches,
    /// Nothing: the waker is kept for the next offer.
    Nothing,
    /// What went out before does not fit to what comes now: close the connection and dial again.
    Restart,
    /// Close the connection for good.
    Closed,
}
