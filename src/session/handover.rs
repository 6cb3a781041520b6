//! What a Session is when no connection owns it: taken apart on the broker that hands it over, put
//! together on the one that takes it.

use crate::mqtt::PacketId;
use crate::ports::clock::Tick;
use crate::ports::message::Delivery;
use crate::session::in_flight::{Entry, InFlight};
use crate::session::mailbox::Recalled;
use crate::session::session::Session;

/// All of a Session but its Subscriptions, which go ahead of it.
#[derive(Debug)]
pub struct Contents {
    /// QoS 2 messages received and not yet released.
    pub unreleased: Vec<PacketId>,
    /// The Packet Identifier of the first entry in flight, or the next one to give.
    pub first_id: PacketId,
    /// What the client was sent, in order.
    pub in_flight: Vec<Entry>,
    /// What waits, in order.
    pub queue: Vec<Delivery>,
    /// What it has taken lately of QoS 2, the older first: it may come again by another way.
    pub recent: Vec<Recalled>,
}

impl Default for Contents {
    fn default() -> Self {
        let (unreleased, in_flight, queue, recent) = Default::default();
        Self { unreleased, first_id: PacketId::MIN, in_flight, queue, recent }
    }
}

impl Session {
    /// Takes out all there is. The mailbox accepts nothing any more.
    #[must_use]
    pub fn hand_over(&mut self, now: Tick) -> Contents {
        let (queue, recent) = self.mailbox.hand_over(now);
        let (first_id, in_flight) = self.in_flight.take_apart();
        let mut unreleased: Vec<_> = self.unreleased.drain().collect();
        unreleased.sort_unstable();
        Contents { unreleased, first_id, in_flight, queue, recent }
    }

    /// Puts in what another broker took out; what was collected here meanwhile comes behind it, once.
    pub fn take_over(&mut self, contents: Contents) {
        let in_flight = contents.in_flight.iter().filter_map(|entry| match entry {
            Entry::AwaitsPuback(delivery) | Entry::AwaitsPubrec(delivery) => Some(delivery),
            Entry::AwaitsPubcomp | Entry::Acknowledged => None,
        });
        self.mailbox.take_over(contents.queue, in_flight, contents.recent);
        self.in_flight = InFlight::put_together(contents.first_id, contents.in_flight);
        self.unreleased.extend(contents.unreleased);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mqtt::QoS;
    use crate::ports::message::{Message, MessageId};
    use crate::session::fixtures::{self, bounds, mailbox};
    use crate::session::mailbox::Offer;

    fn session() -> Session {
        Session::new(Arc::new(mailbox(bounds(100))), 1)
    }

    fn delivery(id: u64) -> Delivery {
        let message = Message { id: MessageId(id), ..fixtures::message(QoS::AtLeastOnce) };
        fixtures::delivery_of(message)
    }

    fn offer(session: &Session, id: u64) {
        let offer = session.mailbox().offer(delivery(id), Tick::ZERO, &mut None);
        assert!(matches!(offer, Offer::Queued(_)), "{offer:?}");
    }

    #[test]
    fn what_was_collected_comes_behind_what_is_handed_over_and_nothing_twice() {
        let (mut former, mut latter) = (session(), session());
        former.in_flight.push(delivery(1));
        former.mailbox().charge(delivery(1).message.charged_bytes());
        (2..=5).for_each(|id| offer(&former, id));
        for id in [1, 3, 4, 6] {
            offer(&latter, id);
        }
        latter.take_over(former.hand_over(Tick::ZERO));
        // Those come late by a slower way.
        for id in [5, 7] {
            offer(&latter, id);
        }
        assert_eq!(latter.mailbox().counts().messages, 7, "one is in flight");
        let queue = latter.hand_over(Tick::ZERO).queue;
        let ids: Vec<_> = queue.iter().map(|delivery| delivery.message.id.0).collect();
        assert_eq!(ids, [2, 3, 4, 5, 6, 7]);
        assert_eq!(former.mailbox().counts().messages, 0);
    }
}
