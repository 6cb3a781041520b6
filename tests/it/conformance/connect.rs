//! CONNECT (chapter 3.1): its form, its flags, its payload.

use std::time::{Duration, Instant};

use super::bytes::text;
use super::{
    Connect, Event, MALFORMED, Outcome, Stage, Will, bytes, ensure, kind, packet, prop, scripts,
};

scripts! {
    both: [
        second_connect_ends_the_connection,
        unknown_protocol_name_is_refused,
        reserved_connect_flag_is_refused,
        connect_without_payload_is_refused,
        all_payload_fields_in_their_order,
        payload_fields_out_of_order_are_refused,
        will_qos_3_is_refused,
        will_qos_without_will_is_refused,
        will_retain_without_will_is_refused,
        will_fields_missing_are_refused,
        user_name_without_its_flag_is_refused,
        user_name_missing_is_refused,
        password_without_its_flag_is_refused,
        password_missing_is_refused,
        client_identifiers_every_server_takes,
        client_identifier_names_the_session,
        longest_client_identifier_is_taken_or_rejected,
        same_client_identifier_takes_over,
        nothing_after_a_refused_connect_counts,
        silence_beyond_keep_alive_ends_the_connection,
        any_packet_keeps_the_connection_alive,
    ],
    v4: [
        unsupported_level_is_answered_with_return_code_1,
        password_without_user_name_is_refused,
        empty_client_identifier_is_taken_or_rejected,
        empty_client_identifier_that_is_not_clean_is_rejected,
    ],
    v5: [
        unsupported_version_is_refused,
        empty_client_identifier_is_assigned_one,
        assigned_client_identifier_names_the_session,
        duplicate_properties_are_refused,
        property_values_out_of_range_are_refused,
        properties_of_other_packets_are_refused,
        authentication_data_without_method_is_refused,
        response_information_comes_only_when_asked_for,
        no_problem_information_when_not_wanted,
    ],
}

/// The second CONNECT gets no CONNACK: the connection ends.
///
/// [v4:MQTT-3.1.0-2] [v5:MQTT-3.1.0-2] [v5:MQTT-3.2.0-2]
fn second_connect_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.connect("bad").bytes(), &[0x82])?;
    s.rejects(&s.connect("other").bytes(), &[0x82]).map(drop)
}

/// [v4:MQTT-3.1.2-1] [v5:MQTT-3.1.2-1]
fn unknown_protocol_name_is_refused(s: &Stage) -> Outcome {
    for name in ["mqtt", "MQTX", "", "HTTP/1.1 is not this"] {
        let connect = Connect { name: name.into(), ..s.connect("a") };
        refuses_the_version(s, &connect)?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.2-2]
fn unsupported_level_is_answered_with_return_code_1(s: &Stage) -> Outcome {
    for level in [0, 1, 2] {
        let mut client = s.open()?;
        client.send(&Connect { level, ..s.connect("a") }.bytes());
        client.expect_bytes(&[0x20, 2, 0, 1])?;
        client.closed()?;
    }
    Ok(())
}

/// CONNACK 0x84, or in the form of 3.1.1 return code 1, or nothing: then the close.
///
/// [v5:MQTT-3.1.2-2]
fn unsupported_version_is_refused(s: &Stage) -> Outcome {
    for level in [0, 6, 0x7F] {
        refuses_the_version(s, &Connect { level, ..s.connect("a") })?;
    }
    Ok(())
}

fn refuses_the_version(s: &Stage, connect: &Connect) -> Outcome {
    let mut client = s.open()?;
    client.take_any_form();
    client.send(&connect.bytes());
    if let Event::Packet(packet) = client.event()? {
        let is_refusal = packet.rest.starts_with(&[0, 0x84]) || packet.rest == [0, 1];
        ensure!(packet.first == 0x20 && is_refusal, "got {}", packet.shown());
        client.closed()?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.2-3] [v4:MQTT-3.1.4-1] [v4:MQTT-3.2.2-6] [v5:MQTT-3.1.2-3] [v5:MQTT-3.1.4-1]
fn reserved_connect_flag_is_refused(s: &Stage) -> Outcome {
    s.refuses(&s.connect("a").toggle(0x01).bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.3-3] [v4:MQTT-3.1.4-1] [v5:MQTT-3.1.3-3] [v5:MQTT-3.1.4-1]
fn connect_without_payload_is_refused(s: &Stage) -> Outcome {
    s.refuses(&packet(0x10, &s.connect("a").head()), &[0x80, 0x81, 0x82, 0x85]).map(drop)
}

/// Client Identifier, will, User Name, Password, each where it belongs; the will shows that they
/// were read as sent.
///
/// [v4:MQTT-3.1.3-1] [v4:MQTT-3.1.2-9] [v4:MQTT-3.1.2-19] [v4:MQTT-3.1.2-21] [v5:MQTT-3.1.3-1]
/// [v5:MQTT-3.1.2-9] [v5:MQTT-3.1.2-17] [v5:MQTT-3.1.2-19]
fn all_payload_fields_in_their_order(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 1)?;
    let mut connect = s.connect("a").will(Will::new(&topic, "the will").qos(1));
    connect.user_name = Some(b"user".to_vec());
    connect.password = Some(b"password".to_vec());
    s.enter(&connect)?.cut()?;
    watcher.receive(&topic, "the will", 1).map(drop)
}

/// The User Name `a/#` stands where the Will Topic belongs, and no topic has wildcards.
///
/// [v4:MQTT-3.1.3-1] [v5:MQTT-3.1.3-1]
fn payload_fields_out_of_order_are_refused(s: &Stage) -> Outcome {
    let mut connect = s.connect("a").will(Will::new("", ""));
    connect.user_name = Some(Vec::new());
    let mut payload = [text(&connect.client_id), text("a/#")].concat();
    payload.extend(bytes::block_if_v5(s.version, &[]));
    payload.extend([text(s.topic("will")), text("x")].concat());
    let codes = &[0x80, 0x81, 0x82, 0x90];
    s.refuses(&packet(0x10, &[connect.head(), payload].concat()), codes).map(drop)
}

/// [v4:MQTT-3.1.2-14] [v5:MQTT-3.1.2-12]
fn will_qos_3_is_refused(s: &Stage) -> Outcome {
    let will = Will::new(&s.topic("will"), "x").qos(3);
    s.refuses(&s.connect("a").will(will).bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.2-13] [v4:MQTT-3.1.2-11] [v5:MQTT-3.1.2-11]
fn will_qos_without_will_is_refused(s: &Stage) -> Outcome {
    s.refuses(&s.connect("a").toggle(0x08).bytes(), MALFORMED)?;
    s.refuses(&s.connect("a").toggle(0x10).bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.2-15] [v4:MQTT-3.1.2-11] [v5:MQTT-3.1.2-13]
fn will_retain_without_will_is_refused(s: &Stage) -> Outcome {
    s.refuses(&s.connect("a").toggle(0x20).bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.2-9] [v5:MQTT-3.1.2-9]
fn will_fields_missing_are_refused(s: &Stage) -> Outcome {
    let codes = &[0x80, 0x81, 0x82, 0x90];
    s.refuses(&s.connect("a").toggle(0x04).bytes(), codes)?;
    let mut half = s.connect("a").toggle(0x04);
    half.user_name = None;
    let mut rest = [half.head(), text(&half.client_id)].concat();
    rest.extend(bytes::block_if_v5(s.version, &[]));
    rest.extend(text(s.topic("will")));
    s.refuses(&packet(0x10, &rest), codes).map(drop)
}

/// [v4:MQTT-3.1.2-18] [v5:MQTT-3.1.2-16]
fn user_name_without_its_flag_is_refused(s: &Stage) -> Outcome {
    let mut connect = s.connect("a").toggle(0x80);
    connect.user_name = Some(b"user".to_vec());
    s.refuses(&connect.bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.2-19] [v5:MQTT-3.1.2-17]
fn user_name_missing_is_refused(s: &Stage) -> Outcome {
    s.refuses(&s.connect("a").toggle(0x80).bytes(), &[0x80, 0x81, 0x82, 0x86]).map(drop)
}

/// [v4:MQTT-3.1.2-20] [v5:MQTT-3.1.2-18]
fn password_without_its_flag_is_refused(s: &Stage) -> Outcome {
    let mut connect = s.connect("a").toggle(0x40);
    connect.user_name = Some(b"user".to_vec());
    connect.password = Some(b"password".to_vec());
    s.refuses(&connect.bytes(), MALFORMED).map(drop)
}

/// [v4:MQTT-3.1.2-21] [v5:MQTT-3.1.2-19]
fn password_missing_is_refused(s: &Stage) -> Outcome {
    let mut connect = s.connect("a").toggle(0x40);
    connect.user_name = Some(b"user".to_vec());
    s.refuses(&connect.bytes(), &[0x80, 0x81, 0x82, 0x86]).map(drop)
}

/// [v4:MQTT-3.1.2-22]
fn password_without_user_name_is_refused(s: &Stage) -> Outcome {
    let mut connect = s.connect("a");
    connect.password = Some(b"password".to_vec());
    s.refuses(&connect.bytes(), MALFORMED).map(drop)
}

/// One letter, 23 letters, and every letter and digit.
///
/// [v4:MQTT-3.1.3-5] [v5:MQTT-3.1.3-5]
fn client_identifiers_every_server_takes(s: &Stage) -> Outcome {
    let one = if s.is_v5() { "5" } else { "4" };
    for client_id in [one, "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"]
    {
        s.enter(&Connect::new(s.version, client_id).resumed())?.leave()?;
    }
    Ok(())
}

/// Two Client Identifiers that differ in case only are two Sessions.
///
/// [v4:MQTT-3.1.3-2] [v5:MQTT-3.1.3-2]
fn client_identifier_names_the_session(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut first = s.enter(&s.connect("a").kept())?;
    first.subscribe(&topic, 1)?;
    first.leave()?;
    let second = s.enter(&s.connect("A").kept())?;
    ensure!(!second.connack.session_present, "another Client Identifier found the Session");
    s.client("publisher")?.publish(&topic, "x", 1)?;
    let mut first = s.enter(&s.connect("a").kept())?;
    ensure!(first.connack.session_present, "the Session was not found");
    first.receive(&topic, "x", 1).map(drop)
}

/// A server may find 65,535 bytes too much; then it says so in the code for it, or only closes.
///
/// [v4:MQTT-3.1.3-9] [v5:MQTT-3.1.3-8]
fn longest_client_identifier_is_taken_or_rejected(s: &Stage) -> Outcome {
    let mut client_id = s.client_id("a");
    client_id.push_str(&"x".repeat(65_535 - client_id.len()));
    let mut client = s.open()?;
    client.send(&Connect::new(s.version, &client_id).bytes());
    let Event::Packet(packet) = client.event()? else {
        ensure!(s.is_v5(), "closed without return code 2");
        return Ok(());
    };
    let code = packet.reason()?.code;
    if packet.kind() == kind::CONNACK && code == 0 {
        return client.ping();
    }
    let refused = if s.is_v5() { 0x85 } else { 2 };
    ensure!(packet.kind() == kind::CONNACK && code == refused, "got {}", packet.shown());
    client.closed()
}

/// The first connection is closed, in 5.0 perhaps after DISCONNECT 0x8E; the second one works.
///
/// [v4:MQTT-3.1.4-2] [v5:MQTT-3.1.4-3]
fn same_client_identifier_takes_over(s: &Stage) -> Outcome {
    let mut first = s.client("a")?;
    first.ping()?;
    let mut second = s.client("a")?;
    first.refused(&[0x8E])?;
    second.ping()
}

/// [v4:MQTT-3.1.4-5] [v5:MQTT-3.1.4-6]
fn nothing_after_a_refused_connect_counts(s: &Stage) -> Outcome {
    let topic = s.topic("t");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let refused = if s.is_v5() {
        s.connect("a").with(&prop::text(prop::AUTH_METHOD, "no such method"))
    } else {
        Connect::new(s.version, "").resumed()
    };
    let mut client = s.open()?;
    client.send(&[refused.bytes(), s.message(&topic, "x").bytes()].concat());
    if let Event::Packet(packet) = client.event()? {
        ensure!(packet.kind() == kind::CONNACK, "got {}", packet.shown());
        ensure!(packet.reason()?.code != 0, "the CONNECT was accepted");
        client.closed()?;
    }
    watcher.quiet()
}

/// Keep Alive 1: the close comes within 1.5 s, give or take the server's timer, and the will goes
/// out as if the network had failed. Without Server Keep Alive the client's value counts.
///
/// [v4:MQTT-3.1.2-24] [v5:MQTT-3.1.2-22] [v5:MQTT-3.2.2-22]
fn silence_beyond_keep_alive_ends_the_connection(s: &Stage) -> Outcome {
    let topic = s.topic("will");
    let mut watcher = s.client("watcher")?;
    watcher.subscribe(&topic, 0)?;
    let began = Instant::now();
    let connect = s.connect("a").keep_alive(1).will(Will::new(&topic, "gone"));
    let mut client = s.enter(&connect)?;
    if client.connack.properties.has(prop::SERVER_KEEP_ALIVE) {
        return super::skipped("the server keeps its own Keep Alive");
    }
    client.refused(&[0x8D])?;
    let lasted = began.elapsed();
    ensure!(lasted >= Duration::from_secs(1), "closed after {lasted:?}, before the Keep Alive");
    ensure!(lasted <= Duration::from_secs(4), "closed only after {lasted:?}");
    watcher.receive(&topic, "gone", 0).map(drop)
}

/// PINGREQ, and a PUBLISH as well, count as a sign of life.
///
/// [v4:MQTT-3.1.2-24] [v5:MQTT-3.1.2-22]
fn any_packet_keeps_the_connection_alive(s: &Stage) -> Outcome {
    let mut idle = s.client("idle")?;
    idle.set_patience(Duration::from_millis(1500));
    let mut client = s.enter(&s.connect("a").keep_alive(2))?;
    for round in 0..3 {
        let waited = idle.event();
        ensure!(waited.is_err(), "an idle connection heard {waited:?}");
        if round == 1 {
            client.send(&s.message(s.topic("t"), "x").bytes());
        } else {
            client.ping()?;
        }
    }
    client.ping()
}

/// Accepted, each under a Client Identifier of its own, or rejected with return code 2.
///
/// [v4:MQTT-3.1.3-6] [v4:MQTT-3.1.3-9]
fn empty_client_identifier_is_taken_or_rejected(s: &Stage) -> Outcome {
    let empty = Connect::new(s.version, "");
    let mut first = s.open()?;
    first.send(&empty.bytes());
    let connack = first.expect(kind::CONNACK)?;
    if connack.rest == [0, 2] {
        return first.closed();
    }
    ensure!(connack.rest == [0, 0], "got {}", connack.shown());
    let mut second = s.enter(&empty)?;
    second.ping()?;
    first.ping()
}

/// [v4:MQTT-3.1.3-8] [v4:MQTT-3.1.3-9] [v4:MQTT-3.2.2-4] [v4:MQTT-3.2.2-5]
fn empty_client_identifier_that_is_not_clean_is_rejected(s: &Stage) -> Outcome {
    let mut client = s.open()?;
    client.send(&Connect::new(s.version, "").resumed().bytes());
    client.expect_bytes(&[0x20, 2, 0, 2])?;
    client.closed()
}

/// [v5:MQTT-3.1.3-6] [v5:MQTT-3.1.3-7] [v5:MQTT-3.2.2-16]
fn empty_client_identifier_is_assigned_one(s: &Stage) -> Outcome {
    let mut assigned = Vec::new();
    let mut clients = Vec::new();
    for clean in [true, false, true] {
        let connect = Connect { clean, ..Connect::new(s.version, "") };
        let client = s.enter(&connect)?;
        let Some(id) = client.connack.properties.string(prop::ASSIGNED_CLIENT_ID) else {
            return super::differs("CONNACK has no Assigned Client Identifier");
        };
        ensure!(!id.is_empty() && !assigned.contains(&id), "assigned `{id}` after {assigned:?}");
        assigned.push(id);
        clients.push(client);
    }
    for client in &mut clients {
        client.ping()?;
    }
    Ok(())
}

/// [v5:MQTT-3.1.3-7] [v5:MQTT-3.1.3-2]
fn assigned_client_identifier_names_the_session(s: &Stage) -> Outcome {
    let mut client = s.enter(&Connect::new(s.version, "").kept())?;
    client.subscribe(&s.topic("t"), 0)?;
    let id = client.connack.properties.string(prop::ASSIGNED_CLIENT_ID).unwrap_or_default();
    client.cut()?;
    let again = s.enter(&Connect::new(s.version, &id).kept())?;
    ensure!(again.connack.session_present, "`{id}` does not find the Session");
    ensure!(
        !again.connack.properties.has(prop::ASSIGNED_CLIENT_ID),
        "a Client Identifier was assigned to a client that has one"
    );
    Ok(())
}

/// [v5:MQTT-3.1.4-1] [v5:MQTT-4.13.1-1]
fn duplicate_properties_are_refused(s: &Stage) -> Outcome {
    for property in [
        prop::four(prop::SESSION_EXPIRY, 1),
        prop::two(prop::RECEIVE_MAXIMUM, 10),
        prop::four(prop::MAXIMUM_PACKET_SIZE, 1000),
        prop::two(prop::TOPIC_ALIAS_MAXIMUM, 10),
        prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 0),
        prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 1),
        prop::text(prop::AUTH_METHOD, "m"),
    ] {
        let connect = s.connect("a").with(&property).with(&property);
        s.refuses(&connect.bytes(), &[0x80, 0x81, 0x82, 0x8C])?;
    }
    Ok(())
}

/// [v5:MQTT-3.1.4-1] [v5:MQTT-4.13.1-1]
fn property_values_out_of_range_are_refused(s: &Stage) -> Outcome {
    for property in [
        prop::two(prop::RECEIVE_MAXIMUM, 0),
        prop::four(prop::MAXIMUM_PACKET_SIZE, 0),
        prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 2),
        prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 2),
    ] {
        s.refuses(&s.connect("a").with(&property).bytes(), MALFORMED)?;
    }
    Ok(())
}

/// [v5:MQTT-3.1.4-1] [v5:MQTT-4.13.1-1]
fn properties_of_other_packets_are_refused(s: &Stage) -> Outcome {
    for property in [
        prop::two(prop::SERVER_KEEP_ALIVE, 1),
        prop::two(prop::TOPIC_ALIAS, 1),
        prop::text(prop::REASON_STRING, "x"),
        prop::four(prop::WILL_DELAY, 1),
        vec![0x7F, 1],
    ] {
        s.refuses(&s.connect("a").with(&property).bytes(), MALFORMED)?;
    }
    let will = Will::new(&s.topic("will"), "x").with(&prop::four(prop::SESSION_EXPIRY, 1));
    s.refuses(&s.connect("a").will(will).bytes(), MALFORMED).map(drop)
}

/// [v5:MQTT-3.1.4-1] [v5:MQTT-4.13.1-1]
fn authentication_data_without_method_is_refused(s: &Stage) -> Outcome {
    let connect = s.connect("a").with(&prop::text(prop::AUTH_DATA, "secret"));
    s.refuses(&connect.bytes(), MALFORMED).map(drop)
}

/// [v5:MQTT-3.1.2-28]
fn response_information_comes_only_when_asked_for(s: &Stage) -> Outcome {
    let no = prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 0);
    for connect in [s.connect("a"), s.connect("a").with(&no)] {
        let client = s.enter(&connect)?;
        ensure!(
            !client.connack.properties.has(prop::RESPONSE_INFORMATION),
            "CONNACK has a Response Information nobody asked for"
        );
    }
    Ok(())
}

/// Each answer that might explain itself stays bare.
///
/// [v5:MQTT-3.1.2-29]
fn no_problem_information_when_not_wanted(s: &Stage) -> Outcome {
    let no = prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 0);
    let mut client = s.enter(&s.connect("a").with(&no))?;
    client.send(&s.message("$SYS/conformance", "x").qos(1, 1).bytes());
    let puback = client.expect_ack(kind::PUBACK, 1)?;
    client.send(&bytes::ack(kind::PUBREL, 999));
    let pubcomp = client.expect_ack(kind::PUBCOMP, 999)?;
    let suback = client.subscribe_all(&[], &[("a/b", 0)])?;
    client.send(&bytes::unsubscribe(s.version, 7, &[b"never/subscribed"]));
    let unsuback = client.expect(kind::UNSUBACK)?.codes()?;
    for properties in
        [puback.properties, pubcomp.properties, suback.properties, unsuback.properties]
    {
        ensure!(
            !properties.has(prop::REASON_STRING) && !properties.has(prop::USER_PROPERTY),
            "an answer explains itself: {properties:02x?}"
        );
    }
    Ok(())
}
