//! Messages as JSON: `--format json`, and the `%j` and `%J` of the Mosquitto clients.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Local};

use super::json_value::JsonValue;
use crate::mqtt::{PacketId, Publish, QoS};

/// The object of `--format json`: `ts topic qos retain dup mid len payload|payload_b64 props`.
pub(super) fn ours(publish: &Publish, at: &DateTime<Local>) -> JsonValue {
    let payload = match std::str::from_utf8(&publish.payload) {
        Ok(text) => member("payload", text),
        Err(_) => member("payload_b64", STANDARD.encode(&publish.payload)),
    };
    let mid = publish.packet_id.map_or(JsonValue::Null, |id| JsonValue::Integer(id.get().into()));
    JsonValue::Object(vec![
        member("ts", at.format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        member("topic", &*publish.topic),
        ("qos".to_owned(), JsonValue::Integer(publish.qos.bits().into())),
        ("retain".to_owned(), JsonValue::Bool(publish.retain)),
        ("dup".to_owned(), JsonValue::Bool(publish.dup)),
        ("mid".to_owned(), mid),
        ("len".to_owned(), integer(publish.payload.len())),
        payload,
        ("props".to_owned(), JsonValue::Object(our_properties(publish))),
    ])
}

fn our_properties(publish: &Publish) -> Vec<(String, JsonValue)> {
    let mut members: Vec<_> = expiry(publish).into_iter().collect();
    members.extend(common_properties(publish));
    if let Some(properties) = publish.properties.as_deref() {
        if let Some(correlation) = &properties.correlation_data {
            members.push(match std::str::from_utf8(correlation) {
                Ok(text) => member("correlation-data", text),
                Err(_) => member("correlation-data_b64", STANDARD.encode(correlation)),
            });
        }
        if !properties.user_properties.is_empty() {
            let pairs = properties
                .user_properties
                .iter()
                .map(|user| JsonValue::Array(vec![string(&*user.name), string(&*user.value)]));
            members.push(("user-properties".to_owned(), JsonValue::Array(pairs.collect())));
        }
    }
    if !publish.subscription_ids.is_empty() {
        let ids = publish.subscription_ids.iter().map(|id| JsonValue::Integer((*id).into()));
        members.push(("subscription-identifiers".to_owned(), JsonValue::Array(ids.collect())));
    }
    members
}

/// The object of `%j` (`payload` as a string) and `%J` (`payload` as JSON); `None` when the payload
/// of `%J` is not JSON.
pub(super) fn theirs(
    publish: &Publish,
    at: &DateTime<Local>,
    payload: PayloadForm,
) -> Option<JsonValue> {
    let mut members = vec![
        member("tst", at.format("%Y-%m-%dT%H:%M:%S%.6fZ%z").to_string()),
        member("topic", &*publish.topic),
        ("qos".to_owned(), JsonValue::Integer(publish.qos.bits().into())),
        ("retain".to_owned(), JsonValue::Integer(publish.retain.into())),
        ("payloadlen".to_owned(), integer(publish.payload.len())),
    ];
    if publish.qos > QoS::AtMostOnce {
        let mid = publish.packet_id.map_or(0, PacketId::get);
        members.push(("mid".to_owned(), JsonValue::Integer(mid.into())));
    }
    let properties = their_properties(publish);
    if !properties.is_empty() {
        members.push(("properties".to_owned(), JsonValue::Object(properties)));
    }
    let payload = match payload {
        _ if publish.payload.is_empty() => JsonValue::Null,
        PayloadForm::Text => string(String::from_utf8_lossy(&publish.payload)),
        PayloadForm::Json => JsonValue::parse(&publish.payload)?,
    };
    members.push(("payload".to_owned(), payload));
    Some(JsonValue::Object(members))
}

/// How a payload stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadForm {
    Text,
    Json,
}

/// In the order in which the broker of this repository writes them: the Mosquitto clients print them as
/// they come.
fn their_properties(publish: &Publish) -> Vec<(String, JsonValue)> {
    let mut members: Vec<_> = expiry(publish).into_iter().collect();
    for id in &publish.subscription_ids {
        members.push(("subscription-identifier".to_owned(), JsonValue::Integer((*id).into())));
    }
    members.extend(common_properties(publish));
    if let Some(properties) = publish.properties.as_deref() {
        if let Some(correlation) = &properties.correlation_data {
            members.push(member("correlation-data", String::from_utf8_lossy(correlation)));
        }
        if !properties.user_properties.is_empty() {
            let users = properties.user_properties.iter();
            let users = users.map(|user| member(&user.name, &*user.value)).collect();
            members.push(("user-properties".to_owned(), JsonValue::Object(users)));
        }
    }
    members
}

fn expiry(publish: &Publish) -> Option<(String, JsonValue)> {
    let secs = publish.properties.as_deref()?.message_expiry_interval_secs?;
    Some(("message-expiry-interval".to_owned(), JsonValue::Integer(secs.into())))
}

fn common_properties(publish: &Publish) -> Vec<(String, JsonValue)> {
    let mut members = Vec::new();
    let Some(properties) = publish.properties.as_deref() else { return members };
    if let Some(is_utf8) = properties.payload_format_is_utf8 {
        members.push(("payload-format-indicator".to_owned(), JsonValue::Integer(is_utf8.into())));
    }
    if let Some(content_type) = &properties.content_type {
        members.push(member("content-type", &**content_type));
    }
    if let Some(topic) = &properties.response_topic {
        members.push(member("response-topic", topic.as_str()));
    }
    members
}

fn member(name: &str, value: impl Into<String>) -> (String, JsonValue) {
    (name.to_owned(), string(value))
}

fn string(value: impl Into<String>) -> JsonValue {
    JsonValue::String(value.into())
}

fn integer(value: usize) -> JsonValue {
    i128::try_from(value).map_or(JsonValue::Null, JsonValue::Integer)
}
