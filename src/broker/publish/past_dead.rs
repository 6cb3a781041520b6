//! A message that a broker would get which is dead, and whose stored Sessions not everybody has taken.

use std::sync::Arc;

use crate::broker::acknowledge::Level;
use crate::broker::peers::Peers;
use crate::broker::peers::adoption::{Adoptions, HeldFor};
use crate::broker::peers::ticket::PublishTicket;
use crate::broker::publish::{LastRoute, PublishOutcome, outcome_of};
use crate::broker::routes::Fanout;
use crate::broker::turn::Turn;
use crate::cluster::frame::Whom;
use crate::mqtt::TopicFilter;
use crate::ports::message::Message;

impl Turn<'_> {
    /// Whether messages for the dead are held.
    #[inline]
    pub(crate) fn is_mourning(&self) -> bool {
        self.broker.peers().map(Peers::adoptions).is_some_and(Adoptions::is_mourning)
    }

    /// Sessions that are not stored get it now; the stored ones, here and elsewhere, behind what is
    /// held already, or it would overtake that. So do Shared Subscriptions all of whose members were at
    /// a dead broker; of the others somebody gets it now.
    #[cold]
    pub(super) fn publish_past_dead(
        &mut self,
        message: &Arc<Message>,
        fanout: &Fanout,
        generation: u64,
        level: Level,
    ) -> PublishOutcome {
        let groups = self.groups_to_hold_for(fanout, message.qos);
        let is_for_stored = fanout.has_mourned_subscribers(message.qos);
        let now = if is_for_stored { fanout.unstored() } else { fanout.clone() };
        let now = Arc::new(now.without_groups(&groups));
        let outcome = self.publish_to_all(message, &now, generation, level);
        if !is_for_stored && groups.is_empty() {
            return outcome;
        }
        let new = |matched| Arc::new(PublishTicket::of(message.id, matched));
        let (ticket, is_sealed) = match &outcome {
            PublishOutcome::Refused(_) => return outcome,
            PublishOutcome::Pending(ticket) => (Arc::clone(ticket), true),
            PublishOutcome::Accepted => (new(true), false),
            PublishOutcome::NoMatchingSubscribers => (new(false), false),
        };
        let held = HeldFor { are_stored: is_for_stored, groups };
        self.hold_or_offer(&Arc::new(message.detached()), &ticket, held);
        if is_sealed { outcome } else { outcome_of(ticket) }
    }

    /// Hands out a message of another broker to those of its receivers that are meant.
    pub(crate) fn publish_from_peer_to(
        &mut self,
        whom: Whom,
        message: Arc<Message>,
        receivers: (bool, &[TopicFilter]),
        last: &mut Option<LastRoute>,
        moved: &mut Vec<TopicFilter>,
    ) -> PublishOutcome {
        match whom {
            Whom::Everybody => self.publish_from_peer(message, receivers, last, moved),
            Whom::Stored => self.publish_to_stored(&message),
            Whom::Unstored => {
                let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
                let Some(fanout) = self.fanout(&message.topic) else {
                    return PublishOutcome::NoMatchingSubscribers;
                };
                let (topic, fanout) = (message.topic.clone(), Arc::new(fanout.unstored()));
                let mut last = Some(LastRoute { topic, generation, fanout });
                self.publish_from_peer(message, receivers, &mut last, moved)
            }
        }
    }
}
