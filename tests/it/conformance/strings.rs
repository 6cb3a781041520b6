//! UTF-8 Encoded Strings (chapter 1.5).

use super::{MALFORMED, Outcome, Stage, Will, bytes, ensure, prop, scripts};

scripts! {
    both: [
        ill_formed_topic_name_ends_the_connection,
        ill_formed_topic_filter_ends_the_connection,
        ill_formed_client_identifier_is_refused,
        ill_formed_will_topic_is_refused,
        ill_formed_user_name_is_refused,
        surrogates_end_the_connection,
        null_character_ends_the_connection,
        byte_order_mark_is_kept,
    ],
    v4: [],
    v5: [
        ill_formed_user_property_ends_the_connection,
        ill_formed_response_topic_ends_the_connection,
        ill_formed_content_type_ends_the_connection,
    ],
}

/// Lone continuation, overlong form, cut short, beyond U+10FFFF, a byte that never occurs.
const ILL_FORMED: [&[u8]; 5] =
    [b"a\x80b", b"\xC0\xAFa", b"a\xE2\x82", b"\xF4\x90\x80\x80", b"a\xFFb"];

/// With Reason Code 0x90 a server may say that it is the topic that is wrong.
const BAD_TOPIC: &[u8] = &[0x80, 0x81, 0x82, 0x90];

/// [v4:MQTT-1.5.3-1] [v4:MQTT-3.3.2-1] [v5:MQTT-1.5.4-1] [v5:MQTT-3.3.2-1]
fn ill_formed_topic_name_ends_the_connection(s: &Stage) -> Outcome {
    for topic in ILL_FORMED {
        s.rejects(&s.message(topic, "x").bytes(), BAD_TOPIC)?;
    }
    Ok(())
}

/// [v4:MQTT-1.5.3-1] [v4:MQTT-3.8.3-1] [v4:MQTT-3.10.3-1] [v5:MQTT-3.8.3-1] [v5:MQTT-3.10.3-1]
fn ill_formed_topic_filter_ends_the_connection(s: &Stage) -> Outcome {
    for filter in ILL_FORMED {
        s.rejects(&bytes::subscribe(s.version, 1, &[], &[(filter, 0)]), &[0x80, 0x81, 0x82, 0x8F])?;
        s.rejects(&bytes::unsubscribe(s.version, 1, &[filter]), &[0x80, 0x81, 0x82, 0x8F])?;
    }
    Ok(())
}

/// [v4:MQTT-1.5.3-1] [v4:MQTT-3.1.3-4] [v4:MQTT-3.1.4-1] [v5:MQTT-1.5.4-1] [v5:MQTT-3.1.3-4]
fn ill_formed_client_identifier_is_refused(s: &Stage) -> Outcome {
    for client_id in ILL_FORMED {
        let connect = super::Connect::new(s.version, client_id);
        s.refuses(&connect.bytes(), &[0x80, 0x81, 0x82, 0x85])?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.3-10] [v5:MQTT-3.1.3-11]
fn ill_formed_will_topic_is_refused(s: &Stage) -> Outcome {
    for topic in ILL_FORMED {
        let will = Will { topic: topic.to_vec(), ..Will::new("", "x") };
        s.refuses(&s.connect("a").will(will).bytes(), BAD_TOPIC)?;
    }
    Ok(())
}

/// [v4:MQTT-3.1.3-11] [v5:MQTT-3.1.3-12]
fn ill_formed_user_name_is_refused(s: &Stage) -> Outcome {
    for user_name in ILL_FORMED {
        let mut connect = s.connect("a");
        connect.user_name = Some(user_name.to_vec());
        connect.password = Some(b"p".to_vec());
        s.refuses(&connect.bytes(), &[0x80, 0x81, 0x82, 0x86])?;
    }
    Ok(())
}

/// U+D800 to U+DFFF have no place in UTF-8, whichever half they are.
///
/// [v4:MQTT-1.5.3-1] [v5:MQTT-1.5.4-1]
fn surrogates_end_the_connection(s: &Stage) -> Outcome {
    for surrogate in [b"a\xED\xA0\x80", b"a\xED\xAF\xBF", b"a\xED\xB0\x80", b"a\xED\xBF\xBF"] {
        s.rejects(&s.message(surrogate, "x").bytes(), BAD_TOPIC)?;
        let subscribe = bytes::subscribe(s.version, 1, &[], &[(surrogate, 0)]);
        s.rejects(&subscribe, &[0x80, 0x81, 0x82, 0x8F])?;
    }
    let mut client = s.client("a")?;
    let topic = format!("{}\u{D7FF}\u{E000}\u{10FFFD}", s.topic("around"));
    client.subscribe(&topic, 0)?;
    client.publish(&topic, "x", 0)?;
    client.receive(&topic, "x", 0).map(drop)
}

/// [v4:MQTT-1.5.3-2] [v4:MQTT-4.7.3-2] [v5:MQTT-1.5.4-2] [v5:MQTT-4.7.3-2]
fn null_character_ends_the_connection(s: &Stage) -> Outcome {
    s.rejects(&s.message(b"a\0b", "x").bytes(), BAD_TOPIC)?;
    let subscribe = bytes::subscribe(s.version, 1, &[], &[(b"a/\0", 0)]);
    s.rejects(&subscribe, &[0x80, 0x81, 0x82, 0x8F])?;
    let unsubscribe = bytes::unsubscribe(s.version, 1, &[b"\0"]);
    s.rejects(&unsubscribe, &[0x80, 0x81, 0x82, 0x8F])?;
    let connect = super::Connect::new(s.version, b"a\0b");
    s.refuses(&connect.bytes(), &[0x80, 0x81, 0x82, 0x85])?;
    s.refuses(&s.connect("a").will(Will::new("a\0", "x")).bytes(), BAD_TOPIC).map(drop)
}

/// U+FEFF is a character like others: kept on the way, and told apart when matching.
///
/// [v4:MQTT-1.5.3-3] [v5:MQTT-1.5.4-3]
fn byte_order_mark_is_kept(s: &Stage) -> Outcome {
    let mut client = s.client("a")?;
    let marked = format!("\u{FEFF}{}/\u{FEFF}", s.topic("t"));
    client.subscribe(&format!("\u{FEFF}{}/+", s.topic("t")), 0)?;
    client.subscribe(&format!("{}/+", s.topic("t")), 0)?;
    client.publish(&marked, "x", 0)?;
    let message = client.receive(&marked, "x", 0)?;
    ensure!(message.topic.starts_with(b"\xEF\xBB\xBF"), "the mark was stripped");
    client.quiet()
}

/// [v5:MQTT-1.5.7-1]
fn ill_formed_user_property_ends_the_connection(s: &Stage) -> Outcome {
    let message = s.message(s.topic("t"), "x");
    for text in [&b"\xFF"[..], b"\0", b"\xED\xA0\x80"] {
        s.rejects(&message.clone().with(&prop::user(text, "value")).bytes(), MALFORMED)?;
        s.rejects(&message.clone().with(&prop::user("name", text)).bytes(), MALFORMED)?;
    }
    s.refuses(&s.connect("a").with(&prop::user(b"\xFF", "v")).bytes(), MALFORMED).map(drop)
}

/// [v5:MQTT-3.3.2-13]
fn ill_formed_response_topic_ends_the_connection(s: &Stage) -> Outcome {
    for topic in ILL_FORMED {
        let message = s.message(s.topic("t"), "x");
        s.rejects(&message.with(&prop::text(prop::RESPONSE_TOPIC, topic)).bytes(), BAD_TOPIC)?;
    }
    Ok(())
}

/// [v5:MQTT-3.3.2-19]
fn ill_formed_content_type_ends_the_connection(s: &Stage) -> Outcome {
    for content_type in ILL_FORMED {
        let message = s.message(s.topic("t"), "x");
        let property = prop::text(prop::CONTENT_TYPE, content_type);
        s.rejects(&message.with(&property).bytes(), MALFORMED)?;
    }
    Ok(())
}
