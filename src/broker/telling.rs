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
    /// Publishes to topics that match one of these.
    pub publishes: Vec<TopicFilter>,
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
        let filters = &self.broker.options.telling.publishes;
        if !filters.iter().any(|filter| filter.matches(&message.topic)) {
            return;
        }
        let preview = message.payload.get(..PREVIEW_BYTES).unwrap_or(&message.payload);
        self.shard.events.push(Event::Published {
            card: Arc::clone(&client.card),
            topic: message.topic.clone(),
            qos: message.qos,
            bytes: message.payload.len(),
            preview: preview.into(),
        });
    }
}

/// What is told of a payload.
const PREVIEW_BYTES: usize = 256;
