//! What members of Shared Subscriptions leave behind when their broker ends, for members at others.
//!
//! While a broker of a cluster drains, nobody here is to get anything any more: what a Session that
//! ends, or one that will not outlive the process, had for Shared Subscriptions is collected, and
//! handed on as fast as other brokers take it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::peers::outcomes::Elsewhere;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::turn::Turn;
use crate::ports::message::Delivery;

/// Collected and not looked at yet: no more than the queues held, since no client is let in any more.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind(Mutex<VecDeque<Delivery>>);

/// How far it has been handed on.
#[derive(Debug, Default)]
pub struct HandingOn {
    has_looked_at_parked: bool,
    waiting: VecDeque<Delivery>,
    asked: Vec<Arc<PublishTicket>>,
    /// Messages that another broker has taken.
    pub taken: u64,
    /// Messages that nobody has taken.
    pub lost: u64,
}

impl HandingOn {
    /// Whether there is nothing more to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    fn settle(&mut self) {
        let Self { asked, taken, lost, .. } = self;
        asked.retain(|ticket| {
            let outcome = ticket.poll(Waker::noop());
            match outcome {
                None => {}
                Some(RemoteOutcome::Enqueued) => *taken += 1,
                Some(_) => *lost += 1,
            }
            outcome.is_none()
        });
    }
}

impl Broker {
    /// Whether what members of Shared Subscriptions leave is for other brokers alone.
    pub(crate) fn collects_left_behind(&self) -> bool {
        self.is_draining() && self.peers().is_some()
    }

    pub(crate) fn leave_behind(&self, delivery: Delivery) {
        self.left_behind.0.lock().push_back(delivery);
    }
}

impl Turn<'_> {
    /// Sends other brokers as much of what is left behind as they take now, and counts what they have
    /// answered. To be called again until [`HandingOn::is_done`].
    pub fn hand_on(&mut self, handing: &mut HandingOn) {
        handing.waiting.append(&mut self.broker.left_behind.0.lock());
        if !std::mem::replace(&mut handing.has_looked_at_parked, true) {
            // Once: what two brokers that end at a time hand each other would go on for ever.
            self.collect_unstored(&mut handing.waiting);
        }
        handing.settle();
        while handing.asked.len() < ASKED_MAX {
            let Some(delivery) = handing.waiting.pop_front() else { break };
            let ticket = Arc::new(PublishTicket::new(false));
            match self.offer_to_other_brokers(&delivery, &ticket) {
                Elsewhere::Sent => {
                    // What is answered already is settled in turn, as what is answered later.
                    let _outcome = ticket.seal();
                    handing.asked.push(ticket);
                }
                Elsewhere::Busy => {
                    handing.waiting.push_front(delivery);
                    break;
                }
                Elsewhere::Nobody => handing.lost += 1,
            }
        }
    }

    /// There is no more time: what nobody has answered for counts as lost.
    pub fn end_handing_on(&mut self, handing: &mut HandingOn) {
        handing.settle();
        handing.lost += (handing.waiting.len() + handing.asked.len()) as u64;
        handing.waiting.clear();
        handing.asked.clear();
        self.shard.counters.deliveries_dropped.add(handing.lost);
    }

    /// Sessions that are kept in memory alone end with the process.
    fn collect_unstored(&self, waiting: &mut VecDeque<Delivery>) {
        self.broker.registry.for_each(|listed| {
            let unstored = listed.mailbox.filter(|mailbox| mailbox.stored_as().is_none());
            waiting.extend(unstored.iter().flat_map(|mailbox| mailbox.take_shared()));
        });
    }
}

/// Messages that others are asked to take at a time.
const ASKED_MAX: usize = 4_096;
