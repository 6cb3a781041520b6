//! Retained messages (chapter 3.3.1.3) and the subscription options that govern them.

use super::{Outcome, Stage, ensure, scripts};

scripts! {
    both: [
        retained_message_goes_to_new_subscribers,
        the_last_retained_message_counts,
        retained_message_keeps_its_qos,
        established_subscription_gets_retain_0,
        qos_0_replaces_what_was_retained,
        empty_payload_deletes_and_is_delivered,
        empty_payload_is_not_retained,
        not_retained_leaves_the_retained_alone,
        retained_messages_outlive_sessions,
        every_matching_topic_is_sent,
        subscribing_again_sends_them_again,
    ],
    v4: [],
    v5: [
        retain_handling_0_sends_always,
        retain_handling_1_sends_to_new_subscriptions,
        retain_handling_2_sends_nothing,
        retain_as_published_0_clears_retain,
        retain_as_published_1_keeps_retain,
    ],
}

/// [v4:MQTT-3.3.1-5] [v4:MQTT-3.3.1-6] [v4:MQTT-3.3.1-8] [v5:MQTT-3.3.1-5] [v5:MQTT-3.3.1-9]
fn retained_message_goes_to_new_subscribers(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    s.client("publisher")?.retain(&topic, "kept")?;
    for filter in [&topic, &s.topic("+"), &s.topic("#")] {
        let mut subscriber = s.client("subscriber")?;
        subscriber.subscribe(filter, 0)?;
        let message = subscriber.receive(&topic, "kept", 0)?;
        ensure!(message.retain, "RETAIN is 0 although the subscription is new");
        subscriber.quiet()?;
    }
    Ok(())
}

/// [v4:MQTT-3.3.1-6] [v4:MQTT-3.3.1-5] [v5:MQTT-3.3.1-5]
fn the_last_retained_message_counts(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut publisher = s.client("publisher")?;
    for payload in ["one", "two", "three"] {
        publisher.retain(&topic, payload)?;
    }
    publisher.subscribe(&topic, 0)?;
    publisher.receive(&topic, "three", 0)?;
    publisher.quiet()
}

/// [v4:MQTT-3.3.1-5] [v5:MQTT-3.3.1-5] [v5:MQTT-3.8.4-8]
fn retained_message_keeps_its_qos(s: &Stage) -> Outcome {
    let mut publisher = s.client("publisher")?;
    for qos in 0..3 {
        let topic = s.topic(&format!("qos{qos}"));
        publisher.complete(&s.message(&topic, "x").qos(qos, 9).retained())?;
        publisher.ping()?;
        let mut subscriber = s.client("subscriber")?;
        subscriber.subscribe(&topic, 2)?;
        subscriber.receive(&topic, "x", qos)?;
    }
    Ok(())
}

/// [v4:MQTT-3.3.1-9] [v5:MQTT-3.3.1-12]
fn established_subscription_gets_retain_0(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 1)?;
    client.retain(&topic, "x")?;
    let message = client.receive(&topic, "x", 1)?;
    ensure!(!message.retain, "RETAIN is 1 although the subscription stood");
    Ok(())
}

/// The QoS 0 message may be kept or not; the older one may not.
///
/// [v4:MQTT-3.3.1-7] [v5:MQTT-3.3.1-5]
fn qos_0_replaces_what_was_retained(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut publisher = s.client("publisher")?;
    publisher.retain(&topic, "old")?;
    publisher.complete(&s.message(&topic, "new").retained())?;
    publisher.ping()?;
    let barrier = s.topic("barrier");
    publisher.subscribe(&topic, 0)?;
    publisher.subscribe(&barrier, 0)?;
    publisher.publish(&barrier, "barrier", 0)?;
    let message = publisher.message()?;
    ensure!(["new", "barrier"].contains(&&*message.text()), "got {}", message.shown());
    Ok(())
}

/// [v4:MQTT-3.3.1-10] [v5:MQTT-3.3.1-6]
fn empty_payload_deletes_and_is_delivered(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let mut publisher = s.client("publisher")?;
    publisher.retain(&topic, "kept")?;
    publisher.retain(&topic, "")?;
    watcher.receive(&topic, "kept", 0)?;
    let message = watcher.receive(&topic, "", 0)?;
    ensure!(!message.retain, "RETAIN is 1 although the subscription stood");
    publisher.subscribe(&topic, 0)?;
    publisher.quiet()
}

/// [v4:MQTT-3.3.1-11] [v5:MQTT-3.3.1-7]
fn empty_payload_is_not_retained(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.retain(&topic, "")?;
    client.complete(&s.message(&topic, "").retained())?;
    client.ping()?;
    client.subscribe(&topic, 0)?;
    client.quiet()
}

/// Neither a message nor an empty one without RETAIN changes what is retained.
///
/// [v4:MQTT-3.3.1-12] [v5:MQTT-3.3.1-8]
fn not_retained_leaves_the_retained_alone(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.publish(&topic, "passing", 1)?;
    client.subscribe(&topic, 0)?;
    client.quiet()?;
    client.unsubscribe(&[&topic])?;
    client.retain(&topic, "kept")?;
    client.publish(&topic, "passing", 1)?;
    client.publish(&topic, "", 1)?;
    client.subscribe(&topic, 0)?;
    client.receive(&topic, "kept", 0)?;
    client.quiet()
}

/// [v4:MQTT-3.1.2-7] [v5:MQTT-3.3.1-5]
fn retained_messages_outlive_sessions(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut publisher = s.client("publisher")?;
    publisher.retain(&topic, "kept")?;
    publisher.leave()?;
    s.client("publisher")?.leave()?;
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 0)?;
    subscriber.receive(&topic, "kept", 0).map(drop)
}

/// [v4:MQTT-3.3.1-6] [v4:MQTT-3.3.1-8] [v5:MQTT-3.3.1-9]
fn every_matching_topic_is_sent(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let mut wanted = Vec::new();
    for name in ["a/1", "a/2", "a/3/x", "b/1"] {
        client.retain(&s.topic(name), name)?;
        wanted.push(name.to_owned());
    }
    client.subscribe(&s.topic("#"), 0)?;
    let mut got = Vec::new();
    for _ in 0..4 {
        let message = client.message()?;
        ensure!(message.retain, "RETAIN is 0 in {}", message.shown());
        got.push(message.text());
    }
    got.sort();
    ensure!(got == wanted, "got {got:?}");
    client.quiet()
}

/// [v4:MQTT-3.8.4-3] [v5:MQTT-3.8.4-4] [v5:MQTT-3.3.1-9]
fn subscribing_again_sends_them_again(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.retain(&topic, "kept")?;
    for qos in [0, 1, 0] {
        client.subscribe(&topic, qos)?;
        let message = client.receive(&topic, "kept", qos)?;
        ensure!(message.retain, "RETAIN is 0 in {}", message.shown());
    }
    client.quiet()
}

/// [v5:MQTT-3.3.1-9] [v5:MQTT-3.8.4-4]
fn retain_handling_0_sends_always(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.retain(&topic, "kept")?;
    for _ in 0..2 {
        client.subscribe(&topic, 0x00)?;
        client.receive(&topic, "kept", 0)?;
    }
    client.quiet()
}

/// [v5:MQTT-3.3.1-10]
fn retain_handling_1_sends_to_new_subscriptions(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.retain(&topic, "kept")?;
    client.subscribe(&topic, 0x10)?;
    client.receive(&topic, "kept", 0)?;
    client.subscribe(&topic, 0x10)?;
    client.quiet()?;
    client.unsubscribe(&[&topic])?;
    client.subscribe(&topic, 0x10)?;
    client.receive(&topic, "kept", 0)?;
    client.quiet()
}

/// [v5:MQTT-3.3.1-11]
fn retain_handling_2_sends_nothing(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.retain(&topic, "kept")?;
    client.subscribe(&topic, 0x20)?;
    client.quiet()?;
    client.publish(&topic, "live", 0)?;
    client.receive(&topic, "live", 0).map(drop)
}

/// [v5:MQTT-3.3.1-12]
fn retain_as_published_0_clears_retain(s: &Stage) -> Outcome {
    passes_retain_as(s, 0x00, [false, false])
}

/// [v5:MQTT-3.3.1-13]
fn retain_as_published_1_keeps_retain(s: &Stage) -> Outcome {
    passes_retain_as(s, 0x08, [false, true])
}

fn passes_retain_as(s: &Stage, options: u8, wanted: [bool; 2]) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, options)?;
    for (retain, wanted) in [false, true].into_iter().zip(wanted) {
        client.complete(&super::Publish { retain, ..s.message(&topic, "x") })?;
        let message = client.receive(&topic, "x", 0)?;
        ensure!(message.retain == wanted, "published {retain}, delivered {}", message.retain);
    }
    Ok(())
}
