//! Use case: a message is published.

mod moving;
mod offering;
mod past_dead;
mod reserving;

use std::sync::Arc;

use crate::broker::acknowledge::{Level, level_of};
use crate::broker::durable::keeper::Keeper;
use crate::broker::event::Event;
use crate::broker::latest::Keeping;
use crate::broker::peers::forward::{PeerShares, is_own_business, share_with_subscribers};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::reserving::{Full, Reservations, release};
use crate::broker::routes::{Fanout, FanoutTarget};
use crate::broker::sys_topics::SYS_PREFIX;
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, ReasonCode, TopicFilter, TopicName};
use crate::ports::message::{Message, MessageId, Publisher};

pub(crate) use offering::{delivery, manner, wanted};

/// What came of a publish.
#[must_use]
#[derive(Clone, Debug)]
pub enum PublishOutcome {
    /// Everybody who wants it has it in a queue.
    Accepted,
    /// Nobody wants it.
    NoMatchingSubscribers,
    /// It is on its way to other brokers, whose answers the acknowledgement waits for.
    Pending(Arc<PublishTicket>),
    /// Nobody has it.
    Refused(Refusal),
}

/// Why nobody has a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Its Topic Name has more levels than we take.
    TooManyLevels,
    /// A queue whose policy is to refuse has no room.
    QueueFull,
    /// It is one retained message too many.
    RetainedFull,
}

impl Refusal {
    /// What the publisher is told.
    #[must_use]
    pub fn reason_code(self) -> ReasonCode {
        match self {
            Self::TooManyLevels => ReasonCode::TopicNameInvalid,
            Self::QueueFull | Self::RetainedFull => ReasonCode::QuotaExceeded,
        }
    }

    /// In words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooManyLevels => "the topic name has too many levels",
            Self::QueueFull => "the queue of a subscriber is full",
            Self::RetainedFull => "there is no room for another retained message",
        }
    }
}

/// Whom the last message went to, within one turn.
pub(crate) struct LastRoute {
    topic: TopicName,
    /// Of the index: a route of another one may be out of date.
    generation: u64,
    fanout: Arc<Fanout>,
}

impl LastRoute {
    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic
    }

    fn is_of(&self, topic: &TopicName) -> bool {
        // Mostly it is the same name in the same place.
        std::ptr::eq(self.topic.as_str(), topic.as_str()) || self.topic == *topic
    }
}

impl Turn<'_> {
    /// Publishes `message` to everybody who wants it. All or nothing: when one queue whose policy is
    /// to refuse has no room, nobody gets it.
    #[inline]
    pub fn publish(&mut self, message: Message) -> PublishOutcome {
        let message = self.named(message);
        let outcome = self.route_and_publish(message);
        if let PublishOutcome::Refused(refusal) = outcome {
            self.count_refusal(refusal);
        }
        outcome
    }

    #[inline]
    fn route_and_publish(&mut self, message: Message) -> PublishOutcome {
        let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        let Some(fanout) = self.fanout(&message.topic) else {
            return PublishOutcome::Refused(Refusal::TooManyLevels);
        };
        if message.qos == QoS::AtMostOnce && concerns_peers_only(&message, &fanout) {
            // No queue here shares it with another, and nobody answers for it.
            self.forward_to_subscribers(&message, &fanout.peers, &mut None);
            return PublishOutcome::Accepted;
        }
        self.publish_along(&Arc::new(message), &fanout, generation, Level::Durable)
    }

    /// The message under a name of its own, where others may have to tell it from its like.
    #[inline]
    pub(crate) fn named(&mut self, message: Message) -> Message {
        let id = self.draw_message_id(message.qos);
        Message { id, ..message }
    }

    /// The same for a caller who may come again, with a message that [`Self::named`] was asked about:
    /// a refusal is not counted.
    #[inline]
    pub(crate) fn try_publish(&mut self, message: &Arc<Message>, level: Level) -> PublishOutcome {
        let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        let Some(fanout) = self.fanout(&message.topic) else {
            return PublishOutcome::Refused(Refusal::TooManyLevels);
        };
        self.publish_along(message, &fanout, generation, level)
    }

    #[inline]
    fn publish_along(
        &mut self,
        message: &Arc<Message>,
        fanout: &Arc<Fanout>,
        generation: u64,
        level: Level,
    ) -> PublishOutcome {
        let is_passing = !message.retain && !fanout.keeps_latest;
        let outcome = if self.is_mourning() && fanout.has_mourned(message.qos) {
            self.publish_past_dead(message, fanout, generation, level)
        } else if is_passing && fanout.is_at_most_one() {
            self.publish_to_one(message, fanout, generation, level)
        } else if concerns_peers_only(message, fanout) {
            self.publish_to_peers(message, fanout, generation)
        } else {
            self.publish_to_all(message, fanout, generation, level)
        };
        self.publish_dead_letters();
        outcome
    }

    /// Counts a refusal that is the last word.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        let counters = &self.shard.counters;
        match refusal {
            Refusal::TooManyLevels => counters.topic_levels_exceeded.increment(),
            Refusal::QueueFull => counters.publishes_refused.increment(),
            Refusal::RetainedFull => {
                counters.publishes_refused.increment();
                counters.retained_exceeded.increment();
            }
        }
    }

    #[inline]
    fn draw_message_id(&mut self, qos: QoS) -> MessageId {
        match self.broker.peers() {
            _ if qos == QoS::AtMostOnce => MessageId::NONE,
            peers => match &mut self.shard.keeper {
                Some(keeper) if peers.is_none() || keeper.durable().is_registered() => {
                    keeper.draw_message_id()
                }
                Some(_) | None => {
                    peers.map_or(MessageId::NONE, |peers| self.shard.message_ids.draw(peers))
                }
            },
        }
    }

    /// Who gets messages of `topic`; `None` when it has more levels than we take.
    #[inline]
    pub(crate) fn fanout(&mut self, topic: &TopicName) -> Option<Arc<Fanout>> {
        let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        if let Some(fanout) = self.shard.routes.lookup(topic.as_str(), generation)
            && self.now < fanout.fresh_until
        {
            self.shard.counters.route_hits.increment();
            return Some(Arc::clone(fanout));
        }
        self.shard.counters.route_misses.increment();
        let levels_max = self.broker.options.topic_levels_max;
        if topic.levels().count() > levels_max && !topic.as_str().starts_with(SYS_PREFIX) {
            return None;
        }
        let mut fanout = Fanout::new(&self.broker.index.read().route(topic.as_str()));
        if let Some(peers) = self.broker.peers() {
            self.shard.wake_later(peers.topics().note_used(topic.as_str()));
            fanout.fresh_until = self.now.plus_millis(FRESH_MILLIS);
        }
        fanout.keeps_latest = self.broker.keeps_latest(topic);
        fanout.level = level_of(&self.broker.options.acknowledge_topics, topic);
        let fanout = Arc::new(fanout);
        self.shard.routes.insert(topic.as_str(), generation, Arc::clone(&fanout));
        Some(fanout)
    }

    /// The same for messages that come one behind the other and are often of the same topic: what was
    /// found for the one before is kept in `last`.
    #[inline]
    fn fanout_after<'a>(
        &mut self,
        topic: &TopicName,
        last: &'a mut Option<LastRoute>,
    ) -> Option<&'a Fanout> {
        let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
        let is_same = |last: &LastRoute| last.generation == generation && last.is_of(topic);
        if last.as_ref().is_some_and(is_same) {
            self.shard.counters.route_hits.increment();
        } else {
            let fanout = self.fanout(topic)?;
            *last = Some(LastRoute { topic: topic.clone(), generation, fanout });
        }
        last.as_ref().map(|last| &*last.fanout)
    }

    #[inline]
    fn publish_to_one(
        &mut self,
        message: &Arc<Message>,
        fanout: &Arc<Fanout>,
        generation: u64,
        level: Level,
    ) -> PublishOutcome {
        let target = fanout.targets.first().and_then(|target| wanted(target, message));
        if let Some((target, qos)) = target
            && !self.offer(target, message, qos, &mut None)
        {
            if !leaves_out(message) {
                return PublishOutcome::Refused(Refusal::QueueFull);
            }
            self.leave_out();
        }
        let mut ticket = None;
        self.follow_moves(message, fanout, generation, &mut ticket);
        self.await_store(&mut ticket, (message.id, target.is_some()), level);
        if let Some(ticket) = ticket {
            return outcome_of(ticket);
        }
        if target.is_some() {
            return PublishOutcome::Accepted;
        }
        self.shard.counters.publishes_unmatched.increment();
        PublishOutcome::NoMatchingSubscribers
    }

    fn publish_to_peers(
        &mut self,
        message: &Arc<Message>,
        fanout: &Arc<Fanout>,
        generation: u64,
    ) -> PublishOutcome {
        let mut ticket = None;
        self.forward_to_subscribers(message, &fanout.peers, &mut ticket);
        self.follow_moves(message, fanout, generation, &mut ticket);
        ticket.map_or(PublishOutcome::Accepted, outcome_of)
    }

    fn publish_to_all(
        &mut self,
        message: &Arc<Message>,
        fanout: &Arc<Fanout>,
        generation: u64,
        level: Level,
    ) -> PublishOutcome {
        let mut reservations = Reservations::new();
        let mut shares = PeerShares::new();
        let reserved = self.reserve(message, fanout, &mut reservations, &mut shares);
        let kept = match reserved {
            Err(Full) => Err(Refusal::QueueFull),
            Ok(()) if message.retain => self.retain(message),
            Ok(()) if fanout.keeps_latest => Ok(self.keep_latest(message)),
            Ok(()) => Ok(Keeping::default()),
        };
        let keeping = match kept {
            Ok(keeping) => keeping,
            Err(Refusal::RetainedFull) if message.retain && leaves_out(message) => {
                // Those who are there are to have it all the same.
                release(&reservations, message);
                self.count_refusal(Refusal::RetainedFull);
                let passing = Arc::new(Message { retain: false, ..Message::clone(message) });
                return self.publish_to_all(&passing, fanout, generation, level);
            }
            Err(refusal) => {
                release(&reservations, message);
                return PublishOutcome::Refused(refusal);
            }
        };
        let mut is_taken = self.commit(message, fanout, &reservations);
        let mut routed = Arc::clone(fanout);
        if message.retain || fanout.keeps_latest {
            is_taken |= self.offer_to_newcomers(message, &mut routed);
        }
        let mut ticket = None;
        // A group matches also where its member is elsewhere, and may turn out to be full.
        let is_shared = !fanout.groups.is_empty();
        let mut matched = is_taken || is_shared;
        if !is_own_business(message.topic.as_str()) {
            for target in &routed.peers {
                share_with_subscribers(&mut shares, target, message.qos);
            }
            if keeping.goes_everywhere {
                self.share_with_all(&mut shares, message);
            }
            if message.retain {
                self.keep_retained(message, keeping.version);
            }
            let is_kept = is_taken || is_shared && message.retain;
            self.forward(message, shares, keeping.version, is_kept, &mut ticket);
            self.follow_moves(message, &routed, generation, &mut ticket);
            matched |= !routed.peers.is_empty();
        }
        self.await_store(&mut ticket, (message.id, matched), level);
        if let Some(ticket) = ticket {
            return outcome_of(ticket);
        }
        if matched {
            return PublishOutcome::Accepted;
        }
        self.shard.counters.publishes_unmatched.increment();
        PublishOutcome::NoMatchingSubscribers
    }

    /// Hands out a message that came from another broker, to nobody but clients of this one: to all
    /// that subscribe, when `is_for_subscribers`, and to one member here of each of `groups`. Those
    /// that have none left are put into `moved`.
    pub(crate) fn publish_from_peer(
        &mut self,
        message: Arc<Message>,
        (is_for_subscribers, groups): (bool, &[TopicFilter]),
        last: &mut Option<LastRoute>,
        moved: &mut Vec<TopicFilter>,
    ) -> PublishOutcome {
        let Some(fanout) = self.fanout_after(&message.topic, last) else {
            return PublishOutcome::NoMatchingSubscribers;
        };
        let targets = if is_for_subscribers { &*fanout.targets } else { &[] };
        if groups.is_empty() && targets.len() <= 1 {
            return self.hand_to_one(message, targets.first());
        }
        let bytes = message.charged_bytes();
        let mut reservations = Reservations::new();
        if self.reserve_targets(&message, targets, &mut reservations).is_err() {
            release(&reservations, &message);
            self.count_refusal(Refusal::QueueFull);
            return PublishOutcome::Refused(Refusal::QueueFull);
        }
        for filter in groups {
            let group = fanout.groups.iter().find(|group| group.filter() == filter);
            match group.and_then(|group| self.choose_here(group, &message, bytes)) {
                Some(reserved) => reservations.push(reserved),
                None if message.qos == QoS::AtMostOnce => {
                    self.shard.counters.deliveries_dropped.increment();
                }
                None => moved.push(filter.clone()),
            }
        }
        let matched_groups = groups.len() > moved.len();
        let matched = self.commit_all(&message, targets, &reservations);
        self.tell_of_left_out(&message.topic);
        self.publish_dead_letters();
        if matched || matched_groups {
            return PublishOutcome::Accepted;
        }
        PublishOutcome::NoMatchingSubscribers
    }

    /// The same when there is nothing to decide.
    #[inline]
    fn hand_to_one(
        &mut self,
        message: Arc<Message>,
        target: Option<&FanoutTarget>,
    ) -> PublishOutcome {
        let Some((target, qos)) = target.and_then(|target| wanted(target, &message)) else {
            return PublishOutcome::NoMatchingSubscribers;
        };
        let (topic, leaves_out) = (message.topic.clone(), leaves_out(&message));
        let is_taken = self.offer_delivery(target, delivery(target, message, qos), &mut None);
        self.publish_dead_letters();
        if is_taken {
            return PublishOutcome::Accepted;
        }
        if leaves_out {
            self.leave_out();
            self.tell_of_left_out(&topic);
            return PublishOutcome::Accepted;
        }
        self.count_refusal(Refusal::QueueFull);
        PublishOutcome::Refused(Refusal::QueueFull)
    }

    /// Keeps or deletes the retained message, under a version where other brokers must agree which
    /// one is the later.
    fn retain(&mut self, message: &Message) -> Result<Keeping, Refusal> {
        let kept = match self.broker.peers() {
            Some(peers) if !is_own_business(message.topic.as_str()) => {
                let version = self.retain_versioned(peers, message).map(Some);
                version.map(|version| Keeping { version, goes_everywhere: true })
            }
            _ => self.broker.put_retained(message).map(|()| {
                self.broker.drop_latest(message.topic.as_str());
                Keeping::default()
            }),
        };
        kept.map_err(|_full| Refusal::RetainedFull)
    }

    /// Publishes what gave way in a full queue. It is never dead-lettered again.
    pub(crate) fn publish_dead_letters(&mut self) {
        if self.shard.dead_letters.is_empty() {
            return;
        }
        // What is to be stored of the message that displaced them is another matter.
        let has_kept = self.takes_store();
        let gathered = self.shard.keeper.as_mut().map(Keeper::take_gathered);
        for delivery in std::mem::take(&mut self.shard.dead_letters) {
            let topic = format!("{DEAD_LETTER_PREFIX}{}", delivery.message.topic.as_str());
            let Ok(topic) = TopicName::parse(topic.into()) else { continue };
            let generation = self.broker.generation.load(std::sync::atomic::Ordering::Acquire);
            let id = self.draw_message_id(delivery.message.qos);
            let message = Arc::new(Message {
                topic,
                retain: false,
                id,
                publisher: Publisher::BROKER,
                ..Message::clone(&delivery.message)
            });
            let Some(fanout) = self.fanout(&message.topic) else { continue };
            self.shard.counters.dead_letters.increment();
            if let PublishOutcome::Refused(refusal) =
                self.publish_to_all(&message, &fanout, generation, Level::Durable)
            {
                self.count_refusal(refusal);
                self.shard.counters.deliveries_dropped.increment();
            }
            self.tell_of_left_out(&message.topic);
        }
        self.shard.dead_letters.clear();
        if let Some(keeper) = self.shard.keeper.as_mut().filter(|_| has_kept) {
            keeper.note_kept();
        }
        if let (Some(keeper), Some(gathered)) = (&mut self.shard.keeper, gathered) {
            keeper.go_on_gathering(gathered);
        }
    }

    /// Publishes a message of the broker itself: nobody can be told of a refusal, so that it goes to
    /// everybody who has room.
    pub fn publish_own(&mut self, message: Message) {
        debug_assert_eq!(message.publisher, Publisher::BROKER, "a client's message");
        let topic = message.topic.clone();
        if let PublishOutcome::Refused(_) = self.publish(message) {
            self.shard.counters.deliveries_dropped.increment();
        }
        self.tell_of_left_out(&topic);
    }

    /// A message of the broker itself is missing in a queue that is full.
    fn leave_out(&mut self) {
        self.shard.counters.deliveries_dropped.increment();
        self.shard.left_out = self.shard.left_out.saturating_add(1);
    }

    /// Says where a message was left out, if it was.
    fn tell_of_left_out(&mut self, topic: &TopicName) {
        let queues = std::mem::take(&mut self.shard.left_out);
        if queues == 0 {
            return;
        }
        if let Some(suppressed) = self.shard.complaints.note(self.now) {
            let topic = topic.as_str().to_owned();
            self.shard.events.push(Event::OwnMessageMissed { topic, queues, suppressed });
        }
    }
}

/// What to tell the publisher of a message that has been sent to other brokers.
fn outcome_of(ticket: Arc<PublishTicket>) -> PublishOutcome {
    match ticket.seal() {
        Some(RemoteOutcome::Enqueued) => PublishOutcome::Accepted,
        // All of them have been declared dead meanwhile.
        Some(RemoteOutcome::NoMatch) => PublishOutcome::NoMatchingSubscribers,
        // What was refused at once is settled in turn, as what is refused later.
        Some(RemoteOutcome::Refused(_) | RemoteOutcome::Full | RemoteOutcome::Unknown) | None => {
            PublishOutcome::Pending(ticket)
        }
    }
}

/// Whether queues that are full miss a message, instead of refusing it for all: a message of the
/// broker itself has nobody who could try again.
#[inline]
fn leaves_out(message: &Message) -> bool {
    message.publisher == Publisher::BROKER
}

/// Whether a message is only to be sent to other brokers, as it is.
#[inline]
fn concerns_peers_only(message: &Message, fanout: &Fanout) -> bool {
    let is_passing = !message.retain && !fanout.keeps_latest;
    is_passing && fanout.is_for_peers_only() && !is_own_business(message.topic.as_str())
}

/// How long a topic that is in use is known to be, to those who keep a register of them.
const FRESH_MILLIS: u64 = 5 * 60 * 1_000;
/// Where messages are published that gave way in a queue, hidden from wildcards at the first level; what
/// follows is their own topic.
pub(crate) const DEAD_LETTER_PREFIX: &str = "$dead-letter/";
