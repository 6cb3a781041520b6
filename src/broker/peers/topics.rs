//! What the registry of topics is to hear of: which topics are in use here, and what is retained.

use std::collections::BTreeSet;
use std::task::Waker;

use parking_lot::Mutex;

use crate::cluster::frame::{DigestQuestion, PartDigest, RetainedValue};
use crate::cluster::identity::BootId;
use crate::mqtt::TopicName;

/// Topics and values on their way to the registry. What finds no room is counted and stays
/// unregistered: it is routed all the same. Whoever adds something wakes the reader when the turn ends.
#[derive(Default)]
pub struct TopicFeed(Mutex<State>);

#[derive(Default)]
struct State {
    news: TopicNews,
    /// Topics whose latest value has changed: however often, it is fetched once.
    latest: BTreeSet<TopicName>,
    values_bytes: usize,
    dropped: u64,
    reader: Option<Waker>,
}

/// What is new since somebody last asked.
#[derive(Debug, Default)]
pub struct TopicNews {
    /// Topics that somebody publishes to or subscribes to by their name.
    pub used: Vec<TopicName>,
    /// Retained messages published here, and deletions.
    pub values: Vec<RetainedValue>,
    /// Brokers that want to know what we have.
    pub questions: Vec<(BootId, DigestQuestion)>,
    /// What others have, by the number of our question.
    pub digests: Vec<(u64, Vec<PartDigest>)>,
}

impl TopicFeed {
    /// A topic is in use.
    #[must_use]
    pub(crate) fn note_used(&self, topic: &str) -> Option<Waker> {
        let topic = TopicName::parse(topic.into()).ok()?;
        let mut state = self.0.lock();
        if state.news.used.len() >= USED_MAX {
            state.dropped += 1;
            return None;
        }
        state.news.used.push(topic);
        state.reader.take()
    }

    /// A retained message was published here, or deleted.
    #[must_use]
    pub(crate) fn note_value(&self, value: RetainedValue) -> Option<Waker> {
        let bytes = value.message.as_ref().map_or(0, |message| message.payload.len())
            + value.topic.as_str().len();
        let mut state = self.0.lock();
        if state.values_bytes + bytes > VALUES_BYTES_MAX || state.news.values.len() >= USED_MAX {
            state.dropped += 1;
            return None;
        }
        state.values_bytes += bytes;
        state.news.values.push(value);
        state.reader.take()
    }

    /// The latest value of a topic was published here.
    #[must_use]
    pub(crate) fn note_latest(&self, topic: TopicName) -> Option<Waker> {
        let mut state = self.0.lock();
        if state.latest.len() >= USED_MAX && !state.latest.contains(&topic) {
            state.dropped += 1;
            return None;
        }
        let is_first = state.latest.is_empty();
        state.latest.insert(topic);
        if is_first { state.reader.take() } else { None }
    }

    /// Topics whose latest value has changed since this was last called.
    pub fn take_latest(&self) -> BTreeSet<TopicName> {
        std::mem::take(&mut self.0.lock().latest)
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_latest(&self) -> bool {
        !self.0.lock().latest.is_empty()
    }

    /// A broker wants to know what we have.
    #[must_use]
    pub(crate) fn note_question(&self, from: BootId, question: DigestQuestion) -> Option<Waker> {
        let mut state = self.0.lock();
        if state.news.questions.len() >= QUESTIONS_MAX {
            return None;
        }
        state.news.questions.push((from, question));
        state.reader.take()
    }

    /// A broker says what it has.
    #[must_use]
    pub(crate) fn note_digests(&self, number: u64, parts: Vec<PartDigest>) -> Option<Waker> {
        let mut state = self.0.lock();
        if state.news.digests.len() >= QUESTIONS_MAX {
            return None;
        }
        state.news.digests.push((number, parts));
        state.reader.take()
    }

    /// Everything else since this was last called; `waker` is called when there is more.
    pub fn take(&self, waker: &Waker) -> TopicNews {
        let mut state = self.0.lock();
        state.reader = Some(waker.clone());
        state.values_bytes = 0;
        std::mem::take(&mut state.news)
    }

    /// What found no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

/// Topics, and values, that wait to be taken.
const USED_MAX: usize = 65_536;
/// Questions and answers. Who gets no answer lists everything.
const QUESTIONS_MAX: usize = 64;
/// Bytes of those values.
const VALUES_BYTES_MAX: usize = 16 * 1_024 * 1_024;
