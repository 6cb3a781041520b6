//! Use cases: a client subscribes and unsubscribes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;

use crate::broker::disconnect::{Client, EndCause};
use crate::broker::durable::STORE_TROUBLE;
use crate::broker::event::Event;
use crate::broker::latest::Offer;
use crate::broker::options::{SUBACK_WAIT_MILLIS, SubackBarrier};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::replay::Replay;
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::{
    Answer, PacketId, QoS, ReasonCode, ReasonString, RetainHandling, Suback, Subscribe,
    SubscribeFilter, TopicFilter, Unsuback, Unsubscribe,
};
use crate::ports::clock::Tick;
use crate::ports::message::SubscriptionTag;
use crate::routing::{Index, RetainedCursor, SubscriberKey};
use crate::session::session::Subscription;

/// A filter that may be subscribed to.
#[derive(Debug)]
struct Granted {
    filter: TopicFilter,
    subscription: Subscription,
    /// Of the Subscription it replaces.
    former_qos: Option<QoS>,
}

/// A SUBACK to be sent.
#[derive(Debug)]
struct SubscribeAnswer {
    packet_id: PacketId,
    reason_codes: Vec<ReasonCode>,
    refusal: Option<&'static str>,
}

/// A SUBSCRIBE whose filters some other broker does not know yet.
#[derive(Debug)]
pub(crate) struct UnconfirmedSubscribe {
    /// Of our interest, that all must have applied.
    version: Option<u64>,
    /// Answered when the store has the Subscriptions.
    stored: Option<Arc<PublishTicket>>,
    answer: SubscribeAnswer,
    granted: Vec<Granted>,
    since: Offer,
    /// Whom the peers' confirmations call, once it has been counted as one that waits.
    waker: Option<Waker>,
    /// When it has waited long enough to be told of; `None` once it was.
    late_at: Option<Tick>,
}

impl UnconfirmedSubscribe {
    /// When something is to be done although no broker answers.
    pub(crate) fn late_at(&self) -> Option<Tick> {
        self.late_at
    }
}

impl Turn<'_> {
    /// SUBSCRIBE: adds or replaces Subscriptions and answers each [MQTT-3.8.4-6].
    pub(crate) fn subscribe(
        &mut self,
        client: &mut Client,
        subscribe: &Subscribe,
    ) -> Result<(), EndCause> {
        if subscribe.filters.iter().any(is_local_excluding_share) {
            return Err(EndCause::new(ReasonCode::ProtocolError, NO_LOCAL_SHARED));
        }
        self.require_answerable(client, subscribe.filters.len())?;
        let mut reason_codes = Vec::with_capacity(subscribe.filters.len());
        let mut granted = Vec::new();
        let mut refusal = None;
        // Other shards may use it up as well: what is too much is then one SUBSCRIBE of each.
        let all_max = self.broker.options.subscriptions_max;
        let mut room = all_max.saturating_sub(self.broker.subscription_count());
        for asked in &subscribe.filters {
            match self.grant(client, asked, subscribe.subscription_id, room) {
                Ok(grant) => {
                    room -= usize::from(grant.former_qos.is_none());
                    let qos = grant.subscription.options.qos;
                    reason_codes.push(granted_code(qos));
                    self.tell_of_subscribe(client, &grant.filter, qos);
                    granted.push(grant);
                }
                Err(Refusal { reason_code, reason }) => {
                    self.shard.counters.subscribes_refused.increment();
                    reason_codes.push(reason_code);
                    refusal = Some(reason);
                }
            }
        }
        let barrier = self.announce(client, &granted);
        let since = self.broker.next_offer();
        let answer = SubscribeAnswer { packet_id: subscribe.packet_id, reason_codes, refusal };
        let kept = granted.iter().map(|grant| (&grant.filter, &grant.subscription));
        let stored = self.keep_subscriptions(client, kept);
        if barrier.is_some() || stored.is_some() {
            let late_at = barrier.map(|_| self.now.plus_millis(SUBACK_WAIT_MILLIS));
            let unconfirmed = UnconfirmedSubscribe {
                version: barrier,
                stored,
                answer,
                granted,
                since,
                waker: None,
                late_at,
            };
            client.waiting.get_or_insert_default().subscribes.push_back(unconfirmed);
            return Ok(());
        }
        self.acknowledge_subscribe(client, answer, granted, since);
        Ok(())
    }

    /// Sends the SUBACKs whose filters every other broker knows.
    pub(crate) fn confirm_subscribes(
        &mut self,
        client: &mut Client,
        subscribes: &mut VecDeque<UnconfirmedSubscribe>,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        while let Some(first) = subscribes.front_mut() {
            if let (Some(peers), Some(version)) = (self.broker.peers(), first.version)
                && !peers.interest().is_applied(version, waker)
            {
                if first.waker.replace(waker.clone()).is_none() {
                    self.shard.counters.subacks_deferred.increment();
                }
                if !self.is_late(client, first) {
                    return Ok(());
                }
                peers.interest().stop_waiting(version, waker);
            }
            match first.stored.as_ref().map(|stored| stored.poll(waker)) {
                Some(None) => {
                    // It does not wait for others now, and is not due for what it cannot do.
                    let late_at = self.now.plus_millis(SUBACK_WAIT_MILLIS);
                    first.late_at = first.late_at.map(|_| late_at);
                    return Ok(());
                }
                Some(Some(RemoteOutcome::Refused(reason_code))) => {
                    return Err(EndCause::new(reason_code, STORE_TROUBLE));
                }
                Some(Some(_)) | None => {}
            }
            // Others may have buried us, and our interest with us.
            if !self.wait_to_acknowledge(client, waker) {
                // It does not wait for others now.
                first.late_at = Some(self.now.plus_millis(SUBACK_WAIT_MILLIS));
                return Ok(());
            }
            let Some(first) = subscribes.pop_front() else { return Ok(()) };
            self.acknowledge_subscribe(client, first.answer, first.granted, first.since);
        }
        Ok(())
    }

    /// The connection has ended: nobody waits for these SUBACKs any more.
    pub(crate) fn forget_subscribes(&self, subscribes: &mut VecDeque<UnconfirmedSubscribe>) {
        let Some(peers) = self.broker.peers() else { return };
        for subscribe in subscribes.drain(..) {
            if let (Some(waker), Some(version)) = (subscribe.waker, subscribe.version) {
                peers.interest().stop_waiting(version, &waker);
            }
        }
    }

    /// Whether a SUBACK that still waits for other brokers is to be sent all the same.
    fn is_late(&mut self, client: &mut Client, subscribe: &mut UnconfirmedSubscribe) -> bool {
        let is_bounded = self.broker.options.suback_barrier == SubackBarrier::Bounded;
        if subscribe.late_at.is_some_and(|late_at| late_at <= self.now) {
            subscribe.late_at = None;
            self.shard.counters.subacks_late.increment();
            if is_bounded {
                self.shard.counters.suback_unconfirmed.increment();
            }
            self.tell_of_late(client, subscribe, is_bounded);
        }
        is_bounded && subscribe.late_at.is_none()
    }

    fn tell_of_late(
        &mut self,
        client: &mut Client,
        subscribe: &UnconfirmedSubscribe,
        is_sent: bool,
    ) {
        let (Some(first), Some(peers)) = (subscribe.granted.first(), self.broker.peers()) else {
            return;
        };
        let Some(suppressed) = client.complaints.note(self.now) else { return };
        self.shard.events.push(Event::SubackLate {
            card: Arc::clone(&client.card),
            filter: first.filter.as_str().to_owned(),
            brokers: peers.interest().behind(subscribe.version.unwrap_or(0)),
            is_sent,
            suppressed,
        });
    }

    fn grant(
        &mut self,
        client: &mut Client,
        asked: &SubscribeFilter,
        id: Option<u32>,
        room: usize,
    ) -> Result<Granted, Refusal> {
        let Ok(filter) = TopicFilter::parse(&asked.filter) else {
            return Err(Refusal::new(ReasonCode::TopicFilterInvalid, FILTER_INVALID));
        };
        let options = &self.broker.options;
        if filter.matcher().split('/').count() > options.topic_levels_max {
            self.shard.counters.topic_levels_exceeded.increment();
            return Err(Refusal::new(ReasonCode::TopicFilterInvalid, TOO_MANY_LEVELS));
        }
        if let Some(authorizer) = &self.broker.authorizer
            && !authorizer.may_subscribe(&client.card.identity, filter.matcher())
        {
            if let Some(suppressed) = client.complaints.note(self.now) {
                self.shard.events.push(Event::Denied {
                    card: Arc::clone(&client.card),
                    action: "subscribe",
                    topic: filter.as_str().to_owned(),
                    suppressed,
                });
            }
            return Err(Refusal::new(ReasonCode::NotAuthorized, NOT_AUTHORIZED));
        }
        let bytes = filter.as_str().len();
        if client.replays.len() >= options.subscriptions_per_client_max
            || client.replays.bytes() + bytes > options.subscription_bytes_per_client_max
        {
            return Err(Refusal::new(ReasonCode::QuotaExceeded, TOO_MANY_REPLAYS));
        }
        client.subscription_serial = client.subscription_serial.wrapping_add(1);
        let serial = client.subscription_serial;
        let subscription = Subscription { options: asked.options, id, serial };
        let count = client.session.subscriptions().len();
        let former = client.session.subscribe(filter.clone(), subscription);
        let is_new = former.is_none();
        if is_new && count >= options.subscriptions_per_client_max {
            client.session.unsubscribe(&filter);
            self.shard.counters.subscriptions_exceeded.increment();
            return Err(Refusal::new(ReasonCode::QuotaExceeded, TOO_MANY));
        }
        if is_new && client.session.subscription_bytes() > options.subscription_bytes_per_client_max
        {
            client.session.unsubscribe(&filter);
            self.shard.counters.subscription_sizes_exceeded.increment();
            return Err(Refusal::new(ReasonCode::QuotaExceeded, TOO_LONG));
        }
        if is_new && room == 0 {
            client.session.unsubscribe(&filter);
            self.shard.counters.subscriptions_of_all_exceeded.increment();
            return Err(Refusal::new(ReasonCode::QuotaExceeded, TOO_MANY_OF_ALL));
        }
        let former_qos = former.map(|former| former.options.qos);
        Ok(Granted { filter, subscription, former_qos })
    }

    /// Tells the index, and other brokers: from here on publishes made here reach the client, and
    /// from the version on that is returned those made anywhere.
    fn announce(&mut self, client: &Client, granted: &[Granted]) -> Option<u64> {
        if granted.is_empty() {
            return None;
        }
        let subscriber = Destination::Mailbox(Arc::clone(client.session.mailbox()));
        self.change_index(granted, |index, Granted { filter, subscription, .. }| {
            let _new_or_replaced =
                index.subscribe(&subscriber, filter, subscription.options, subscription.id);
        });
        let peers = self.broker.peers()?;
        for one in granted.iter().filter(|one| one.filter.share().is_none()) {
            if !one.filter.as_str().contains(['+', '#']) {
                self.shard.wake_later(peers.topics().note_used(one.filter.as_str()));
            }
        }
        let mut wakes = Vec::new();
        let added = granted.iter().map(|one| (&one.filter, one.subscription.options.qos));
        let version = peers.interest().add(added, &mut wakes);
        let replaced = granted.iter().filter_map(|one| Some((&one.filter, one.former_qos?)));
        peers.interest().remove(replaced, &mut wakes);
        self.shard.wake_each(wakes);
        Some(version)
    }

    /// Changes the index a batch at a time: other shards wait for its lock.
    pub(crate) fn change_index<T>(
        &self,
        items: &[T],
        change: impl Fn(&mut Index<Destination>, &T),
    ) {
        if items.is_empty() {
            return;
        }
        for batch in items.chunks(INDEX_BATCH_MAX) {
            self.shard.counters.index_batches.increment();
            let mut index = self.broker.index.write();
            for item in batch {
                change(&mut index, item);
            }
        }
        self.broker.bump_generation();
    }

    fn acknowledge_subscribe(
        &mut self,
        client: &mut Client,
        answer: SubscribeAnswer,
        granted: Vec<Granted>,
        since: Offer,
    ) {
        let agreement = client.session.agreement();
        let suback = Suback {
            packet_id: answer.packet_id,
            reason_codes: answer.reason_codes,
            reason_string: answer
                .refusal
                .filter(|_| agreement.wants_problem_information)
                .map(ReasonString::from),
            user_properties: Vec::new(),
        };
        suback.encode_within(agreement.version, agreement.packet_bytes_max, self.outbox.buffer());
        self.shard.counters.packets_sent.increment();
        for grant in granted {
            start_replay(client, &grant, since);
        }
    }

    /// UNSUBSCRIBE: removes Subscriptions and answers each [MQTT-3.10.4-4].
    pub(crate) fn unsubscribe(
        &mut self,
        client: &mut Client,
        unsubscribe: &Unsubscribe,
    ) -> Result<(), EndCause> {
        self.require_answerable(client, unsubscribe.filters.len())?;
        let mut removed: SmallVec<[(TopicFilter, QoS); 4]> = SmallVec::new();
        let mut reason_codes = Vec::with_capacity(unsubscribe.filters.len());
        let mut refusal = None;
        for asked in &unsubscribe.filters {
            let Ok(filter) = TopicFilter::parse(asked) else {
                reason_codes.push(ReasonCode::TopicFilterInvalid);
                refusal = Some(FILTER_INVALID);
                continue;
            };
            let former = client.session.subscription(&filter).map(|former| former.options.qos);
            if let Some(qos) = former
                && client.session.unsubscribe(&filter)
            {
                reason_codes.push(ReasonCode::Success);
                self.tell_of_unsubscribe(client, &filter);
                removed.push((filter, qos));
            } else {
                reason_codes.push(ReasonCode::NoSubscriptionExisted);
            }
        }
        let key = SubscriberKey(client.session.key().0);
        self.change_index(&removed, |index, (filter, _)| {
            index.unsubscribe(key, filter);
        });
        if let Some(peers) = self.broker.peers() {
            let mut wakes = Vec::new();
            let gone = removed.iter().map(|(filter, qos)| (filter, *qos));
            peers.interest().remove(gone, &mut wakes);
            self.shard.wake_each(wakes);
        }
        let agreement = client.session.agreement();
        let mut unsuback = Unsuback {
            packet_id: unsubscribe.packet_id,
            reason_codes,
            reason_string: refusal
                .filter(|_| agreement.wants_problem_information)
                .map(ReasonString::from),
            user_properties: Vec::new(),
        };
        unsuback.shorten(agreement.version, agreement.packet_bytes_max);
        let filters = removed.iter().map(|(filter, _)| filter);
        if self.forget_subscriptions(client, filters, &unsuback) {
            return Ok(());
        }
        unsuback.encode(client.session.version(), self.outbox.buffer());
        self.shard.counters.packets_sent.increment();
        Ok(())
    }

    /// SUBACK and UNSUBACK have a Reason Code for each filter, and cannot be cut: where the client does
    /// not take as large a packet it is let go, before anything has been done [MQTT-3.1.2-24].
    fn require_answerable(&self, client: &Client, filters: usize) -> Result<(), EndCause> {
        let agreement = client.session.agreement();
        if Suback::bare_len(agreement.version, filters) <= agreement.packet_bytes_max {
            return Ok(());
        }
        self.shard.counters.answers_too_large.increment();
        Err(EndCause::new(ReasonCode::PacketTooLarge, ANSWER_TOO_LARGE))
    }
}

/// Queues the replay a new Subscription asks for; what an earlier one to the same filter still waits
/// for is passed over when its turn comes.
fn start_replay(client: &mut Client, grant: &Granted, since: Offer) {
    let is_wanted = match grant.subscription.options.retain_handling {
        RetainHandling::SendAtSubscribe => true,
        RetainHandling::SendIfNew => grant.former_qos.is_none(),
        RetainHandling::DoNotSend => false,
    };
    // A Shared Subscription gets none: which member would it be for?
    if !is_wanted || grant.filter.share().is_some() {
        return;
    }
    let tag = grant.subscription.id.map(|id| {
        let subscription_ids = SmallVec::from_slice(&[id]);
        Arc::new(SubscriptionTag { subscription_ids, shared_filter: None })
    });
    client.replays.push(Replay {
        cursor: RetainedCursor::new(grant.filter.clone()),
        serial: grant.subscription.serial,
        qos: grant.subscription.options.qos,
        since,
        tag,
    });
}

/// Why a filter is not subscribed to; SUBACK says so.
struct Refusal {
    reason_code: ReasonCode,
    reason: &'static str,
}

impl Refusal {
    fn new(reason_code: ReasonCode, reason: &'static str) -> Self {
        Self { reason_code, reason }
    }
}

/// No Local on a Shared Subscription is a Protocol Error [MQTT-3.8.3-4].
fn is_local_excluding_share(asked: &SubscribeFilter) -> bool {
    asked.options.no_local && asked.filter.starts_with("$share/")
}

fn granted_code(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

/// Subscriptions changed under one lock of the index.
pub(crate) const INDEX_BATCH_MAX: usize = 256;
const ANSWER_TOO_LARGE: &str =
    "the answer for so many topic filters is larger than the client's maximum packet size";
const FILTER_INVALID: &str = "the topic filter is not valid";
const TOO_MANY_LEVELS: &str = "the topic filter has too many levels";
const TOO_MANY: &str = "this client has as many subscriptions as it may";
const TOO_MANY_OF_ALL: &str = "this broker has as many subscriptions as it may";
const TOO_LONG: &str = "the topic filters of this client have as many bytes as they may";
const TOO_MANY_REPLAYS: &str = "this client has not yet taken the retained messages it asked for";
const NOT_AUTHORIZED: &str = "not authorized to subscribe to this topic filter";
const NO_LOCAL_SHARED: &str = "no local is not allowed on a shared subscription";
