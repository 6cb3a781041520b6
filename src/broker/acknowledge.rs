//! What has to have happened to a message of QoS 1 or 2 before its publisher is told that it was
//! taken. What each level promises is in `docs/design/0016-levels-of-acknowledgement.md`.

use std::task::Waker;

use crate::broker::peers::ticket::PublishTicket;
use crate::broker::turn::Turn;
use crate::mqtt::{TopicFilter, TopicName};

/// How far a message has to be; the later ones wait for all that the earlier ones wait for.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// This broker has it: in the queues here, and on its way to other brokers.
    Accepted,
    /// It is in the queue of everybody who wants it, wherever that is.
    Enqueued,
    /// And stored where a queue is stored.
    #[default]
    Durable,
}

/// A level for topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicLevel {
    /// Which.
    pub filter: TopicFilter,
    /// What holds for them, whatever listener a message comes by.
    pub level: Level,
}

impl Level {
    /// Whether a publisher waits for what `ticket` comes to: for a refusal that is known, always.
    pub(crate) fn waits_for(self, ticket: &PublishTicket) -> bool {
        self > Self::Accepted || ticket.poll(Waker::noop()).is_some()
    }
}

/// The level of the first of `rules` that matches `topic`.
#[must_use]
pub fn level_of(rules: &[TopicLevel], topic: &TopicName) -> Option<Level> {
    rules.iter().find(|rule| rule.filter.matches(topic)).map(|rule| rule.level)
}

impl Turn<'_> {
    /// The level of a message for `topic` that comes by a listener of level `of_listener`. Where
    /// topics have levels it stands in the route of the topic; where none has, nobody looks.
    #[inline]
    pub(crate) fn level_for(&mut self, topic: &TopicName, of_listener: Level) -> Level {
        if self.broker.options.acknowledge_topics.is_empty() {
            return of_listener;
        }
        self.level_of_topic(topic).unwrap_or(of_listener)
    }

    fn level_of_topic(&mut self, topic: &TopicName) -> Option<Level> {
        let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        match self.shard.routes.lookup(topic.as_str(), generation) {
            Some(fanout) => fanout.level,
            None => level_of(&self.broker.options.acknowledge_topics, topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_filter_that_matches_holds() {
        let rule =
            |filter, level| TopicLevel { filter: TopicFilter::parse(filter).unwrap(), level };
        let rules = [rule("a/b", Level::Enqueued), rule("a/#", Level::Accepted)];
        let level = |topic: &str| level_of(&rules, &TopicName::parse(topic.into()).unwrap());
        assert_eq!(level("a/b"), Some(Level::Enqueued));
        assert_eq!(level("a/c"), Some(Level::Accepted));
        assert_eq!(level("b"), None);
    }
}
