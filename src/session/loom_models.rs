//! Models of the mailbox: every order in which a publisher and an owner can meet.
//!
//! A wake-up that is lost shows as a deadlock, a message that is lost as an owner that waits for it
//! for ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::Notify;
use loom::thread;

use crate::mqtt::{QoS, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, SessionKey};
use crate::session::fixtures::{self, shared_delivery};
use crate::session::mailbox::{Commit, Mailbox, Notice, Offer, QueueBudget, Room};

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

#[test]
fn an_idle_owner_is_woken_for_every_message() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = offering(&mailbox, 2);
        receive(&mailbox, 2);
        publisher.join().unwrap();
    });
}

#[test]
fn a_notice_reaches_the_owner_whatever_is_offered() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = offering(&mailbox, 1);
        let claimant = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || wake(mailbox.notify(Notice::TakenOver)))
        };
        let (bell, waker) = bell();
        let mut inbox = VecDeque::new();
        while mailbox.take(10, 10, &waker, &mut inbox).notice.is_none() {
            bell.0.wait();
        }
        publisher.join().unwrap();
        claimant.join().unwrap();
        mailbox.take(10, 10, &waker, &mut inbox);
        assert_eq!(inbox.len(), 1);
    });
}

#[test]
fn an_owner_whose_socket_is_full_is_woken_for_a_notice_only() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let (bell, waker) = bell();
        assert_eq!(mailbox.rest(&waker, true).notice, None);
        let publisher = offering(&mailbox, 1);
        wake(mailbox.notify(Notice::TakenOver));
        bell.0.wait();
        assert_eq!(mailbox.rest(&waker, true).notice, Some(Notice::TakenOver));
        publisher.join().unwrap();
    });
}

#[test]
fn what_is_offered_while_the_owner_changes_is_kept() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = offering(&mailbox, 2);
        assert!(mailbox.detach().is_empty());
        mailbox.attach();
        receive(&mailbox, 2);
        publisher.join().unwrap();
    });
}

#[test]
fn a_reservation_is_kept_or_given_back() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let bytes = delivery().message.charged_bytes();
                assert_eq!(mailbox.reserve(bytes, Tick::ZERO), Room::Reserved);
                match mailbox.commit(delivery(), Tick::ZERO, &mut None) {
                    Commit::Queued(waker) => wake(waker),
                    other @ (Commit::Stored(_) | Commit::Closed(_)) => panic!("{other:?}"),
                }
            })
        };
        receive(&mailbox, 1);
        publisher.join().unwrap();
        assert_eq!(mailbox.counts().messages, 0);
    });
}

/// A message for one member of a group, whose Session ends meanwhile, was once lost: here it comes
/// back to the publisher or to the owner, never to both and never to nobody.
#[test]
fn what_a_session_that_ends_was_chosen_for_comes_back_once() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let delivery = shared_delivery();
                match mailbox.reserve(delivery.message.charged_bytes(), Tick::ZERO) {
                    Room::Reserved => {
                        matches!(mailbox.commit(delivery, Tick::ZERO, &mut None), Commit::Closed(_))
                    }
                    Room::NotNeeded => true,
                    Room::Full => panic!("it is empty"),
                }
            })
        };
        let came_to_the_owner = mailbox.close().len();
        let came_back = publisher.join().unwrap();
        assert_eq!(came_to_the_owner + usize::from(came_back), 1);
    });
}

/// The connection of an owner that has nothing to do is parked, and another waker stands for it: one
/// of the two is called, and whoever hears of it first is the one to look.
#[test]
fn an_owner_that_changes_its_waker_is_woken_by_one_of_them() {
    loom::model(|| {
        let mailbox = mailbox();
        mailbox.attach();
        let publisher = offering(&mailbox, 1);
        let (mut inbox, (task, spot)) = (VecDeque::new(), (bell(), bell()));
        loop {
            mailbox.take(10, 10, &task.1, &mut inbox);
            if !inbox.is_empty() {
                break;
            }
            if mailbox.wait_with(&spot.1) {
                spot.0.0.wait();
            } else {
                task.0.0.wait();
            }
        }
        assert_eq!(inbox.len(), 1);
        publisher.join().unwrap();
    });
}

/// A member whose window is full finds what it cannot send, while another one runs empty: either
/// that one sees it, or it is woken for it.
#[test]
fn what_one_member_cannot_send_another_one_takes() {
    let mut model = loom::model::Builder::new();
    // Two mailboxes have more orders than can be tried; a fault needs few changes of thread.
    model.preemption_bound = Some(3);
    model.check(|| {
        let budget = Arc::new(QueueBudget::new(1 << 20));
        let [full, other] = [1, 2].map(|key| mailbox_of(key, &budget));
        full.attach();
        other.attach();
        let offer = full.offer(shared_delivery(), Tick::ZERO, &mut None);
        assert!(matches!(offer, Offer::Queued(None)));
        let owner = {
            let (full, other) = (Arc::clone(&full), Arc::clone(&other));
            thread::spawn(move || {
                let (_bell, waker) = bell();
                let taken = full.take(0, 10, &waker, &mut VecDeque::new());
                assert!(taken.is_behind);
                wake(other.wake_if_hungry());
            })
        };
        let (bell, waker) = bell();
        let filter = TopicFilter::parse("$share/g/t").unwrap();
        loop {
            other.take(1, 10, &waker, &mut VecDeque::new());
            if budget.behind() > 0 && full.relieve(&filter, 1).deliveries.len() == 1 {
                break;
            }
            bell.0.wait();
        }
        owner.join().unwrap();
        assert_eq!(budget.behind(), 0);
    });
}

/// A publisher of `count` messages.
fn offering(mailbox: &Arc<Mailbox>, count: usize) -> thread::JoinHandle<()> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || {
        for _ in 0..count {
            match mailbox.offer(delivery(), Tick::ZERO, &mut None) {
                Offer::Queued(waker) => wake(waker),
                other => panic!("{other:?}"),
            }
        }
    })
}

/// Takes until `count` messages have come, and sleeps in between.
fn receive(mailbox: &Mailbox, count: usize) {
    let (bell, waker) = bell();
    let mut inbox = VecDeque::new();
    loop {
        let taken = mailbox.take(10, 10, &waker, &mut inbox);
        if inbox.len() == count {
            break;
        }
        if !taken.has_more {
            bell.0.wait();
        }
    }
    for delivery in inbox {
        mailbox.acknowledge(1, delivery.message.charged_bytes());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell(Notify::new()));
    (Arc::clone(&bell), Waker::from(bell))
}

fn mailbox() -> Arc<Mailbox> {
    mailbox_of(1, &Arc::new(QueueBudget::new(1 << 20)))
}

fn mailbox_of(key: u64, budget: &Arc<QueueBudget>) -> Arc<Mailbox> {
    let (key, budget) = (SessionKey(key), Arc::clone(budget));
    Arc::new(Mailbox::new(key, Arc::from("c"), Arc::new(fixtures::bounds(10)), budget))
}

fn delivery() -> Delivery {
    fixtures::delivery(QoS::AtLeastOnce)
}
