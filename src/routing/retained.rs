//! The retained messages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::level_order::{OrderedTopic, Probe};
use super::retained_cursor::RetainedCursor;
use super::retained_entry::{Full, Kept, Layer, Layers, Tally};
use crate::mqtt::TopicName;

/// The messages of topics, within bounds, in an order in which the matches of a filter are found
/// without walking over the others. A topic has one that lasts, and above it, where the broker keeps
/// latest values, one that holds for a while.
///
/// The store keeps the names it is given, and what they are slices of: the caller detaches.
pub struct RetainedStore<M> {
    messages: BTreeMap<OrderedTopic, Layers<M>>,
    expiries: BTreeSet<(u64, OrderedTopic, Layer)>,
    lasting: Tally,
    /// Lasting ones that count against no limit.
    exempt: Tally,
    latest: Tally,
    exempt_prefix: Option<&'static str>,
}

/// How much a [`RetainedStore`] holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetainedLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes they pin.
    pub bytes_max: usize,
    /// Topics that start so are kept whatever else there is. Nothing a client chooses may be one.
    pub exempt_prefix: Option<&'static str>,
    /// Latest values.
    pub latest_max: usize,
    /// Bytes they pin.
    pub latest_bytes_max: usize,
}

/// What keeping a message did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Put {
    /// The topic had none.
    New,
    /// It is in the place of the topic's former message [MQTT-3.3.1-5].
    Replaced,
}

impl<M: Clone> RetainedStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new(limits: RetainedLimits) -> Self {
        Self {
            messages: BTreeMap::new(),
            expiries: BTreeSet::new(),
            lasting: Tally::new(limits.messages_max, limits.bytes_max),
            exempt: Tally::new(usize::MAX, usize::MAX),
            latest: Tally::new(limits.latest_max, limits.latest_bytes_max),
            exempt_prefix: limits.exempt_prefix,
        }
    }

    /// Keeps `message` in a layer of `topic` in place of the former one.
    ///
    /// # Errors
    ///
    /// A bound forbids it, and nothing has changed.
    pub fn put(&mut self, layer: Layer, topic: TopicName, message: Kept<M>) -> Result<Put, Full> {
        let topic = OrderedTopic(topic);
        let former = self.messages.get(&topic).and_then(|layers| layers.of(layer));
        let former_bytes = former.map(|former| former.bytes_pinned);
        let (bytes_pinned, expires_at_ms) = (message.bytes_pinned, message.expires_at_ms);
        self.tally(layer, &topic.0).exchange(former_bytes, bytes_pinned)?;
        let layers = self.messages.entry(topic.clone()).or_default();
        let former = layers.replace(layer, Some(message));
        if let Some(at_ms) = former.as_ref().and_then(|former| former.expires_at_ms) {
            self.expiries.remove(&(at_ms, topic.clone(), layer));
        }
        if let Some(at_ms) = expires_at_ms {
            self.expiries.insert((at_ms, topic, layer));
        }
        Ok(if former.is_some() { Put::Replaced } else { Put::New })
    }

    /// Takes the message of a layer away, as a zero-length payload asks for [MQTT-3.3.1-6].
    pub fn remove(&mut self, layer: Layer, topic: &str) -> Option<M> {
        let (topic, _) = self.messages.get_key_value(probe(&topic.as_bytes()))?;
        let topic = topic.clone();
        let kept = self.take(layer, &topic)?;
        if let Some(at_ms) = kept.expires_at_ms {
            self.expiries.remove(&(at_ms, topic, layer));
        }
        Some(kept.message)
    }

    /// Takes up to `max` messages away whose time has come, and names their topics. Fewer than
    /// `max` mean that there are no more.
    pub fn remove_expired(&mut self, now_ms: u64, max: usize) -> Vec<(TopicName, Layer)> {
        let mut removed = Vec::new();
        while removed.len() < max
            && self.next_expiry_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, topic, layer)) = self.expiries.pop_first()
        {
            self.take(layer, &topic).expect("what expires is in the store");
            removed.push((topic.0, layer));
        }
        removed
    }

    fn take(&mut self, layer: Layer, topic: &OrderedTopic) -> Option<Kept<M>> {
        let layers = self.messages.get_mut(topic)?;
        let kept = layers.replace(layer, None)?;
        if layers.is_empty() {
            self.messages.remove(topic);
        }
        self.tally(layer, &topic.0).release(kept.bytes_pinned);
        Some(kept)
    }

    fn tally(&mut self, layer: Layer, topic: &TopicName) -> &mut Tally {
        match layer {
            Layer::Latest => &mut self.latest,
            Layer::Lasting
                if self.exempt_prefix.is_some_and(|prefix| topic.as_str().starts_with(prefix)) =>
            {
                &mut self.exempt
            }
            Layer::Lasting => &mut self.lasting,
        }
    }

    /// What a new Subscription to the topic gets, unless its time has come.
    #[must_use]
    pub fn get(&self, topic: &str, now_ms: u64) -> Option<&M> {
        self.messages.get(probe(&topic.as_bytes()))?.current(now_ms)
    }

    /// Whether the topic has a message in this layer, expired or not.
    #[must_use]
    pub fn has(&self, layer: Layer, topic: &str) -> bool {
        let layers = self.messages.get(probe(&topic.as_bytes()));
        layers.is_some_and(|layers| layers.of(layer).is_some())
    }

    /// All that is kept of a topic and has not expired.
    #[must_use]
    pub fn layers(&self, topic: &str, now_ms: u64) -> Layers<M> {
        let layers = self.messages.get(probe(&topic.as_bytes()));
        layers.map_or_else(Layers::default, |layers| layers.at(now_ms))
    }

    /// The next messages that match the cursor's filter, up to `max`, in order.
    ///
    /// The work is bounded, too: a batch may be short or empty although more follow, so ask until
    /// [`RetainedCursor::is_done`]. What was there all the time between two batches is found once;
    /// what came or went meanwhile, once or not at all.
    #[must_use]
    pub fn scan(
        &self,
        cursor: &mut RetainedCursor,
        max: usize,
        now_ms: u64,
    ) -> Vec<(TopicName, M)> {
        let mut found = Vec::new();
        let mut steps_left = max.saturating_add(SCAN_STEPS_MAX);
        while !cursor.is_done() && found.len() < max && steps_left > 0 {
            self.scan_from_place(cursor, max, now_ms, &mut steps_left, &mut found);
        }
        found
    }

    /// What is kept of up to `max` topics behind the topic `after`, in order. Fewer than `max` mean
    /// that there are no more.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&str>,
        max: usize,
        now_ms: u64,
    ) -> Vec<(TopicName, Layers<M>)> {
        let after = after.map(str::as_bytes);
        let from = match &after {
            Some(after) => Bound::Excluded(probe(after)),
            None => Bound::Unbounded,
        };
        self.messages
            .range::<dyn Probe, _>((from, Bound::Unbounded))
            .map(|(topic, layers)| (topic.0.clone(), layers.at(now_ms)))
            .filter(|(_, layers)| !layers.is_empty())
            .take(max)
            .collect()
    }

    /// How many lasting messages there are, expired ones that were not removed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lasting.messages + self.exempt.messages
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes that lasting messages pin.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lasting.bytes + self.exempt.bytes
    }

    /// How many latest values there are, and their bytes.
    #[must_use]
    pub fn latest_counts(&self) -> (usize, usize) {
        (self.latest.messages, self.latest.bytes)
    }

    /// When the next message expires: when to call [`Self::remove_expired`].
    #[must_use]
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiries.first().map(|&(at_ms, ..)| at_ms)
    }

    /// Seeks the cursor's place and walks from there until the cursor is so far ahead that another
    /// seek is cheaper.
    fn scan_from_place(
        &self,
        cursor: &mut RetainedCursor,
        max: usize,
        now_ms: u64,
        steps_left: &mut usize,
        found: &mut Vec<(TopicName, M)>,
    ) {
        let place = cursor.place();
        let from = (Bound::Included(probe(&place)), Bound::Unbounded);
        let mut steps_behind = 0;
        for (OrderedTopic(topic), layers) in self.messages.range::<dyn Probe, _>(from) {
            if cursor.is_done() || found.len() == max || *steps_left == 0 {
                return;
            }
            *steps_left -= 1;
            if cursor.is_before_place(topic) {
                steps_behind += 1;
                if steps_behind > STEPS_BEHIND_MAX {
                    return;
                }
                continue;
            }
            steps_behind = 0;
            if cursor.show(topic)
                && let Some(message) = layers.current(now_ms)
            {
                found.push((topic.clone(), message.clone()));
            }
        }
        cursor.finish();
    }
}

fn probe<'a>(bytes: &'a &'a [u8]) -> &'a dyn Probe {
    bytes
}

/// How many topics a batch looks at beyond those it returns.
const SCAN_STEPS_MAX: usize = 1024;
/// How many topics are walked over before a seek.
const STEPS_BEHIND_MAX: usize = 3;

#[cfg(test)]
mod tests;
