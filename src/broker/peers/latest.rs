//! Latest values in a cluster: each has a version, as retained messages have, and the later one wins.
//!
//! One that fits into the znode of its topic goes there, as often as the write budget allows, and the
//! watch tells every broker. One that does not goes by link to every broker, as do all of a topic
//! that has a retained message: that one stands in the znode. Whatever comes to a broker to be kept
//! is never handed out to Subscriptions that exist.

use std::sync::Arc;

use crate::broker::latest::{Audience, Keeping, detached};
use crate::broker::peers::Peers;
use crate::broker::peers::forward::PeerShares;
use crate::broker::turn::Turn;
use crate::cluster::frame::{RetainedMessage, RetainedValue};
use crate::cluster::topics::fits_znode;
use crate::cluster::version::Version;
use crate::mqtt::TopicName;
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId, Publisher};
use crate::routing::Layer;

impl Turn<'_> {
    /// Keeps the latest value of a topic that was published here, under a version of its own.
    pub(crate) fn keep_latest_versioned(
        &mut self,
        peers: &Peers,
        message: &Arc<Message>,
    ) -> Keeping {
        let until = self.latest_until(message, self.now);
        let mut state = peers.retained.lock();
        let version = state.clock.next(peers.cluster_millis(self.now), peers.boot_id());
        if !self.put_latest(Arc::clone(message), until, Audience::Subscribers) {
            state.latest.remove(&message.topic);
            return Keeping::default();
        }
        state.latest.insert(message.topic.clone(), version);
        drop(state);
        let topic = message.topic.as_str();
        let is_covering = self.broker.retained.read().has(Layer::Lasting, topic);
        let goes_everywhere =
            is_covering || !fits_znode(topic, &message.payload, message.properties.as_deref());
        if !goes_everywhere {
            let reader = peers.topics().note_latest(message.topic.clone());
            self.shard.wake_later(reader);
        }
        Keeping { version: Some(version), goes_everywhere }
    }

    /// Keeps a latest value that came with a message of another broker.
    pub(crate) fn merge_latest_message(
        &mut self,
        peers: &Peers,
        message: &Message,
        version: Version,
        audience: Audience,
    ) {
        let published_at = peers.tick(version.millis()).min(self.now);
        let until = self.latest_until(message, published_at);
        self.merge_latest(peers, Arc::new(message.detached()), (version, until), audience);
    }

    /// Keeps a latest value that came by a znode, or with all else that a newcomer is told.
    pub(crate) fn merge_latest_value(&mut self, peers: &Peers, value: RetainedValue) {
        let RetainedValue { topic, version, message: Some(message) } = value else { return };
        let RetainedMessage { payload, properties, qos, expires_at_millis } = message;
        let Some(until) = expires_at_millis.map(|millis| peers.tick(millis)) else { return };
        let interval = properties.as_deref().and_then(|own| own.message_expiry_interval_secs);
        let message = Message {
            topic,
            payload,
            qos,
            retain: false,
            publisher: Publisher::BROKER,
            id: MessageId::NONE,
            expires_at: interval.map(|_secs| until),
            properties,
            is_in_transit: true,
        };
        let message = Arc::new(message.detached());
        self.merge_latest(peers, message, (version, until), Audience::Nobody);
    }

    fn merge_latest(
        &mut self,
        peers: &Peers,
        message: Arc<Message>,
        (version, until): (Version, Tick),
        audience: Audience,
    ) {
        let mut state = peers.retained.lock();
        if !self.note_version(peers, &mut state, version) {
            return;
        }
        let topic = message.topic.clone();
        let known = state.latest.get(&topic).max(state.versions.get(&topic));
        // What is known already may be handed out only now: then it gets its number.
        let is_late = known.is_some_and(|known| match audience {
            Audience::Subscribers => *known > version,
            Audience::Nobody => *known >= version,
        });
        if is_late || until <= self.now {
            return;
        }
        if self.put_latest(message, until, audience) {
            state.latest.insert(topic, version);
        } else {
            state.latest.remove(&topic);
        }
    }

    /// The latest value of a topic, if it was published here and holds, for whoever keeps values
    /// elsewhere.
    #[must_use]
    pub fn own_latest(&self, peers: &Peers, topic: &TopicName) -> Option<RetainedValue> {
        let (message, version, until) = self.own_latest_message(peers, topic)?;
        let message = RetainedMessage {
            payload: message.payload.clone(),
            properties: message.properties.clone(),
            qos: message.qos,
            expires_at_millis: Some(peers.cluster_millis(until)),
        };
        Some(RetainedValue { topic: topic.clone(), version, message: Some(message) })
    }

    /// Sends the latest value of a topic to every broker, if it was published here and holds: it has
    /// found no place in a znode. Nobody waits for the answers.
    pub fn share_latest(&mut self, peers: &Peers, topic: &TopicName) {
        let Some((message, version, _)) = self.own_latest_message(peers, topic) else { return };
        let mut shares = PeerShares::new();
        self.share_with_all(&mut shares, &message);
        let mut ticket = None;
        self.forward(&message, shares, Some(version), true, &mut ticket);
        if let Some(ticket) = ticket {
            let _nobody_waits = ticket.seal();
        }
    }

    fn own_latest_message(
        &self,
        peers: &Peers,
        topic: &TopicName,
    ) -> Option<(Arc<Message>, Version, Tick)> {
        let version = *peers.retained.lock().latest.get(topic)?;
        let layers = self.broker.retained.read().layers(topic.as_str(), self.now.as_millis());
        let latest = layers.latest.filter(|_| version.boot_id == peers.boot_id())?;
        let until = latest.expires_at_ms.map(Tick::from_millis)?;
        Some((detached(&latest.message.message), version, until))
    }
}
