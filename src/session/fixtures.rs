//! What tests put into queues, and the queues.

use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::{QoS, TopicFilter, TopicName};
use crate::ports::message::{Delivery, Message, Progress, SessionKey, SubscriptionTag};
use crate::session::mailbox::{Mailbox, MailboxOptions, Overflow, QueueBudget};

/// A message to `t` with nothing in it.
pub(crate) fn message(qos: QoS) -> Message {
    let topic = TopicName::parse("t".into()).unwrap();
    Message { qos, ..Message::of_broker(topic, Bytes::new()) }
}

/// One that is to be sent.
pub(crate) fn delivery(qos: QoS) -> Delivery {
    delivery_of(message(qos))
}

/// The same of a certain message.
pub(crate) fn delivery_of(message: Message) -> Delivery {
    let (qos, progress) = (message.qos, Progress::New);
    Delivery { message: Arc::new(message), tag: None, qos, retain: false, sequence: 0, progress }
}

/// One that a member of the Shared Subscription `$share/g/t` was chosen for.
pub(crate) fn shared_delivery() -> Delivery {
    let filter = TopicFilter::parse("$share/g/t").unwrap();
    let tag = SubscriptionTag { shared_filter: Some(filter), ..SubscriptionTag::default() };
    Delivery { tag: Some(Arc::new(tag)), ..delivery(QoS::AtLeastOnce) }
}

/// Bounds of a queue that refuses what is beyond `messages_max`.
pub(crate) fn bounds(messages_max: usize) -> MailboxOptions {
    MailboxOptions {
        messages_max,
        bytes_max: 1 << 20,
        qos0_messages_max: 100,
        qos0_bytes_max: 1 << 20,
        overflow: Overflow::Reject,
        full_max_millis: 1_000,
    }
}

/// A queue whose owner is away.
pub(crate) fn mailbox(bounds: MailboxOptions) -> Mailbox {
    let budget = Arc::new(QueueBudget::new(1 << 20));
    Mailbox::new(SessionKey(1), Arc::from("c"), Arc::new(bounds), budget)
}
