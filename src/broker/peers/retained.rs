//! Which of two retained messages is the later one, wherever in the cluster they were published.
//!
//! A change may come by a link, by a watch, or in what a broker is told when it joins: all of them
//! go through one merge, and the higher version wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::broker::Broker;
use crate::broker::latest::Replayable;
use crate::broker::peers::Peers;
use crate::broker::peers::legacies::Legacies;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::tombstones::{self, Grounds, Tombstones};
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, RetainedMessage, RetainedValue};
use crate::cluster::version::{Version, VersionClock};
use crate::mqtt::{QoS, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId, Publisher, detached_properties};
use crate::routing::{Full, Kept, Layer, Layers, OrderedTopic};

/// The versions of all retained messages, and of those deleted not long ago. The lock of the retained
/// messages is taken inside this one.
pub(crate) struct RetainedVersions(Mutex<State>);

pub(super) struct State {
    pub(super) clock: VersionClock,
    pub(super) versions: HashMap<TopicName, Version, FixedState>,
    /// Of latest values: each is above that of the retained message it covers.
    pub(super) latest: HashMap<TopicName, Version, FixedState>,
    /// Of those in `versions` the ones without a value.
    tombstones: Tombstones,
    /// What others are to be told of the dead.
    pub(super) legacies: Legacies,
}

impl RetainedVersions {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        Self(Mutex::new(State {
            clock: VersionClock::default(),
            versions: HashMap::with_hasher(hashing.clone()),
            latest: HashMap::with_hasher(hashing),
            tombstones: Tombstones::default(),
            legacies: Legacies::default(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// What a broker that joins is told of one topic.
#[derive(Default)]
struct Entry {
    layers: Layers<Replayable>,
    /// The version of the deletion of its retained message.
    deleted: Option<Version>,
}

impl State {
    /// Whether `version` is later than what is known.
    pub(super) fn is_later(&self, topic: &TopicName, version: Version) -> bool {
        self.versions.get(topic).is_none_or(|known| *known < version)
    }

    /// Whether the version of this topic is that of a deletion.
    pub(super) fn has_deletion(&self, topic: &TopicName) -> bool {
        self.tombstones.has(topic)
    }

    /// The topic has a value of this version.
    fn keep(&mut self, topic: &TopicName, version: Version) {
        self.versions.insert(topic.clone(), version);
        self.tombstones.note_value(topic);
    }

    /// The value of the topic was deleted. Returns how many deletions were forgotten before their
    /// time.
    fn bury(&mut self, topic: &TopicName, version: Version, now: Tick) -> u64 {
        // The former name goes: one allocation is all that a deletion keeps.
        let former = self.versions.remove(topic);
        self.versions.insert(topic.clone(), version);
        let grounds = if former.is_some() { Grounds::Known } else { Grounds::Hearsay };
        self.tombstones.bury(topic, version, grounds, now);
        let mut forgotten = 0;
        while let Some(topic) = self.tombstones.forget_excess() {
            self.versions.remove(&topic);
            forgotten += 1;
        }
        forgotten
    }

    /// There is no value of this topic any more; that it was deleted before stays known.
    fn forget_value(&mut self, topic: &TopicName) {
        if !self.tombstones.has(topic) {
            self.versions.remove(topic);
        }
    }

    fn forget_due(&mut self, now: Tick) {
        while let Some(topic) = self.tombstones.forget_due(now) {
            self.versions.remove(&topic);
        }
    }
}

impl Turn<'_> {
    /// Keeps or deletes a retained message that was published here, under a version of its own.
    ///
    /// # Errors
    ///
    /// There is no room for it; nothing has changed.
    pub(crate) fn retain_versioned(
        &mut self,
        peers: &Peers,
        message: &Message,
    ) -> Result<Version, Full> {
        let mut state = peers.retained.0.lock();
        let version = state.clock.next(peers.cluster_millis(self.now), peers.boot_id());
        let topic = message.topic.detached();
        self.broker.put_retained(message)?;
        self.record_retained(&mut state, &topic, version, message);
        self.drop_covered(&mut state, &topic, version);
        drop(state);
        let reader = peers.topics().note_value(value_of(peers, message, topic, version));
        self.shard.wake_later(reader);
        Ok(version)
    }

    /// Keeps or deletes a retained message that another broker told us of, unless ours is later.
    pub(crate) fn merge_retained(&mut self, peers: &Peers, message: &Message, version: Version) {
        let mut state = peers.retained.0.lock();
        let topic = message.topic.detached();
        if !self.note_version(peers, &mut state, version) || !state.is_later(&topic, version) {
            return;
        }
        if self.broker.put_retained(message).is_ok() {
            self.record_retained(&mut state, &topic, version, message);
        } else {
            // The other broker had room for it. What we have is out of date; without a version the
            // value is taken when it comes again and there is room.
            self.shard.counters.retained_exceeded.increment();
            self.broker.retained.write().remove(Layer::Lasting, topic.as_str());
            state.forget_value(&topic);
        }
        self.drop_covered(&mut state, &topic, version);
    }

    fn record_retained(
        &self,
        state: &mut State,
        topic: &TopicName,
        version: Version,
        message: &Message,
    ) {
        if !message.payload.is_empty() {
            return state.keep(topic, version);
        }
        let forgotten = state.bury(topic, version, self.now);
        self.shard.counters.deletions_forgotten.add(forgotten);
    }

    /// Another broker has a value of this version. `false` when it is not to be believed.
    pub(super) fn note_version(&self, peers: &Peers, state: &mut State, version: Version) -> bool {
        let cluster_millis = peers.knows_time().then(|| peers.cluster_millis(self.now));
        let is_believed = state.clock.note(version, cluster_millis);
        if !is_believed {
            self.shard.counters.versions_disbelieved.increment();
        }
        is_believed
    }

    /// The retained message of a topic is of this version: an older latest value is out of date.
    fn drop_covered(&self, state: &mut State, topic: &TopicName, version: Version) {
        if state.latest.get(topic).is_some_and(|latest| *latest < version) {
            state.latest.remove(topic);
            self.broker.drop_latest(topic.as_str());
        }
    }

    /// Forgets deletions that everybody has heard of, and versions of what has expired.
    pub(crate) fn forget_retained(&mut self, expired: &[(TopicName, Layer)]) {
        let Some(peers) = self.broker.peers() else { return };
        let mut state = peers.retained.0.lock();
        let retained = self.broker.retained.read();
        for (topic, layer) in expired.iter().filter(|(topic, layer)| !retained.has(*layer, topic)) {
            match layer {
                Layer::Lasting => state.forget_value(topic),
                Layer::Latest => drop(state.latest.remove(topic)),
            }
        }
        drop(retained);
        state.forget_due(self.now);
    }

    /// Tells a broker that joins one page of all there is: values, and deletions, whose topics
    /// follow `after`.
    pub(crate) fn tell_retained(&mut self, peers: &Peers, peer: &Peer, after: Option<&TopicName>) {
        let state = peers.retained.0.lock();
        let page = self.retained_page(&state, after);
        let is_short = page.len() < PAGE_TOPICS_MAX;
        let (mut bytes, mut last) = (0, None);
        for (OrderedTopic(topic), Entry { layers, deleted }) in
            page.into_iter().take(PAGE_TOPICS_MAX)
        {
            if let (Some(kept), Some(version)) = (layers.lasting, state.versions.get(&topic)) {
                bytes += kept.bytes_pinned;
                self.tell(peer, &ControlFrame::Retained(told(peers, &topic, &kept, *version)));
            }
            if let (Some(kept), Some(version)) = (layers.latest, state.latest.get(&topic)) {
                bytes += kept.bytes_pinned;
                self.tell(peer, &ControlFrame::Latest(told(peers, &topic, &kept, *version)));
            }
            if let Some(version) = deleted {
                bytes += tombstones::bytes_of(&topic);
                let value = RetainedValue { topic: topic.clone(), version, message: None };
                self.tell(peer, &ControlFrame::Retained(value));
            }
            last = Some(topic);
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        let is_last = is_short && bytes < PAGE_BYTES_MAX;
        let end = match last.filter(|_| !is_last) {
            Some(after) => ControlFrame::RetainedMore { after },
            None => ControlFrame::RetainedComplete,
        };
        self.tell(peer, &end);
    }

    /// What follows `after`, in order, values and deletions. The first [`PAGE_TOPICS_MAX`] are
    /// without a gap; fewer mean that there are no more.
    fn retained_page(
        &self,
        state: &State,
        after: Option<&TopicName>,
    ) -> BTreeMap<OrderedTopic, Entry> {
        let (millis, from) = (self.now.as_millis(), after.map(TopicName::as_str));
        let values = self.broker.retained.read().page(from, PAGE_TOPICS_MAX, millis);
        let entries = values.into_iter().map(|(topic, layers)| {
            let entry = Entry { layers, deleted: None };
            (OrderedTopic(topic), entry)
        });
        let mut page: BTreeMap<_, _> = entries.collect();
        for (topic, version) in state.tombstones.page(after, PAGE_TOPICS_MAX) {
            page.entry(OrderedTopic(topic)).or_default().deleted = Some(version);
        }
        page
    }

    /// A value by whatever way.
    pub(crate) fn merge_value(&mut self, peers: &Peers, value: RetainedValue) {
        let (payload, properties, qos, expires_at_millis) = match value.message {
            Some(RetainedMessage { payload, properties, qos, expires_at_millis }) => {
                (payload, properties, qos, expires_at_millis)
            }
            None => (Bytes::new(), None, QoS::AtMostOnce, None),
        };
        let message = Message {
            topic: value.topic,
            payload,
            properties,
            qos,
            retain: true,
            publisher: Publisher::BROKER,
            id: MessageId::NONE,
            expires_at: expires_at_millis.map(|millis| peers.tick(millis)),
            is_in_transit: true,
        };
        self.merge_retained(peers, &message, value.version);
    }
}

/// What is kept, as other brokers are told it.
pub(super) fn told(
    peers: &Peers,
    topic: &TopicName,
    kept: &Kept<Replayable>,
    version: Version,
) -> RetainedValue {
    let message = &kept.message.message;
    let expires_at = kept.expires_at_ms.map(Tick::from_millis);
    let message = RetainedMessage {
        payload: message.payload.clone(),
        properties: message.properties.clone(),
        qos: message.qos,
        expires_at_millis: expires_at.map(|at| peers.cluster_millis(at)),
    };
    RetainedValue { topic: topic.clone(), version, message: Some(message) }
}

/// A retained message that was published here, as other brokers are told it.
fn value_of(peers: &Peers, message: &Message, topic: TopicName, version: Version) -> RetainedValue {
    let retained = (!message.payload.is_empty()).then(|| RetainedMessage {
        payload: Bytes::copy_from_slice(&message.payload),
        properties: detached_properties(message.properties.as_ref()),
        qos: message.qos,
        expires_at_millis: message.expires_at.map(|at| peers.cluster_millis(at)),
    });
    RetainedValue { topic, version, message: retained }
}

impl Broker {
    /// Whether somebody, here or elsewhere, subscribes to this topic.
    #[must_use]
    pub fn is_wanted(&self, topic: &TopicName) -> bool {
        let route = self.index.read().route(topic.as_str());
        !route.targets.is_empty() || !route.groups.is_empty()
    }

    /// Keeps or deletes the retained message of a topic [MQTT-3.3.1-5, MQTT-3.3.1-6].
    ///
    /// # Errors
    ///
    /// There is no room for it; nothing has changed.
    pub(crate) fn put_retained(&self, message: &Message) -> Result<(), Full> {
        let mut retained = self.retained.write();
        if message.payload.is_empty() {
            retained.remove(Layer::Lasting, message.topic.as_str());
            return Ok(());
        }
        let kept = Arc::new(message.detached());
        let kept = Kept {
            bytes_pinned: kept.charged_bytes(),
            expires_at_ms: kept.expires_at.map(Tick::as_millis),
            message: Replayable::lasting(kept),
        };
        let topic = kept.message.message.topic.clone();
        retained.put(Layer::Lasting, topic, kept).map(|_put| ())
    }
}

/// Topics and bytes of one page.
const PAGE_TOPICS_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 256 * 1_024;
