//! Messages on their way into the store and out of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::durable::Durable;
use crate::broker::durable::keeper::Awaiting;
use crate::broker::durable::retained::stored_version;
use crate::broker::turn::Turn;
use crate::cluster::version::Version;
use crate::mqtt::{QoS, TopicName, Will};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId, Progress, Publisher, SubscriptionTag};
use crate::ports::store::{
    Operation, Pointer, QueuedMessage, QueuedState, RetainedRecord, RetainedVersion, SessionRef,
    StoredMessage, StoredWill,
};
use crate::session::mailbox::{Mailbox, Place};

/// How a message is to be delivered.
pub(crate) struct Manner {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) tag: Option<Arc<SubscriptionTag>>,
    /// What another member of a Shared Subscription had before, whose publisher has its answer: if the store
    /// does not take it, nobody sends it again.
    pub(crate) handed_on: Option<Box<Delivery>>,
}

impl Turn<'_> {
    /// Has a message stored at the `place` that its receiver's mailbox has given it.
    pub(crate) fn keep_at(
        &mut self,
        place: Place,
        mailbox: &Arc<Mailbox>,
        message: &Message,
        manner: Manner,
    ) {
        let Some(keeper) = &mut self.shard.keeper else { return };
        let durable = Arc::clone(keeper.durable());
        let Manner { qos, retain, tag, handed_on } = manner;
        let Place { session, sequence } = place;
        // Other brokers may offer it again, to whoever has the Session then.
        let may_repeat = self.broker.peers().is_some();
        let pointer = Pointer { session, sequence, qos, retain, tag, may_repeat };
        keeper.enqueue(message.id, pointer, || durable.stored(message));
        let bytes = message.charged_bytes();
        // What may be offered again under its name is what the store has of it then.
        let is_from_client = message.publisher != Publisher::BROKER && !may_repeat;
        let is_once = message.qos == QoS::ExactlyOnce && is_from_client;
        let (mailbox, message) = (Arc::clone(mailbox), message.id);
        let place = Awaiting::Place { mailbox, sequence, bytes, message, is_once, handed_on };
        keeper.await_batch(place);
    }

    /// A delivery that is stored gives way: it is done with.
    pub(crate) fn drop_delivery(&mut self, session: Option<SessionRef>, delivery: &Delivery) {
        let (Some(session), 1..) = (session, delivery.sequence) else { return };
        let (sequence, message) = (delivery.sequence, delivery.message.id);
        self.keep(Operation::Acknowledge { session, sequence, message });
    }

    /// Another member of a Shared Subscription has a delivery that is stored. It may come again: that one may
    /// hand it on as well.
    pub(crate) fn forget_delivery(&mut self, session: Option<SessionRef>, delivery: &Delivery) {
        let (Some(session), 1..) = (session, delivery.sequence) else { return };
        let (sequence, message) = (delivery.sequence, delivery.message.id);
        self.keep(Operation::Forget { session, sequence, message });
    }

    /// Has a retained message stored, or its deletion: in a cluster under the `version` that all brokers
    /// know it by, and in the cluster's time.
    pub(crate) fn keep_retained(&mut self, message: &Message, version: Option<Version>) {
        let (now, peers) = (self.now, self.broker.peers());
        let Some(keeper) = &mut self.shard.keeper else { return };
        let durable = Arc::clone(keeper.durable());
        let kept = (!message.payload.is_empty()).then(|| {
            let id = match message.id {
                MessageId::NONE => keeper.draw_message_id(),
                id => id,
            };
            let stored = durable.stored(message);
            let expires_at_millis = match (message.expires_at, peers) {
                (Some(at), Some(peers)) => Some(peers.cluster_millis(at)),
                _ => stored.expires_at_millis,
            };
            Arc::new(StoredMessage { id, expires_at_millis, ..stored })
        });
        let of_this_broker =
            || RetainedVersion { time: durable.draw_version(now), owner: durable.owner() };
        let version = version.map_or_else(of_this_broker, stored_version);
        let topic = message.topic.detached();
        keeper.push(Operation::PutRetained(RetainedRecord { topic, version, message: kept }));
        if message.qos > QoS::AtMostOnce {
            keeper.note_kept();
        }
    }
}

impl Durable {
    pub(super) fn stored(&self, message: &Message) -> StoredMessage {
        let message = message.detached();
        StoredMessage {
            id: message.id,
            publisher: message.publisher.0,
            topic: message.topic,
            payload: message.payload,
            properties: message.properties,
            qos: message.qos,
            retain: message.retain,
            expires_at_millis: message.expires_at.map(|at| self.unix_millis(at)),
        }
    }

    pub(super) fn message(&self, stored: &StoredMessage) -> Message {
        Message {
            topic: stored.topic.clone(),
            payload: stored.payload.clone(),
            properties: stored.properties.clone(),
            qos: stored.qos,
            retain: stored.retain,
            publisher: Publisher(stored.publisher),
            id: stored.id,
            expires_at: stored.expires_at_millis.map(|at| self.tick(at)),
            is_in_transit: false,
        }
    }

    pub(super) fn delivery(&self, queued: QueuedMessage) -> Delivery {
        let message = queued.message.as_ref().filter(|_| queued.state == QueuedState::Waiting);
        let (message, progress) = match message {
            Some(stored) => (self.message(stored), Progress::New),
            None => (released(queued.qos), Progress::Released),
        };
        Delivery {
            message: Arc::new(message),
            tag: queued.tag,
            qos: queued.qos,
            retain: queued.retain,
            sequence: queued.sequence,
            progress,
        }
    }

    pub(super) fn stored_will(
        &self,
        will: &Will,
        id: MessageId,
        fires_at: Option<Tick>,
    ) -> StoredWill {
        StoredWill {
            message: StoredMessage {
                id,
                publisher: Publisher::BROKER.0,
                topic: will.topic.clone(),
                payload: will.payload.clone(),
                properties: will.properties.clone(),
                qos: will.qos,
                retain: will.retain,
                expires_at_millis: None,
            },
            delay_interval_secs: will.delay_interval_secs,
            fires_at_millis: fires_at.map(|at| self.unix_millis(at)),
        }
    }

    pub(super) fn will(stored: &StoredWill) -> Will {
        let message = &stored.message;
        Will {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            retain: message.retain,
            delay_interval_secs: stored.delay_interval_secs,
            properties: message.properties.clone(),
        }
    }
}

/// Stands for a message that its client has already.
fn released(qos: QoS) -> Message {
    let topic = TopicName::parse("released".into()).expect("a name without wildcards");
    Message { qos, ..Message::of_broker(topic, Bytes::new()) }
}
