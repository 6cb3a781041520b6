//! The lane, driven by hand: offers, connections that break, receivers that are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::BufMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cluster::inbound::Inbound;
use crate::cluster::wire::{BATCH_BYTES_MAX, Batch, BatchHeader, FRAME_BYTES_MAX};

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (bell.clone(), Waker::from(bell))
}

fn lane(data_bytes_max: usize, control_bytes_max: usize) -> Lane {
    Lane::new(LaneOptions { data_bytes_max, control_bytes_max })
}

/// Appends a frame of `len` bytes that holds `number`.
fn frame(number: u64, len: usize) -> impl FnOnce(&mut BytesMut) {
    move |out| {
        let len = len.max(8);
        let mut rest = len;
        while rest > 0x7F {
            out.put_u8(u8::try_from(rest & 0x7F).unwrap() | 0x80);
            rest >>= 7;
        }
        out.put_u8(u8::try_from(rest).unwrap());
        out.put_u64(number);
        out.put_bytes(0xAB, len - 8);
    }
}

fn batch_of(bytes: Bytes) -> Batch {
    let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    Batch::new(header, bytes).unwrap()
}

fn take_all(lane: &Lane) -> Vec<Batch> {
    let mut batches = VecDeque::new();
    while lane.take(usize::MAX, Waker::noop(), &mut batches) == Taken::Batches {}
    batches.into_iter().map(batch_of).collect()
}

fn queued(offered: &Offered) -> (u64, bool) {
    let Offered::Queued { seq, is_congested, .. } = offered else { panic!("{offered:?}") };
    (*seq, *is_congested)
}

#[test]
fn frames_travel_in_batches_control_first() {
    let lane = lane(1 << 20, 1 << 20);
    for number in 1..=3 {
        assert_eq!(queued(&lane.offer_data(QoS::AtMostOnce, frame(number, 100))).0, number);
    }
    let control = lane.offer_control(frame(1, 10));
    assert!(matches!(control, OfferedControl::Queued { seq: 1, .. }));
    let batches = take_all(&lane);
    let seen = batches.iter().map(|batch| (batch.kind, batch.first_seq, batch.count));
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen, [(StreamKind::Control, 1, 1), (StreamKind::Data, 1, 3)]);
    assert!(batches.iter().all(|batch| batch.frames().all(|frame| frame.is_ok())));
    assert!(!lane.is_flushed());
    lane.received(Cursors { control: 1, data: 3 }).unwrap();
    assert!(lane.is_flushed());
    assert_eq!(lane.gone(), Cursors { control: 1, data: 3 });
}

#[test]
fn the_sender_is_woken_once_for_what_comes_while_it_is_idle() {
    let lane = lane(1 << 20, 1 << 20);
    let (bell, waker) = bell();
    assert_eq!(lane.take(usize::MAX, &waker, &mut VecDeque::new()), Taken::Nothing);
    let mut rings = 0;
    for number in 1..=5 {
        if let Offered::Queued { wake: Some(wake), .. } =
            lane.offer_data(QoS::AtLeastOnce, frame(number, 8))
        {
            wake.wake();
            rings += 1;
        }
    }
    assert_eq!((rings, bell.0.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn a_receiver_that_is_behind_slows_publishers_then_costs_qos_0_then_all() {
    let lane = lane(1_000, 1 << 20);
    assert!(!queued(&lane.offer_data(QoS::AtLeastOnce, frame(1, 400))).1);
    assert!(queued(&lane.offer_data(QoS::AtMostOnce, frame(2, 400))).1, "beyond half");
    assert!(queued(&lane.offer_data(QoS::AtMostOnce, frame(3, 400))).1);
    assert!(matches!(lane.offer_data(QoS::AtMostOnce, frame(4, 400)), Offered::Dropped));
    let mut seq = 3;
    while lane.counts().data_bytes < 4_000 {
        let (next, is_congested) = queued(&lane.offer_data(QoS::AtLeastOnce, frame(9, 400)));
        assert!(is_congested);
        assert_eq!(next, seq + 1, "what was dropped had no sequence number");
        seq = next;
    }
    assert!(matches!(lane.offer_data(QoS::AtLeastOnce, frame(9, 400)), Offered::Refused));
    let counts = lane.counts();
    assert_eq!((counts.dropped, counts.refused), (1, 1));

    let batches = take_all(&lane);
    lane.received(Cursors { control: 0, data: batches[0].last_seq() }).unwrap();
    lane.received(Cursors { control: 0, data: seq }).unwrap();
    assert_eq!(lane.counts().data_bytes, 0);
    assert!(!queued(&lane.offer_data(QoS::AtMostOnce, frame(9, 400))).1, "it has caught up");
}

#[test]
fn a_suspect_gets_control_and_keeps_what_must_not_be_lost() {
    let lane = lane(1 << 20, 1 << 20);
    assert!(lane.set_suspect(true).is_none());
    assert!(matches!(lane.offer_data(QoS::AtMostOnce, frame(1, 8)), Offered::Dropped));
    assert_eq!(queued(&lane.offer_data(QoS::ExactlyOnce, frame(2, 8))).0, 1);
    assert!(matches!(lane.offer_control(frame(3, 8)), OfferedControl::Queued { .. }));
    let kinds: Vec<_> = take_all(&lane).iter().map(|batch| batch.kind).collect();
    assert_eq!(kinds, [StreamKind::Control]);
    assert!(lane.set_suspect(false).is_some(), "there is something to do for the sender");
    let kinds: Vec<_> = take_all(&lane).iter().map(|batch| batch.kind).collect();
    assert_eq!(kinds, [StreamKind::Data]);
}

/// What could be told later was told until the stream was cut, and all that could not went with it.
#[test]
fn what_can_be_told_later_gives_way_before_a_control_stream_is_cut() {
    let lane = lane(1 << 20, 100);
    let mut told = 0;
    while let Some(offered) = lane.offer_unless_behind(frame(told, 30)) {
        assert!(matches!(offered, OfferedControl::Queued { .. }));
        told += 1;
    }
    assert!(!lane.has_control_room());
    assert!(matches!(lane.offer_control(frame(told, 30)), OfferedControl::Queued { .. }));
    let counts = lane.counts();
    assert_eq!((counts.offered.control, counts.withheld, counts.cuts), (told + 1, 1, 0));
    assert_eq!(take_all(&lane).iter().map(|batch| u64::from(batch.count)).sum::<u64>(), told + 1);
    lane.received(Cursors { control: told + 1, data: 0 }).unwrap();
    assert!(lane.has_control_room());
    assert!(lane.offer_unless_behind(frame(0, 30)).is_some());
}

#[test]
fn a_control_stream_beyond_its_bound_is_cut_and_begins_anew() {
    let lane = lane(1 << 20, 100);
    let mut inbound = Inbound::default();
    let mut offered = 0;
    let broken = loop {
        let outcome = lane.offer_control(frame(offered, 30));
        let OfferedControl::Queued { seq, .. } = outcome else { break outcome };
        offered = seq;
    };
    assert!(matches!(broken, OfferedControl::Broken(_)));
    let taken = lane.take(usize::MAX, Waker::noop(), &mut VecDeque::new());
    assert_eq!(taken, Taken::Restart, "the connection that stands would see a gap");
    assert!(lane.rewind(Cursors::default()).is_err(), "a receiver that was not told");
    assert!(inbound.resume(lane.gone()));
    lane.rewind(inbound.received()).unwrap();
    assert!(matches!(lane.offer_control(frame(0, 8)), OfferedControl::Queued { .. }));
    let batches = take_all(&lane);
    assert_eq!(inbound.known(&batches[0]), Ok(0));
    assert_eq!(batches[0].first_seq, offered + 1);
    assert_eq!(lane.counts().cuts, 1);
}

#[test]
fn a_receiver_cannot_be_where_it_never_was() {
    let lane = lane(1 << 20, 1 << 20);
    let _ = queued(&lane.offer_data(QoS::AtMostOnce, frame(1, 8)));
    assert_eq!(take_all(&lane).len(), 1);
    assert!(lane.received(Cursors { control: 0, data: 2 }).is_err());
    assert!(lane.received(Cursors { control: 1, data: 0 }).is_err());
    lane.received(Cursors { control: 0, data: 1 }).unwrap();
    let forgetful = lane.rewind(Cursors::default()).unwrap_err();
    assert!(forgetful.to_string().contains("is at 0 of the Data stream"), "{forgetful}");
}

#[test]
fn a_closed_lane_takes_nothing_and_has_nothing() {
    let lane = lane(10, 1 << 20);
    let _ = queued(&lane.offer_data(QoS::AtMostOnce, frame(1, 80)));
    let _ = lane.close();
    assert!(matches!(lane.offer_data(QoS::AtLeastOnce, frame(1, 8)), Offered::Closed));
    assert!(matches!(lane.offer_control(frame(1, 8)), OfferedControl::Closed));
    assert_eq!(lane.take(usize::MAX, Waker::noop(), &mut VecDeque::new()), Taken::Closed);
    assert!(lane.is_flushed() && lane.is_closed());
}

#[test]
fn large_frames_have_batches_of_their_own() {
    let lane = lane(usize::MAX / 8, 1 << 20);
    let sizes = [10, 60_000, 250_000, 300_000, 10, 400_000, 5];
    for (number, size) in (1..).zip(sizes) {
        let _ = queued(&lane.offer_data(QoS::AtMostOnce, frame(number, size)));
    }
    let batches = take_all(&lane);
    assert_eq!(batches.iter().map(|batch| batch.count).sum::<u32>(), 7);
    for batch in &batches {
        assert!(batch.count == 1 || batch.frames_len() <= BATCH_BYTES_MAX, "{batch:?}");
        assert!(batch.frames().all(|frame| frame.is_ok()));
    }
}

/// What may happen between a lane and its receiver.
#[derive(Clone, Debug)]
enum Step {
    Offer {
        is_control: bool,
        len: usize,
    },
    Take(usize),
    /// So many of the batches on their way arrive.
    Arrive(usize),
    /// What the receiver says is heard.
    Hear,
    /// The connection breaks, and what is on its way is lost.
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 8_usize..30_000)
            .prop_map(|(is_control, len)| Step::Offer { is_control, len }),
        3 => (1_usize..200_000).prop_map(Step::Take),
        3 => (1_usize..4).prop_map(Step::Arrive),
        2 => Just(Step::Hear),
        1 => Just(Step::Break),
    ]
}

/// A receiver that checks that each frame comes once and in order.
#[derive(Default)]
struct Checker {
    inbound: Inbound,
}

impl Checker {
    fn receive(&mut self, bytes: Bytes) {
        let batch = batch_of(bytes);
        let known = self.inbound.known(&batch).unwrap();
        for raw in batch.frames().skip(usize::try_from(known).unwrap()) {
            self.inbound.advance(batch.kind, raw.unwrap().seq);
        }
    }
}

proptest! {
    #[test]
    fn every_frame_arrives_once_whatever_breaks(steps in vec(step(), 1..120)) {
        let lane = lane(usize::MAX / 8, usize::MAX);
        let mut checker = Checker::default();
        let mut wire = VecDeque::new();
        for step in steps {
            match step {
                Step::Offer { is_control: true, len } => {
                    let _ = lane.offer_control(frame(0, len));
                }
                Step::Offer { is_control: false, len } => {
                    let _ = queued(&lane.offer_data(QoS::AtLeastOnce, frame(0, len)));
                }
                Step::Take(bytes_max) => {
                    let _ = lane.take(bytes_max, Waker::noop(), &mut wire);
                }
                Step::Arrive(count) => {
                    let count = count.min(wire.len());
                    wire.drain(..count).for_each(|bytes| checker.receive(bytes));
                }
                Step::Hear => lane.received(checker.inbound.received())?,
                Step::Break => {
                    wire.clear();
                    lane.rewind(checker.inbound.received())?;
                }
            }
        }
        while lane.take(usize::MAX, Waker::noop(), &mut wire) == Taken::Batches {}
        wire.drain(..).for_each(|bytes| checker.receive(bytes));
        let counts = lane.counts();
        prop_assert_eq!(checker.inbound.received(), counts.offered);
        lane.received(counts.offered)?;
        prop_assert!(lane.is_flushed());
    }
}

#[test]
fn a_change_of_lane_sends_again_what_was_not_received_and_nothing_before_it() {
    let lane = lane(1 << 20, 1 << 20);
    for number in 1..=2 {
        let _queued = lane.offer_data(QoS::AtLeastOnce, frame(number, 100));
        assert_eq!(take_all(&lane).len(), 1);
    }
    lane.received(Cursors { control: 0, data: 1 }).unwrap();
    lane.carry_by_relay();
    assert!(take_all(&lane).is_empty(), "the link stands by");
    lane.rewind_relay(Cursors::default()).unwrap();
    let mut relayed = VecDeque::new();
    let taken = lane.take_relayed(usize::MAX, Streams::All, Waker::noop(), &mut relayed);
    assert_eq!(taken, Taken::Batches);
    assert_eq!(relayed.into_iter().map(|bytes| batch_of(bytes).first_seq).collect::<Vec<_>>(), [2]);
    // A link that comes back meanwhile was told of an older state, and stands by.
    lane.rewind(Cursors::default()).unwrap();
    assert!(take_all(&lane).is_empty());
    let _queued = lane.offer_data(QoS::AtLeastOnce, frame(3, 100));
    lane.received(Cursors { control: 0, data: 2 }).unwrap();
    let _nobody_stands_by = lane.carry_by_link();
    assert_eq!(take_all(&lane).iter().map(|batch| batch.first_seq).collect::<Vec<_>>(), [3]);
    assert_eq!(lane.carrier(), Carrier::Link);
}

#[test]
fn while_messages_wait_control_is_relayed() {
    let lane = lane(1 << 20, 1 << 20);
    lane.carry_by_relay();
    let _queued = lane.offer_data(QoS::AtLeastOnce, frame(1, 100));
    let _queued = lane.offer_control(frame(1, 10));
    let mut relayed = VecDeque::new();
    let mut take = || lane.take_relayed(usize::MAX, Streams::Control, Waker::noop(), &mut relayed);
    assert_eq!((take(), take()), (Taken::Batches, Taken::Nothing));
    let kinds: Vec<_> = relayed.into_iter().map(|bytes| batch_of(bytes).kind).collect();
    assert_eq!(kinds, [StreamKind::Control]);
}
