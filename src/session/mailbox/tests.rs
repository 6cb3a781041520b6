//! What a mailbox counts, and how small it is when there is nothing in it.

use bytes::Bytes;

use super::*;
use crate::ports::message::Progress;
use crate::ports::store::{Epoch, SessionId};
use crate::session::fixtures::{bounds, delivery_of, mailbox, message, shared_delivery};
use crate::session::mailbox::storing::KEPT_AWAY_MAX;

fn options(messages_max: usize, overflow: Overflow) -> MailboxOptions {
    MailboxOptions { overflow, ..bounds(messages_max) }
}

fn stored(options: MailboxOptions, next: u64, left: Option<QueueEnds>) -> Mailbox {
    let session = SessionRef { id: SessionId(1), epoch: Epoch::default() };
    mailbox(options).stored(session, next, left, 0)
}

fn delivery(qos: QoS, payload_bytes: usize) -> Delivery {
    delivery_of(Message { payload: Bytes::from(vec![b'x'; payload_bytes]), ..message(qos) })
}

fn read(places: std::ops::RangeInclusive<u64>) -> Vec<Delivery> {
    places.map(|sequence| Delivery { sequence, ..delivery(QoS::AtLeastOnce, 0) }).collect()
}

fn offer(mailbox: &Mailbox, payload_bytes: usize) -> Offer {
    mailbox.offer(delivery(QoS::AtLeastOnce, payload_bytes), Tick::ZERO, &mut None)
}

/// Offers so many, which the store takes.
fn fill(mailbox: &Mailbox, count: usize) {
    for _ in 0..count {
        let Offer::Stored(place) = offer(mailbox, 0) else { panic!("there is room") };
        mailbox.confirm(place.sequence);
    }
}

/// Takes and acknowledges all there is in memory; returns the page that is wanted.
fn work_off(mailbox: &Mailbox) -> Option<PageWanted> {
    let mut inbox = VecDeque::new();
    let taken = mailbox.take(1_000, 1_000, Waker::noop(), &mut inbox);
    let bytes = inbox.iter().map(|delivery| delivery.message.charged_bytes()).sum();
    mailbox.acknowledge(inbox.len(), bytes);
    taken.page
}

fn counts(mailbox: &Mailbox) -> (usize, usize) {
    let MailboxCounts { messages, bytes, .. } = mailbox.counts();
    (messages, bytes)
}

/// What had expired in the store was counted for ever: a queue that was empty refused all.
#[test]
fn what_the_store_has_no_more_is_not_counted() {
    let mailbox = stored(options(200, Overflow::Reject), 1, None);
    fill(&mailbox, 200);
    assert!(matches!(offer(&mailbox, 0), Offer::Full));
    mailbox.attach();
    let page = work_off(&mailbox).expect("there is more in the store");
    assert_eq!((page.after, page.below), (KEPT_AWAY_MAX as u64, 201));
    // Up to 100 all have expired.
    let _refilled = mailbox.refill(page, read(101..=150));
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    assert_eq!(counts(&mailbox), (100, 100 * one));
    let page = work_off(&mailbox).expect("there is more in the store");
    let _refilled = mailbox.refill(page, Vec::new());
    assert_eq!(counts(&mailbox), (0, 0));
    assert!(matches!(offer(&mailbox, 0), Offer::Stored(_)));
}

/// Places that were given up are not counted, and not discharged when a page has them not.
#[test]
fn what_was_withdrawn_is_discharged_once() {
    let mailbox = stored(options(200, Overflow::Reject), 1, None);
    fill(&mailbox, 100);
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    let given: Vec<_> = (0..10).map(|_| offer(&mailbox, 0)).collect();
    for offer in given {
        let Offer::Stored(place) = offer else { panic!("there is room") };
        mailbox.withdraw(place.sequence, one);
    }
    assert_eq!(counts(&mailbox), (100, 100 * one));
    mailbox.attach();
    let page = work_off(&mailbox).expect("there is more in the store");
    let _refilled = mailbox.refill(page, read(65..=70));
    assert_eq!(counts(&mailbox), (36, 36 * one));
    let page = work_off(&mailbox).expect("there is more in the store");
    let _refilled = mailbox.refill(page, read(71..=100));
    assert_eq!(counts(&mailbox), (30, 30 * one));
    let page = work_off(&mailbox).expect("it is not known that there is no more");
    let _refilled = mailbox.refill(page, Vec::new());
    assert_eq!(counts(&mailbox), (0, 0));
}

#[test]
fn what_another_process_left_and_has_expired_is_not_counted() {
    // Five of the places were done with.
    let ends = QueueEnds { first: 1, last: 20, count: 15 };
    let mailbox = stored(options(200, Overflow::Reject), 21, Some(ends));
    assert_eq!(mailbox.counts().messages, 15);
    mailbox.attach();
    let page = work_off(&mailbox).expect("there is more in the store");
    let _refilled = mailbox.refill(page, read(11..=17));
    let left = mailbox.counts().messages;
    assert!((7..=10).contains(&left), "{left}");
    let page = work_off(&mailbox).expect("there may be more in the store");
    let _refilled = mailbox.refill(page, Vec::new());
    assert_eq!(counts(&mailbox), (0, 0));
}

/// One that is full by bytes lost its oldest and the new one, and counted one.
#[test]
fn as_many_give_way_as_the_new_one_needs_room_and_none_in_vain() {
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    let options = MailboxOptions { bytes_max: 3 * one, ..options(100, Overflow::DropOldest) };
    let mailbox = mailbox(options);
    (0..3).for_each(|_| assert!(matches!(offer(&mailbox, 0), Offer::Queued(_))));
    assert!(matches!(offer(&mailbox, one), Offer::Displaced { .. }));
    assert_eq!(counts(&mailbox), (2, 3 * one));
    assert_eq!(mailbox.counts().dropped, 2);
    assert!(matches!(offer(&mailbox, 3 * one), Offer::Dropped(None)), "it never fits");
    assert_eq!(counts(&mailbox), (2, 3 * one));
    assert_eq!(mailbox.counts().dropped, 3);
}

/// It was displaced before the store had it, and discharged once more when the store gave it up.
#[test]
fn what_the_store_has_not_answered_for_does_not_give_way() {
    let mailbox = stored(options(2, Overflow::DropOldest), 1, None);
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    (0..2).for_each(|_| assert!(matches!(offer(&mailbox, 0), Offer::Stored(_))));
    assert!(matches!(offer(&mailbox, 0), Offer::Dropped(None)));
    mailbox.withdraw(1, one);
    assert_eq!(counts(&mailbox), (1, one));
    mailbox.withdraw(1, one);
    assert_eq!(counts(&mailbox), (1, one), "it is not here");
    mailbox.confirm(2);
    assert!(matches!(offer(&mailbox, 0), Offer::Stored(_)));
    assert!(matches!(offer(&mailbox, 0), Offer::Displaced { .. }));
    assert_eq!(counts(&mailbox), (2, 2 * one));
}

/// A client that went away kept what was leased for its messages of QoS 0.
#[test]
fn each_kind_of_lease_is_given_back_by_itself() {
    let mailbox = mailbox(options(100, Overflow::Reject));
    mailbox.attach();
    let _queued = offer(&mailbox, 0);
    let all = mailbox.budget.leased();
    let _queued = mailbox.offer(delivery(QoS::AtMostOnce, 0), Tick::ZERO, &mut None);
    assert_eq!(mailbox.budget.leased(), 2 * all);
    let _shared = mailbox.detach();
    assert_eq!(mailbox.budget.leased(), all);
    let _shared = mailbox.close();
    assert_eq!(mailbox.budget.leased(), 0);
}

fn is_folded(mailbox: &Mailbox) -> bool {
    matches!(&*mailbox.content.lock(), Content::Folded { .. })
}

/// A publish of QoS 0 unfolded the mailboxes of all who were away, and nothing folded them again.
#[test]
fn what_is_not_kept_leaves_the_mailbox_folded() {
    let mailbox = mailbox(options(100, Overflow::Reject));
    let ignored = mailbox.offer(delivery(QoS::AtMostOnce, 0), Tick::ZERO, &mut None);
    assert!(matches!(ignored, Offer::NotKept) && is_folded(&mailbox));
    assert_eq!(mailbox.reserve(100, Tick::ZERO), Room::Reserved);
    mailbox.unreserve(100);
    assert!(mailbox.sent_below().is_none() && is_folded(&mailbox));
    mailbox.forget_moved();
    assert!(is_folded(&mailbox));
    mailbox.attach();
    let shared = mailbox.detach();
    assert!(mailbox.keep(shared).is_empty() && is_folded(&mailbox), "a Session that is parked");
}

/// A publish to several that one of them refused counted as progress of the others: a member of a Shared
/// Subscription that was held up looked as if it were about to send what waits.
#[test]
fn what_is_given_back_is_not_what_the_client_acknowledged() {
    let mailbox = mailbox(options(100, Overflow::Reject));
    let shared = shared_delivery();
    let bytes = shared.message.charged_bytes();
    let _queued = mailbox.offer(shared, Tick::ZERO, &mut None);
    for _ in 0..2 {
        assert_eq!(mailbox.reserve(bytes, Tick::ZERO), Room::Reserved);
        mailbox.unreserve(bytes);
    }
    assert_eq!((mailbox.look().surplus, counts(&mailbox)), (1, (1, bytes)));
    mailbox.acknowledge(1, bytes);
    assert_eq!(mailbox.look().surplus, 0);
}

/// A full queue dropped the new message as soon as its oldest were in the store alone.
#[test]
fn what_is_in_the_store_alone_gives_way_when_it_has_been_read() {
    let mailbox = stored(options(100, Overflow::DropOldest), 1, None);
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    fill(&mailbox, 100);
    for _ in 0..KEPT_AWAY_MAX {
        let Offer::Displaced { place: Some(place), .. } = offer(&mailbox, 0) else { panic!() };
        mailbox.confirm(place.sequence);
    }
    let Offer::Exceeding { place, page: Some(page) } = offer(&mailbox, 0) else { panic!() };
    mailbox.confirm(place.sequence);
    assert_eq!((page.after, page.below), (64, 165), "what is pending cannot give way");
    for _ in 0..9 {
        let Offer::Exceeding { place, page: None } = offer(&mailbox, 0) else { panic!() };
        mailbox.confirm(place.sequence);
    }
    assert_eq!(mailbox.counts().messages, 110);
    let refilled = mailbox.refill(page, read(65..=128));
    let places: Vec<_> = refilled.given_way.iter().map(|delivery| delivery.sequence).collect();
    assert_eq!((places, refilled.page), ((65..=74).collect(), None));
    assert_eq!((counts(&mailbox), mailbox.counts().dropped), ((100, 100 * one), 74));
    // The next one finds the oldest in memory.
    let Offer::Displaced { oldest, .. } = offer(&mailbox, 0) else { panic!() };
    assert_eq!(oldest[0].sequence, 75);
    let too_late = mailbox.refill(page, read(65..=128));
    assert!(too_late.given_way.is_empty() && mailbox.counts().messages == 100);
}

/// What a client holds by a Packet Identifier, or may, is not dropped: the identifier would be given to
/// another message, which the client would take for the one it has.
#[test]
fn what_may_have_been_sent_before_a_start_does_not_give_way_if_it_is_to_come_once() {
    let ends = QueueEnds { first: 1, last: 4, count: 4 };
    let mailbox = mailbox(options(4, Overflow::DropOldest)).stored(
        SessionRef { id: SessionId(1), epoch: Epoch::default() },
        5,
        Some(ends),
        4,
    );
    let Offer::Exceeding { place, page: Some(page) } = offer(&mailbox, 0) else { panic!() };
    mailbox.confirm(place.sequence);
    let of = |sequence, qos, progress| Delivery { sequence, progress, ..delivery(qos, 0) };
    let left = vec![
        of(1, QoS::ExactlyOnce, Progress::Released),
        of(2, QoS::ExactlyOnce, Progress::New),
        of(3, QoS::AtLeastOnce, Progress::New),
        of(4, QoS::ExactlyOnce, Progress::New),
    ];
    let places = |refilled: &Refilled| refilled.given_way.iter().map(|it| it.sequence).collect();
    let gone: Vec<u64> = places(&mailbox.refill(page, left));
    assert_eq!((gone, mailbox.counts().messages), (vec![3], 4));
    let Offer::Displaced { oldest, .. } = offer(&mailbox, 0) else { panic!() };
    assert_eq!(oldest[0].sequence, 4, "it has not been sent");
}

/// What never fits, or finds nothing that could give way however much is read, is dropped at once.
#[test]
fn nothing_is_taken_beyond_the_bounds_for_which_nothing_can_give_way() {
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    let options = |messages_max| options(messages_max, Overflow::DropOldest);
    let ends = QueueEnds { first: 1, last: 4, count: 4 };
    let small = MailboxOptions { bytes_max: 4 * one, ..options(4) };
    let mailbox = stored(small, 5, Some(ends));
    assert!(matches!(offer(&mailbox, 4 * one), Offer::Dropped(None)), "it never fits");
    assert!(matches!(offer(&mailbox, 0), Offer::Exceeding { .. }));
    let mailbox = stored(options(KEPT_AWAY_MAX + 6), 1, None);
    (0..KEPT_AWAY_MAX + 6).for_each(|_| assert!(matches!(offer(&mailbox, 0), Offer::Stored(_))));
    assert!(matches!(offer(&mailbox, 0), Offer::Dropped(None)), "nothing in memory is certain");
    mailbox.confirm(1);
    assert!(matches!(offer(&mailbox, 0), Offer::Displaced { .. }));
}

/// The store may have what it was thought to have refused. Its publisher sent it again, and it is not
/// read where it stood first.
#[test]
fn what_is_in_doubt_is_not_read() {
    let mailbox = stored(options(200, Overflow::Reject), 1, None);
    let one = delivery(QoS::AtLeastOnce, 0).message.charged_bytes();
    fill(&mailbox, KEPT_AWAY_MAX);
    let Offer::Stored(doubted) = offer(&mailbox, 0) else { panic!("there is room") };
    assert!(mailbox.doubt(doubted.sequence));
    mailbox.withdraw(doubted.sequence, one);
    fill(&mailbox, 1);
    mailbox.attach();
    let page = work_off(&mailbox).expect("there is more in the store");
    let _refilled = mailbox.refill(page, read(doubted.sequence..=doubted.sequence + 1));
    assert_eq!(counts(&mailbox), (1, one));
    let _page = work_off(&mailbox);
    assert_eq!(counts(&mailbox), (0, 0));
}
