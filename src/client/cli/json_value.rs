//! JSON that keeps the order of its members, printed the way the Mosquitto clients print it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value; members of an object stay in their order, also repeated ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum JsonValue {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Array(Vec<JsonValue>),
    Object(Vec<(String, JsonValue)>),
}

impl JsonValue {
    /// Parses the whole of `text`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Without a byte too many.
    pub(super) fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// Over several lines, indented with tabs.
    pub(super) fn pretty(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, Some(0));
        text
    }

    fn write(&self, text: &mut String, depth: Option<usize>) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => text.push_str(&value.to_string()),
            Self::Float(value) => text.push_str(&number(*value)),
            Self::String(value) => text.push_str(&quoted(value)),
            Self::Array(items) => write_array(text, items, depth),
            Self::Object(members) => write_object(text, members, depth),
        }
    }
}

fn write_array(text: &mut String, items: &[JsonValue], depth: Option<usize>) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(if depth.is_some() { ", " } else { "," });
        }
        item.write(text, depth.map(|depth| depth + 1));
    }
    text.push(']');
}

fn write_object(text: &mut String, members: &[(String, JsonValue)], depth: Option<usize>) {
    text.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if let Some(depth) = depth {
            text.push('\n');
            text.push_str(&"\t".repeat(depth + 1));
        }
        text.push_str(&quoted(name));
        text.push(':');
        if depth.is_some() {
            text.push('\t');
        }
        value.write(text, depth.map(|depth| depth + 1));
    }
    if let Some(depth) = depth {
        text.push('\n');
        text.push_str(&"\t".repeat(depth));
    }
    text.push('}');
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON form")
}

/// Whole numbers without a fraction, others as short as they can be.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let text = format!("{value:?}");
    match text.split_once('e') {
        // As in C: a sign, and two digits at least.
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonValue, E> {
        Ok(JsonValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonValue, E> {
        Ok(JsonValue::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonValue, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(JsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonValue, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(JsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, compact: &str) {
        assert_eq!(JsonValue::parse(text.as_bytes()).unwrap().compact(), compact);
    }

    #[test]
    fn members_keep_their_order_and_numbers_their_value() {
        check(
            r#" { "x" : 1.0, "b" : [1, 2e3, -0.5], "a": {}, "s": "\u00e9\n" } "#,
            "{\"x\":1,\"b\":[1,2000,-0.5],\"a\":{},\"s\":\"\u{e9}\\n\"}",
        );
        check("[1e300, 1.5e-9, 123456789012345678]", "[1e+300,1.5e-09,123456789012345678]");
        check("null", "null");
    }

    #[test]
    fn pretty_is_indented_with_tabs() {
        let value = JsonValue::parse(br#"{"a":[1,2],"b":{"c":true}}"#).unwrap();
        assert_eq!(value.pretty(), "{\n\t\"a\":\t[1, 2],\n\t\"b\":\t{\n\t\t\"c\":\ttrue\n\t}\n}");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "hello", "[1,]"] {
            assert_eq!(JsonValue::parse(text.as_bytes()), None, "{text}");
        }
    }
}
