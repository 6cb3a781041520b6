//! Messages that go to stored Sessions only, or past them.

use std::sync::Arc;

use crate::broker::acknowledge::Level;
use crate::broker::peers::forward::Errand;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::{PublishOutcome, Refusal, delivery, manner, wanted};
use crate::broker::routes::FanoutTarget;
use crate::broker::turn::Turn;
use crate::cluster::frame::Whom;
use crate::mqtt::QoS;
use crate::ports::message::Message;
use crate::session::mailbox::Offer;

use super::adopts;

impl Turn<'_> {
    /// Offers a message to all stored Sessions that want it, here and elsewhere: those that know it
    /// do not get it again. `ticket` waits for them.
    pub(crate) fn offer_to_stored(&mut self, message: &Arc<Message>, ticket: &Arc<PublishTicket>) {
        let Some(fanout) = self.fanout(&message.topic) else { return };
        if self.offer_to_stored_here(message, &fanout.targets).is_err() {
            ticket.expect_another();
            let refused = RemoteOutcome::Refused(Refusal::QueueFull.reason_code());
            let waker = ticket.answer(refused);
            self.shard.wake_later(waker);
        }
        let mut kept = Some(Arc::clone(message));
        // Who is dead has none any more, or what is held is for those.
        let takes = |peer: &Peer| adopts(peer) && !peer.lane().is_closed();
        for target in fanout.peers.iter().filter(|target| takes(&target.peer)) {
            let qos = message.qos.min(target.qos);
            if qos > QoS::AtMostOnce {
                let errand = Errand::to_subscribers(qos, Whom::Stored);
                self.forward_answered(message, &target.peer, errand, None, ticket, &mut kept);
            }
        }
        self.await_store(&mut Some(Arc::clone(ticket)), (message.id, true), Level::Durable);
    }

    /// The same for what another broker offers: to Sessions of this one.
    pub(crate) fn publish_to_stored(&mut self, message: &Arc<Message>) -> PublishOutcome {
        let Some(fanout) = self.fanout(&message.topic) else {
            return PublishOutcome::NoMatchingSubscribers;
        };
        match self.offer_to_stored_here(message, &fanout.targets) {
            Ok(true) => PublishOutcome::Accepted,
            Ok(false) => PublishOutcome::NoMatchingSubscribers,
            Err(refusal) => PublishOutcome::Refused(refusal),
        }
    }

    /// Whether anybody wants it.
    fn offer_to_stored_here(
        &mut self,
        message: &Arc<Message>,
        targets: &[FanoutTarget],
    ) -> Result<bool, Refusal> {
        let (mut matched, mut is_refused) = (false, false);
        for target in targets.iter().filter(|target| target.mailbox.is_for_store()) {
            let Some((target, qos)) = wanted(target, message) else { continue };
            if qos == QoS::AtMostOnce {
                continue;
            }
            matched = true;
            match target.mailbox.offer_again(&delivery(target, Arc::clone(message), qos), self.now)
            {
                Offer::Stored(place) => {
                    self.keep_at(place, &target.mailbox, message, manner(target, message, qos));
                }
                Offer::Full => is_refused = true,
                Offer::Queued(wake) => {
                    self.shard.wake_later(wake);
                    self.note_gathered(&target.mailbox, message);
                }
                // Nothing gives way for it.
                Offer::NotKept
                | Offer::Displaced { .. }
                | Offer::Exceeding { .. }
                | Offer::Dropped(_) => {}
            }
        }
        if is_refused { Err(Refusal::QueueFull) } else { Ok(matched) }
    }
}
