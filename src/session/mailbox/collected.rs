//! A queue that comes to be stored while publishers go on.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::{GatheringEnd, Mailbox, Notice, Offer, PageWanted};
use crate::mqtt::QoS;
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId};
use crate::ports::store::{Epoch, QueueEnds, SessionId, SessionRef};
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
    let collected = mailbox.become_stored(session, (7, None, 100), &BTreeSet::new());
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

/// A connection that was taken over as it looked at its queue for the first time asked for what is in
/// the store alone, and left before it got there: nobody asked again, and the queue stood still.
#[test]
fn who_is_told_to_go_leaves_the_store_to_be_asked_by_who_comes() {
    let session = SessionRef { id: SessionId(5), epoch: Epoch::default() };
    let left = Some(QueueEnds { first: 1, last: 3, count: 3 });
    let mailbox = mailbox(bounds(10)).stored(session, 4, left, 1);
    mailbox.attach();
    assert!(mailbox.notify(Notice::TakenOver).is_none());
    let mut taken = VecDeque::new();
    let first = mailbox.take(10, 10, Waker::noop(), &mut taken);
    assert_eq!((first.notice, first.page), (Some(Notice::TakenOver), None));
    let _unsent = mailbox.detach();
    mailbox.attach();
    let second = mailbox.take(10, 10, Waker::noop(), &mut taken);
    assert_eq!(second.page, Some(PageWanted { after: 0, below: 4 }));
}

/// Nobody is told that a message is kept that was collected for a Session on its way, before that is
/// known; if the Session goes first, it is to be offered again.
#[test]
fn what_was_collected_is_lost_with_the_session_unless_it_is_kept() {
    for (ends_before, expected) in [(true, GatheringEnd::Lost), (false, GatheringEnd::Kept)] {
        let mailbox = mailbox(bounds(10)).to_be_stored();
        assert!(matches!(offer(&mailbox, 1), Offer::Queued(_)));
        let gathering = Arc::clone(mailbox.gathering().unwrap());
        assert_eq!(gathering.poll(Waker::noop()), None);
        if !ends_before {
            gathering.end(GatheringEnd::Kept);
        }
        let _left = mailbox.close();
        assert_eq!(gathering.poll(Waker::noop()), Some(expected));
    }
}

/// Another shard was offered one of them again, and its batch was in the store first: there the message stood at
/// the later place, and came behind what its publisher had sent after it.
#[test]
fn what_was_collected_has_no_second_place_before_the_store_has_answered_for_the_first() {
    let mailbox = mailbox(bounds(10)).to_be_stored();
    for number in 1..=3 {
        assert!(matches!(offer(&mailbox, number), Offer::Queued(_)));
    }
    let session = SessionRef { id: SessionId(5), epoch: Epoch::default() };
    let given_up = BTreeSet::from([MessageId(3)]);
    let collected = mailbox.become_stored(session, (7, None, 100), &given_up);
    assert_eq!(collected.len(), 3);
    let again = |number| {
        let message = Message { id: MessageId(number), ..message(QoS::AtLeastOnce) };
        mailbox.offer_again(&delivery_of(message), Tick::ZERO)
    };
    assert!(matches!(offer(&mailbox, 1), Offer::Queued(None)), "it waits for what becomes of them");
    assert!(matches!(again(2), Offer::Queued(None)));
    assert!(matches!(again(3), Offer::Stored(_)), "it is not to be stored with them");
    mailbox.gathering().unwrap().end(GatheringEnd::Kept);
    assert!(matches!(again(2), Offer::Stored(_)), "the store knows it");
}
