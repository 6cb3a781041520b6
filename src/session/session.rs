//! One client's Session: its Subscriptions, what is in flight in both directions, and the rules.
//!
//! Each method is one input: a packet of the client, a delivery from the mailbox, a connection that
//! comes or goes. What is to be sent is encoded into the [`Outbox`] of the turn; what the broker has
//! to do is the return value. Nothing is queued in between, so a turn copies each byte once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use bytestring::ByteString;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::mqtt::{
    Answer, PacketId, ProtocolVersion, Puback, Pubcomp, Publish, Pubrec, Pubrel, QoS, ReasonCode,
    ReasonString, SubscriptionOptions, TopicError, TopicFilter, TopicName,
};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId, Progress, SessionKey};
use crate::session::agreement::{Agreement, NetworkConnection};
use crate::session::in_flight::{Entry, InFlight};
use crate::session::mailbox::Mailbox;
use crate::session::outbox::Outbox;
use crate::session::topic_alias::AliasError;

/// The state of one Session [MQTT-4.1.0-1]. It has one owner and is moved, never shared.
#[derive(Debug)]
pub struct Session {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) subscriptions: HashMap<TopicFilter, Subscription, FixedState>,
    /// Bytes of their Topic Filters.
    pub(super) subscription_bytes: usize,
    /// The Topic Filters of Shared Subscriptions among them; nothing where there are none.
    #[expect(clippy::box_collection, reason = "eight bytes for a Session that has none, not 24")]
    pub(super) shared_filters: Option<Box<BTreeSet<TopicFilter>>>,
    pub(super) in_flight: InFlight,
    /// QoS 2 messages received and not yet released: a second PUBLISH with one of these is the same
    /// message [MQTT-4.3.3-10].
    pub(super) unreleased: HashSet<PacketId, FixedState>,
    pub(super) connection: NetworkConnection,
    /// Acknowledged since the mailbox was last told, so that it is told once a turn.
    pub(super) acknowledged_messages: usize,
    pub(super) acknowledged_bytes: usize,
    /// Of a Session that is stored.
    pub(super) stored: Option<Box<Stored>>,
}

/// What the store is to be told, and what is waited for.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Since this was last asked for.
    finished: Vec<Finished>,
    /// QoS 2 messages of which the client has said PUBREC.
    released: BTreeMap<PacketId, Released>,
}

#[derive(Clone, Copy, Debug)]
struct Released {
    finished: Finished,
    /// Whether the store knows of the PUBREC. Before that no PUBREL leaves: a client that has freed
    /// the identifier would take the message, sent again after a start, for another one.
    is_stored: bool,
}

/// A delivery of a Session that is stored, with which the client is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Finished {
    /// Its place.
    pub sequence: u64,
    /// What was delivered.
    pub message: MessageId,
}

/// What a PUBREC of the client amounts to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// It fits nothing in flight, and changes nothing.
    Unknown,
    /// It is dealt with.
    Known,
    /// PUBREL is due when the store knows of it: [`Session::release_stored`].
    ToBeStored(Finished),
}

/// One Subscription of the Session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subscription {
    /// As the client asked for it.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub id: Option<u32>,
    /// Tells it from an earlier one to the same filter, which it has replaced.
    pub serial: u32,
}

/// What a PUBLISH of the client amounts to.
#[derive(Debug)]
pub enum Published {
    /// A message to route; QoS 1 and 2 are then answered with [`Session::answer_publish`].
    New(Message, Option<PacketId>),
    /// A QoS 2 message that was taken before: only to be answered, unless somebody did not take it.
    Duplicate(Message, PacketId),
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivered {
    /// It was sent.
    Sent,
    /// Its Message Expiry Interval had passed [MQTT-3.3.2-5].
    Expired,
    /// It is larger than the client takes [MQTT-3.1.2-25].
    TooLarge,
}

/// What was sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resent {
    /// A PUBLISH.
    Publish,
    /// A PUBREL.
    Pubrel,
    /// Nothing yet: PUBREL for this one is due when the store knows of its PUBREC, as for
    /// [`Received::ToBeStored`].
    ToBeStored(PacketId, Finished),
    /// Nothing: the client does not take packets that large any more.
    TooLarge,
}

/// A violation that ends the Network Connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// More QoS 1 and 2 messages at a time than we take [MQTT-3.3.4-7].
    #[error("more than {0} messages of QoS 1 and 2 are in flight")]
    ReceiveMaximumExceeded(usize),
    /// A Topic Alias that cannot be.
    #[error(transparent)]
    TopicAlias(#[from] AliasError),
    /// A Topic Name that cannot be.
    #[error(transparent)]
    TopicName(#[from] TopicError),
}

impl Violation {
    /// The Reason Code of the DISCONNECT that answers it.
    #[must_use]
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::ReceiveMaximumExceeded(_) => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAlias(AliasError::TooHigh { .. }) => ReasonCode::TopicAliasInvalid,
            Self::TopicAlias(AliasError::Unknown(_)) => ReasonCode::ProtocolError,
            Self::TopicAlias(AliasError::TooLong(_)) => ReasonCode::QuotaExceeded,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
        }
    }
}

impl Session {
    /// A new Session behind `mailbox`. `hash_seed` keeps clients from choosing colliding filters.
    #[must_use]
    pub fn new(mailbox: Arc<Mailbox>, hash_seed: u64) -> Self {
        let mailbox_is_stored = mailbox.stored_as().is_some();
        Self {
            mailbox,
            subscriptions: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            subscription_bytes: 0,
            shared_filters: None,
            in_flight: InFlight::new(),
            unreleased: HashSet::with_hasher(FixedState::with_seed(hash_seed)),
            connection: NetworkConnection::new(Agreement::unconnected()),
            acknowledged_messages: 0,
            acknowledged_bytes: 0,
            stored: mailbox_is_stored.then(Box::default),
        }
    }

    /// A Network Connection takes the Session: unacknowledged messages will be sent again.
    pub fn attach(&mut self, agreement: Agreement) {
        self.connection = NetworkConnection::new(agreement);
        self.in_flight.start_resending();
        self.mailbox.attach();
    }

    /// The Network Connection is gone: drops what does not outlive it [MQTT-3.3.2-7].
    pub fn detach(&mut self) {
        self.settle_acknowledged();
        self.in_flight.detach_messages();
        self.connection = NetworkConnection::new(Agreement::unconnected());
    }

    /// PUBLISH of the client.
    ///
    /// # Errors
    ///
    /// What the client did is a violation; its connection is to be closed.
    #[inline]
    pub fn handle_publish(&mut self, now: Tick, publish: Publish) -> Result<Published, Violation> {
        let topic = self.resolve_topic(publish.topic, publish.topic_alias)?;
        let again = publish
            .packet_id
            .filter(|id| publish.qos == QoS::ExactlyOnce && self.unreleased.contains(id));
        if let Some(id) = publish.packet_id
            && again.is_none()
        {
            let receive_maximum = self.connection.agreement.receive_maximum;
            if self.unreleased.len() >= receive_maximum {
                return Err(Violation::ReceiveMaximumExceeded(receive_maximum));
            }
            if publish.qos == QoS::ExactlyOnce {
                self.unreleased.insert(id);
            }
        }
        let expiry = publish.properties.as_deref().and_then(|p| p.message_expiry_interval_secs);
        let message = Message {
            topic,
            payload: publish.payload,
            properties: publish.properties,
            qos: publish.qos,
            retain: publish.retain,
            publisher: self.mailbox.publisher(),
            id: MessageId::NONE,
            expires_at: expiry.map(|secs| now.plus_secs(secs)),
            is_in_transit: true,
        };
        Ok(match again {
            Some(id) => Published::Duplicate(message, id),
            None => Published::New(message, publish.packet_id),
        })
    }

    #[inline]
    fn resolve_topic(
        &mut self,
        topic: ByteString,
        alias: Option<NonZeroU16>,
    ) -> Result<TopicName, Violation> {
        let maximum = self.connection.agreement.topic_alias_maximum;
        match alias {
            None => Ok(TopicName::parse(topic)?),
            Some(alias) if topic.is_empty() => {
                Ok(self.connection.inbound_aliases.topic(alias, maximum)?.clone())
            }
            Some(alias) => {
                let topic = TopicName::parse(topic)?;
                self.connection.inbound_aliases.set(alias, maximum, &topic)?;
                Ok(topic)
            }
        }
    }

    /// Answers a PUBLISH of QoS 1 or 2 once its fate is known [MQTT-3.3.4-1].
    pub fn answer_publish(
        &mut self,
        qos: QoS,
        id: PacketId,
        reason_code: ReasonCode,
        reason: Option<&str>,
        out: &mut Outbox,
    ) {
        if qos == QoS::ExactlyOnce {
            if reason_code.is_error() {
                // The next PUBLISH with this identifier is a new message [MQTT-4.3.3-9].
                self.unreleased.remove(&id);
            }
            let mut pubrec = Pubrec::new(id, reason_code);
            pubrec.reason_string = self.reason_string(reason);
            self.answer(pubrec, out);
        } else {
            let mut puback = Puback::new(id, reason_code);
            puback.reason_string = self.reason_string(reason);
            self.answer(puback, out);
        }
    }

    /// A PUBLISH that is not answered: the client sends it again on its next connection, and then
    /// it is a new message.
    pub fn forget_publish(&mut self, id: PacketId) {
        self.unreleased.remove(&id);
    }

    /// QoS 2 messages that the client sent before the broker was started anew, and has not released.
    pub fn restore_unreleased(&mut self, ids: impl Iterator<Item = PacketId>) {
        self.unreleased.extend(ids);
    }

    /// PUBREL of the client: the message is released; answered with PUBCOMP [MQTT-4.3.3-11].
    pub fn handle_pubrel(&mut self, pubrel: &Pubrel, out: &mut Outbox) {
        let was_known = self.unreleased.remove(&pubrel.packet_id);
        let reason_code =
            if was_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        let mut pubcomp = Pubcomp::new(pubrel.packet_id, reason_code);
        if !was_known {
            pubcomp.reason_string = self.reason_string(Some(UNKNOWN_ID));
        }
        self.answer(pubcomp, out);
    }

    /// PUBACK of the client. One that fits nothing in flight changes nothing; `false` says so.
    pub fn handle_puback(&mut self, puback: &Puback) -> bool {
        let Ok(delivery) = self.in_flight.puback(puback.packet_id) else { return false };
        self.note_acknowledged(&delivery);
        true
    }

    /// PUBREC of the client; answered with PUBREL [MQTT-4.3.3-4], once the store knows of it.
    pub fn handle_pubrec(&mut self, pubrec: &Pubrec, out: &mut Outbox) -> Received {
        let id = pubrec.packet_id;
        if pubrec.reason_code.is_error() {
            let Ok(delivery) = self.in_flight.pubrec_refused(id) else {
                return Received::Unknown;
            };
            self.note_acknowledged(&delivery);
            return Received::Known;
        }
        match self.in_flight.pubrec(id) {
            Ok(Some(delivery)) => {
                self.note_freed(&delivery);
                if let (Some(stored), true) = (&mut self.stored, delivery.sequence > 0) {
                    let finished = Finished::of(&delivery);
                    stored.released.insert(id, Released { finished, is_stored: false });
                    return Received::ToBeStored(finished);
                }
                self.release(id, out);
                Received::Known
            }
            Ok(None) => {
                if let Some(finished) = self.to_be_stored(id) {
                    return Received::ToBeStored(finished);
                }
                self.release(id, out);
                Received::Known
            }
            Err(_) => {
                let mut answer = Pubrel::new(id, ReasonCode::PacketIdentifierNotFound);
                answer.reason_string = self.reason_string(Some(UNKNOWN_ID));
                self.answer(answer, out);
                Received::Unknown
            }
        }
    }

    /// Answers a PUBREC of which the store knows by now. `false` when the client is done with it.
    #[must_use]
    pub fn release_stored(&mut self, id: PacketId, out: &mut Outbox) -> bool {
        let released = self.stored.as_mut().and_then(|stored| stored.released.get_mut(&id));
        let Some(released) = released else { return false };
        released.is_stored = true;
        self.release(id, out);
        true
    }

    /// Answers a PUBREC: the client may forget the identifier.
    fn release(&self, id: PacketId, out: &mut Outbox) {
        self.answer(Pubrel::new(id, ReasonCode::Success), out);
    }

    /// What the store is not known to know of: that the client said PUBREC for `id`.
    fn to_be_stored(&self, id: PacketId) -> Option<Finished> {
        let released = self.stored.as_ref()?.released.get(&id)?;
        (!released.is_stored).then_some(released.finished)
    }

    /// PUBCOMP of the client. One that fits nothing in flight changes nothing; `false` says so.
    pub fn handle_pubcomp(&mut self, pubcomp: &Pubcomp) -> bool {
        if self.in_flight.pubcomp(pubcomp.packet_id).is_err() {
            return false;
        }
        if let Some(stored) = &mut self.stored
            && let Some(released) = stored.released.remove(&pubcomp.packet_id)
        {
            stored.finished.push(released.finished);
        }
        true
    }

    fn note_acknowledged(&mut self, delivery: &Delivery) {
        self.note_freed(delivery);
        if let (Some(stored), true) = (&mut self.stored, delivery.sequence > 0) {
            stored.finished.push(Finished::of(delivery));
        }
    }

    /// It takes no room in the queue any more.
    fn note_freed(&mut self, delivery: &Delivery) {
        self.acknowledged_messages += 1;
        self.acknowledged_bytes += delivery.message.charged_bytes();
    }

    /// What the client is done with since this was last asked.
    #[inline]
    pub fn take_finished(&mut self) -> Vec<Finished> {
        self.stored.as_mut().map_or_else(Vec::new, |stored| std::mem::take(&mut stored.finished))
    }

    /// Tells the mailbox what the client acknowledged in this turn.
    #[inline]
    pub fn settle_acknowledged(&mut self) {
        if self.acknowledged_messages > 0 {
            self.mailbox.acknowledge(self.acknowledged_messages, self.acknowledged_bytes);
            self.acknowledged_messages = 0;
            self.acknowledged_bytes = 0;
        }
    }

    /// Sends one delivery of the mailbox, or says why it is not sent.
    #[inline]
    pub fn deliver(&mut self, now: Tick, delivery: &Delivery, out: &mut Outbox) -> Delivered {
        let is_acknowledged = delivery.qos > QoS::AtMostOnce;
        if delivery.progress == Progress::Released {
            self.release_again(delivery, out);
            return Delivered::Sent;
        }
        let outcome = if delivery.progress == Progress::New && delivery.message.is_expired(now) {
            Delivered::Expired
        } else if self.connection.is_too_large(delivery) {
            Delivered::TooLarge
        } else {
            let packet_id = is_acknowledged.then(|| self.hold(delivery.clone()));
            let is_repeat = delivery.progress == Progress::Repeat;
            self.connection.send(now, delivery, packet_id, is_repeat, out);
            return Delivered::Sent;
        };
        if is_acknowledged {
            self.note_acknowledged(delivery);
        }
        outcome
    }

    /// What the client had said PUBREC of before the broker was started anew.
    fn release_again(&mut self, delivery: &Delivery, out: &mut Outbox) {
        let id = self.in_flight.push(delivery.clone());
        self.note_freed(delivery);
        if let Some(stored) = &mut self.stored {
            let finished = Finished::of(delivery);
            stored.released.insert(id, Released { finished, is_stored: true });
        }
        self.release(id, out);
    }

    /// Keeps a delivery until it is acknowledged. A client that lets many wait must not pin the read
    /// buffers of their publishers.
    #[inline]
    fn hold(&mut self, mut delivery: Delivery) -> PacketId {
        debug_assert!(
            self.stored.is_none() || delivery.sequence > 0,
            "it has no place to come from"
        );
        if self.in_flight.len() >= IN_TRANSIT_MAX && delivery.message.is_in_transit {
            delivery.message = Arc::new(delivery.message.detached());
        }
        self.in_flight.push(delivery)
    }

    /// Sends the next of what an earlier connection left unacknowledged [MQTT-4.4.0-1], as far as the
    /// client's Receive Maximum allows; `None` when there is nothing to send now. Expiry is not
    /// applied to what has been sent once [MQTT-4.3.3-7], but what this connection does not take
    /// counts as sent and acknowledged [MQTT-3.1.2-25].
    pub fn resend(&mut self, now: Tick, out: &mut Outbox) -> Option<Resent> {
        let Self { in_flight, connection, .. } = self;
        let (id, entry) = in_flight.next_resend(connection.agreement.window_max)?;
        match entry {
            Entry::AwaitsPuback(delivery) | Entry::AwaitsPubrec(delivery) => {
                if connection.is_too_large(delivery) {
                    let delivery = in_flight.give_up(id).ok()?;
                    self.note_acknowledged(&delivery);
                    return Some(Resent::TooLarge);
                }
                connection.send(now, delivery, Some(id), true, out);
                Some(Resent::Publish)
            }
            Entry::AwaitsPubcomp | Entry::Acknowledged => {
                if let Some(finished) = self.to_be_stored(id) {
                    return Some(Resent::ToBeStored(id, finished));
                }
                self.release(id, out);
                Some(Resent::Pubrel)
            }
        }
    }

    /// Adds or replaces a Subscription; returns the one it replaces [MQTT-3.8.4-3].
    pub fn subscribe(
        &mut self,
        filter: TopicFilter,
        subscription: Subscription,
    ) -> Option<Subscription> {
        let bytes = filter.as_str().len();
        let shared = filter.share().is_some().then(|| filter.clone());
        let replaced = self.subscriptions.insert(filter, subscription);
        if replaced.is_none() {
            self.subscription_bytes += bytes;
            if let Some(shared) = shared {
                self.shared_filters.get_or_insert_default().insert(shared);
            }
        }
        replaced
    }

    /// Removes a Subscription; `false` when there was none.
    pub fn unsubscribe(&mut self, filter: &TopicFilter) -> bool {
        let was_there = self.subscriptions.remove(filter).is_some();
        if was_there {
            self.subscription_bytes -= filter.as_str().len();
            self.forget_shared(filter);
        }
        was_there
    }

    fn forget_shared(&mut self, filter: &TopicFilter) {
        let Some(shared) = &mut self.shared_filters else { return };
        shared.remove(filter);
        if shared.is_empty() {
            self.shared_filters = None;
        }
    }

    /// The Topic Filters of its Shared Subscriptions.
    pub fn shared_filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.shared_filters.iter().flat_map(|filters| filters.iter())
    }

    /// Bytes of the Topic Filters of all Subscriptions.
    #[must_use]
    pub fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    /// The Subscription to `filter`.
    #[must_use]
    pub fn subscription(&self, filter: &TopicFilter) -> Option<&Subscription> {
        self.subscriptions.get(filter)
    }

    /// Ends the Session: empties the window and hands out the QoS 1 deliveries of Shared
    /// Subscriptions that other members may get; QoS 2 stays with its member [MQTT-4.8.2-5].
    #[must_use]
    pub fn end(&mut self) -> Vec<Delivery> {
        self.in_flight
            .drain()
            .filter_map(|entry| match entry {
                Entry::AwaitsPuback(delivery) => Some(delivery),
                Entry::AwaitsPubrec(_) | Entry::AwaitsPubcomp | Entry::Acknowledged => None,
            })
            .filter(|delivery| delivery.shared_filter().is_some())
            .collect()
    }

    #[inline]
    fn answer(&self, answer: impl Answer, out: &mut Outbox) {
        let agreement = &self.connection.agreement;
        answer.encode_within(agreement.version, agreement.packet_bytes_max, out.buffer());
    }

    fn reason_string(&self, reason: Option<&str>) -> Option<ReasonString> {
        let is_wanted = self.connection.agreement.wants_problem_information;
        reason.filter(|_| is_wanted).map(ReasonString::from)
    }

    /// How many QoS 1 and 2 messages may be sent now.
    #[must_use]
    pub fn window(&self) -> usize {
        self.in_flight.room(self.connection.agreement.window_max)
    }

    /// The mailbox of the Session.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whose Session it is.
    #[must_use]
    pub fn client_id(&self) -> &Arc<str> {
        self.mailbox.client_id()
    }

    /// The key of its mailbox.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.mailbox.key()
    }

    /// Of a Session that is stored: the place of its queue below which the client may have been sent
    /// what was there. What another member gave back may stand before what is in flight.
    #[must_use]
    pub fn sent_below(&self) -> Option<u64> {
        let in_flight = self.in_flight.last_place().map_or(0, |last| last + 1);
        self.mailbox.sent_below().map(|below| below.max(in_flight))
    }

    /// Its Subscriptions, in no particular order.
    #[must_use]
    pub fn subscriptions(&self) -> impl ExactSizeIterator<Item = (&TopicFilter, &Subscription)> {
        self.subscriptions.iter()
    }

    /// What was agreed for the present connection.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.connection.agreement
    }

    /// The version the client speaks.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.connection.agreement.version
    }
}

impl Finished {
    fn of(delivery: &Delivery) -> Self {
        Self { sequence: delivery.sequence, message: delivery.message.id }
    }
}

/// Messages in flight that may be slices of their publishers' read buffers.
const IN_TRANSIT_MAX: usize = 64;
const UNKNOWN_ID: &str = "no message in flight has this packet identifier";
