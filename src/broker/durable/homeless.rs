//! What one member of a Shared Subscription handed on to another, and the store did not take there.
//!
//! Its publisher has had its answer, and the member that had it is done with it: nobody sends it again. So
//! it is offered again, now and then, as long as anybody is there for it: first where it was to be, under
//! its name, since the store may have taken it without saying so.

use std::sync::Arc;

use crate::broker::disconnect::handed_to;
use crate::broker::durable::messages::Manner;
use crate::broker::relief::member_target;
use crate::broker::turn::Turn;
use crate::ports::message::Delivery;
use crate::session::mailbox::{Mailbox, Offer};

/// A delivery that is in no queue, and where it was to be.
pub(crate) struct Homeless {
    mailbox: Arc<Mailbox>,
    delivery: Delivery,
}

impl Turn<'_> {
    pub(super) fn note_homeless(&mut self, mailbox: &Arc<Mailbox>, delivery: Delivery) {
        if self.shard.homeless.len() >= HOMELESS_MAX {
            return self.shard.counters.deliveries_given_up.increment();
        }
        self.shard.counters.deliveries_offered_again.increment();
        self.shard.homeless.push(Homeless { mailbox: Arc::clone(mailbox), delivery });
    }

    pub(super) fn house_homeless(&mut self) {
        for Homeless { mailbox, delivery } in std::mem::take(&mut self.shard.homeless) {
            self.house(&mailbox, delivery);
        }
    }

    fn house(&mut self, mailbox: &Arc<Mailbox>, delivery: Delivery) {
        let filter = delivery.shared_filter();
        let group = filter.and_then(|filter| self.group(filter));
        let Some(target) = group.and_then(|group| member_target(&group, mailbox)) else {
            return self.pass_on(&delivery, mailbox.key());
        };
        let again = handed_to(&target, &delivery);
        match mailbox.offer_again(&again, self.now) {
            Offer::Stored(place) => {
                let Delivery { message, qos, retain, tag, .. } = again;
                let handed_on = Some(Box::new(delivery));
                self.keep_at(place, mailbox, &message, Manner { qos, retain, tag, handed_on });
            }
            Offer::Queued(wake) => {
                self.shard.wake_later(wake);
                self.note_gathered(mailbox, &delivery.message);
            }
            Offer::Full => self.note_homeless(mailbox, delivery),
            Offer::NotKept
            | Offer::Displaced { .. }
            | Offer::Exceeding { .. }
            | Offer::Dropped(_) => self.pass_on(&delivery, mailbox.key()),
        }
    }
}

/// Of one shard. Nothing more is handed on as long as there are any, so that it is what was on its way to the
/// store, and what Sessions that end leave.
const HOMELESS_MAX: usize = 65_536;
