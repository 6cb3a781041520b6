//! Models of the lane: every order in which publishers and the sender can meet.
//!
//! A wake-up that is lost shows as a deadlock, a frame that is lost as a sender that waits for it for
//! ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::BufMut;
use loom::sync::Notify;
use loom::thread;

use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::lane::{Lane, LaneOptions, Offered, OfferedControl, Taken};
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::mqtt::QoS;

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

#[test]
fn an_idle_sender_is_woken_for_every_frame() {
    loom::model(|| {
        let lane = lane();
        let offering = [offering(&lane, 1), offering(&lane, 1)];
        send(&lane, Cursors { control: 0, data: 2 });
        for thread in offering {
            thread.join().unwrap();
        }
    });
}

#[test]
fn control_and_messages_wake_the_same_sender() {
    loom::model(|| {
        let lane = lane();
        let messages = offering(&lane, 1);
        let control = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || {
                let outcome = lane.offer_control(|out| out.put_slice(FRAME));
                let OfferedControl::Queued { wake, .. } = outcome else { panic!("{outcome:?}") };
                ring(wake);
            })
        };
        send(&lane, Cursors { control: 1, data: 1 });
        messages.join().unwrap();
        control.join().unwrap();
    });
}

#[test]
fn what_a_suspect_is_owed_is_sent_once_it_is_none() {
    loom::model(|| {
        let lane = lane();
        ring(lane.set_suspect(true));
        let messages = offering(&lane, 1);
        let acquittal = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || ring(lane.set_suspect(false)))
        };
        send(&lane, Cursors { control: 0, data: 1 });
        messages.join().unwrap();
        acquittal.join().unwrap();
    });
}

#[test]
fn a_sender_learns_of_the_end() {
    loom::model(|| {
        let lane = lane();
        let end = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || ring(lane.close()))
        };
        let (bell, waker) = bell();
        let mut batches = VecDeque::new();
        while lane.take(usize::MAX, &waker, &mut batches) != Taken::Closed {
            bell.0.wait();
        }
        end.join().unwrap();
    });
}

/// The link stands by while the relay carries: it is woken when it is to go on, or finds that it is.
#[test]
fn a_link_that_stands_by_goes_on_when_it_is_given_the_lane() {
    loom::model(|| {
        let lane = lane();
        lane.carry_by_relay();
        let messages = offering(&lane, 1);
        let return_of_link = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || ring(lane.carry_by_link()))
        };
        send(&lane, Cursors { control: 0, data: 1 });
        messages.join().unwrap();
        return_of_link.join().unwrap();
    });
}

/// A publisher of `count` messages.
fn offering(lane: &Arc<Lane>, count: usize) -> thread::JoinHandle<()> {
    let lane = Arc::clone(lane);
    thread::spawn(move || {
        for _ in 0..count {
            let outcome = lane.offer_data(QoS::AtLeastOnce, |out| out.put_slice(FRAME));
            let Offered::Queued { wake, .. } = outcome else { panic!("{outcome:?}") };
            ring(wake);
        }
    })
}

/// Sends until the receiver is at `end`, and sleeps in between.
fn send(lane: &Lane, end: Cursors) {
    let (bell, waker) = bell();
    let mut received = Cursors::default();
    while received != end {
        let mut batches = VecDeque::new();
        match lane.take(usize::MAX, &waker, &mut batches) {
            Taken::Batches => {}
            Taken::Nothing => bell.0.wait(),
            other @ (Taken::Restart | Taken::Closed) => panic!("{other:?}"),
        }
        for bytes in batches {
            let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            let batch = Batch::new(header, bytes).unwrap();
            assert_eq!(received.of(batch.kind) + 1, batch.first_seq);
            *received.of_mut(batch.kind) = batch.last_seq();
        }
        lane.received(received).unwrap();
    }
    assert!(lane.is_flushed());
    assert_eq!(lane.counts().offered.of(StreamKind::Data), end.data);
}

fn ring(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell(Notify::new()));
    (Arc::clone(&bell), Waker::from(bell))
}

fn lane() -> Arc<Lane> {
    Arc::new(Lane::new(LaneOptions { data_bytes_max: 1_024, control_bytes_max: 1_024 }))
}

/// A frame of one byte.
const FRAME: &[u8] = &[1, 7];
