//! What is told of clients beside their comings and goings, where somebody keeps a log of it.

use std::sync::Arc;

use crate::broker::disconnect::Client;
use crate::broker::event::Event;
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::Message;

/// What somebody wants to be told. By default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// Subscriptions that begin and end.
    pub subscriptions: bool,
    /// Of which publishes: the first whose filter matches decides. None are told of others.
    pub publishes: Vec<Sample>,
}

/// Which publishes to some topics are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sample {
    /// The topics.
    pub filter: TopicFilter,
    /// One in so many of each shard; none when zero.
    pub every: u32,
}

/// How many publishes a shard has passed over, for each sample.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<u32>);

impl Passed {
    /// Whether the next publish is the one that is told: the first is, and each that is so many later.
    fn is_turn_of(&mut self, index: usize, every: u32) -> bool {
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        let Some(passed) = self.0.get_mut(index).filter(|_| every > 0) else { return false };
        let is_turn = *passed == 0;
        *passed = (*passed + 1) % every;
        is_turn
    }
}

impl Turn<'_> {
    /// A client has subscribed.
    #[inline]
    pub(crate) fn tell_of_subscribe(&mut self, client: &Client, filter: &TopicFilter, qos: QoS) {
        if self.broker.options.telling.subscriptions {
            let (card, filter) = (Arc::clone(&client.card), filter.clone());
            self.shard.events.push(Event::Subscribed { card, filter, qos });
        }
    }

    /// A client has unsubscribed.
    #[inline]
    pub(crate) fn tell_of_unsubscribe(&mut self, client: &Client, filter: &TopicFilter) {
        if self.broker.options.telling.subscriptions {
            let (card, filter) = (Arc::clone(&client.card), filter.clone());
            self.shard.events.push(Event::Unsubscribed { card, filter });
        }
    }

    /// A client publishes what it may.
    #[inline]
    pub(crate) fn tell_of_publish(&mut self, client: &Client, message: &Message) {
        if !self.broker.options.telling.publishes.is_empty() {
            self.tell_of_publish_if_wanted(client, message);
        }
    }

    #[cold]
    fn tell_of_publish_if_wanted(&mut self, client: &Client, message: &Message) {
        let mut samples = self.broker.options.telling.publishes.iter().enumerate();
        let decisive = samples.find(|(_, sample)| sample.filter.matches(&message.topic));
        let Some((index, &Sample { every, .. })) = decisive else { return };
        if !self.shard.passed.is_turn_of(index, every) {
            return;
        }
        let preview = message.payload.get(..PREVIEW_BYTES).unwrap_or(&message.payload);
        self.shard.events.push(Event::Published {
            card: Arc::clone(&client.card),
            topic: message.topic.clone(),
            qos: message.qos,
            bytes: message.payload.len(),
            preview: preview.into(),
            every,
        });
    }

    /// A Session ends that has had Subscriptions.
    pub(crate) fn tell_of_end(&mut self, client: &Client) {
        let is_worth_it = client.session.subscriptions().next().is_some();
        if self.broker.options.telling.subscriptions && is_worth_it {
            let dropped = client.session.mailbox().counts().dropped;
            let card = Arc::clone(&client.card);
            self.shard.events.push(Event::SessionEnded { card, dropped });
        }
    }
}

/// What is told of a payload.
const PREVIEW_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_so_many_is_told() {
        let mut passed = Passed::default();
        let turns: Vec<_> = (0..7).map(|_| passed.is_turn_of(2, 3)).collect();
        assert_eq!(turns, [true, false, false, true, false, false, true]);
        assert!(passed.is_turn_of(0, 1) && passed.is_turn_of(0, 1));
        assert!(!passed.is_turn_of(1, 0));
    }
}
