//! What a relay hands over from other brokers, and what it leaves to whoever has the connections.

use crate::broker::peers::Peers;
use crate::broker::peers::receive::BatchError;
use crate::broker::turn::Turn;
use crate::cluster::identity::BootId;
use crate::cluster::relay::{LaneInUse, Relay, RelayOutput};
use crate::cluster::wire::Batch;
use crate::ports::coordination::{Request, Ticket};

/// What is left to be done of what a relay wants.
#[derive(Debug)]
pub enum RelayChore {
    /// Hand this to the tree of znodes.
    Submit(Ticket, Request),
    /// Close the link to this broker and dial again.
    CutLink(BootId),
    /// Frames to this broker go by another lane: for the log.
    Changed(BootId, LaneInUse),
    /// What this broker relays was not taken: for the log.
    NotTaken(BootId, BatchError),
}

impl Turn<'_> {
    /// Does what `relay` wants done, as far as the broker can.
    pub fn hear_relay(
        &mut self,
        peers: &Peers,
        relay: &mut Relay,
        output: RelayOutput,
    ) -> Option<RelayChore> {
        match output {
            RelayOutput::Submit(ticket, request) => Some(RelayChore::Submit(ticket, request)),
            RelayOutput::Resume { from, gone } => {
                let peer = peers.find(from)?;
                let received = self.greet(peers, &peer, gone);
                relay.note_received(from, received);
                None
            }
            RelayOutput::Batch { from, batch } => self.take_relayed(peers, relay, from, &batch),
            RelayOutput::CutLink(boot_id) => Some(RelayChore::CutLink(boot_id)),
            RelayOutput::Changed { peer, lane } => Some(RelayChore::Changed(peer, lane)),
        }
    }

    fn take_relayed(
        &mut self,
        peers: &Peers,
        relay: &mut Relay,
        from: BootId,
        batch: &Batch,
    ) -> Option<RelayChore> {
        let peer = peers.find(from)?;
        match self.receive_relayed(peers, &peer, batch) {
            Ok(()) => {
                let received = peer.inbound().lock().received();
                relay.note_received(from, received);
                None
            }
            Err(error) => {
                relay.refuse(from);
                Some(RelayChore::NotTaken(from, error))
            }
        }
    }
}
