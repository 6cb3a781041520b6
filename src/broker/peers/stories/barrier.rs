//! A broker that takes long to learn of a filter, and what SUBACK does meanwhile.

use super::*;
use crate::broker::event::Event;
use crate::broker::options::{BrokerOptions, SUBACK_WAIT_MILLIS, SubackBarrier};
use crate::mqtt::Connect;
use crate::ports::clock::Tick;

/// A client whose SUBSCRIBE one of two other brokers is not told of.
fn waiting_for_one(suback_barrier: SubackBarrier) -> (Cluster, LineId) {
    let options = BrokerOptions { suback_barrier, ..BrokerOptions::default() };
    let mut cluster = Cluster::with_options(3, &options);
    let reader = open(&mut cluster, 0, "reader", 0);
    cluster.hold(0, 2);
    cluster.send(reader, &subscribe("t/+", at(QoS::AtLeastOnce)));
    cluster.pump();
    (cluster, reader)
}

/// What broker 0 has said of SUBACKs that take long: the filter, who is waited for, and whether it
/// was sent.
fn told_of_late(cluster: &mut Cluster) -> Vec<(String, Vec<String>, bool)> {
    let late = |event| {
        let Event::SubackLate { filter, brokers, is_sent, .. } = event else { return None };
        Some((filter, brokers.iter().map(ToString::to_string).collect(), is_sent))
    };
    cluster.take_events(0).into_iter().filter_map(late).collect()
}

fn unconfirmed(cluster: &Cluster) -> (u64, u64) {
    let totals = cluster.broker(0).counters().totals();
    (totals.subacks_late, totals.suback_unconfirmed)
}

#[test]
fn a_bounded_barrier_answers_after_half_a_second_and_says_so() {
    let (mut cluster, reader) = waiting_for_one(SubackBarrier::Bounded);
    cluster.elapse(SUBACK_WAIT_MILLIS - 1);
    cluster.pump();
    assert!(cluster.received(reader).is_empty(), "it may still be in time");
    assert!(cluster.is_due(reader, 1), "the connection has a turn when it is late");
    cluster.elapse(1);
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
    let told = ("t/+".to_owned(), vec!["broker-2".to_owned()], true);
    assert_eq!(told_of_late(&mut cluster), [told]);
    assert_eq!(unconfirmed(&cluster), (1, 1));
    assert_eq!(cluster.waiting_for_interest(0), 0, "nobody waits any more");
    // One that is in time is confirmed, and the late broker learns of both in the end.
    cluster.release(0, 2);
    cluster.pump();
    cluster.send(reader, &subscribe("u", at(QoS::AtLeastOnce)));
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
    assert_eq!(unconfirmed(&cluster), (1, 1));
    let writer = open(&mut cluster, 2, "writer", 0);
    cluster.send(writer, &publish("t/1", "late", QoS::AtLeastOnce, 1));
    cluster.pump();
    assert_eq!(payloads(&cluster.received(reader)), ["late"]);
}

#[test]
fn a_strict_barrier_waits_on_and_says_so_once() {
    let (mut cluster, reader) = waiting_for_one(SubackBarrier::Strict);
    for _ in 0..3 {
        cluster.elapse(SUBACK_WAIT_MILLIS);
        cluster.pump();
    }
    assert!(cluster.received(reader).is_empty());
    let told = ("t/+".to_owned(), vec!["broker-2".to_owned()], false);
    assert_eq!(told_of_late(&mut cluster), [told]);
    assert_eq!(unconfirmed(&cluster), (1, 0));
    cluster.release(0, 2);
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
}

/// Every broker knew the filter, and ours was not sure that it was alive: the connection had a turn after
/// the other, for nothing.
#[test]
fn a_suback_that_waits_for_the_lease_is_not_late() {
    let mut cluster = Cluster::new(2);
    let reader = open(&mut cluster, 0, "reader", 0);
    cluster.broker(0).peers().unwrap().set_lease(Tick::ZERO);
    cluster.send(reader, &subscribe("t", at(QoS::AtLeastOnce)));
    cluster.pump();
    cluster.elapse(SUBACK_WAIT_MILLIS);
    cluster.pump();
    assert!(!cluster.is_due(reader, 1), "there is nothing to do yet");
    assert!(told_of_late(&mut cluster).is_empty() && cluster.received(reader).is_empty());
    cluster.broker(0).peers().unwrap().set_lease(Tick::from_millis(u64::MAX));
    cluster.pump();
    assert!(matches!(&cluster.received(reader)[..], [Packet::Suback(_)]));
}

/// While a broker was behind a client could queue as many SUBSCRIBEs as it liked.
#[test]
fn a_client_whose_subscribes_wait_is_not_read_on() {
    let (mut cluster, reader) = waiting_for_one(SubackBarrier::Strict);
    for number in 1..64 {
        assert!(cluster.is_read(reader), "{number} wait");
        cluster.send(reader, &subscribe(&format!("u/{number}"), at(QoS::AtLeastOnce)));
    }
    assert!(!cluster.is_read(reader));
    assert_eq!(cluster.broker(0).counters().totals().reads_deferred_by_peers, 1);
    cluster.release(0, 2);
    cluster.pump();
    assert_eq!(cluster.received(reader).len(), 64);
    assert!(cluster.is_read(reader));
}

/// While a broker was behind a client that was not read on was let go after one and a half times its Keep
/// Alive, although it said PINGREQ all the time.
#[test]
fn a_client_that_is_not_read_on_is_not_silent() {
    let mut cluster = Cluster::new(3);
    let reader = cluster.connect(0, &Connect { keep_alive_secs: 1, ..connect("reader", 0) });
    cluster.pump();
    cluster.received(reader);
    cluster.hold(0, 2);
    let mut number = 0;
    while cluster.is_read(reader) {
        number += 1;
        cluster.send(reader, &subscribe(&format!("t/{number}"), at(QoS::AtLeastOnce)));
    }
    for _ in 0..3 {
        assert!(cluster.is_due(reader, 1_500));
        cluster.elapse(1_500);
        cluster.pump();
    }
    assert_eq!(cluster.received(reader), [], "it is neither answered nor let go");
    cluster.release(0, 2);
    cluster.pump();
    assert_eq!(cluster.received(reader).len(), number);
    assert!(cluster.is_read(reader));
    // What it had said is heard in the turn in which it is read again. From then on it may be silent.
    cluster.elapse(1_499);
    assert_eq!(cluster.received(reader), []);
    cluster.elapse(1);
    let farewell = cluster.received(reader);
    assert!(matches!(&farewell[..], [Packet::Disconnect(_)]), "{farewell:?}");
}

/// Who subscribed and came again, over and over, left a waker each time.
#[test]
fn who_is_gone_waits_for_nobody() {
    let (mut cluster, mut reader) = waiting_for_one(SubackBarrier::Strict);
    for _ in 0..3 {
        assert_eq!(cluster.waiting_for_interest(0), 1);
        cluster.lose(reader);
        assert_eq!(cluster.waiting_for_interest(0), 0);
        reader = open(&mut cluster, 0, "reader", 0);
        cluster.send(reader, &subscribe("t/+", at(QoS::AtLeastOnce)));
        cluster.pump();
    }
}
