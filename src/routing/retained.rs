//! The retained messages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::level_order::{OrderedTopic, Probe};
use super::retained_cursor::RetainedCursor;
use crate::mqtt::TopicName;

/// One message a topic, within bounds, in an order in which the matches of a filter are found
/// without walking over the others.
///
/// The store keeps the names it is given, and what they are slices of: the caller detaches.
pub struct RetainedStore<M> {
    messages: BTreeMap<OrderedTopic, Retained<M>>,
    expiries: BTreeSet<(u64, OrderedTopic)>,
    bytes: usize,
    limits: RetainedLimits,
}

/// How much a [`RetainedStore`] holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetainedLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes they pin.
    pub bytes_max: usize,
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

/// Why a message was not kept; the topic's former message, if any, still is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// There are as many as there may be.
    #[error("no more retained messages are allowed")]
    Messages,
    /// It would pin more memory than is allowed.
    #[error("no more memory is allowed for retained messages")]
    Bytes,
}

struct Retained<M> {
    message: M,
    bytes_pinned: usize,
    expires_at_ms: Option<u64>,
}

impl<M: Clone> RetainedStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new(limits: RetainedLimits) -> Self {
        Self { messages: BTreeMap::new(), expiries: BTreeSet::new(), bytes: 0, limits }
    }

    /// Keeps `message` for `topic` in place of the former one. `bytes_pinned` is all the memory
    /// that is kept because of it.
    ///
    /// # Errors
    ///
    /// A bound forbids it, and nothing has changed.
    pub fn put(
        &mut self,
        topic: TopicName,
        message: M,
        bytes_pinned: usize,
        expires_at_ms: Option<u64>,
    ) -> Result<Put, Full> {
        let topic = OrderedTopic(topic);
        let former = self.messages.get(&topic);
        let bytes_after =
            self.bytes - former.map_or(0, |former| former.bytes_pinned) + bytes_pinned;
        if bytes_after > self.limits.bytes_max {
            return Err(Full::Bytes);
        }
        if former.is_none() && self.messages.len() >= self.limits.messages_max {
            return Err(Full::Messages);
        }
        self.bytes = bytes_after;
        if let Some(at_ms) = expires_at_ms {
            self.expiries.insert((at_ms, topic.clone()));
        }
        let retained = Retained { message, bytes_pinned, expires_at_ms };
        let former = self.messages.insert(topic.clone(), retained);
        let Some(former) = former else { return Ok(Put::New) };
        if let Some(at_ms) = former.expires_at_ms
            && former.expires_at_ms != expires_at_ms
        {
            self.expiries.remove(&(at_ms, topic));
        }
        Ok(Put::Replaced)
    }

    /// Takes the topic's message away, as a zero-length payload asks for [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let (topic, retained) = self.messages.remove_entry(probe(&topic.as_bytes()))?;
        self.bytes -= retained.bytes_pinned;
        if let Some(at_ms) = retained.expires_at_ms {
            self.expiries.remove(&(at_ms, topic));
        }
        Some(retained.message)
    }

    /// Takes up to `max` messages away whose time has come, and names their topics. Fewer than
    /// `max` mean that there are no more.
    pub fn remove_expired(&mut self, now_ms: u64, max: usize) -> Vec<TopicName> {
        let mut removed = Vec::new();
        while removed.len() < max
            && self.next_expiry_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, topic)) = self.expiries.pop_first()
        {
            let retained = self.messages.remove(&topic);
            self.bytes -= retained.expect("what expires is in the store").bytes_pinned;
            removed.push(topic.0);
        }
        removed
    }

    /// The topic's message, unless its time has come.
    #[must_use]
    pub fn get(&self, topic: &str, now_ms: u64) -> Option<&M> {
        let retained = self.messages.get(probe(&topic.as_bytes()))?;
        (!retained.is_expired(now_ms)).then_some(&retained.message)
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

    /// How many messages there are, expired ones that were not removed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes they pin.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the next message expires: when to call [`Self::remove_expired`].
    #[must_use]
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiries.first().map(|&(at_ms, _)| at_ms)
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
        for (OrderedTopic(topic), retained) in self.messages.range::<dyn Probe, _>(from) {
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
            if cursor.show(topic) && !retained.is_expired(now_ms) {
                found.push((topic.clone(), retained.message.clone()));
            }
        }
        cursor.finish();
    }
}

impl<M> Retained<M> {
    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }
}

fn probe<'a>(bytes: &'a &'a [u8]) -> &'a dyn Probe {
    bytes
}

/// How many topics a batch looks at beyond those it returns.
const SCAN_STEPS_MAX: usize = 1024;
/// How many topics are walked over before a seek.
const STEPS_BEHIND_MAX: usize = 3;
