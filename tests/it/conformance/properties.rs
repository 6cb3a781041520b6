//! PUBLISH properties that pass through a server (chapter 3.3.2.3), and those that must not occur.

use super::{MALFORMED, Outcome, Stage, Will, ensure, kind, prop, scripts};

scripts! {
    both: [],
    v4: [],
    v5: [
        payload_format_indicator_passes_unaltered,
        response_topic_and_correlation_data_pass_unaltered,
        content_type_passes_unaltered,
        user_properties_pass_in_order,
        properties_pass_with_retained_messages,
        properties_pass_with_queued_messages,
        will_properties_are_published,
        response_topic_with_wildcards_ends_the_connection,
        duplicate_publish_properties_end_the_connection,
        properties_of_other_packets_end_the_connection,
        unreadable_property_blocks_end_the_connection,
        acknowledgement_properties_are_understood,
    ],
}

/// Publishes with this property at each QoS; it must arrive, byte for byte, as the only one.
fn passes(s: &Stage, properties: &[Vec<u8>]) -> Outcome {
    let topic = s.topic("t");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 2)?;
    let mut publisher = s.client("publisher")?;
    for qos in 0..3 {
        let id = if qos > 0 { publisher.fresh_id() } else { 0 };
        let mut message = s.message(&topic, "x").qos(qos, id);
        message.properties.0.extend_from_slice(properties);
        publisher.complete(&message)?;
        same(&subscriber.receive(&topic, "x", qos)?.properties.0, properties)?;
    }
    Ok(())
}

/// The same properties, User Properties in the same order.
fn same(got: &[Vec<u8>], wanted: &[Vec<u8>]) -> Outcome {
    let split = |all: &[Vec<u8>]| {
        let (user, mut other): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|property| property[0] == prop::USER_PROPERTY);
        other.sort();
        (user, other)
    };
    ensure!(split(got) == split(wanted), "sent {wanted:02x?}, got {got:02x?}");
    Ok(())
}

/// [v5:MQTT-3.3.2-4]
fn payload_format_indicator_passes_unaltered(s: &Stage) -> Outcome {
    passes(s, &[prop::byte(prop::PAYLOAD_FORMAT, 1)])?;
    passes(s, &[prop::byte(prop::PAYLOAD_FORMAT, 0)])
}

/// [v5:MQTT-3.3.2-15] [v5:MQTT-3.3.2-16]
fn response_topic_and_correlation_data_pass_unaltered(s: &Stage) -> Outcome {
    passes(
        s,
        &[
            prop::text(prop::RESPONSE_TOPIC, "reply/\u{FEFF}to"),
            prop::text(prop::CORRELATION_DATA, b"\0\xFF\x80"),
        ],
    )?;
    passes(s, &[prop::text(prop::CORRELATION_DATA, b"")])
}

/// [v5:MQTT-3.3.2-20]
fn content_type_passes_unaltered(s: &Stage) -> Outcome {
    passes(s, &[prop::text(prop::CONTENT_TYPE, "text/plain; \u{20AC}")])?;
    passes(s, &[prop::text(prop::CONTENT_TYPE, "")])
}

/// [v5:MQTT-3.3.2-17] [v5:MQTT-3.3.2-18]
fn user_properties_pass_in_order(s: &Stage) -> Outcome {
    passes(
        s,
        &[
            prop::user("z", "1"),
            prop::user("a", "2"),
            prop::user("z", "1"),
            prop::user("", ""),
            prop::user("z", "0"),
        ],
    )
}

/// [v5:MQTT-3.3.2-4] [v5:MQTT-3.3.2-15] [v5:MQTT-3.3.2-16] [v5:MQTT-3.3.2-18] [v5:MQTT-3.3.2-20]
fn properties_pass_with_retained_messages(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let properties = every_property();
    let mut message = s.message(&topic, "x").qos(1, 1).retained();
    message.properties.0.clone_from(&properties);
    s.client("publisher")?.complete(&message)?;
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 1)?;
    same(&subscriber.receive(&topic, "x", 1)?.properties.0, &properties)
}

/// [v5:MQTT-3.3.2-4] [v5:MQTT-3.3.2-15] [v5:MQTT-3.3.2-16] [v5:MQTT-3.3.2-17] [v5:MQTT-3.3.2-20]
fn properties_pass_with_queued_messages(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut subscriber = s.enter(&s.connect("a").kept())?;
    subscriber.subscribe(&topic, 1)?;
    subscriber.leave()?;
    let properties = every_property();
    let mut message = s.message(&topic, "x").qos(1, 1);
    message.properties.0.clone_from(&properties);
    s.client("publisher")?.complete(&message)?;
    let mut subscriber = s.enter(&s.connect("a").kept())?;
    same(&subscriber.receive(&topic, "x", 1)?.properties.0, &properties)
}

/// [v5:MQTT-3.1.3-10] [v5:MQTT-3.1.2-9] [v5:MQTT-3.3.2-18]
fn will_properties_are_published(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let will = Will::new(&topic, "x").with(&every_property().concat());
    s.enter(&s.connect("a").will(will))?.cut()?;
    same(&watcher.receive(&topic, "x", 0)?.properties.0, &every_property())
}

fn every_property() -> Vec<Vec<u8>> {
    vec![
        prop::byte(prop::PAYLOAD_FORMAT, 1),
        prop::text(prop::CONTENT_TYPE, "text/plain"),
        prop::text(prop::RESPONSE_TOPIC, "reply/to"),
        prop::text(prop::CORRELATION_DATA, b"\x01\x02"),
        prop::user("b", "1"),
        prop::user("a", "2"),
        prop::user("b", "3"),
    ]
}

/// [v5:MQTT-3.3.2-14]
fn response_topic_with_wildcards_ends_the_connection(s: &Stage) -> Outcome {
    for topic in ["#", "a/+", "a/#", "+/b"] {
        let message = s.message(s.topic("t"), "x");
        let property = prop::text(prop::RESPONSE_TOPIC, topic);
        s.rejects(&message.with(&property).bytes(), &[0x80, 0x81, 0x82, 0x90])?;
    }
    Ok(())
}

/// [v5:MQTT-4.13.1-1]
fn duplicate_publish_properties_end_the_connection(s: &Stage) -> Outcome {
    for property in [
        prop::byte(prop::PAYLOAD_FORMAT, 0),
        prop::four(prop::MESSAGE_EXPIRY, 5),
        prop::text(prop::CONTENT_TYPE, "x"),
        prop::text(prop::RESPONSE_TOPIC, "x"),
        prop::text(prop::CORRELATION_DATA, "x"),
    ] {
        let message = s.message(s.topic("t"), "x").with(&property).with(&property);
        s.rejects(&message.bytes(), MALFORMED)?;
    }
    Ok(())
}

/// [v5:MQTT-4.13.1-1]
fn properties_of_other_packets_end_the_connection(s: &Stage) -> Outcome {
    for property in [
        prop::four(prop::SESSION_EXPIRY, 1),
        prop::two(prop::RECEIVE_MAXIMUM, 1),
        prop::text(prop::REASON_STRING, "x"),
        prop::byte(prop::PAYLOAD_FORMAT, 2),
        vec![0x00],
        vec![0x7F, 0],
        vec![0x80, 0x01],
    ] {
        s.rejects(&s.message(s.topic("t"), "x").with(&property).bytes(), MALFORMED)?;
    }
    let subscribe = prop::four(prop::MESSAGE_EXPIRY, 1);
    s.rejects(&super::bytes::subscribe(s.version, 1, &subscribe, &[(b"t", 0)]), MALFORMED).map(drop)
}

/// A Property Length that reaches beyond the packet, or ends within a property.
///
/// [v5:MQTT-4.13.1-1]
fn unreadable_property_blocks_end_the_connection(s: &Stage) -> Outcome {
    let topic = super::bytes::text(s.topic("t"));
    for block in [&[9, 1, 0][..], &[1, 1], &[2, 2, 0], &[3, 3, 0, 9], &[0x80], &[]] {
        s.rejects(&super::packet(0x30, &[&topic, block].concat()), MALFORMED)?;
    }
    Ok(())
}

/// Reason Codes with and without properties, and the short forms, all end the handshake.
///
/// [v5:MQTT-3.3.4-1] [v5:MQTT-4.3.3-4]
fn acknowledgement_properties_are_understood(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 2)?;
    let properties =
        super::bytes::block(&[prop::text(prop::REASON_STRING, "x"), prop::user("a", "b")].concat());
    let mut tail = vec![0];
    tail.extend(&properties);
    for tail in [&[][..], &[0], &[0, 0], &tail] {
        client.publish(&topic, "x", 1)?;
        let message = client.message()?;
        client.send(&super::packet(0x40, &[&message.id.to_be_bytes(), tail].concat()));
        client.publish(&topic, "x", 2)?;
        let message = client.message()?;
        client.send(&super::packet(0x50, &[&message.id.to_be_bytes(), tail].concat()));
        client.expect_ack(kind::PUBREL, message.id)?;
        client.send(&super::packet(0x70, &[&message.id.to_be_bytes(), tail].concat()));
        let id = client.fresh_id();
        client.send(&s.message(&topic, "").qos(2, id).bytes());
        client.expect_ack(kind::PUBREC, id)?;
        client.send(&super::packet(0x62, &[&id.to_be_bytes(), tail].concat()));
        client.expect_ack(kind::PUBCOMP, id)?;
        let message = client.message()?;
        client.settle(&message)?;
    }
    client.quiet()
}
