//! `--json-lines`: a message from a JSON object, as `mqtt_sub --format json` prints it.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::json_value::JsonValue;
use crate::mqtt::{QoS, TopicName};

/// What a source says about a message; the command line says the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) topic: Option<TopicName>,
    pub(super) qos: Option<QoS>,
    pub(super) retain: Option<bool>,
    pub(super) payload: Bytes,
}

impl Draft {
    /// A payload, and nothing said about it.
    pub(super) fn new(payload: Bytes) -> Self {
        Self { topic: None, qos: None, retain: None, payload }
    }
}

/// Members that this program understands; others are passed over.
#[derive(Deserialize)]
struct Line {
    topic: Option<String>,
    qos: Option<u8>,
    retain: Option<Flag>,
    payload: Option<JsonValue>,
    payload_b64: Option<String>,
}

/// `true` here, `1` in what the Mosquitto clients print.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
}

/// Parses one line; a payload that is not a string is sent as JSON text.
pub(super) fn parse(line: &[u8]) -> Result<Draft, String> {
    let line: Line =
        serde_json::from_slice(line).map_err(|error| format!("no message in JSON: {error}"))?;
    let payload = match (line.payload, line.payload_b64) {
        (Some(_), Some(_)) => return Err("both payload and payload_b64".to_owned()),
        (Some(JsonValue::String(text)), None) => text.into(),
        (Some(JsonValue::Null) | None, None) => Bytes::new(),
        (Some(value), None) => value.compact().into(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|error| format!("payload_b64: {error}"))?.into()
        }
    };
    let topic = line.topic.map(|topic| TopicName::parse(topic.into())).transpose();
    let qos = line.qos.map(|bits| QoS::from_bits(bits).ok_or("qos: it is 0, 1 or 2"));
    Ok(Draft {
        topic: topic.map_err(|error| format!("topic: {error}"))?,
        qos: qos.transpose()?,
        retain: line.retain.map(|flag| match flag {
            Flag::Bool(flag) => flag,
            Flag::Number(number) => number != 0,
        }),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_as_much_as_it_wants() {
        assert_eq!(parse(b"{}").unwrap(), Draft::new(Bytes::new()));
        let draft = parse(br#"{"topic":"a","qos":1,"retain":1,"payload":{"x":1.0},"ts":"-"}"#);
        let draft = draft.unwrap();
        assert_eq!((draft.topic.unwrap().as_str(), draft.qos), ("a", Some(QoS::AtLeastOnce)));
        assert_eq!((draft.retain, &*draft.payload), (Some(true), &br#"{"x":1}"#[..]));
        assert_eq!(&*parse(br#"{"payload_b64":"/w=="}"#).unwrap().payload, b"\xff");
    }

    #[test]
    fn what_makes_no_message_is_refused() {
        for line in [
            &b"hello"[..],
            br#"{"qos":3}"#,
            br#"{"topic":"a/#"}"#,
            br#"{"payload_b64":"?"}"#,
            br#"{"payload":"a","payload_b64":""}"#,
        ] {
            assert!(parse(line).is_err(), "{}", String::from_utf8_lossy(line));
        }
    }
}
