//! A queue that comes to be stored while publishers go on.

use std::sync::Arc;

use bytes::Bytes;

use super::{Mailbox, MailboxOptions, Offer, Overflow, QueueBudget};
use crate::mqtt::{QoS, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, MessageId, Progress, Publisher, SessionKey};
use crate::ports::store::{Epoch, SessionId, SessionRef};

fn collecting() -> Mailbox {
    let options = MailboxOptions {
        messages_max: 10,
        bytes_max: 10_000,
        qos0_messages_max: 10,
        qos0_bytes_max: 10_000,
        overflow: Overflow::Reject,
        full_max_millis: 1_000,
    };
    let budget = Arc::new(QueueBudget::new(1 << 20));
    Mailbox::new(SessionKey(1), Arc::from("sleeper"), Arc::new(options), budget).to_be_stored()
}

fn offer(mailbox: &Mailbox, number: u64) -> Offer {
    let message = Message {
        topic: TopicName::parse("load/1".into()).unwrap(),
        payload: Bytes::from_static(b"payload"),
        properties: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: Publisher(1),
        id: MessageId(number),
        expires_at: None,
        is_in_transit: false,
    };
    let delivery = Delivery {
        message: Arc::new(message),
        tag: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        sequence: 0,
        progress: Progress::New,
    };
    mailbox.offer(delivery, Tick::ZERO, &mut None)
}

/// A Session moved by way of the store, and messages overtook each other: another shard had published
/// to its new queue before what had been collected was put there.
#[test]
fn what_was_collected_has_places_before_all_that_is_offered_later() {
    let mailbox = collecting();
    assert!(mailbox.is_for_store() && mailbox.stored_as().is_none());
    for number in 1..=2 {
        assert!(matches!(offer(&mailbox, number), Offer::Queued(_)));
    }
    let session = SessionRef { id: SessionId(5), epoch: Epoch::default() };
    let collected = mailbox.become_stored(session, 7, None, 100);
    let places: Vec<_> =
        collected.iter().map(|(place, one)| (place.sequence, one.message.id)).collect();
    assert_eq!(places, [(7, MessageId(1)), (8, MessageId(2))]);
    assert_eq!(mailbox.stored_as(), Some(session));
    let Offer::Stored(later) = offer(&mailbox, 3) else { panic!("it is stored") };
    assert_eq!((later.session, later.sequence), (session, 9));
    assert_eq!(mailbox.counts().messages, 3);
    // The store has not answered for the first: nothing behind it is settled.
    let _owner = mailbox.confirm(9);
    assert!(!mailbox.is_settled());
}
