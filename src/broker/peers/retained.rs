//! Which of two retained messages is the later one, wherever in the cluster they were published.
//!
//! A change may come by a link, by a watch, or in what a broker is told when it joins: all of them
//! go through one merge, and the higher version wins.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::broker::peers::peer::Peer;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, RetainedMessage, RetainedValue};
use crate::cluster::version::{Version, VersionClock};
use crate::mqtt::{QoS, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId, Publisher, detached_properties};
use crate::routing::Full;

/// The versions of all retained messages, and of those deleted not long ago. The lock of the retained
/// messages is taken inside this one.
pub(crate) struct RetainedVersions(Mutex<State>);

struct State {
    clock: VersionClock,
    versions: HashMap<TopicName, Version, FixedState>,
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
        let versions = HashMap::with_hasher(FixedState::with_seed(hash_seed));
        let clock = VersionClock::default();
        Self(Mutex::new(State { clock, versions, tombstones: VecDeque::new() }))
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
        &self,
        peers: &Peers,
        message: &Message,
    ) -> Result<Version, Full> {
        let mut state = peers.retained.0.lock();
        let version = state.clock.next(peers.cluster_millis(self.now), peers.boot_id());
        let topic = message.topic.detached();
        self.broker.put_retained(message)?;
        state.versions.insert(topic.clone(), version);
        if message.payload.is_empty() {
            state.bury(&topic, version, self.now);
        }
        drop(state);
        peers.topics().note_value(value_of(peers, message, topic, version));
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
        if message.payload.is_empty() {
            state.bury(&topic, version, self.now);
        }
    }

    /// Forgets deletions that everybody has heard of, and versions of what has expired.
    pub(crate) fn forget_retained(&mut self, expired: &[TopicName]) {
        let Some(peers) = self.broker.peers() else { return };
        let mut state = peers.retained.0.lock();
        for topic in expired {
            state.versions.remove(topic);
        }
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
        for (topic, message) in page {
            bytes += message.charged_bytes();
            more = Some(topic.clone());
            let Some(&version) = state.versions.get(&topic) else { continue };
            let retained = RetainedMessage {
                payload: message.payload.clone(),
                properties: message.properties.clone(),
                qos: message.qos,
                expires_at_millis: message.expires_at.map(|at| peers.cluster_millis(at)),
            };
            let value = RetainedValue { topic, version, message: Some(retained) };
            self.tell(peer, &ControlFrame::Retained(value));
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
            retained.remove(message.topic.as_str());
            return Ok(());
        }
        let kept = Arc::new(message.detached());
        let expires_at = kept.expires_at.map(Tick::as_millis);
        let bytes = kept.charged_bytes();
        retained.put(kept.topic.clone(), kept, bytes, expires_at).map(|_put| ())
    }
}

/// How long a deletion is remembered.
const TOMBSTONE_MILLIS: u64 = 10 * 60 * 1_000;
/// Deletions remembered at most; the oldest gives way.
const TOMBSTONES_MAX: usize = 100_000;
/// Values and bytes of one page.
const PAGE_MESSAGES_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 256 * 1_024;
