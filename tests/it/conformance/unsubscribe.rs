//! UNSUBSCRIBE and UNSUBACK (chapters 3.10 and 3.11).

use super::{MALFORMED, Outcome, Stage, ack, bytes, ensure, kind, prop, scripts};

scripts! {
    both: [
        unsubscribe_with_other_flags_ends_the_connection,
        unsubscribe_without_filters_ends_the_connection,
        unsubscribe_compares_filters_character_by_character,
        unsubscribed_gets_no_new_messages,
        deliveries_begun_are_completed,
        qos_2_delivery_begun_is_completed,
        unsubscribe_is_answered_always,
        many_filters_get_one_answer,
    ],
    v4: [],
    v5: [
        unsuback_codes_are_in_order,
        unsuback_fits_the_maximum_packet_size,
    ],
}

/// [v4:MQTT-3.10.1-1] [v5:MQTT-3.10.1-1]
fn unsubscribe_with_other_flags_ends_the_connection(s: &Stage) -> Outcome {
    for flags in [0, 1, 3, 6, 10] {
        let mut unsubscribe = bytes::unsubscribe(s.version, 1, &[b"t"]);
        unsubscribe[0] = 0xA0 | flags;
        s.rejects(&unsubscribe, MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-3.10.3-2] [v5:MQTT-3.10.3-2]
fn unsubscribe_without_filters_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&bytes::unsubscribe(s.version, 1, &[]), MALFORMED).map(drop)
}

/// Filters that match the same topics are not the same filter.
///
/// [v4:MQTT-3.10.4-1] [v5:MQTT-3.10.4-1]
fn unsubscribe_compares_filters_character_by_character(s: &Stage) -> Outcome {
    let topic = s.topic("a/b");
    let mut client = s.client("a")?;
    client.subscribe(&s.topic("a/+"), 0)?;
    client.unsubscribe(&[&topic, &s.topic("a/#"), &s.topic("#"), &s.topic("A/+")])?;
    client.publish(&topic, "still", 0)?;
    client.receive(&topic, "still", 0)?;
    client.unsubscribe(&[&s.topic("a/+")])?;
    client.publish(&topic, "no more", 1)?;
    client.quiet()
}

/// [v4:MQTT-3.10.4-2] [v5:MQTT-3.10.4-2]
fn unsubscribed_gets_no_new_messages(s: &Stage) -> Outcome {
    let (gone, kept) = (s.topic("gone"), s.topic("kept"));
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&gone, 2)?;
    subscriber.subscribe(&kept, 2)?;
    subscriber.unsubscribe(&[&gone])?;
    let mut publisher = s.client("publisher")?;
    for qos in 0..3 {
        publisher.publish(&gone, "no", qos)?;
        publisher.publish(&kept, "yes", qos)?;
        subscriber.receive(&kept, "yes", qos)?;
    }
    Ok(())
}

/// A QoS 1 message sent before UNSUBSCRIBE and not acknowledged comes again after a reconnect.
///
/// [v4:MQTT-3.10.4-3] [v5:MQTT-3.10.4-3]
fn deliveries_begun_are_completed(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "x", 1)?;
    let first = client.message()?;
    client.unsubscribe(&[&topic])?;
    client.cut()?;
    let mut client = s.enter(&s.connect("a").kept())?;
    let again = client.message()?;
    ensure!(again.payload == b"x" && again.dup && again.id == first.id, "got {}", again.shown());
    client.settle(&again)?;
    client.quiet()
}

/// [v4:MQTT-3.10.4-3] [v5:MQTT-3.10.4-3]
fn qos_2_delivery_begun_is_completed(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 2)?;
    client.publish(&topic, "x", 2)?;
    let message = client.message()?;
    client.unsubscribe(&[&topic])?;
    client.send(&ack(kind::PUBREC, message.id));
    client.expect_ack(kind::PUBREL, message.id)?;
    client.send(&ack(kind::PUBCOMP, message.id));
    client.quiet()
}

/// Also when nothing was subscribed; in 3.1.1 with exactly these bytes.
///
/// [v4:MQTT-3.10.4-4] [v4:MQTT-3.10.4-5] [v5:MQTT-3.10.4-4] [v5:MQTT-3.10.4-5] [v5:MQTT-3.11.3-2]
fn unsubscribe_is_answered_always(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    for subscribed in [false, true] {
        if subscribed {
            client.subscribe(&topic, 0)?;
        }
        client.send(&bytes::unsubscribe(s.version, 0x0A0B, &[topic.as_bytes()]));
        if !s.is_v5() {
            client.expect_bytes(&[0xB0, 2, 0x0A, 0x0B])?;
            continue;
        }
        let unsuback = client.expect(kind::UNSUBACK)?.codes()?;
        ensure!(unsuback.id == 0x0A0B, "UNSUBACK carries {:#06x}", unsuback.id);
        let wanted = if subscribed { 0x00 } else { 0x11 };
        ensure!(unsuback.codes == [wanted], "got {:02x?}", unsuback.codes);
    }
    Ok(())
}

/// [v4:MQTT-3.10.4-6] [v5:MQTT-3.10.4-6]
fn many_filters_get_one_answer(s: &Stage) -> Outcome {
    let (one, two, three) = (s.topic("1"), s.topic("2"), s.topic("3"));
    let mut client = s.client("a")?;
    client.subscribe_all(&[], &[(&one, 0), (&two, 0), (&three, 0)])?;
    client.unsubscribe(&[&one, "not/subscribed", &two])?;
    client.ping()?;
    for topic in [&one, &two, &three] {
        client.publish(topic, "x", 0)?;
    }
    client.receive(&three, "x", 0)?;
    client.quiet()
}

/// 0x00 for what was there, 0x11 for what was not.
///
/// [v5:MQTT-3.11.3-1] [v5:MQTT-3.11.3-2]
fn unsuback_codes_are_in_order(s: &Stage) -> Outcome {
    let (one, two) = (s.topic("1"), s.topic("2"));
    let mut client = s.client("a")?;
    client.subscribe_all(&[], &[(&one, 0), (&two, 0)])?;
    let codes = client.unsubscribe(&["not/there", &one, "nor/there", &two, &one])?;
    ensure!(codes == [0x11, 0, 0x11, 0, 0x11], "got {codes:02x?}");
    Ok(())
}

/// The client takes no more than its CONNACK was long.
///
/// [v5:MQTT-3.11.2-1] [v5:MQTT-3.11.2-2] [v5:MQTT-3.1.2-24]
fn unsuback_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let mut open = s.open()?;
    open.send(&s.connect("a").bytes());
    let size = open.expect(kind::CONNACK)?.bytes().len();
    open.leave()?;
    let property = prop::four(prop::MAXIMUM_PACKET_SIZE, u32::try_from(size).unwrap_or(u32::MAX));
    let mut client = s.enter(&s.connect("a").with(&property))?;
    client.send(&bytes::unsubscribe(s.version, 1, &[b"not/there"]));
    let length = client.expect(kind::UNSUBACK)?.bytes().len();
    ensure!(length <= size, "UNSUBACK has {length} bytes, the client takes {size}");
    // Nothing can be left out of this one.
    let filters: Vec<_> = (0..size).map(|n| s.topic(&n.to_string())).collect();
    let filters: Vec<_> = filters.iter().map(String::as_bytes).collect();
    client.send(&bytes::unsubscribe(s.version, 2, &filters));
    client.refused(&[0x95]).map(drop)
}
