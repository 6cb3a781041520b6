//! AUTH and enhanced authentication (chapters 3.15 and 4.12).

use super::{MALFORMED, Outcome, Stage, bytes, ensure, kind, packet, prop, scripts};

scripts! {
    both: [],
    v4: [],
    v5: [
        unknown_authentication_method_is_refused,
        without_method_there_is_no_auth,
        auth_without_method_ends_the_connection,
        auth_with_flags_ends_the_connection,
        auth_before_connect_is_refused,
    ],
}

/// [v5:MQTT-4.12.0-1] [v5:MQTT-4.12.0-4] [v5:MQTT-3.1.4-2] [v5:MQTT-3.2.2-7]
fn unknown_authentication_method_is_refused(s: &Stage) -> Outcome {
    let connect = s.connect("a").with(&prop::text(prop::AUTH_METHOD, "no such method"));
    s.refuses(&connect.bytes(), &[0x8C, 0x87])?;
    let connect = connect.with(&prop::text(prop::AUTH_DATA, b"\0\xFF"));
    s.refuses(&connect.bytes(), &[0x8C, 0x87]).map(drop)
}

/// [v5:MQTT-4.12.0-6]
fn without_method_there_is_no_auth(s: &Stage) -> Outcome {
    let mut connect = s.connect("a");
    connect.user_name = Some(b"user".to_vec());
    connect.password = Some(b"password".to_vec());
    for connect in [s.connect("a"), connect] {
        let mut client = s.enter(&connect)?;
        let properties = &client.connack.properties;
        ensure!(!properties.has(prop::AUTH_METHOD), "CONNACK names an Authentication Method");
        ensure!(!properties.has(prop::AUTH_DATA), "CONNACK has Authentication Data");
        client.ping()?;
    }
    Ok(())
}

/// [v5:MQTT-4.12.0-7] [v5:MQTT-4.13.1-1]
fn auth_without_method_ends_the_connection(s: &Stage) -> Outcome {
    let method = bytes::block(&prop::text(prop::AUTH_METHOD, "method"));
    for code in [0x18, 0x19] {
        let auth = packet(kind::AUTH << 4, &[&[code], &method[..]].concat());
        s.rejects(&auth, &[0x81, 0x82, 0x87, 0x8C])?;
    }
    s.rejects(&[0xF0, 0], &[0x81, 0x82, 0x87, 0x8C]).map(drop)
}

/// [v5:MQTT-3.15.1-1] [v5:MQTT-2.1.3-1]
fn auth_with_flags_ends_the_connection(s: &Stage) -> Outcome {
    let method = bytes::block(&prop::text(prop::AUTH_METHOD, "method"));
    for flags in [1, 2, 4, 8] {
        let auth = packet(kind::AUTH << 4 | flags, &[&[0x19], &method[..]].concat());
        s.rejects(&auth, MALFORMED)?;
    }
    Ok(())
}

/// [v5:MQTT-3.1.0-1] [v5:MQTT-3.14.0-1]
fn auth_before_connect_is_refused(s: &Stage) -> Outcome {
    let method = bytes::block(&prop::text(prop::AUTH_METHOD, "method"));
    let auth = packet(kind::AUTH << 4, &[&[0x18], &method[..]].concat());
    s.refuses(&auth, MALFORMED).map(drop)
}
