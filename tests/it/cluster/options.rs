//! What a message and a subscription say of themselves holds across brokers.

use super::ClusterUnderTest;
use crate::conformance::{Publish, Version, prop};

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;

#[test]
fn properties_of_a_message_cross_as_they_are() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut subscriber = cluster.client(2, "subscriber");
    subscriber.subscribe("t", 1).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    let id = publisher.fresh_id();
    let message = Publish::new(Version::V5, "t", "full")
        .qos(1, id)
        .with(&prop::byte(prop::PAYLOAD_FORMAT, 1))
        .with(&prop::four(prop::MESSAGE_EXPIRY, 1_000))
        .with(&prop::text(prop::CONTENT_TYPE, "text/plain"))
        .with(&prop::text(prop::RESPONSE_TOPIC, "answers/here"))
        .with(&prop::text(prop::CORRELATION_DATA, b"\x00\xFF"))
        .with(&prop::user("b", "1"))
        .with(&prop::user("a", "2"))
        .with(&prop::user("b", ""));
    publisher.complete(&message).unwrap();
    let got = subscriber.receive("t", "full", 1).unwrap().properties;
    assert_eq!(got.number(prop::PAYLOAD_FORMAT), Some(1));
    let left = got.number(prop::MESSAGE_EXPIRY);
    assert!(left.is_some_and(|left| (970..=1_000).contains(&left)), "{left:?}");
    assert_eq!(got.string(prop::CONTENT_TYPE).as_deref(), Some("text/plain"));
    assert_eq!(got.string(prop::RESPONSE_TOPIC).as_deref(), Some("answers/here"));
    assert_eq!(got.all(prop::CORRELATION_DATA), [prop::text(prop::CORRELATION_DATA, b"\x00\xFF")]);
    let users = [prop::user("b", "1"), prop::user("a", "2"), prop::user("b", "")];
    assert_eq!(got.all(prop::USER_PROPERTY), users);
    subscriber.quiet().unwrap();
}

/// A message of 3.1.1 for a client of 5.0, and the other way round.
#[test]
fn versions_mix_across_brokers() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    for (here, there) in [(Version::V4, Version::V5), (Version::V5, Version::V4)] {
        let mut subscriber = cluster.stage(2, here).client("subscriber").unwrap();
        subscriber.subscribe("t", 2).unwrap();
        let mut publisher = cluster.stage(1, there).client("publisher").unwrap();
        for qos in 0..=2 {
            publisher.publish("t", "mixed", qos).unwrap();
            subscriber.receive("t", "mixed", qos).unwrap();
        }
        subscriber.leave().unwrap();
    }
}

/// A message that waits at the subscriber's broker is counted down there, and dropped at its end.
#[test]
fn expiry_is_counted_down_where_a_message_waits() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let there = cluster.stage(2, Version::V5);
    let parked = there.connect("parked").kept();
    let mut subscriber = there.enter(&parked).unwrap();
    subscriber.subscribe("t", 1).unwrap();
    subscriber.leave().unwrap();
    let mut publisher = cluster.client(1, "publisher");
    for (payload, secs) in [("short", 1), ("long", 60)] {
        let id = publisher.fresh_id();
        let message = Publish::new(Version::V5, "t", payload).qos(1, id);
        publisher.complete(&message.with(&prop::four(prop::MESSAGE_EXPIRY, secs))).unwrap();
    }
    // Nothing but time ends a message.
    there.pass(std::time::Duration::from_millis(2_100)).unwrap();
    let mut subscriber = there.enter(&parked).unwrap();
    let left = subscriber.receive("t", "long", 1).unwrap().properties.number(prop::MESSAGE_EXPIRY);
    assert!(left.is_some_and(|left| (45..=58).contains(&left)), "{left:?}");
    subscriber.quiet().unwrap();
}

/// No Local is about the connection that published, wherever others of the same filter are.
#[test]
fn no_local_leaves_out_the_publisher_and_nobody_else() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut here = cluster.client(1, "here");
    let mut there = cluster.client(2, "there");
    for client in [&mut here, &mut there] {
        client.subscribe("t", 1 | NO_LOCAL).unwrap();
    }
    here.publish("t", "from here", 1).unwrap();
    there.receive("t", "from here", 1).unwrap();
    there.publish("t", "from there", 1).unwrap();
    here.receive("t", "from there", 1).unwrap();
    here.quiet().unwrap();
    there.quiet().unwrap();
}

#[test]
fn the_retain_flag_crosses_for_who_asked_to_see_it() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut curious = cluster.client(2, "curious");
    let mut plain = cluster.client(2, "plain");
    curious.subscribe("t", 1 | RETAIN_AS_PUBLISHED).unwrap();
    plain.subscribe("t", 1).unwrap();
    let mut publisher = cluster.client(1, "publisher");
    publisher.retain("t", "kept").unwrap();
    publisher.publish("t", "passing", 1).unwrap();
    for (client, shown) in [(&mut curious, true), (&mut plain, false)] {
        assert_eq!(client.receive("t", "kept", 1).unwrap().retain, shown);
        assert!(!client.receive("t", "passing", 1).unwrap().retain);
        client.quiet().unwrap();
    }
}

/// Each broker adds the identifiers of its own clients' subscriptions.
#[test]
fn subscription_identifiers_are_those_of_the_receiver() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut subscribers = [1, 2, 3].map(|broker| {
        let mut client = cluster.client(broker, "subscriber");
        let number = u32::try_from(broker).unwrap() * 100;
        client.subscribe_with(&prop::subscription_id(number), "t/+", 1).unwrap();
        client.subscribe_with(&prop::subscription_id(number + 1), "t/#", 0).unwrap();
        (client, number)
    });
    let mut publisher = cluster.client(1, "publisher");
    publisher.publish("t/x", "numbered", 1).unwrap();
    publisher.publish("t", "numbered once", 1).unwrap();
    for (client, number) in &mut subscribers {
        let mut ids = Vec::new();
        // One message with both identifiers, or one for each subscription [MQTT-3.3.4-5].
        while ids.len() < 2 {
            let message = client.message().unwrap();
            assert_eq!(message.text(), "numbered");
            client.settle(&message).unwrap();
            ids.extend(message.properties.all(prop::SUBSCRIPTION_ID).iter().map(|id| id.to_vec()));
        }
        ids.sort();
        assert_eq!(ids, [prop::subscription_id(*number), prop::subscription_id(*number + 1)]);
        let once = client.message().unwrap();
        assert_eq!(once.text(), "numbered once");
        let ids = once.properties.all(prop::SUBSCRIPTION_ID);
        assert_eq!(ids, [prop::subscription_id(*number + 1)]);
        client.quiet().unwrap();
    }
}

/// A subscription's QoS is the most its client gets, whatever others on its broker asked for.
#[test]
fn qos_is_lowered_for_each_receiver() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut subscribers = [0, 1, 2].map(|qos| {
        let mut client = cluster.client(2, &format!("subscriber{qos}"));
        client.subscribe("t", qos).unwrap();
        (client, qos)
    });
    let mut publisher = cluster.client(1, "publisher");
    for published in 0..=2 {
        publisher.publish("t", "lowered", published).unwrap();
        for (client, granted) in &mut subscribers {
            client.receive("t", "lowered", published.min(*granted)).unwrap();
        }
    }
}
