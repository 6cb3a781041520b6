//! Use case: a new Subscription is sent the retained messages it matches [MQTT-3.3.1-9].
//!
//! A replay is a cursor that feeds the window of its Session, never a copy of what it matches. Where the
//! Session is stored it feeds the queue: see `placing`.

mod placing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::disconnect::{Client, EndCause};
use crate::broker::latest::Offer;
use crate::broker::turn::Turn;
use crate::mqtt::QoS;
use crate::ports::message::{Delivery, Message, Progress, SubscriptionTag};
use crate::routing::RetainedCursor;
use crate::session::session::Delivered;

pub(crate) use placing::Placed;

/// Retained messages on their way to one Subscription.
#[derive(Clone, Debug)]
pub struct Replay {
    /// How far it has come.
    pub cursor: RetainedCursor,
    /// The Subscription it is for.
    pub serial: u32,
    /// The QoS granted.
    pub qos: QoS,
    /// What comes from here on, the Subscription is handed out.
    pub(crate) since: Offer,
    /// The Subscription Identifier.
    pub tag: Option<Arc<SubscriptionTag>>,
}

/// The replays of one client that are not over, in the order in which they were asked for.
#[derive(Debug, Default)]
pub struct Replays {
    queue: VecDeque<Replay>,
    /// Bytes of their Topic Filters: those of Subscriptions that are gone again are still here.
    bytes: usize,
}

impl Replays {
    /// Puts one behind the others.
    pub fn push(&mut self, replay: Replay) {
        self.bytes += replay.filter_bytes();
        self.queue.push_back(replay);
    }

    /// All of them, taken out.
    pub(crate) fn into_queue(self) -> VecDeque<Replay> {
        self.queue
    }

    fn pop(&mut self) {
        if let Some(replay) = self.queue.pop_front() {
            self.bytes -= replay.filter_bytes();
        }
    }

    /// Puts some back that may have been looked at since, or are over.
    fn put_back(&mut self, replays: Vec<Replay>) {
        for replay in replays.into_iter().rev() {
            if self.front().is_some_and(|front| front.serial == replay.serial) {
                self.pop();
            }
            self.bytes += replay.filter_bytes();
            self.queue.push_front(replay);
        }
    }

    /// The one whose turn it is.
    #[must_use]
    pub fn front(&self) -> Option<&Replay> {
        self.queue.front()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.queue.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of their Topic Filters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Replay {
    fn filter_bytes(&self) -> usize {
        self.cursor.filter().as_str().len()
    }
}

impl Turn<'_> {
    /// Sends some of what `client` is to be replayed, until `max` deliveries, `outbox_max` bytes, or
    /// enough has been looked at for one turn; returns how many deliveries that were.
    ///
    /// # Errors
    ///
    /// The store could not take some of it: the connection is to be closed.
    pub(crate) fn replay(
        &mut self,
        client: &mut Client,
        max: usize,
        outbox_max: usize,
        waker: &Waker,
    ) -> Result<usize, EndCause> {
        let mut placing = self.begin_placing(client, waker)?;
        let mut sent = 0;
        let mut scans_left = SCANS_MAX;
        while sent < max
            && scans_left > 0
            && self.outbox.len() < outbox_max
            && let Some(replay) = client.replays.queue.front_mut()
        {
            scans_left -= 1;
            let subscription = client.session.subscription(replay.cursor.filter());
            if subscription.is_none_or(|subscription| subscription.serial != replay.serial) {
                // Unsubscribed meanwhile, or subscribed anew, which has a replay of its own.
                client.replays.pop();
                continue;
            }
            let room = match &mut placing {
                _ if replay.qos == QoS::AtMostOnce => max - sent,
                Some(placing) => placing.room_for(replay),
                None => client.session.window(),
            };
            if room == 0 {
                break;
            }
            let batch_max = room.min(max - sent).min(BATCH_MAX);
            let millis = self.now.as_millis();
            self.shard.counters.retained_scans.increment();
            let batch = self.broker.retained.read().scan(&mut replay.cursor, batch_max, millis);
            let (qos, since, tag) = (replay.qos, replay.since, replay.tag.clone());
            if replay.cursor.is_done() {
                client.replays.pop();
            }
            for (_, found) in batch.into_iter().filter(|(_, found)| found.is_for(since)) {
                sent += 1;
                let (message, tag) = (found.message, tag.clone());
                let qos = qos.min(message.qos);
                match &mut placing {
                    Some(placing) if qos > QoS::AtMostOnce => {
                        self.place_one(client, placing, &message, (qos, tag));
                    }
                    _ => self.replay_one(client, message, qos, tag),
                }
            }
        }
        if let Some(placing) = placing {
            self.end_placing(client, placing, waker);
        }
        Ok(sent)
    }

    fn replay_one(
        &mut self,
        client: &mut Client,
        message: Arc<Message>,
        qos: QoS,
        tag: Option<Arc<SubscriptionTag>>,
    ) {
        if qos > QoS::AtMostOnce {
            client.session.mailbox().charge(message.charged_bytes());
        }
        // A message sent because of a new Subscription has RETAIN set [MQTT-3.3.1-8 of 3.1.1].
        let delivery =
            Delivery { message, tag, qos, retain: true, sequence: 0, progress: Progress::New };
        match client.session.deliver(self.now, &delivery, self.outbox) {
            Delivered::Sent => self.shard.counters.publishes_sent.increment(),
            Delivered::Expired => self.shard.counters.deliveries_expired.increment(),
            Delivered::TooLarge => self.shard.counters.deliveries_too_large.increment(),
        }
    }
}

/// Looks into the retained store in one turn; each looks at a bounded number of topics.
pub(crate) const SCANS_MAX: usize = 64;
/// Retained messages taken out under one lock.
const BATCH_MAX: usize = 64;
