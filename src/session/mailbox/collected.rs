//! A queue that comes to be stored while publishers go on.

use super::{Mailbox, Offer};
use crate::mqtt::QoS;
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId};
use crate::ports::store::{Epoch, SessionId, SessionRef};
use crate::session::fixtures::{bounds, delivery_of, mailbox, message};

fn offer(mailbox: &Mailbox, number: u64) -> Offer {
    let message = Message { id: MessageId(number), ..message(QoS::AtLeastOnce) };
    mailbox.offer(delivery_of(message), Tick::ZERO, &mut None)
}

/// A Session moved by way of the store, and messages overtook each other: another shard had published
/// to its new queue before what had been collected was put there.
#[test]
fn what_was_collected_has_places_before_all_that_is_offered_later() {
    let mailbox = mailbox(bounds(10)).to_be_stored();
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
