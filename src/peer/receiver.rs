//! Who takes what peers send: the broker, as the links see it.

use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::cluster::identity::BootId;
use crate::cluster::inbound::Gap;
use crate::cluster::wire::{Batch, WireError};

/// Takes what peers send. No method may wait for anything: it runs on a shard.
pub trait Receiver: Send + Sync + 'static {
    /// A peer dials. Cluster, secret, addressee and versions are right; the answer says how far its
    /// frames have been received, or that this boot id is not welcome. The wire version in the
    /// answer is filled in by the link.
    fn hello(&self, hello: &Hello) -> Welcome;

    /// Takes a batch, within one turn of the shard with this number, on whose thread it is called.
    /// Tells how far the frames of `from` have been received, by whatever lane.
    ///
    /// # Errors
    ///
    /// When the connection is to be closed.
    fn receive(&self, shard: usize, from: BootId, batch: Batch) -> Result<Cursors, ReceiveError>;

    /// The link we dial to this peer stands, or no longer does.
    fn link_changed(&self, _to: BootId, _is_up: bool) {}

    /// It does not stand, since this peer and we do not trust each other.
    fn link_mistrusted(&self, _to: BootId) {}
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Frames are missing.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// A frame makes no sense.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// The sender is dead or unknown.
    #[error("the sender is no member of the cluster any more")]
    NotAMember,
}
