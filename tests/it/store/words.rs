//! Short words for what is stored.

use std::sync::Arc;

use bytes::Bytes;
use mqttzoo::mqtt::{
    MessageProperties, PacketId, QoS, RetainHandling, SubscriptionOptions, TopicFilter, TopicName,
    UserProperty,
};
use mqttzoo::ports::auth::SessionUser;
use mqttzoo::ports::message::{MessageId, SubscriptionTag};
use mqttzoo::ports::store::{
    Epoch, Operation, OwnerId, Pointer, QueuedMessage, Reply, RetainedRecord, RetainedVersion,
    SessionId, SessionLife, SessionRecord, SessionRef, StoredMessage, StoredSubscription,
    StoredWill,
};

use super::client::Client;

pub(crate) fn epoch(counter: u64) -> Epoch {
    Epoch { era: 0, slots: 1, counter }
}

pub(crate) fn session(id: u64, counter: u64) -> SessionRef {
    SessionRef { id: SessionId(id), epoch: epoch(counter) }
}

pub(crate) fn packet(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::parse(name.into()).unwrap()
}

pub(crate) fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

pub(crate) fn message(id: u64) -> Arc<StoredMessage> {
    message_of(id, format!("payload {id}"))
}

pub(crate) fn message_of(id: u64, payload: impl Into<Bytes>) -> Arc<StoredMessage> {
    Arc::new(StoredMessage {
        id: MessageId(id),
        publisher: u64::MAX - id,
        topic: topic("a/b"),
        payload: payload.into(),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_millis: None,
    })
}

pub(crate) fn properties() -> Arc<MessageProperties> {
    let user = UserProperty { name: "name".into(), value: "value".into() };
    Arc::new(MessageProperties {
        content_type: Some("text/plain".into()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: vec![user],
        ..MessageProperties::default()
    })
}

pub(crate) fn pointer(session: SessionRef, sequence: u64) -> Pointer {
    let (qos, retain, tag, may_repeat) = (QoS::AtLeastOnce, false, None, false);
    Pointer { session, sequence, qos, retain, tag, may_repeat }
}

pub(crate) fn repeatable(session: SessionRef, sequence: u64) -> Pointer {
    Pointer { may_repeat: true, ..pointer(session, sequence) }
}

pub(crate) fn tag() -> Arc<SubscriptionTag> {
    let shared_filter = Some(filter("$share/group/a/+"));
    Arc::new(SubscriptionTag {
        subscription_ids: [1, 268_435_455].into_iter().collect(),
        shared_filter,
    })
}

pub(crate) fn enqueue(message: &Arc<StoredMessage>, pointers: Vec<Pointer>) -> Operation {
    Operation::Enqueue { message: Arc::clone(message), pointers }
}

pub(crate) fn acknowledge(session: SessionRef, sequence: u64, message: u64) -> Operation {
    Operation::Acknowledge { session, sequence, message: MessageId(message) }
}

pub(crate) fn forget(session: SessionRef, sequence: u64, message: u64) -> Operation {
    Operation::Forget { session, sequence, message: MessageId(message) }
}

pub(crate) fn release(session: SessionRef, sequence: u64, message: u64) -> Operation {
    Operation::Release { session, sequence, message: MessageId(message) }
}

pub(crate) fn life() -> SessionLife {
    SessionLife { expiry_interval_secs: u32::MAX, expires_at_millis: None }
}

pub(crate) fn put_session(session: SessionRef, client_id: &str) -> Operation {
    put_session_of(SessionUser::Known(Some("alice".into())), session, client_id)
}

/// A Session that was sent this far.
pub(crate) fn put_session_sent(
    sent_below: Option<u64>,
    user: SessionUser,
    session: SessionRef,
    client_id: &str,
) -> Operation {
    let (client_id, life) = (client_id.into(), life());
    Operation::PutSession { session, client_id, user, slot: 7, life, sent_below }
}

/// A Session of this user.
pub(crate) fn put_session_of(user: SessionUser, session: SessionRef, client_id: &str) -> Operation {
    put_session_sent(None, user, session, client_id)
}

pub(crate) fn subscription(text: &str) -> StoredSubscription {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    };
    StoredSubscription { filter: filter(text), options, id: Some(268_435_455) }
}

pub(crate) fn subscribe(session: SessionRef, text: &str) -> Operation {
    Operation::PutSubscription { session, subscription: subscription(text) }
}

pub(crate) fn will(id: u64, fires_at_millis: Option<u64>) -> Arc<StoredWill> {
    let message = StoredMessage { properties: Some(properties()), ..(*message(id)).clone() };
    Arc::new(StoredWill { message, delay_interval_secs: 5, fires_at_millis })
}

pub(crate) fn retained(
    name: &str,
    time: u64,
    message: Option<Arc<StoredMessage>>,
) -> RetainedRecord {
    let topic = topic(name);
    let message =
        message.map(|it| Arc::new(StoredMessage { topic: topic.clone(), ..(*it).clone() }));
    RetainedRecord { topic, version: RetainedVersion { time, owner: OwnerId(1) }, message }
}

/// All of a queue, page by page.
pub(crate) fn queue(client: &mut Client, id: u64) -> Vec<QueuedMessage> {
    let mut all: Vec<QueuedMessage> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.sequence);
        let session = SessionId(id);
        let read = Operation::ReadQueue { session, after, limit: 3, bytes_max: 1 << 20 };
        let Reply::Queue(page) = client.ask(read) else { panic!("not a queue") };
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub(crate) fn sequences(client: &mut Client, id: u64) -> Vec<u64> {
    queue(client, id).iter().map(|queued| queued.sequence).collect()
}

/// All Sessions of the client, with their Subscriptions sorted.
pub(crate) fn sessions(client: &mut Client) -> Vec<SessionRecord> {
    sessions_under(client, None)
}

/// The same of those that it has under this claim.
pub(crate) fn sessions_under(client: &mut Client, claim: Option<Epoch>) -> Vec<SessionRecord> {
    let mut all: Vec<SessionRecord> = Vec::new();
    loop {
        let after = all.last().map(|last| last.session.id);
        let list = Operation::ListSessions { claim, after, limit: 2 };
        let Reply::Sessions(page) = client.ask(list) else { panic!("not sessions") };
        let is_last = page.len() < 2;
        all.extend(page);
        if is_last {
            all.iter_mut().for_each(sort);
            return all;
        }
    }
}

pub(crate) fn take(client: &mut Client, client_id: &str, counter: u64) -> Option<SessionRecord> {
    let take = Operation::TakeSession { client_id: client_id.into(), epoch: epoch(counter) };
    let Reply::Session(found) = client.ask(take) else { panic!("not a session") };
    found.map(|mut found| {
        sort(&mut found);
        *found
    })
}

fn sort(record: &mut SessionRecord) {
    record.subscriptions.sort_by(|one, other| one.filter.cmp(&other.filter));
}

/// All retained messages, by topic.
pub(crate) fn all_retained(client: &mut Client) -> Vec<RetainedRecord> {
    let mut all: Vec<RetainedRecord> = Vec::new();
    loop {
        let after = all.last().map(|last| last.topic.clone());
        let list = Operation::ListRetained { after, limit: 2 };
        let Reply::Retained(page) = client.ask(list) else { panic!("not retained") };
        let is_last = page.len() < 2;
        all.extend(page);
        if is_last {
            all.sort_by(|one, other| one.topic.cmp(&other.topic));
            return all;
        }
    }
}
