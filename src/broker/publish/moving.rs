//! Who subscribes, or moves to another broker, while a message is handed out.

use std::sync::Arc;

use crate::broker::peers::forward::{PeerShares, is_own_business, share_with_subscribers};
use crate::broker::peers::ticket::PublishTicket;
use crate::broker::publish::offering::wanted;
use crate::broker::routes::Fanout;
use crate::broker::turn::Turn;
use crate::ports::message::{Message, MessageId};

impl Turn<'_> {
    /// Who subscribed between the look at the routes and the change of the retained message may have
    /// been replayed the former one: it gets this one as well. `routed` is brought up to date.
    pub(super) fn offer_to_newcomers(
        &mut self,
        message: &Arc<Message>,
        routed: &mut Arc<Fanout>,
    ) -> bool {
        let Some(now) = self.fanout(&message.topic) else { return false };
        if Arc::ptr_eq(&now, routed) {
            return false;
        }
        let routed = std::mem::replace(routed, Arc::clone(&now));
        let mut has_newcomers = false;
        for target in &now.targets {
            // Targets stand in the order of their keys.
            let key = target.mailbox.key();
            if routed.targets.binary_search_by_key(&key, |other| other.mailbox.key()).is_ok() {
                continue;
            }
            let Some((target, qos)) = wanted(target, message) else { continue };
            has_newcomers = true;
            if !self.offer(target, message, qos, &mut None) {
                // The publish has been accepted; this one queue has no room for it.
                self.shard.counters.deliveries_dropped.increment();
            }
        }
        has_newcomers
    }

    /// The routes changed while a message of QoS 1 or 2 was handed out. A Session may have moved to
    /// another broker meanwhile, and what came to its former one by the older route came too late:
    /// whoever is new gets it as well, and knows it again if it has it already.
    #[inline]
    pub(super) fn follow_moves(
        &mut self,
        message: &Arc<Message>,
        routed: &Arc<Fanout>,
        generation: u64,
        ticket: &mut Option<Arc<PublishTicket>>,
    ) {
        let now = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        let may_move = message.id != MessageId::NONE && self.broker.peers().is_some();
        if may_move && now != generation {
            self.offer_to_moved(message, routed, ticket);
        }
    }

    #[cold]
    fn offer_to_moved(
        &mut self,
        message: &Arc<Message>,
        routed: &Arc<Fanout>,
        ticket: &mut Option<Arc<PublishTicket>>,
    ) {
        let mut now = Arc::clone(routed);
        let has_newcomers = self.offer_to_newcomers(message, &mut now);
        if is_own_business(message.topic.as_str()) {
            return;
        }
        let mut shares = PeerShares::new();
        for target in &now.peers {
            if !routed.peers.iter().any(|other| Arc::ptr_eq(&other.peer, &target.peer)) {
                share_with_subscribers(&mut shares, target, message.qos);
            }
        }
        self.forward(message, shares, None, has_newcomers, ticket);
    }
}
