//! SUBSCRIBE and SUBACK (chapters 3.8 and 3.9).

use super::{MALFORMED, Outcome, Stage, bytes, ensure, kind, packet, prop, scripts};

scripts! {
    both: [
        subscribe_with_other_flags_ends_the_connection,
        subscribe_without_filters_ends_the_connection,
        reserved_subscription_bits_end_the_connection,
        subscribe_is_answered,
        wildcard_filters_are_granted,
        each_filter_has_its_code_in_order,
        new_subscription_replaces_the_old,
        replacing_loses_no_message,
        many_filters_are_many_subscriptions,
        illegal_filters_are_refused,
    ],
    v4: [suback_has_only_its_return_codes],
    v5: [
        suback_has_only_its_reason_codes,
        no_local_is_not_sent_back,
        no_local_sees_the_messages_of_others,
        no_local_on_a_shared_subscription_ends_the_connection,
        retain_handling_3_ends_the_connection,
        suback_fits_the_maximum_packet_size,
    ],
}

/// [v4:MQTT-3.8.1-1] [v5:MQTT-3.8.1-1] [v4:MQTT-2.2.2-2]
fn subscribe_with_other_flags_ends_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    for flags in [0, 1, 3, 6, 10] {
        let mut subscribe = bytes::subscribe(s.version, 1, &[], &[(topic.as_bytes(), 0)]);
        subscribe[0] = 0x80 | flags;
        s.rejects(&subscribe, MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-3.8.3-3] [v5:MQTT-3.8.3-2]
fn subscribe_without_filters_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&bytes::subscribe(s.version, 1, &[], &[]), MALFORMED).map(drop)
}

/// QoS 3, and every bit that means nothing.
///
/// [v4:MQTT-4.8.0-1] [v5:MQTT-3.8.3-5]
fn reserved_subscription_bits_end_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut options = vec![0x03, 0x40, 0x80];
    if !s.is_v5() {
        options.extend([0x04, 0x08, 0x10, 0x20]);
    }
    for option in options {
        let pairs = [(topic.as_bytes(), option)];
        s.rejects(&bytes::subscribe(s.version, 1, &[], &pairs), MALFORMED)?;
    }
    Ok(())
}

/// In 3.1.1 with exactly these bytes.
///
/// [v4:MQTT-3.8.4-1] [v4:MQTT-3.8.4-2] [v4:MQTT-3.8.4-5] [v5:MQTT-3.8.4-1] [v5:MQTT-3.8.4-2]
/// [v5:MQTT-3.8.4-6] [v5:MQTT-3.8.4-7]
fn subscribe_is_answered(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.send(&bytes::subscribe(s.version, 0x0A0B, &[], &[(topic.as_bytes(), 1)]));
    if !s.is_v5() {
        return client.expect_bytes(&[0x90, 3, 0x0A, 0x0B, 1]);
    }
    let suback = client.expect(kind::SUBACK)?.codes()?;
    ensure!(suback.id == 0x0A0B && suback.codes == [1], "got {suback:?}");
    Ok(())
}

/// A server that did not support wildcards would have to refuse them; one that grants them matches.
///
/// [v4:MQTT-3.8.3-2]
fn wildcard_filters_are_granted(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let suback = client.subscribe_all(&[], &[(&s.topic("+/x"), 0), (&s.topic("y/#"), 0)])?;
    if suback.codes == [0x80, 0x80] || suback.codes == [0xA2, 0xA2] {
        client.publish(&s.topic("a/x"), "no", 0)?;
        return client.quiet();
    }
    ensure!(suback.codes == [0, 0], "got {suback:?}");
    client.publish(&s.topic("a/x"), "1", 0)?;
    client.publish(&s.topic("y/b/c"), "2", 0)?;
    client.receive(&s.topic("a/x"), "1", 0)?;
    client.receive(&s.topic("y/b/c"), "2", 0).map(drop)
}

/// Each granted QoS is also what messages come with.
///
/// [v4:MQTT-3.9.3-1] [v4:MQTT-3.8.4-5] [v5:MQTT-3.9.3-1] [v5:MQTT-3.8.4-6] [v5:MQTT-3.8.4-7]
fn each_filter_has_its_code_in_order(s: &Stage) -> Outcome {
    let names = [("d", 2), ("a", 0), ("c", 1), ("b", 0), ("e", 2), ("f", 1)];
    let topics: Vec<_> = names.iter().map(|(name, qos)| (s.topic(name), *qos)).collect();
    let pairs: Vec<_> = topics.iter().map(|(topic, qos)| (topic.as_str(), *qos)).collect();
    let mut client = s.client("a")?;
    let suback = client.subscribe_all(&[], &pairs)?;
    ensure!(suback.codes == [2, 0, 1, 0, 2, 1], "got {:02x?}", suback.codes);
    for (topic, qos) in pairs {
        client.publish(topic, "x", 2)?;
        client.receive(topic, "x", qos)?;
    }
    Ok(())
}

/// The same filter again: one subscription, with the new QoS.
///
/// [v4:MQTT-3.8.4-3] [v5:MQTT-3.8.4-3]
fn new_subscription_replaces_the_old(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    for qos in [0, 2, 1] {
        client.subscribe(&topic, qos)?;
        client.publish(&topic, "x", 2)?;
        client.receive(&topic, "x", qos)?;
        client.quiet()?;
    }
    client.unsubscribe(&[&topic])?;
    client.publish(&topic, "x", 1)?;
    client.quiet()
}

/// Messages stream in while the subscription is replaced again and again.
///
/// [v4:MQTT-3.8.4-3] [v5:MQTT-3.8.4-4]
fn replacing_loses_no_message(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut subscriber = s.client("subscriber")?;
    subscriber.subscribe(&topic, 1)?;
    let mut publisher = s.client("publisher")?;
    for round in 0..20 {
        publisher.send(&s.message(&topic, format!("{round}")).qos(1, round + 1).bytes());
        subscriber.subscribe(&topic, 1)?;
    }
    for round in 0..20 {
        publisher.expect_ack(kind::PUBACK, round + 1)?;
        subscriber.receive(&topic, &format!("{round}"), 1)?;
    }
    subscriber.quiet()
}

/// One SUBACK; retained messages and live ones as if each filter had come alone.
///
/// [v4:MQTT-3.8.4-4] [v5:MQTT-3.8.4-5]
fn many_filters_are_many_subscriptions(s: &Stage) -> Outcome {
    let (one, two) = (s.topic("one"), s.topic("two"));
    let mut client = s.client("a")?;
    client.retain(&one, "kept 1")?;
    client.retain(&two, "kept 2")?;
    let suback = client.subscribe_all(&[], &[(&one, 0), (&two, 1)])?;
    ensure!(suback.codes == [0, 1], "got {:02x?}", suback.codes);
    let mut kept = [client.message()?, client.message()?];
    kept.sort_by_key(|message| message.qos);
    ensure!(kept[0].payload == b"kept 1" && kept[1].payload == b"kept 2", "got {kept:?}");
    client.settle(&kept[1])?;
    client.unsubscribe(&[&one])?;
    client.publish(&one, "no", 1)?;
    client.publish(&two, "yes", 1)?;
    client.receive(&two, "yes", 1)?;
    client.quiet()
}

/// Refused in SUBACK or by closing; never granted.
///
/// [v4:MQTT-4.7.1-2] [v4:MQTT-4.7.1-3] [v4:MQTT-4.7.3-1] [v5:MQTT-4.7.1-1] [v5:MQTT-4.7.1-2]
/// [v5:MQTT-4.7.3-1]
fn illegal_filters_are_refused(s: &Stage) -> Outcome {
    for filter in ["", "a#", "#/a", "a/#/b", "##", "a+", "+a", "a/+b/c", "++", "a/b#"] {
        let mut client = s.client("a")?;
        client.send(&bytes::subscribe(s.version, 1, &[], &[(filter.as_bytes(), 0)]));
        match client.event()? {
            super::Event::Closed => {}
            super::Event::Packet(packet) if packet.kind() == kind::SUBACK => {
                let codes = packet.codes()?.codes;
                ensure!(codes[0] >= 0x80, "`{filter}` was granted {codes:02x?}");
            }
            super::Event::Packet(packet) => {
                ensure!(s.is_v5() && packet.kind() == kind::DISCONNECT, "got {}", packet.shown());
                let code = packet.reason()?.code;
                ensure!([0x81, 0x82, 0x8F].contains(&code), "DISCONNECT carries {code:#04x}");
                client.closed()?;
            }
        }
    }
    Ok(())
}

/// [v4:MQTT-3.9.3-2]
fn suback_has_only_its_return_codes(s: &Stage) -> Outcome {
    granted_or_failed(s, |code| code == 0x80)
}

/// [v5:MQTT-3.9.3-2] [v5:MQTT-3.8.4-7]
fn suback_has_only_its_reason_codes(s: &Stage) -> Outcome {
    granted_or_failed(s, |code| code >= 0x80)
}

/// That a code belongs to SUBACK is checked in reading it; here come filters a server may refuse.
fn granted_or_failed(s: &Stage, is_failure: fn(u8) -> bool) -> Outcome {
    let mut client = s.client("a")?;
    let deep = ["x"; 100].join("/");
    let pairs = [("$SYS/#", 2), (&*deep, 1), ("$share/group/t", 0), (&s.topic("t"), 2)];
    let suback = client.subscribe_all(&[], &pairs)?;
    for (code, (filter, qos)) in suback.codes.iter().zip(pairs) {
        ensure!(*code <= qos || is_failure(*code), "`{filter}` was answered with {code:#04x}");
    }
    Ok(())
}

/// [v5:MQTT-3.8.3-3]
fn no_local_is_not_sent_back(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 0x04 | 2)?;
    for qos in 0..3 {
        client.publish(&topic, "mine", qos)?;
    }
    client.quiet()?;
    client.subscribe(&topic, 2)?;
    client.publish(&topic, "mine", 1)?;
    client.receive(&topic, "mine", 1).map(drop)
}

/// [v5:MQTT-3.8.3-3]
fn no_local_sees_the_messages_of_others(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 0x04)?;
    client.publish(&topic, "mine", 0)?;
    client.ping()?;
    s.client("other")?.publish(&topic, "theirs", 1)?;
    client.receive(&topic, "theirs", 0).map(drop)
}

/// [v5:MQTT-3.8.3-4]
fn no_local_on_a_shared_subscription_ends_the_connection(s: &Stage) -> Outcome {
    let filter = format!("$share/group/{}", s.topic("t"));
    let pairs = [(filter.as_bytes(), 0x04)];
    s.rejects(&bytes::subscribe(s.version, 1, &[], &pairs), &[0x81, 0x82]).map(drop)
}

/// [v5:MQTT-4.13.1-1]
fn retain_handling_3_ends_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let pairs = [(topic.as_bytes(), 0x30)];
    s.rejects(&bytes::subscribe(s.version, 1, &[], &pairs), MALFORMED).map(drop)
}

/// The client takes no more than its CONNACK was long.
///
/// [v5:MQTT-3.9.2-1] [v5:MQTT-3.9.2-2] [v5:MQTT-3.1.2-24]
fn suback_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let mut open = s.open()?;
    open.send(&s.connect("a").bytes());
    let size = open.expect(kind::CONNACK)?.bytes().len();
    open.leave()?;
    let property = prop::four(prop::MAXIMUM_PACKET_SIZE, u32::try_from(size).unwrap_or(u32::MAX));
    let mut client = s.enter(&s.connect("a").with(&property))?;
    let deep = ["x"; 100].join("/");
    let pairs = [(deep.as_bytes(), 0), (b"$SYS/#", 0)];
    client.send(&bytes::subscribe(s.version, 1, &[], &pairs));
    let suback = client.expect(kind::SUBACK)?;
    let length = suback.bytes().len();
    ensure!(length <= size, "SUBACK has {length} bytes, the client takes {size}");
    client.send(&packet(0xC0, &[]));
    client.expect_answer(kind::PINGRESP)?;
    // Nothing can be left out of this one.
    let filters: Vec<_> = (0..size).map(|n| s.topic(&n.to_string())).collect();
    let pairs: Vec<_> = filters.iter().map(|filter| (filter.as_bytes(), 0)).collect();
    client.send(&bytes::subscribe(s.version, 2, &[], &pairs));
    client.refused(&[0x95]).map(drop)
}
