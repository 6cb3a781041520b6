//! Where the links of other brokers meet ours: batches become turns.

use std::sync::Arc;

use super::relaying::LinkNews;
use crate::broker::Broker;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::receive::BatchError;
use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::cluster::identity::{BootId, WireVersions};
use crate::cluster::wire::Batch;
use crate::gateway::mqtt::ShardContext;
use crate::peer::{ReceiveError, Receiver};
use crate::runtime::Clock;

/// Takes what comes by links.
pub(super) struct LinkReceiver {
    broker: Arc<Broker>,
    clock: Clock,
    /// One per shard, as for connections of clients.
    contexts: Arc<[Arc<ShardContext>]>,
    /// For turns that belong to no batch.
    own_context: ShardContext,
    link_news: Arc<LinkNews>,
}

impl LinkReceiver {
    pub(super) fn new(
        broker: Arc<Broker>,
        clock: Clock,
        contexts: Arc<[Arc<ShardContext>]>,
        link_news: Arc<LinkNews>,
    ) -> Self {
        let own_context = ShardContext::new(&broker);
        Self { broker, clock, contexts, own_context, link_news }
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
        let now = self.clock.now();
        let received =
            self.own_context.run(&self.broker, now, |turn| turn.resume(&peer, hello.gone));
        Welcome::Accepted { wire, received }
    }

    fn receive(&self, shard: usize, from: BootId, batch: Batch) -> Result<Cursors, ReceiveError> {
        let (Some(peers), Some(peer)) = (self.broker.peers(), self.peer(from)) else {
            return Err(ReceiveError::NotAMember);
        };
        let context = self.contexts.get(shard).expect("a context for every shard");
        let taken = context
            .run(&self.broker, self.clock.now(), |turn| turn.receive_batch(peers, &peer, &batch));
        taken.map_err(|error| match error {
            BatchError::Gap(gap) => ReceiveError::Gap(gap),
            BatchError::Wire(error) => ReceiveError::Malformed(error),
        })?;
        Ok(peer.inbound().lock().received())
    }

    fn link_changed(&self, to: BootId, is_up: bool) {
        self.link_news.note(to, is_up);
    }
}

fn refused(boot_id: BootId, reason: &str) -> Welcome {
    Welcome::Refused { reason: reason.to_owned(), boot_id }
}

const NO_CLUSTER: &str = "this broker is part of no cluster";
const NO_CLOCK: &str = "this broker does not know the time of the cluster yet";
const NO_COMMON_VERSION: &str = "the brokers speak no common version of the link protocol";
const STRANGER: &str = "this broker has not heard of that one yet, or it was declared dead";
