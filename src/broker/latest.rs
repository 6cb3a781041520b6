//! Latest values: of topics that the configuration names, every message is kept for a while, and a
//! new Subscription gets it as it gets a retained message.
//!
//! A value covers the retained message of its topic and neither replaces nor removes it
//! [MQTT-3.3.1-8 of 3.1.1]: when the value has had its time, the retained message is there again.
//! What was handed out to the subscribers of this broker carries a number, so that a replay passes
//! over what its Subscription has had already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::broker::Broker;
use crate::broker::turn::Turn;
use crate::cluster::version::Version;
use crate::mqtt::{TopicFilter, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::Message;
use crate::routing::{Full, Kept, Layer};

/// Which topics keep their latest value, and what that may cost.
#[derive(Clone, Debug)]
pub struct LatestOptions {
    /// Of the topics. None: no latest value is kept.
    pub filters: Vec<TopicFilter>,
    /// How long a value holds.
    pub ttl_millis: u64,
    /// Values there may be.
    pub values_max: usize,
    /// Bytes they may pin.
    pub bytes_max: usize,
}

impl Default for LatestOptions {
    fn default() -> Self {
        Self { filters: Vec::new(), ttl_millis: 60_000, values_max: 100_000, bytes_max: 64 << 20 }
    }
}

/// A message that a new Subscription may be sent.
#[derive(Clone, Debug)]
pub(crate) struct Replayable {
    pub(crate) message: Arc<Message>,
    offered: Offer,
}

/// Where in the order of latest values one was handed out to the subscribers of this broker; zero:
/// it was not.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Offer(u64);

/// Whether a latest value is handed out to the subscribers of this broker as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Audience {
    /// It is.
    Subscribers,
    /// It is only to be kept.
    Nobody,
}

/// What keeping a message asks of those who send it on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    /// Under which it is kept.
    pub(crate) version: Option<Version>,
    /// Whether every broker is to have it by link.
    pub(crate) goes_everywhere: bool,
}

impl Replayable {
    /// A retained message.
    pub(crate) fn lasting(message: Arc<Message>) -> Self {
        Self { message, offered: Offer(0) }
    }

    /// Whether a Subscription that began at `since` is to be sent it: it has not had it, and there is
    /// something to be sent.
    pub(crate) fn is_for(&self, since: Offer) -> bool {
        self.offered < since.max(Offer(1)) && !self.message.payload.is_empty()
    }
}

impl Turn<'_> {
    /// Keeps a message that was published here as the latest value of its topic. Where there is no
    /// room it is counted, and goes on its way all the same.
    pub(crate) fn keep_latest(&mut self, message: &Arc<Message>) -> Keeping {
        let kept = detached(message);
        if let Some(peers) = self.broker.peers() {
            return self.keep_latest_versioned(peers, &kept);
        }
        let until = self.latest_until(message, self.now);
        let _counted = self.put_latest(kept, until, Audience::Subscribers);
        Keeping::default()
    }

    /// Keeps a latest value until then. `false` when there is no room: then the one before, which is
    /// out of date, is gone as well.
    pub(crate) fn put_latest(
        &self,
        message: Arc<Message>,
        until: Tick,
        audience: Audience,
    ) -> bool {
        let is_kept = self.broker.put_latest(message, until, audience).is_ok();
        if !is_kept {
            self.shard.counters.latest_values_exceeded.increment();
        }
        is_kept
    }

    /// Until when a value holds that was published then.
    pub(crate) fn latest_until(&self, message: &Message, published_at: Tick) -> Tick {
        let until = published_at.plus_millis(self.broker.options.latest.ttl_millis);
        message.expires_at.map_or(until, |at| at.min(until))
    }
}

impl Broker {
    /// Whether messages of this topic are kept as its latest value.
    pub(crate) fn keeps_latest(&self, topic: &TopicName) -> bool {
        let filters = &self.options.latest.filters;
        !topic.as_str().starts_with('$') && filters.iter().any(|filter| filter.matches(topic))
    }

    /// A Subscription that begins now is handed out what comes from here on.
    pub(crate) fn next_offer(&self) -> Offer {
        Offer(self.latest_offers.load(Ordering::Acquire))
    }

    fn put_latest(
        &self,
        message: Arc<Message>,
        until: Tick,
        audience: Audience,
    ) -> Result<(), Full> {
        let offered = match audience {
            Audience::Subscribers => self.latest_offers.fetch_add(1, Ordering::AcqRel),
            Audience::Nobody => 0,
        };
        let topic = message.topic.clone();
        let bytes_pinned = message.charged_bytes();
        let message = Replayable { message, offered: Offer(offered) };
        let kept = Kept { message, bytes_pinned, expires_at_ms: Some(until.as_millis()) };
        let mut retained = self.retained.write();
        let put = retained.put(Layer::Latest, topic.clone(), kept);
        if put.is_err() {
            retained.remove(Layer::Latest, topic.as_str());
        }
        put.map(|_put| ())
    }

    /// A retained message is newer than the latest value of its topic.
    pub(crate) fn drop_latest(&self, topic: &str) {
        if self.latest_counts().0 > 0 {
            self.retained.write().remove(Layer::Latest, topic);
        }
    }

    /// Latest values that are kept, and their bytes.
    #[must_use]
    pub fn latest_counts(&self) -> (usize, usize) {
        self.retained.read().latest_counts()
    }
}

/// The message in buffers of its own.
pub(crate) fn detached(message: &Arc<Message>) -> Arc<Message> {
    if message.is_in_transit { Arc::new(message.detached()) } else { Arc::clone(message) }
}

/// The first number of a value that was handed out.
pub(crate) const FIRST_OFFER: u64 = 1;
