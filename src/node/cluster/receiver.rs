//! Where the links of other brokers meet ours: batches become turns.

use std::sync::Arc;

use super::relaying::{LinkNews, LinkTurn};
use crate::broker::Broker;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::receive::BatchError;
use crate::cluster::frame::{Cursors, Hello, RefusalCode, Welcome};
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
        // Also where the links look: what is decided here is decided for the life that was meant.
        if hello.to != own {
            return refused(own, ANOTHER_LIFE);
        }
        if !peers.knows_time() {
            return put_off(own, NO_CLOCK);
        }
        let Some(wire) = WireVersions::OURS.common(hello.wire) else {
            let (reason, code) = (NO_COMMON_VERSION.to_owned(), RefusalCode::WireVersion);
            return Welcome::Refused { reason, boot_id: own, code };
        };
        let now = self.clock.now();
        let Some(peer) = self.peer(hello.boot_id) else {
            peers.note_stranger(hello.boot_id, now);
            return put_off(own, STRANGER);
        };
        let received =
            self.own_context.run(&self.broker, now, |turn| turn.greet(peers, &peer, hello.gone));
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
            BatchError::Gone | BatchError::Over => ReceiveError::NotAMember,
        })?;
        Ok(peer.inbound().lock().received())
    }

    fn link_changed(&self, to: BootId, is_up: bool) {
        self.link_news.note(to, if is_up { LinkTurn::Up } else { LinkTurn::Down });
    }

    fn link_mistrusted(&self, to: BootId) {
        self.link_news.note(to, LinkTurn::Mistrusted);
    }
}

fn refused(boot_id: BootId, reason: &str) -> Welcome {
    Welcome::Refused { reason: reason.to_owned(), boot_id, code: RefusalCode::Other }
}

/// Whoever it is comes again, or learns from the slot map that it is dead.
fn put_off(boot_id: BootId, reason: &str) -> Welcome {
    Welcome::Refused { reason: reason.to_owned(), boot_id, code: RefusalCode::NotYet }
}

const NO_CLUSTER: &str = "this broker is part of no cluster";
const ANOTHER_LIFE: &str = "another life of this broker is meant, or another broker";
const NO_CLOCK: &str = "this broker does not know the time of the cluster yet";
const NO_COMMON_VERSION: &str = "the brokers speak no common version of the link protocol";
const STRANGER: &str = "this broker has not heard of that one yet, or it was declared dead";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::options::BrokerOptions;
    use crate::broker::peers::Peers;
    use crate::broker::{Guards, Seeds};
    use crate::cluster::identity::{Member, MemberState};
    use crate::cluster::lane::LaneOptions;
    use crate::cluster::membership::output::PeerLease;

    const OWN: BootId = BootId(1);
    const PEER: BootId = BootId(2);

    /// A broker that knows the time and one peer.
    fn receiver() -> LinkReceiver {
        let receiver = early_receiver();
        receiver.broker.peers().unwrap().set_clock_offset(1_000_000);
        receiver
    }

    /// A broker that knows one peer, and not the time.
    fn early_receiver() -> LinkReceiver {
        let peers = Peers::new(OWN, "own".into(), 1, LaneOptions::default());
        let seeds = Seeds { hash: 1, instance: 2 };
        let broker = Broker::new(BrokerOptions::default(), Guards::default(), seeds);
        let broker = Arc::new(broker.with_peers(peers));
        let news = LinkNews::new(&Arc::default());
        let receiver = LinkReceiver::new(broker, Clock::start(), Arc::from([]), news);
        let member = Member {
            name: "peer".into(),
            boot_id: PEER,
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        };
        let peers = receiver.broker.peers().unwrap();
        receiver.own_context.run(&receiver.broker, receiver.clock.now(), |turn| {
            turn.add_peer(peers, &member);
        });
        receiver
    }

    fn hello(boot_id: BootId, to: BootId) -> Hello {
        Hello {
            cluster: "zoo".to_owned(),
            name: "peer".to_owned(),
            boot_id,
            to,
            wire: WireVersions::OURS,
            gone: Cursors::default(),
        }
    }

    /// The links had looked at the addressee while this broker was still in its former life: what a
    /// peer meant for that one was taken as meant for the next.
    #[test]
    fn what_is_meant_for_another_life_is_refused_where_it_is_decided() {
        let receiver = receiver();
        assert!(matches!(receiver.hello(&hello(PEER, OWN)), Welcome::Accepted { .. }));
        let peers = receiver.broker.peers().unwrap();
        receiver.own_context.run(&receiver.broker, receiver.clock.now(), |turn| {
            turn.begin_life(peers, BootId(3));
        });
        assert_eq!(receiver.hello(&hello(PEER, OWN)), refused(BootId(3), ANOTHER_LIFE));
    }

    /// Every start of a broker counted as links that were refused, and was a line in the log.
    #[test]
    fn a_link_that_comes_before_the_time_is_known_is_put_off() {
        let receiver = early_receiver();
        let answer = receiver.hello(&hello(PEER, OWN));
        assert!(matches!(answer, Welcome::Refused { code: RefusalCode::NotYet, .. }), "{answer:?}");
    }

    #[test]
    fn a_stranger_is_put_off_and_remembered() {
        let receiver = receiver();
        assert_eq!(receiver.hello(&hello(BootId(9), OWN)), put_off(OWN, STRANGER));
        let answers = receiver.broker.peers().unwrap().lease_answers(receiver.clock.now(), 1_000);
        assert_eq!(answers, [(BootId(9), PeerLease::Committed)]);
    }
}
