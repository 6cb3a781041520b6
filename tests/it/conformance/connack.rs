//! CONNACK (chapter 3.2).

use super::{Connect, MALFORMED, Outcome, Stage, Will, bytes, ensure, kind, prop, scripts};

scripts! {
    both: [
        connack_comes_first,
        accepted_connect_gets_code_0,
        clean_connect_has_no_session_present,
        unknown_session_is_not_present,
        known_session_is_present,
    ],
    v4: [refusing_connack_has_no_session_present, malformed_connect_gets_no_connack],
    v5: [
        refusing_connack_of_5_0_has_no_session_present,
        one_connack_is_all,
        announced_maximum_qos_is_true,
        subscriptions_of_any_qos_are_accepted,
        will_qos_beyond_the_announced_is_refused,
        retained_will_is_taken_or_refused_as_announced,
        refusing_connack_fits_the_maximum_packet_size,
        accepting_connack_fits_the_maximum_packet_size,
    ],
}

/// A retained message waits, and packets follow the CONNECT at once: CONNACK still comes first.
///
/// [v4:MQTT-3.2.0-1] [v5:MQTT-3.2.0-1]
fn connack_comes_first(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.enter(&s.connect("a").kept())?;
    client.subscribe(&topic, 1)?;
    client.leave()?;
    s.client("publisher")?.publish(&topic, "queued", 1)?;
    let mut client = s.open()?;
    client.send(&[s.connect("a").kept().bytes(), bytes::PINGREQ.to_vec()].concat());
    client.expect(kind::CONNACK)?;
    client.expect_answer(kind::PINGRESP)?;
    client.receive(&topic, "queued", 1).map(drop)
}

/// In 3.1.1 these are the exact bytes.
///
/// [v4:MQTT-3.1.4-4] [v4:MQTT-3.2.2-1] [v5:MQTT-3.1.4-5] [v5:MQTT-3.2.2-1] [v5:MQTT-3.2.2-8]
fn accepted_connect_gets_code_0(s: &Stage) -> Outcome {
    let mut client = s.open()?;
    client.send(&s.connect("a").bytes());
    if !s.is_v5() {
        return client.expect_bytes(&[0x20, 2, 0, 0]);
    }
    let connack = client.expect(kind::CONNACK)?;
    ensure!(connack.rest.starts_with(&[0, 0]), "got {}", connack.shown());
    Ok(())
}

/// [v4:MQTT-3.2.2-1] [v4:MQTT-3.1.4-3] [v5:MQTT-3.2.2-2] [v5:MQTT-3.1.4-4]
fn clean_connect_has_no_session_present(s: &Stage) -> Outcome {
    let client = s.enter(&s.connect("a").kept())?;
    ensure!(!client.connack.session_present, "a Session was present before the first CONNECT");
    client.leave()?;
    let client = s.client("a")?;
    ensure!(!client.connack.session_present, "a clean CONNECT has Session Present 1");
    client.leave()
}

/// [v4:MQTT-3.2.2-3] [v5:MQTT-3.2.2-3] [v5:MQTT-3.1.2-6]
fn unknown_session_is_not_present(s: &Stage) -> Outcome {
    let client = s.enter(&s.connect("a").kept())?;
    ensure!(!client.connack.session_present, "a Session was present before the first CONNECT");
    Ok(())
}

/// [v4:MQTT-3.2.2-2] [v5:MQTT-3.2.2-3] [v5:MQTT-3.1.2-5]
fn known_session_is_present(s: &Stage) -> Outcome {
    s.enter(&s.connect("a").kept())?.leave()?;
    let client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present");
    client.cut()?;
    let client = s.enter(&s.connect("a").kept())?;
    ensure!(client.connack.session_present, "the Session is not present after a broken connection");
    Ok(())
}

/// [v4:MQTT-3.2.2-4] [v4:MQTT-3.2.2-5]
fn refusing_connack_has_no_session_present(s: &Stage) -> Outcome {
    s.enter(&s.connect("a").kept())?.leave()?;
    let mut client = s.open()?;
    client.send(&Connect { level: 2, ..s.connect("a").kept() }.bytes());
    client.expect_bytes(&[0x20, 2, 0, 1])?;
    client.closed()
}

/// None of the return codes fits a CONNECT that cannot be read.
///
/// [v4:MQTT-3.2.2-6] [v4:MQTT-3.1.4-1]
fn malformed_connect_gets_no_connack(s: &Stage) -> Outcome {
    let mut long = s.connect("a").bytes();
    long[1] += 1;
    long.push(0);
    s.refuses(&long, MALFORMED)?;
    let mut short = s.connect("a").bytes();
    short[1] -= 1;
    short.pop();
    s.refuses(&short, MALFORMED).map(drop)
}

/// [v5:MQTT-3.2.2-6] [v5:MQTT-3.2.2-7] [v5:MQTT-3.2.2-8] [v5:MQTT-4.13.2-1]
fn refusing_connack_of_5_0_has_no_session_present(s: &Stage) -> Outcome {
    s.enter(&s.connect("a").kept())?.leave()?;
    let method = prop::text(prop::AUTH_METHOD, "no such method");
    let refused = s.refuses(&s.connect("a").kept().with(&method).bytes(), &[0x8C, 0x87]);
    refused.map(drop)
}

/// [v5:MQTT-3.2.0-2]
fn one_connack_is_all(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut client = s.client("a")?;
    client.subscribe(&topic, 0)?;
    client.publish(&topic, "x", 0)?;
    client.receive(&topic, "x", 0)?;
    client.ping()?;
    client.send(&s.connect("a").bytes());
    client.refused(&[0x82]).map(drop)
}

/// A server that does not say Maximum QoS takes QoS 2; one that does says 0 or 1 and means it.
///
/// [v5:MQTT-3.2.2-9]
fn announced_maximum_qos_is_true(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let Some(maximum) = client.connack.properties.number(prop::MAXIMUM_QOS) else {
        client.publish(&s.topic("t"), "x", 1)?;
        return client.publish(&s.topic("t"), "x", 2);
    };
    ensure!(maximum < 2, "Maximum QoS is {maximum}");
    client.send(&s.message(s.topic("t"), "x").qos(2, 1).bytes());
    client.refused(&[0x9B]).map(drop)
}

/// [v5:MQTT-3.2.2-10]
fn subscriptions_of_any_qos_are_accepted(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let (zero, one, two) = (s.topic("0"), s.topic("1"), s.topic("2"));
    let suback = client.subscribe_all(&[], &[(&zero, 0), (&one, 1), (&two, 2)])?;
    ensure!(suback.codes.iter().all(|code| *code < 0x80), "answered {:02x?}", suback.codes);
    Ok(())
}

/// Without Maximum QoS a will of QoS 2 is taken and published as such.
///
/// [v5:MQTT-3.2.2-12] [v5:MQTT-3.1.2-12]
fn will_qos_beyond_the_announced_is_refused(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    let connect = s.connect("a").will(Will::new(&topic, "x").qos(2));
    if watcher.connack.properties.has(prop::MAXIMUM_QOS) {
        return s.refuses(&connect.bytes(), &[0x9B]).map(drop);
    }
    watcher.subscribe(&topic, 2)?;
    s.enter(&connect)?.cut()?;
    watcher.receive(&topic, "x", 2).map(drop)
}

/// [v5:MQTT-3.2.2-13]
fn retained_will_is_taken_or_refused_as_announced(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    let connect = s.connect("a").will(Will::new(&topic, "x").retained());
    if watcher.connack.properties.number(prop::RETAIN_AVAILABLE) == Some(0) {
        return s.refuses(&connect.bytes(), &[0x9A]).map(drop);
    }
    s.enter(&connect)?.cut()?;
    watcher.subscribe(&topic, 0)?;
    let message = watcher.receive(&topic, "x", 0)?;
    ensure!(message.retain, "the will was not retained");
    Ok(())
}

/// Neither Reason String nor User Properties may make it longer than the client takes.
///
/// [v5:MQTT-3.2.2-19] [v5:MQTT-3.2.2-20] [v5:MQTT-3.1.2-24]
fn refusing_connack_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    for maximum in [5_u8, 8, 12, 20] {
        let connect = s
            .connect("a")
            .with(&prop::four(prop::MAXIMUM_PACKET_SIZE, maximum.into()))
            .with(&prop::text(prop::AUTH_METHOD, "no such method"));
        let mut client = s.open()?;
        client.send(&connect.bytes());
        if let super::Event::Packet(packet) = client.event()? {
            let length = packet.bytes().len();
            ensure!(packet.kind() == kind::CONNACK, "got {}", packet.shown());
            ensure!(packet.reason()?.code != 0, "the CONNECT was accepted");
            ensure!(length <= maximum.into(), "CONNACK has {length} bytes, not {maximum}");
            client.closed()?;
        }
    }
    Ok(())
}

/// What does not fit is left out, or the connection is closed.
///
/// [v5:MQTT-3.1.2-24] [v5:MQTT-3.2.2-19] [v5:MQTT-3.2.2-20]
fn accepting_connack_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    for maximum in [5_u8, 10, 20, 40] {
        let mut client = s.open()?;
        let property = prop::four(prop::MAXIMUM_PACKET_SIZE, maximum.into());
        client.send(&s.connect("a").with(&property).bytes());
        if let super::Event::Packet(packet) = client.event()? {
            let length = packet.bytes().len();
            ensure!(length <= maximum.into(), "CONNACK has {length} bytes, not {maximum}");
        }
    }
    Ok(())
}
