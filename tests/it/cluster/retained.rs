//! Retained messages are the same on every broker.

use std::sync::{Arc, Barrier};
use std::thread;

use super::late::{self, first_messages, texts};
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Publish, Version, prop};

/// Subscribes and returns the retained messages that come with it.
#[track_caller]
fn retained(client: &mut Client, filter: &str) -> Vec<(String, String)> {
    let messages = first_messages(client, filter);
    for message in &messages {
        assert!(message.retain, "{}", message.shown());
    }
    texts(&messages)
}

/// Asks until the retained messages are these: for what no answer promises.
#[track_caller]
fn wait_for_retained(client: &mut Client, filter: &str, expected: &[(&str, &str)]) {
    late::wait_for(|| retained(client, filter), expected);
}

/// PUBACK of a retained message says that every broker has it.
#[test]
fn a_retained_message_is_there_for_subscribers_on_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let mut readers = [1, 2, 3].map(|broker| cluster.client(broker, "reader"));
    for round in 0..20 {
        let text = format!("value {round}");
        publisher.retain("r/x", &text).unwrap();
        for reader in &mut readers {
            assert_eq!(retained(reader, "r/#"), [("r/x".to_owned(), text.clone())]);
        }
    }
    let large = "x".repeat(100_000);
    publisher.retain("r/large", &large).unwrap();
    for reader in &mut readers {
        assert_eq!(retained(reader, "r/large"), [("r/large".to_owned(), large.clone())]);
    }
}

#[test]
fn a_deleted_message_is_gone_from_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let mut publishers = [1, 2, 3].map(|broker| cluster.client(broker, "publisher"));
    let mut readers = [1, 2, 3].map(|broker| cluster.client(broker, "reader"));
    for deleter in 0..3 {
        publishers[0].retain("r", "there").unwrap();
        publishers[deleter].retain("r", "").unwrap();
        for reader in &mut readers {
            assert_eq!(retained(reader, "r"), []);
        }
    }
}

/// Properties and QoS are kept, and what is left of the expiry.
#[test]
fn a_retained_message_keeps_its_properties() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let id = publisher.fresh_id();
    let message = Publish::new(Version::V5, "r", "kept")
        .qos(1, id)
        .retained()
        .with(&prop::four(prop::MESSAGE_EXPIRY, 100))
        .with(&prop::text(prop::CONTENT_TYPE, "text/plain"))
        .with(&prop::user("b", "1"))
        .with(&prop::user("a", "2"));
    publisher.complete(&message).unwrap();
    let mut reader = cluster.client(2, "reader");
    reader.subscribe("r", 2).unwrap();
    let got = reader.receive("r", "kept", 1).unwrap();
    assert!(got.retain);
    assert_eq!(got.properties.string(prop::CONTENT_TYPE).as_deref(), Some("text/plain"));
    let users = [prop::user("b", "1"), prop::user("a", "2")];
    assert_eq!(got.properties.all(prop::USER_PROPERTY), users);
    let left = got.properties.number(prop::MESSAGE_EXPIRY);
    assert!(left.is_some_and(|left| (90..=100).contains(&left)), "{left:?}");
}

/// One that has expired is gone everywhere, and no broker brings it back.
#[test]
fn an_expired_message_is_gone_from_every_broker() {
    let Some(cluster) = ClusterUnderTest::start(2) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let id = publisher.fresh_id();
    let message = Publish::new(Version::V5, "r", "short").qos(1, id).retained();
    publisher.complete(&message.with(&prop::four(prop::MESSAGE_EXPIRY, 1))).unwrap();
    for broker in [1, 2] {
        wait_for_retained(&mut cluster.client(broker, "reader"), "r", &[]);
    }
}

/// Two brokers are told different values at once: all agree on one of the two.
#[test]
fn writers_on_two_brokers_leave_one_value_everywhere() {
    let Some(cluster) = ClusterUnderTest::start(3) else { return };
    let at_once = Arc::new(Barrier::new(2));
    let writers = [1, 2].map(|broker| {
        let mut client = cluster.client(broker, "writer");
        let at_once = Arc::clone(&at_once);
        thread::spawn(move || {
            for round in 0..50 {
                at_once.wait();
                let topic = format!("r/{round:02}");
                client.retain(&topic, &format!("of {broker}")).unwrap();
            }
        })
    });
    for writer in writers {
        writer.join().unwrap();
    }
    let found = [1, 2, 3].map(|broker| retained(&mut cluster.client(broker, "reader"), "r/#"));
    assert_eq!(found[0].len(), 50);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}

/// A broker that joined took what was retained before it knew the time of the cluster: what should
/// expire had ages to live.
#[test]
fn a_newcomer_knows_at_once_when_messages_expire() {
    let Some(mut cluster) = ClusterUnderTest::start(1) else { return };
    let mut publisher = cluster.client(1, "publisher");
    let id = publisher.fresh_id();
    let message = Publish::new(Version::V5, "r", "kept").qos(1, id).retained();
    publisher.complete(&message.with(&prop::four(prop::MESSAGE_EXPIRY, 100))).unwrap();
    for newcomer in 2..=5 {
        cluster.add(1);
        let mut reader = cluster.client(newcomer, "reader");
        reader.subscribe("r", 1).unwrap();
        let got = reader.receive("r", "kept", 1).unwrap();
        let left = got.properties.number(prop::MESSAGE_EXPIRY);
        assert!(left.is_some_and(|left| (70..=100).contains(&left)), "{left:?}");
    }
}

/// A fourth broker that comes later knows what is retained, what its peers' clients want, and what
/// was deleted before it came.
#[test]
fn a_broker_that_comes_later_has_everything() {
    let Some(mut cluster) = ClusterUnderTest::start(3) else { return };
    let mut subscribers = [1, 2, 3].map(|broker| {
        let mut client = cluster.client(broker, "subscriber");
        client.subscribe("news/+", 1).unwrap();
        client
    });
    let mut publisher = cluster.client(1, "publisher");
    for number in 0..200 {
        publisher.retain(&format!("r/{number:03}"), &number.to_string()).unwrap();
    }
    for number in (0..200).filter(|number| number % 2 == 0) {
        publisher.retain(&format!("r/{number:03}"), "").unwrap();
    }
    cluster.add(1);
    let expected: Vec<_> = (0..200)
        .filter(|number| number % 2 == 1)
        .map(|number| (format!("r/{number:03}"), number.to_string()))
        .collect();
    assert_eq!(retained(&mut cluster.client(4, "reader"), "r/#"), expected);

    let mut newcomer = cluster.client(4, "publisher");
    newcomer.publish("news/here", "from the fourth", 1).unwrap();
    for subscriber in &mut subscribers {
        subscriber.receive("news/here", "from the fourth", 1).unwrap();
    }
    // And the others reach its clients.
    let mut subscriber = cluster.client(4, "subscriber");
    subscriber.subscribe("news/+", 1).unwrap();
    publisher.publish("news/there", "from the first", 1).unwrap();
    subscriber.receive("news/there", "from the first", 1).unwrap();
    newcomer.retain("r/000", "again").unwrap();
    let found = retained(&mut cluster.client(2, "reader"), "r/000");
    assert_eq!(found, [("r/000".to_owned(), "again".to_owned())]);
}

/// A broker that comes back after a crash, in memory nothing, learns what is retained from the others.
#[test]
fn a_broker_that_was_killed_comes_back_with_what_is_retained() {
    let Some(mut cluster) = ClusterUnderTest::start_as(Plan::mortal(2)) else { return };
    let mut publisher = cluster.client(1, "publisher");
    publisher.retain("r", "before").unwrap();
    cluster.kill(2);
    publisher.retain("r", "meanwhile").unwrap();
    cluster.restart(2);
    let found = retained(&mut cluster.client(2, "reader"), "r");
    assert_eq!(found, [("r".to_owned(), "meanwhile".to_owned())]);
}
