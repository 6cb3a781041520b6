//! Which of two retained messages is the later one, wherever in the cluster they were published.
//!
//! A change may come by a link, by a watch, or in what a broker is told when it joins: all of them
//! go through one merge, and the higher version wins.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::broker::Broker;
use crate::broker::latest::Replayable;
use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, RetainedMessage, RetainedValue};
use crate::cluster::version::{Version, VersionClock};
use crate::mqtt::{QoS, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId, Publisher, detached_properties};
use crate::routing::{Full, Kept, Layer};

/// The versions of all retained messages, and of those deleted not long ago. The lock of the retained
/// messages is taken inside this one.
pub(crate) struct RetainedVersions(Mutex<State>);

pub(super) struct State {
    pub(super) clock: VersionClock,
    pub(super) versions: HashMap<TopicName, Version, FixedState>,
    /// Of latest values: each is above that of the retained message it covers.
    pub(super) latest: HashMap<TopicName, Version, FixedState>,
    /// Deletions, oldest first, that are remembered so that an older value does not come back.
    tombstones: VecDeque<Tombstone>,
}

struct Tombstone {
    forgotten_at: Tick,
    topic: TopicName,
    version: Version,
}

impl RetainedVersions {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hashing = FixedState::with_seed(hash_seed);
        Self(Mutex::new(State {
            clock: VersionClock::default(),
            versions: HashMap::with_hasher(hashing.clone()),
            latest: HashMap::with_hasher(hashing),
            tombstones: VecDeque::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// Whether `version` is later than what is known; then it is known from now on.
    fn supersede(&mut self, topic: &TopicName, version: Version) -> bool {
        self.clock.note(version);
        if self.versions.get(topic).is_some_and(|known| *known >= version) {
            return false;
        }
        self.versions.insert(topic.clone(), version);
        true
    }

    fn bury(&mut self, topic: &TopicName, version: Version, now: Tick) {
        let forgotten_at = now.plus_millis(TOMBSTONE_MILLIS);
        self.tombstones.push_back(Tombstone { forgotten_at, topic: topic.clone(), version });
        if self.tombstones.len() > TOMBSTONES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(Tombstone { topic, version, .. }) = self.tombstones.pop_front() else { return };
        if self.versions.get(&topic) == Some(&version) {
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
        state.versions.insert(topic.clone(), version);
        self.drop_covered(&mut state, &topic, version);
        if message.payload.is_empty() {
            state.bury(&topic, version, self.now);
        }
        drop(state);
        let reader = peers.topics().note_value(value_of(peers, message, topic, version));
        self.shard.wake_later(reader);
        Ok(version)
    }

    /// Keeps or deletes a retained message that another broker told us of, unless ours is later.
    pub(crate) fn merge_retained(&mut self, peers: &Peers, message: &Message, version: Version) {
        let mut state = peers.retained.0.lock();
        let topic = message.topic.detached();
        if !state.supersede(&topic, version) {
            return;
        }
        if self.broker.put_retained(message).is_err() {
            // The other broker had room for it. That we do not have it is said by the counter.
            self.shard.counters.retained_exceeded.increment();
        }
        self.drop_covered(&mut state, &topic, version);
        if message.payload.is_empty() {
            state.bury(&topic, version, self.now);
        }
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
                Layer::Lasting => state.versions.remove(topic),
                Layer::Latest => state.latest.remove(topic),
            };
        }
        drop(retained);
        while state.tombstones.front().is_some_and(|oldest| oldest.forgotten_at <= self.now) {
            state.forget_oldest();
        }
    }

    /// Tells a broker that joins one page of all there is: values whose topics follow `after`.
    pub(crate) fn tell_retained(&mut self, peers: &Peers, peer: &Peer, after: Option<&str>) {
        let state = peers.retained.0.lock();
        let millis = self.now.as_millis();
        let page = self.broker.retained.read().page(after, PAGE_MESSAGES_MAX, millis);
        let (mut bytes, mut more) = (0, None);
        let is_short = page.len() < PAGE_MESSAGES_MAX;
        for (topic, layers) in page {
            more = Some(topic.clone());
            let told = |kept: Kept<Replayable>, version: &Version| RetainedValue {
                topic: topic.clone(),
                version: *version,
                message: Some(RetainedMessage {
                    payload: kept.message.message.payload.clone(),
                    properties: kept.message.message.properties.clone(),
                    qos: kept.message.message.qos,
                    expires_at_millis: kept
                        .expires_at_ms
                        .map(|millis| peers.cluster_millis(Tick::from_millis(millis))),
                }),
            };
            if let (Some(kept), Some(version)) = (layers.lasting, state.versions.get(&topic)) {
                bytes += kept.bytes_pinned;
                self.tell(peer, &ControlFrame::Retained(told(kept, version)));
            }
            if let (Some(kept), Some(version)) = (layers.latest, state.latest.get(&topic)) {
                bytes += kept.bytes_pinned;
                self.tell(peer, &ControlFrame::Latest(told(*kept, version)));
            }
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        let is_last = is_short && bytes < PAGE_BYTES_MAX;
        if let Some(after) = more.filter(|_| !is_last) {
            return self.tell(peer, &ControlFrame::RetainedMore { after });
        }
        for tombstone in &state.tombstones {
            let (topic, version) = (tombstone.topic.clone(), tombstone.version);
            let value = RetainedValue { topic, version, message: None };
            self.tell(peer, &ControlFrame::Retained(value));
        }
        self.tell(peer, &ControlFrame::RetainedComplete);
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

/// A retained message as other brokers are told it.
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

/// How long a deletion is remembered.
const TOMBSTONE_MILLIS: u64 = 10 * 60 * 1_000;
/// Deletions remembered at most; the oldest gives way.
const TOMBSTONES_MAX: usize = 100_000;
/// Values and bytes of one page.
const PAGE_MESSAGES_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 256 * 1_024;
