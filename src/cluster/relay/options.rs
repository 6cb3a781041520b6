//! What a relay is told when it is made, and its measures.

use std::sync::Arc;

use crate::cluster::identity::BootId;

/// Who we are, and when the relay is used.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Of this broker: unique among live ones.
    pub name: Arc<str>,
    /// Its life.
    pub boot_id: BootId,
    /// T: how long a session lasts of which the ensemble hears nothing.
    pub session_timeout_millis: u64,
    /// A message with more bytes waits for the link, or is dropped when its QoS is 0.
    pub message_bytes_max: usize,
    /// There are no links: everything is relayed.
    pub is_always: bool,
}

impl RelayOptions {
    /// How long a link is down before the relay takes over.
    pub(super) fn grace_millis(&self) -> u64 {
        (self.session_timeout_millis / 6).min(GRACE_MILLIS_MAX)
    }

    /// How long nothing is received by a link that stands before the relay takes over. Brokers tell
    /// each other every sixth of T that they are there.
    pub(super) fn silence_millis(&self) -> u64 {
        self.session_timeout_millis / 3
    }

    /// How long a link stands before it is trusted again.
    pub(super) fn return_millis(&self) -> u64 {
        self.session_timeout_millis / 6
    }

    /// How often is looked which lane is right.
    pub(super) fn look_millis(&self) -> u64 {
        (self.session_timeout_millis / 12).clamp(10, LOOK_MILLIS_MAX)
    }

    /// The bytes of the frame of the largest message: its packet, and what brokers say of it.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.message_bytes_max.saturating_add(FRAME_HEAD_BYTES_MAX)
    }
}

/// Windows of a ring.
pub(super) const WINDOWS: usize = 4;
/// Bytes of a window, and of a write. Each ZooKeeper server keeps the last 500 requests in memory, so
/// that a larger one costs all of them hundreds of megabytes.
pub(super) const WINDOW_BYTES: usize = 64 * 1_024;
/// Bytes of a batch in one part.
pub(super) const PIECE_BYTES_MAX: usize = 32 * 1_024 - 64;
/// A piece that is not the last of its batch is not smaller.
pub(super) const PIECE_BYTES_MIN: usize = 1_024;
/// From one write to the next.
pub(super) const PACE_MILLIS: u64 = 10;
/// From a write that failed to the next.
pub(super) const RETRY_MILLIS: u64 = 200;
/// What a ring may come to, with its header: that is what its broker pays.
pub const RING_BYTES: u64 = (WINDOWS * WINDOW_BYTES) as u64 + 16 * 1_024;
const GRACE_MILLIS_MAX: u64 = 1_000;
const LOOK_MILLIS_MAX: u64 = 500;
const FRAME_HEAD_BYTES_MAX: usize = 64 * 1_024;
