//! DISCONNECT (chapter 3.14).

use super::{MALFORMED, Outcome, Stage, Will, bytes, ensure, kind, prop, scripts};

scripts! {
    both: [
        disconnect_with_flags_is_malformed,
        nothing_after_disconnect_counts,
        connection_is_closed_after_disconnect,
    ],
    v4: [],
    v5: [
        server_sends_nothing_after_its_disconnect,
        server_disconnect_has_no_session_expiry,
        server_disconnect_has_one_of_its_reason_codes,
        server_disconnect_fits_the_maximum_packet_size,
        server_sends_no_disconnect_before_connack,
        session_expiry_cannot_begin_at_disconnect,
        malformed_disconnect_is_refused,
    ],
}

/// In 5.0 a DISCONNECT in answer says 0x81. The will goes out: this was no orderly end.
///
/// [v4:MQTT-3.14.1-1] [v4:MQTT-3.1.2-8] [v5:MQTT-3.14.1-1]
fn disconnect_with_flags_is_malformed(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    for flags in [1, 2, 8] {
        let mut client = s.enter(&s.connect("a").will(Will::new(&topic, "x")))?;
        client.send(&[0xE0 | flags, 0]);
        client.refused(&[0x81])?;
        watcher.receive(&topic, "x", 0)?;
    }
    Ok(())
}

/// [v4:MQTT-3.14.4-2] [v5:MQTT-3.14.4-1]
fn nothing_after_disconnect_counts(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let mut client = s.client("a")?;
    client.send(&[bytes::DISCONNECT.to_vec(), s.message(&topic, "late").bytes()].concat());
    client.closed()?;
    watcher.quiet()
}

/// [v4:MQTT-3.14.4-1] [v5:MQTT-3.14.4-2]
fn connection_is_closed_after_disconnect(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    client.send(&bytes::DISCONNECT);
    client.closed()
}

/// Ways to make a server end the connection, with what it may say.
fn causes(s: &Stage) -> Vec<(Vec<u8>, &'static [u8])> {
    vec![
        (vec![0x00, 0], MALFORMED),
        (s.connect("bad").bytes(), &[0x82]),
        (s.message("a/#", "x").bytes(), &[0x80, 0x81, 0x82, 0x90]),
        (bytes::subscribe(s.version, 1, &[], &[]), MALFORMED),
        (s.message(s.topic("t"), "x").qos(1, 0).bytes(), MALFORMED),
    ]
}

/// [v5:MQTT-3.14.4-1] [v5:MQTT-3.14.4-2] [v5:MQTT-4.13.2-1]
fn server_sends_nothing_after_its_disconnect(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    for (cause, codes) in causes(s) {
        let mut client = s.client("bad")?;
        client.subscribe(&topic, 0)?;
        client.send(&[cause, s.message(&topic, "x").bytes(), bytes::PINGREQ.to_vec()].concat());
        client.refused(codes)?;
    }
    Ok(())
}

/// [v5:MQTT-3.14.2-2]
fn server_disconnect_has_no_session_expiry(s: &Stage) -> Outcome {
    for (cause, codes) in causes(s) {
        let mut client = s.enter(&s.connect("bad").kept())?;
        client.send(&cause);
        if let Some(reason) = client.refused(codes)? {
            ensure!(!reason.properties.has(prop::SESSION_EXPIRY), "got {reason:?}");
        }
    }
    let mut first = s.enter(&s.connect("a").kept())?;
    let _second = s.enter(&s.connect("a").kept())?;
    if let Some(reason) = first.refused(&[0x8E])? {
        ensure!(!reason.properties.has(prop::SESSION_EXPIRY), "got {reason:?}");
    }
    Ok(())
}

/// [v5:MQTT-3.14.2-1]
fn server_disconnect_has_one_of_its_reason_codes(s: &Stage) -> Outcome {
    for (cause, codes) in causes(s) {
        s.rejects(&cause, codes)?;
    }
    Ok(())
}

/// The client takes no more than its CONNACK was long.
///
/// [v5:MQTT-3.14.2-3] [v5:MQTT-3.14.2-4] [v5:MQTT-3.1.2-24]
fn server_disconnect_fits_the_maximum_packet_size(s: &Stage) -> Outcome {
    let mut open = s.open()?;
    open.send(&s.connect("a").bytes());
    let size = open.expect(kind::CONNACK)?.bytes().len();
    open.leave()?;
    let property = prop::four(prop::MAXIMUM_PACKET_SIZE, u32::try_from(size).unwrap_or(u32::MAX));
    for (cause, _codes) in causes(s) {
        let mut client = s.enter(&s.connect("bad").with(&property))?;
        client.send(&cause);
        if let super::Event::Packet(packet) = client.event()? {
            let length = packet.bytes().len();
            ensure!(packet.kind() == kind::DISCONNECT, "got {}", packet.shown());
            ensure!(length <= size, "DISCONNECT has {length} bytes, the client takes {size}");
            client.closed()?;
        }
    }
    Ok(())
}

/// [v5:MQTT-3.14.0-1] [v5:MQTT-3.2.0-1]
fn server_sends_no_disconnect_before_connack(s: &Stage) -> Outcome {
    for (cause, codes) in causes(s) {
        if cause[0] != 0x10 {
            s.refuses(&cause, codes)?;
        }
    }
    Ok(())
}

/// A Session that was to end with the connection cannot be given an expiry at the last moment.
///
/// [v5:MQTT-4.13.1-1]
fn session_expiry_cannot_begin_at_disconnect(s: &Stage) -> Outcome {
    let expiry = prop::four(prop::SESSION_EXPIRY, 100);
    s.rejects(&bytes::disconnect_with(0, &expiry), &[0x82])?;
    let client = s.enter(&s.connect("bad").resumed())?;
    ensure!(!client.connack.session_present, "the Session was kept");
    Ok(())
}

/// [v5:MQTT-4.13.1-1] [v5:MQTT-3.1.2-8]
fn malformed_disconnect_is_refused(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let expiry = prop::four(prop::SESSION_EXPIRY, 100);
    for properties in [[expiry.clone(), expiry].concat(), prop::two(prop::RECEIVE_MAXIMUM, 1)] {
        let mut client = s.enter(&s.connect("bad").kept().will(Will::new(&topic, "x")))?;
        client.send(&bytes::disconnect_with(0, &properties));
        client.refused(MALFORMED)?;
        watcher.receive(&topic, "x", 0)?;
    }
    Ok(())
}
