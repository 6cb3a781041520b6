//! What a lane has counted.

use crate::cluster::frame::Cursors;

/// Counts of one lane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneCounts {
    /// The last sequence numbers given: how many frames there were, ever.
    pub offered: Cursors,
    /// What the receiver has, or what was given up.
    pub gone: Cursors,
    /// Bytes of messages the receiver is not known to have.
    pub data_bytes: usize,
    /// Bytes of control frames the receiver is not known to have.
    pub control_bytes: usize,
    /// All bytes of messages that were accepted, ever.
    pub data_bytes_total: u64,
    /// Messages of QoS 0 that were dropped.
    pub dropped: u64,
    /// Messages of QoS 1 and 2 that were refused.
    pub refused: u64,
    /// Frames that were sent once more by a new connection.
    pub resent: u64,
    /// Control frames that were not told, to be told later as part of others.
    pub withheld: u64,
    /// How often the control stream was cut.
    pub cuts: u64,
}
