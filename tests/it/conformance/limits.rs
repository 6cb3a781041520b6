//! Maximum Packet Size, both ways, and the longest topics.

use super::{Outcome, Stage, ensure, prop, scripts, skipped};

scripts! {
    both: [longest_topic_name_is_accepted],
    v4: [],
    v5: [
        messages_too_large_are_not_sent,
        message_of_just_the_maximum_is_sent,
        undeliverable_message_counts_as_delivered,
        packets_beyond_the_servers_maximum_are_refused,
    ],
}

/// 65,535 bytes of UTF-8, as name and as filter.
///
/// [v4:MQTT-4.7.3-3] [v5:MQTT-4.7.3-3]
fn longest_topic_name_is_accepted(s: &Stage) -> Outcome {
    let mut topic = s.topic("");
    topic.push_str(&"x".repeat(65_535 - topic.len()));
    let mut client = s.client("a")?;
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "x", 1)?;
    client.receive(&topic, "x", 1)?;
    client.quiet()
}

/// [v5:MQTT-3.1.2-24] [v5:MQTT-3.1.2-25]
fn messages_too_large_are_not_sent(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let property = prop::four(prop::MAXIMUM_PACKET_SIZE, 200);
    let mut client = s.enter(&s.connect("a").with(&property))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = s.client("publisher")?;
    for qos in 0..3 {
        publisher.publish(&topic, &"x".repeat(300), qos)?;
        publisher.publish(&topic, "small", qos)?;
        client.receive(&topic, "small", qos)?;
    }
    client.quiet()
}

/// The limit is the size of the whole packet; one byte more is too much.
///
/// [v5:MQTT-3.1.2-24] [v5:MQTT-3.1.2-25]
fn message_of_just_the_maximum_is_sent(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let property = prop::four(prop::MAXIMUM_PACKET_SIZE, 120);
    let mut client = s.enter(&s.connect("a").with(&property))?;
    client.subscribe(&topic, 0)?;
    let room = 120 - s.message(&topic, "").bytes().len();
    let mut publisher = s.client("publisher")?;
    publisher.publish(&topic, &"x".repeat(room + 1), 0)?;
    publisher.publish(&topic, &"y".repeat(room), 0)?;
    let message = client.message()?;
    ensure!(message.text() == "y".repeat(room), "got {}", message.shown());
    Ok(())
}

/// With a Receive Maximum of 1, a discarded message must not take the only place.
///
/// [v5:MQTT-3.1.2-25] [v5:MQTT-3.3.4-9]
fn undeliverable_message_counts_as_delivered(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let properties =
        [prop::four(prop::MAXIMUM_PACKET_SIZE, 200), prop::two(prop::RECEIVE_MAXIMUM, 1)].concat();
    let connect = s.connect("a").kept().with(&properties);
    let mut client = s.enter(&connect)?;
    client.subscribe(&topic, 1)?;
    client.leave()?;
    let mut publisher = s.client("publisher")?;
    for payload in ["one", &"x".repeat(300), "two", &"y".repeat(300), "three"] {
        publisher.publish(&topic, payload, 1)?;
    }
    let mut client = s.enter(&connect)?;
    for payload in ["one", "two", "three"] {
        client.receive(&topic, payload, 1)?;
    }
    client.ping()
}

/// [v5:MQTT-3.2.2-15] [v5:MQTT-4.13.1-1]
fn packets_beyond_the_servers_maximum_are_refused(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let Some(maximum) = client.connack.properties.number(prop::MAXIMUM_PACKET_SIZE) else {
        return skipped("the server announced no Maximum Packet Size");
    };
    if maximum > 4 << 20 {
        return skipped(format!("the server takes {maximum} bytes"));
    }
    let topic = s.topic("t");
    let mut payload = vec![b'x'; maximum as usize];
    while s.message(&topic, &payload).bytes().len() > maximum as usize {
        payload.pop();
    }
    client.send(&s.message(&topic, &payload).bytes());
    client.ping()?;
    payload.push(b'x');
    client.send(&s.message(&topic, &payload).bytes());
    client.refused(&[0x95]).map(drop)
}
