//! Who holds which Client Identifier, among several brokers.

use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::ControlFrame;

impl Turn<'_> {
    /// A word of `peer` about Client Identifiers.
    pub(crate) fn receive_ownership(
        &mut self,
        _peers: &Peers,
        _peer: &Arc<Peer>,
        _frame: ControlFrame,
    ) {
    }
}
