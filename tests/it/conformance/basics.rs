//! Control Packet format, Packet Identifiers, PINGREQ, and the byte stream underneath
//! (chapters 2, 3.12, 4.2 and 4.8 / 4.13).

use super::bytes::{self, block_if_v5, text};
use super::{MALFORMED, Outcome, Stage, ack, ensure, kind, packet, scripts};

scripts! {
    both: [
        plain_tcp_carries_a_whole_conversation,
        packets_are_found_in_a_stream_cut_anywhere,
        first_packet_must_be_connect,
        unknown_packet_types_end_the_connection,
        packets_only_a_server_sends_end_the_connection,
        reserved_flags_end_the_connection,
        publish_acknowledgements_with_flags_end_the_connection,
        pubrel_without_its_flags_ends_the_connection,
        remaining_length_of_five_bytes_ends_the_connection,
        packets_that_end_early_end_the_connection,
        packet_identifier_zero_ends_the_connection,
        publish_answers_repeat_the_packet_identifier,
        subscribe_answers_repeat_the_packet_identifier,
        qos_0_has_no_packet_identifier,
        pingreq_is_answered,
        one_connection_s_error_leaves_the_others_alone,
    ],
    v4: [],
    v5: [lengths_have_their_shortest_form, no_properties_is_a_length_of_zero],
}

/// A client that knows TCP and the standard, and nothing else, can do everything.
///
/// [v4:MQTT-7.1.1-1] [v4:MQTT-7.0.0-2] [v5:MQTT-4.2-1]
fn plain_tcp_carries_a_whole_conversation(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    client.subscribe(&topic, 2)?;
    for qos in 0..3 {
        client.publish(&topic, "hello", qos)?;
        client.receive(&topic, "hello", qos)?;
    }
    client.unsubscribe(&[&topic])?;
    client.ping()?;
    client.leave()
}

/// [v4:MQTT-7.1.1-1] [v5:MQTT-4.2-1]
fn packets_are_found_in_a_stream_cut_anywhere(s: &Stage) -> Outcome {
    let mut client = s.open()?;
    let topic = s.topic("t");
    let mut stream = s.connect("a").bytes();
    stream.extend(bytes::subscribe(s.version, 1, &[], &[(topic.as_bytes(), 0)]));
    stream.extend(s.message(&topic, "one").bytes());
    for byte in &stream {
        client.send(&[*byte]);
    }
    client.expect(kind::CONNACK)?;
    client.expect_answer(kind::SUBACK)?;
    client.receive(&topic, "one", 0)?;
    let two = s.message(&topic, "two").bytes();
    client.send(&[two.clone(), two, bytes::PINGREQ.to_vec()].concat());
    client.expect_answer(kind::PINGRESP)?;
    client.receive(&topic, "two", 0)?;
    client.receive(&topic, "two", 0).map(drop)
}

/// Before CONNACK a server says nothing but CONNACK, and no DISCONNECT either.
///
/// [v4:MQTT-3.1.0-1] [v4:MQTT-3.2.0-1] [v5:MQTT-3.1.0-1] [v5:MQTT-3.2.0-1] [v5:MQTT-3.14.0-1]
fn first_packet_must_be_connect(s: &Stage) -> Outcome {
    let publish = s.message(s.topic("t"), "x").bytes();
    let subscribe = bytes::subscribe(s.version, 1, &[], &[(b"t", 0)]);
    for first in [bytes::PINGREQ.to_vec(), publish, subscribe, ack(kind::PUBACK, 1)] {
        s.refuses(&first, MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-4.8.0-1] [v5:MQTT-4.13.1-1] [v5:MQTT-4.13.2-1]
fn unknown_packet_types_end_the_connection(s: &Stage) -> Outcome {
    s.rejects(&[0x00, 0], MALFORMED)?;
    if !s.is_v5() {
        s.rejects(&[0xF0, 0], MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-4.8.0-1] [v5:MQTT-4.13.1-1]
fn packets_only_a_server_sends_end_the_connection(s: &Stage) -> Outcome {
    let empty = block_if_v5(s.version, &[]);
    s.rejects(&packet(0x20, &[&[0, 0], &empty[..]].concat()), MALFORMED)?;
    s.rejects(&packet(0x90, &[&[0, 1], &empty[..], &[0]].concat()), MALFORMED)?;
    s.rejects(&packet(0xB0, &[&[0, 1], &empty[..]].concat()), MALFORMED)?;
    s.rejects(&[0xD0, 0], MALFORMED).map(drop)
}

/// [v4:MQTT-2.2.2-1] [v4:MQTT-2.2.2-2] [v5:MQTT-2.1.3-1] [v5:MQTT-4.13.1-1]
fn reserved_flags_end_the_connection(s: &Stage) -> Outcome {
    let mut connect = s.connect("a").bytes();
    connect[0] |= 1;
    s.refuses(&connect, MALFORMED)?;
    s.rejects(&[0xC1, 0], MALFORMED)?;
    s.rejects(&[0xE2, 0], MALFORMED).map(drop)
}

/// [v4:MQTT-2.2.2-1] [v4:MQTT-2.2.2-2] [v5:MQTT-2.1.3-1] [v5:MQTT-4.13.1-1]
fn publish_acknowledgements_with_flags_end_the_connection(s: &Stage) -> Outcome {
    for kind in [kind::PUBACK, kind::PUBREC, kind::PUBCOMP] {
        let mut client = s.client("a")?;
        let topic = s.topic("t");
        client.subscribe(&topic, 2)?;
        client.publish(&topic, "x", if kind == kind::PUBACK { 1 } else { 2 })?;
        let message = client.message()?;
        if kind == kind::PUBCOMP {
            client.send(&ack(kind::PUBREC, message.id));
            client.expect_ack(kind::PUBREL, message.id)?;
        }
        client.send(&packet(kind << 4 | 2, &message.id.to_be_bytes()));
        client.refused(MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-3.6.1-1] [v5:MQTT-3.6.1-1] [v5:MQTT-4.13.1-1]
fn pubrel_without_its_flags_ends_the_connection(s: &Stage) -> Outcome {
    for flags in [0, 1, 3, 6, 10] {
        let mut client = s.client("a")?;
        client.send(&s.message(s.topic("t"), "x").qos(2, 9).bytes());
        client.expect_ack(kind::PUBREC, 9)?;
        client.send(&packet(kind::PUBREL << 4 | flags, &[0, 9]));
        client.refused(MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-4.8.0-1] [v5:MQTT-4.13.1-1]
fn remaining_length_of_five_bytes_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[0x80, 0x81, 0x82, 0x95]).map(drop)
}

/// [v4:MQTT-4.8.0-1] [v5:MQTT-4.13.1-1]
fn packets_that_end_early_end_the_connection(s: &Stage) -> Outcome {
    for early in [
        packet(0x30, &[0]),
        packet(0x30, &[0, 5, b'a']),
        packet(0x32, &[text("t"), vec![0]].concat()),
        packet(0x40, &[0]),
        packet(0x82, &[0]),
        packet(0x82, &[&[0, 1][..], &block_if_v5(s.version, &[]), &text("t")].concat()),
        packet(0xA2, &[&[0, 1][..], &block_if_v5(s.version, &[]), &[0, 9, b't']].concat()),
    ] {
        s.rejects(&early, MALFORMED)?;
    }
    Ok(())
}

/// [v4:MQTT-2.3.1-1] [v4:MQTT-4.8.0-1] [v5:MQTT-2.2.1-3] [v5:MQTT-4.13.1-1]
fn packet_identifier_zero_ends_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    s.rejects(&s.message(&topic, "x").qos(1, 0).bytes(), MALFORMED)?;
    s.rejects(&s.message(&topic, "x").qos(2, 0).bytes(), MALFORMED)?;
    s.rejects(&bytes::subscribe(s.version, 0, &[], &[(topic.as_bytes(), 0)]), MALFORMED)?;
    s.rejects(&bytes::unsubscribe(s.version, 0, &[topic.as_bytes()]), MALFORMED).map(drop)
}

/// [v4:MQTT-2.3.1-6] [v5:MQTT-2.2.1-5]
fn publish_answers_repeat_the_packet_identifier(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    for id in [1, 0x1234, 0xFFFF] {
        client.send(&s.message(&topic, "x").qos(1, id).bytes());
        client.expect_ack(kind::PUBACK, id)?;
        client.send(&s.message(&topic, "x").qos(2, id).bytes());
        client.expect_ack(kind::PUBREC, id)?;
        client.send(&ack(kind::PUBREL, id));
        client.expect_ack(kind::PUBCOMP, id)?;
    }
    Ok(())
}

/// [v4:MQTT-2.3.1-7] [v4:MQTT-3.8.4-2] [v4:MQTT-3.10.4-4] [v5:MQTT-2.2.1-6] [v5:MQTT-3.8.4-2]
/// [v5:MQTT-3.10.4-5]
fn subscribe_answers_repeat_the_packet_identifier(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    for id in [1, 0x1234, 0xFFFF] {
        client.send(&bytes::subscribe(s.version, id, &[], &[(topic.as_bytes(), 1)]));
        let suback = client.expect(kind::SUBACK)?.codes()?;
        ensure!(suback.id == id, "SUBACK carries {} instead of {id}", suback.id);
        client.send(&bytes::unsubscribe(s.version, id, &[topic.as_bytes()]));
        let unsuback = client.expect(kind::UNSUBACK)?.codes()?;
        ensure!(unsuback.id == id, "UNSUBACK carries {} instead of {id}", unsuback.id);
    }
    Ok(())
}

/// A QoS 0 message arrives as exactly these bytes: no Packet Identifier, DUP 0.
///
/// [v4:MQTT-2.3.1-5] [v4:MQTT-4.3.1-1] [v4:MQTT-3.3.1-2] [v5:MQTT-2.2.1-2] [v5:MQTT-4.3.1-1]
/// [v5:MQTT-3.3.1-2]
fn qos_0_has_no_packet_identifier(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    client.subscribe(&topic, 2)?;
    let message = s.message(&topic, "payload").bytes();
    client.send(&message);
    client.expect_bytes(&message)
}

/// [v4:MQTT-3.12.4-1] [v5:MQTT-3.12.4-1]
fn pingreq_is_answered(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.send(&bytes::PINGREQ);
    client.expect_bytes(&[0xD0, 0])?;
    client.send(&[bytes::PINGREQ, bytes::PINGREQ].concat());
    client.expect_bytes(&[0xD0, 0])?;
    client.expect_bytes(&[0xD0, 0])
}

/// The connection on which the error came is closed, and only that one.
///
/// [v4:MQTT-4.8.0-1] [v5:MQTT-4.13.1-1]
fn one_connection_s_error_leaves_the_others_alone(s: &Stage) -> Outcome {
    let mut other = s.client("other")?;
    let mut bad = s.client("bad")?;
    bad.send(&[0x00, 0]);
    bad.refused(MALFORMED)?;
    other.ping()
}

/// Around each length at which one more byte is needed; the reader checks every length it meets.
///
/// [v5:MQTT-1.5.5-1]
fn lengths_have_their_shortest_form(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    client.subscribe(&topic, 0)?;
    let header = 2 + topic.len() + 1;
    for whole in [126, 127, 128, 129, 16_382, 16_383, 16_384, 16_385] {
        let payload = "x".repeat(whole - header);
        client.publish(&topic, &payload, 0)?;
        client.receive(&topic, &payload, 0)?;
    }
    for whole in [126, 127, 128, 129, 16_383, 16_384] {
        let user = bytes::prop::user("n", "v".repeat(whole - 6));
        let message = s.message(&topic, "x").with(&user);
        client.send(&message.bytes());
        client.expect_bytes(&message.bytes())?;
    }
    Ok(())
}

/// [v5:MQTT-2.2.2-1]
fn no_properties_is_a_length_of_zero(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let topic = s.topic("t");
    client.subscribe(&topic, 1)?;
    client.publish(&topic, "x", 1)?;
    let message = client.expect(kind::PUBLISH)?;
    let at = 2 + topic.len() + 2;
    ensure!(message.rest[at..] == *b"\0x", "no Property Length of 0 in {}", message.shown());
    client.send(&ack(kind::PUBACK, message.publish()?.id));
    client.ping()
}
