//! Where the links of other brokers meet ours: batches become turns.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::receive::ReceiveError;
use crate::cluster::frame::{ControlFrame, Cursors, Hello, Welcome};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::wire::Batch;
use crate::gateway::mqtt::ShardContext;
use crate::peer::Receiver;
use crate::runtime::Clock;

/// Takes what comes by links.
pub(super) struct LinkReceiver {
    broker: Arc<Broker>,
    clock: Clock,
    /// One per broker that has dialled: its messages are handled one batch after the other.
    contexts: Mutex<HashMap<BootId, Arc<ShardContext>>>,
}

impl LinkReceiver {
    pub(super) fn new(broker: Arc<Broker>, clock: Clock) -> Self {
        Self { broker, clock, contexts: Mutex::default() }
    }

    fn context(&self, boot_id: BootId) -> Arc<ShardContext> {
        let mut contexts = self.contexts.lock();
        let context = contexts.entry(boot_id);
        Arc::clone(context.or_insert_with(|| Arc::new(ShardContext::new(&self.broker))))
    }

    fn peer(&self, boot_id: BootId) -> Option<Arc<Peer>> {
        self.broker.peers()?.find(boot_id)
    }
}

impl Receiver for LinkReceiver {
    fn hello(&self, hello: &Hello) -> Welcome {
        let Some(peers) = self.broker.peers() else { return refused(BootId(0), NO_CLUSTER) };
        let own = peers.boot_id();
        if !peers.knows_time() {
            return refused(own, NO_CLOCK);
        }
        let Some(wire) = WireVersions::OURS.common(hello.wire) else {
            return refused(own, NO_COMMON_VERSION);
        };
        let Some(peer) = self.peer(hello.boot_id) else { return refused(own, STRANGER) };
        let (received, has_lost) = {
            let mut inbound = peer.inbound().lock();
            let has_lost = inbound.resume(hello.gone);
            (inbound.received(), has_lost)
        };
        if has_lost {
            self.context(hello.boot_id).run(&self.broker, self.clock.now(), |turn| {
                turn.tell(&peer, &ControlFrame::InterestWanted);
            });
        }
        Welcome::Accepted { wire, received }
    }

    fn receive(&self, from: BootId, batch: &Batch) -> Result<Cursors, ReceiveError> {
        let peers = self.broker.peers().ok_or(ReceiveError::Stranger)?;
        let peer = self.peer(from).ok_or(ReceiveError::Stranger)?;
        self.context(from)
            .run(&self.broker, self.clock.now(), |turn| turn.receive_batch(peers, &peer, batch))?;
        Ok(peer.inbound().lock().received())
    }
}

fn refused(boot_id: BootId, reason: &str) -> Welcome {
    Welcome::Refused { reason: reason.to_owned(), boot_id }
}

const NO_CLUSTER: &str = "this broker is part of no cluster";
const NO_CLOCK: &str = "this broker does not know the time of the cluster yet";
const NO_COMMON_VERSION: &str = "the brokers speak no common version of the link protocol";
const STRANGER: &str = "this broker has not heard of that one yet, or it was declared dead";
