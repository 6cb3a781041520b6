//! Message Expiry Interval (chapter 3.3.2.3.3).

use std::time::Duration;

use super::{Client, Outcome, Publish, Stage, ack, ensure, kind, prop, scripts};

scripts! {
    both: [],
    v4: [],
    v5: [
        expired_messages_are_deleted_and_the_rest_counts_down,
        expired_retained_messages_are_deleted,
        delivery_begun_does_not_expire,
        pubrel_does_not_expire,
        qos_2_handshake_with_a_publisher_does_not_expire,
    ],
}

fn expiring(s: &Stage, topic: &str, payload: &str, seconds: u32) -> Publish {
    s.message(topic, payload).with(&prop::four(prop::MESSAGE_EXPIRY, seconds))
}

fn subscriber(s: &Stage, topic: &str) -> Outcome<Client> {
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(topic, 2)?;
    Ok(client)
}

/// [v5:MQTT-3.3.2-5] [v5:MQTT-3.3.2-6]
fn expired_messages_are_deleted_and_the_rest_counts_down(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    subscriber(s, &topic)?.leave()?;
    let mut publisher = s.client("publisher")?;
    publisher.complete(&expiring(s, &topic, "short", 1).qos(1, 1))?;
    publisher.complete(&expiring(s, &topic, "long", 100).qos(1, 2))?;
    publisher.complete(&s.message(&topic, "ever").qos(1, 3))?;
    s.pass(Duration::from_millis(2200))?;
    let mut client = s.enter(&s.connect("a").kept())?;
    let long = client.receive(&topic, "long", 1)?;
    let left = long.properties.number(prop::MESSAGE_EXPIRY);
    ensure!(matches!(left, Some(90..=98)), "of 100 s, {left:?} are left after 2.2 s");
    let ever = client.receive(&topic, "ever", 1)?;
    ensure!(!ever.properties.has(prop::MESSAGE_EXPIRY), "got {ever:?}");
    client.quiet()
}

/// [v5:MQTT-3.3.2-5] [v5:MQTT-3.3.2-6]
fn expired_retained_messages_are_deleted(s: &Stage) -> Outcome {
    let (short, long) = (s.topic("short"), s.topic("long"));
    let mut client = s.client("a")?;
    client.complete(&expiring(s, &short, "x", 1).qos(1, 1).retained())?;
    client.complete(&expiring(s, &long, "x", 100).qos(1, 2).retained())?;
    s.pass(Duration::from_millis(2200))?;
    client.subscribe(&s.topic("+"), 0)?;
    let message = client.receive(&long, "x", 0)?;
    let left = message.properties.number(prop::MESSAGE_EXPIRY);
    ensure!(matches!(left, Some(90..=98)), "of 100 s, {left:?} are left after 2.2 s");
    client.quiet()
}

/// Once sent, a QoS 2 PUBLISH is sent again even when its time is over.
///
/// [v5:MQTT-4.3.3-7] [v5:MQTT-4.4.0-1]
fn delivery_begun_does_not_expire(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    s.client("publisher")?.complete(&expiring(s, &topic, "x", 1).qos(2, 1))?;
    let first = client.message()?;
    client.cut()?;
    s.pass(Duration::from_millis(2200))?;
    let mut client = s.enter(&s.connect("a").kept())?;
    let again = client.message()?;
    ensure!(again.id == first.id && again.dup, "first {first:?}, then {again:?}");
    client.settle(&again)?;
    client.quiet()
}

/// [v5:MQTT-4.3.3-7] [v5:MQTT-4.3.3-13]
fn pubrel_does_not_expire(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = subscriber(s, &topic)?;
    s.client("publisher")?.complete(&expiring(s, &topic, "x", 1).qos(2, 1))?;
    let message = client.message()?;
    s.pass(Duration::from_millis(2200))?;
    client.settle(&message)?;
    client.quiet()
}

/// PUBREC and PUBCOMP come although the message has expired in between.
///
/// [v5:MQTT-4.3.3-13]
fn qos_2_handshake_with_a_publisher_does_not_expire(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    let message = expiring(s, &topic, "x", 1).qos(2, 7);
    client.send(&message.bytes());
    client.expect_ack(kind::PUBREC, 7)?;
    s.pass(Duration::from_millis(2200))?;
    client.send(&message.dup().bytes());
    client.expect_ack(kind::PUBREC, 7)?;
    client.send(&ack(kind::PUBREL, 7));
    let code = client.expect_ack(kind::PUBCOMP, 7)?.code;
    ensure!(code == 0, "PUBCOMP carries {code:#04x}");
    Ok(())
}
