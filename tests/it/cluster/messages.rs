//! A publish on one broker reaches the subscribers of all.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use mqttzoo::mqtt::QoS;

use super::ClusterUnderTest;
use super::checker::{Key, Receiver};
use super::on_all::{NAMES, check_thousands, subscribe_on_all};
use crate::conformance::{Publish, Version, ack, kind};

/// What the original lost 82 to 89 of: two publishers on two brokers, 200 messages each that are all
/// on their way at once.
#[test]
fn two_publishers_on_two_brokers_reach_all_three_subscribers_with_400_of_400() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let receivers = subscribe_on_all(&cluster, QoS::AtMostOnce);
    let at_once = Arc::new(Barrier::new(2));
    let publishers = [1_u32, 2].map(|id| {
        let mut client = cluster.client(id as usize, "publisher");
        let (checker, at_once) = (cluster.checker().clone(), Arc::clone(&at_once));
        thread::spawn(move || {
            let topic = format!("load/{id}");
            let keys = (1..=200).map(|number| Key { publisher: id, number });
            let bytes: Vec<u8> = keys
                .clone()
                .flat_map(|key| Publish::new(Version::V5, &topic, key.payload()).bytes())
                .collect();
            let qos = QoS::AtMostOnce;
            keys.clone().for_each(|key| checker.with(|books| books.note_sent(key, &topic, qos)));
            at_once.wait();
            client.send(&bytes);
            client.ping().unwrap();
            keys.for_each(|key| checker.with(|books| books.note_acknowledged(key)));
        })
    });
    for publisher in publishers {
        publisher.join().unwrap();
    }
    cluster.settle();
    for (receiver, name) in receivers.iter().zip(NAMES) {
        let got = cluster.checker().with(|books| books.received(Receiver::Client(name)));
        assert_eq!((got, receiver.received()), (400, 400), "{name}");
    }
}

#[test]
fn two_publishers_lose_none_of_2000_each_at_qos_1() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    check_thousands(&cluster, QoS::AtLeastOnce);
}

#[test]
fn two_publishers_lose_and_double_none_of_2000_each_at_qos_2() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    check_thousands(&cluster, QoS::ExactlyOnce);
}

/// The promise of SUBACK: whoever has it gets what is published from then on, wherever that is.
#[test]
fn what_is_published_after_a_suback_arrives_from_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut subscriber = cluster.client(1, "subscriber");
    let mut publishers = [2, 3].map(|broker| cluster.client(broker, "publisher"));
    for round in 0..100 {
        for (index, publisher) in publishers.iter_mut().enumerate() {
            let topic = format!("fresh/{round}/{index}");
            let qos = u8::from(round % 2 == 0);
            subscriber.subscribe(&topic, qos).unwrap();
            publisher.publish(&topic, "at once", qos).unwrap();
            subscriber.receive(&topic, "at once", qos).unwrap();
        }
    }
}

/// The same for filters that others have too: the second to ask waits for the first one's barrier.
#[test]
fn a_second_subscriber_to_a_new_filter_waits_for_the_same_barrier() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let at_once = Arc::new(Barrier::new(2));
    let subscribers = [1, 2].map(|name| {
        let mut subscriber = cluster.client(1, &format!("subscriber{name}"));
        let mut publisher = cluster.client(2, &format!("publisher{name}"));
        let at_once = Arc::clone(&at_once);
        thread::spawn(move || {
            for round in 0..50 {
                at_once.wait();
                subscriber.subscribe(&format!("fresh/{round}/+"), 0).unwrap();
                let topic = format!("fresh/{round}/{name}");
                publisher.publish(&topic, "at once", 0).unwrap();
                while subscriber.message().unwrap().topic != topic.as_bytes() {}
            }
        })
    });
    for subscriber in subscribers {
        subscriber.join().unwrap();
    }
}

/// Publishes with QoS 1 until the answer is this Reason Code.
#[track_caller]
fn publish_until(client: &mut crate::conformance::Client, topic: &str, wanted: u8) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let id = client.fresh_id();
        client.send(&Publish::new(Version::V5, topic, "is anybody there?").qos(1, id).bytes());
        let code = client.expect_ack(kind::PUBACK, id).unwrap().code;
        if code == wanted {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "it stays at {code:#04x}");
    }
}

/// 0x10 is the answer of a broker that knows nobody in the whole cluster who wants it.
#[test]
fn unsubscribe_and_disconnect_withdraw_interest() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut subscriber = cluster.client(1, "subscriber");
    let mut leaver = cluster.client(1, "leaver");
    let mut publisher = cluster.client(2, "publisher");
    subscriber.subscribe("a", 1).unwrap();
    subscriber.subscribe("b/+", 1).unwrap();
    leaver.subscribe("c", 1).unwrap();
    for topic in ["a", "b/x", "c"] {
        publish_until(&mut publisher, topic, 0);
    }
    for topic in ["a", "b/x"] {
        subscriber.receive(topic, "is anybody there?", 1).unwrap();
    }
    subscriber.unsubscribe(&["a"]).unwrap();
    leaver.leave().unwrap();
    publish_until(&mut publisher, "a", 0x10);
    publish_until(&mut publisher, "c", 0x10);
    // What is still wanted is untouched, and nothing else has come before it.
    publish_until(&mut publisher, "b/x", 0);
    subscriber.receive("b/x", "is anybody there?", 1).unwrap();
    subscriber.quiet().unwrap();
}

/// Two clients want the same; one of them leaves, the other one still has it.
#[test]
fn interest_lasts_as_long_as_one_client_has_it() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut first = cluster.client(1, "first");
    let mut second = cluster.client(1, "second");
    let mut publisher = cluster.client(2, "publisher");
    first.subscribe("t", 1).unwrap();
    second.subscribe("t", 0).unwrap();
    publisher.publish("t", "to both", 1).unwrap();
    first.receive("t", "to both", 1).unwrap();
    second.receive("t", "to both", 0).unwrap();
    first.leave().unwrap();
    publisher.publish("t", "to one", 1).unwrap();
    second.receive("t", "to one", 0).unwrap();
    drop(second);
    publish_until(&mut publisher, "t", 0x10);
}

/// Acknowledgements leave in the order of their messages, although some wait for another broker and
/// some for nobody [MQTT-4.6.0-2].
#[test]
fn acknowledgements_keep_the_order_of_their_messages() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut near = cluster.client(1, "near");
    let mut far = cluster.client(2, "far");
    near.subscribe("near", 1).unwrap();
    far.subscribe("far", 1).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    let topics = ["far", "near", "nobody", "far", "near"];
    let ids: Vec<u16> = (0..200).map(|_| publisher.fresh_id()).collect();
    let message = |(index, id): (usize, &u16)| {
        let topic = topics[index % topics.len()];
        Publish::new(Version::V5, topic, index.to_string()).qos(1, *id).bytes()
    };
    let bytes: Vec<u8> = ids.iter().enumerate().flat_map(message).collect();
    publisher.send(&bytes);
    for id in ids {
        publisher.expect_ack(kind::PUBACK, id).unwrap();
    }
    for (subscriber, topic) in [(&mut near, "near"), (&mut far, "far")] {
        for index in (0..200).filter(|index| topics[index % topics.len()] == topic) {
            subscriber.receive(topic, &index.to_string(), 1).unwrap();
        }
        subscriber.quiet().unwrap();
    }
}

/// QoS 2 from end to end over a link: one PUBREC, one message, also when PUBLISH comes twice.
#[test]
fn qos_2_is_delivered_once_although_it_is_sent_twice() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut subscriber = cluster.client(2, "subscriber");
    subscriber.subscribe("t", 2).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    let message = Publish::new(Version::V5, "t", "once").qos(2, 7);
    publisher.send(&[message.bytes(), message.clone().dup().bytes()].concat());
    publisher.expect_ack(kind::PUBREC, 7).unwrap();
    publisher.expect_ack(kind::PUBREC, 7).unwrap();
    publisher.send(&ack(kind::PUBREL, 7));
    publisher.expect_ack(kind::PUBCOMP, 7).unwrap();
    publisher.publish("t", "behind it", 2).unwrap();
    subscriber.receive("t", "once", 2).unwrap();
    subscriber.receive("t", "behind it", 2).unwrap();
    subscriber.quiet().unwrap();
}

/// A payload as large as a packet may be, and one of nothing.
#[test]
fn payloads_of_any_size_cross() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut subscriber = cluster.client(2, "subscriber");
    subscriber.subscribe("t", 1).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    for size in [0, 1, 127, 128, 4_095, 65_535, 65_536, 300_000, 1_000_000, 3] {
        let payload = "x".repeat(size);
        publisher.publish("t", &payload, 1).unwrap();
        subscriber.receive("t", &payload, 1).unwrap();
    }
}
