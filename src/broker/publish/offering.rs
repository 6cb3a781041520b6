//! One message for one mailbox.

use std::sync::Arc;

use crate::broker::durable::messages::Manner;
use crate::broker::routes::FanoutTarget;
use crate::broker::turn::Turn;
use crate::mqtt::QoS;
use crate::ports::message::{Delivery, Message, Progress};
use crate::session::mailbox::{Offer, Place};

impl Turn<'_> {
    /// Offers to one mailbox. `false` when its policy is to refuse the publish.
    #[inline]
    pub(crate) fn offer(
        &mut self,
        target: &FanoutTarget,
        message: &Arc<Message>,
        qos: QoS,
        detached: &mut Option<Arc<Message>>,
    ) -> bool {
        self.offer_delivery(target, delivery(target, Arc::clone(message), qos), detached)
    }

    #[inline]
    pub(super) fn offer_delivery(
        &mut self,
        target: &FanoutTarget,
        delivery: Delivery,
        detached: &mut Option<Arc<Message>>,
    ) -> bool {
        let may_be_stored = delivery.qos > QoS::AtMostOnce && target.mailbox.is_for_store();
        let kept = may_be_stored.then(|| (Arc::clone(&delivery.message), delivery.qos));
        match target.mailbox.offer(delivery, self.now, detached) {
            Offer::Queued(wake) => {
                self.shard.wake_later(wake);
                self.keep_offered(target, None, kept);
            }
            Offer::Stored(place) => self.keep_offered(target, Some(place), kept),
            Offer::Displaced { wake, place, oldest, is_dead_letter } => {
                self.shard.wake_later(wake);
                self.keep_offered(target, place, kept);
                for delivery in &oldest {
                    self.drop_delivery(target.mailbox.stored_as(), delivery);
                }
                self.shard.counters.deliveries_dropped.add(oldest.len() as u64);
                if is_dead_letter {
                    self.shard.dead_letters.extend(oldest);
                }
            }
            Offer::Exceeding { place, page } => {
                self.keep_offered(target, Some(place), kept);
                if let Some(page) = page {
                    self.ask_for_head(&target.mailbox, page);
                }
            }
            Offer::Dropped(wake) => {
                self.shard.wake_later(wake);
                self.shard.counters.deliveries_dropped.increment();
            }
            Offer::NotKept => {}
            Offer::Full => return false,
        }
        true
    }

    /// Offers a delivery of QoS 0 to a member of a group. `false` when its client has gone: another one
    /// is to have it.
    pub(crate) fn offer_at_most_once(
        &mut self,
        target: &FanoutTarget,
        delivery: Delivery,
        detached: &mut Option<Arc<Message>>,
    ) -> bool {
        match target.mailbox.offer(delivery, self.now, detached) {
            Offer::Queued(wake) => self.shard.wake_later(wake),
            Offer::Dropped(wake) => {
                self.shard.wake_later(wake);
                self.shard.counters.deliveries_dropped.increment();
            }
            // QoS 0 has no place, displaces nothing and is never refused.
            Offer::NotKept
            | Offer::Full
            | Offer::Stored(_)
            | Offer::Displaced { .. }
            | Offer::Exceeding { .. } => return false,
        }
        true
    }

    fn keep_offered(
        &mut self,
        target: &FanoutTarget,
        place: Option<Place>,
        kept: Option<(Arc<Message>, QoS)>,
    ) {
        let Some((message, qos)) = kept else { return };
        match place {
            Some(place) => {
                self.keep_at(place, &target.mailbox, &message, manner(target, &message, qos));
            }
            None => self.note_gathered(&target.mailbox, &message),
        }
    }
}

/// The QoS of the delivery, unless the target does not want its own messages [MQTT-3.8.3-3].
#[inline]
pub(crate) fn wanted<'a>(
    target: &'a FanoutTarget,
    message: &Message,
) -> Option<(&'a FanoutTarget, QoS)> {
    if target.no_local && target.mailbox.publisher() == message.publisher {
        return None;
    }
    Some((target, message.qos.min(target.qos)))
}

/// The message as `target` gets it [MQTT-3.3.1-12, MQTT-3.3.1-13].
#[inline]
pub(crate) fn delivery(target: &FanoutTarget, message: Arc<Message>, qos: QoS) -> Delivery {
    Delivery {
        retain: target.retain_as_published && message.retain,
        message,
        tag: target.tag.clone(),
        qos,
        sequence: 0,
        progress: Progress::New,
    }
}

/// How `target` gets it, for the store.
pub(crate) fn manner(target: &FanoutTarget, message: &Message, qos: QoS) -> Manner {
    let retain = target.retain_as_published && message.retain;
    Manner { qos, retain, tag: target.tag.clone(), handed_on: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::disconnect::Keeping;
    use crate::broker::options::BrokerOptions;
    use crate::broker::stories::Stage;
    use crate::session::fixtures::{self, bounds};
    use crate::session::mailbox::{Mailbox, MailboxOptions};
    use crate::session::outbox::Outbox;

    /// Offers once what was published, and once what another member had.
    #[track_caller]
    fn check(mailbox: Mailbox, is_taken: bool, dropped: u64) {
        let (tag, qos) = (None, QoS::AtMostOnce);
        let (no_local, retain_as_published) = (false, false);
        let mailbox = Arc::new(mailbox);
        let target = FanoutTarget { mailbox, tag, qos, no_local, retain_as_published };
        let Stage { broker, mut shard, now } = Stage::new(BrokerOptions::default());
        let (shard, mut outbox) = (&mut shard, Outbox::new());
        let turn = &mut Turn { broker: &broker, shard, now, outbox: &mut outbox };
        let offered = fixtures::delivery(qos);
        assert_eq!(turn.offer_at_most_once(&target, offered.clone(), &mut None), is_taken);
        assert_eq!(turn.hand_to_member(&target, &offered, Keeping::Broker), is_taken);
        assert_eq!(turn.shard.counters.deliveries_dropped.total(), dropped);
    }

    #[test]
    fn qos_0_for_a_member_is_queued_or_counted_or_for_another() {
        let there = |bounds| {
            let mailbox = fixtures::mailbox(bounds);
            mailbox.attach();
            mailbox
        };
        check(there(bounds(10)), true, 0);
        check(there(MailboxOptions { qos0_messages_max: 0, ..bounds(10) }), true, 2);
        check(fixtures::mailbox(bounds(10)), false, 0);
        let gone = there(bounds(10));
        assert!(gone.close().is_empty());
        check(gone, false, 0);
    }
}
