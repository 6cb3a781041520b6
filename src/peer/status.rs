//! What an operator may see of the links.

use crate::cluster::identity::BootId;
use crate::cluster::lane::LaneCounts;
use crate::ports::clock::Tick;
use std::net::SocketAddr;
use std::time::Duration;

/// One peer, as the links see it.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Its present life.
    pub boot_id: BootId,
    /// Where it is dialled.
    pub address: String,
    /// Since when our link to it stands.
    pub connected_since: Option<Tick>,
    /// From where and since when its link to us stands.
    pub accepted: Option<(SocketAddr, Tick)>,
    /// From sending a batch to hearing that it was received, when last measured: on a busy link up to
    /// five milliseconds more, in which the peer waits to answer for several batches at once.
    pub round_trip: Option<Duration>,
    /// What went wrong last, if something did.
    pub last_error: Option<String>,
    /// Whether it is said that our link to it does not stand, and why.
    pub is_troubled: bool,
    /// How often our link to it stood.
    pub connects: u64,
    /// How often it ended, or did not come to stand.
    pub failures: u64,
    /// What is on its way to it.
    pub lane: LaneCounts,
}

/// Counts over all links.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkCounts {
    /// Connections that came and were no link.
    pub refused: u64,
    /// Links that came before this broker knew the peer, or the time of the cluster: they come again.
    pub put_off: u64,
    /// Connections that have not said yet who they are.
    pub half_open: usize,
    /// Peers that are connected to us.
    pub accepted: usize,
    /// Bytes received.
    pub received_bytes: u64,
    /// Batches received.
    pub received_batches: u64,
}
