//! `-F`: a line made from a template, with the escapes of the Mosquitto clients.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use chrono::{DateTime, Local};

use super::{
    json_value::JsonValue,
    message_json::{PayloadForm, theirs},
};
use crate::mqtt::{MessageProperties, PacketId, Publish};

/// A template, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    /// A `%` sequence.
    Field(char, Layout),
    /// An `@` sequence: a letter of strftime, or `N` for nanoseconds.
    Time(char),
}

/// What stands between `%` and its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    is_left: bool,
    is_zero_padded: bool,
    width: usize,
    precision: Option<usize>,
}

/// Why a message was not printed by the template.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// `%J` of a payload that is not JSON.
    #[error("message payload is not valid JSON on topic {0}")]
    NotJson(String),
    /// The output is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Template {
    /// Takes a template apart; the error names what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(first) = chars.next() {
            let part = match first {
                '%' => parse_field(&mut chars)?,
                '@' => match chars.next() {
                    Some('@') => Part::Literal(b"@".to_vec()),
                    Some(letter) => Part::Time(letter),
                    None => return Err("it ends with a single @".to_owned()),
                },
                '\\' => Part::Literal(vec![escaped(chars.next())?]),
                other => {
                    let mut bytes = [0; 4];
                    Part::Literal(other.encode_utf8(&mut bytes).as_bytes().to_vec())
                }
            };
            match part {
                Part::Literal(bytes) => literal.extend(bytes),
                Part::Field(..) | Part::Time(_) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Prints one message. An error of the message leaves what came before it in the output.
    pub(super) fn print(
        &self,
        out: &mut impl Write,
        publish: &Publish,
        at: &DateTime<Local>,
        is_pretty: bool,
    ) -> Result<(), PrintError> {
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.write_all(bytes)?,
                Part::Time('N') => write!(out, "{:09}", at.timestamp_subsec_nanos())?,
                Part::Time(letter) => out.write_all(strftime(*letter, at).as_bytes())?,
                Part::Field('j', _) => {
                    print_json(out, theirs(publish, at, PayloadForm::Text), publish, is_pretty)?;
                }
                Part::Field('J', _) => {
                    print_json(out, theirs(publish, at, PayloadForm::Json), publish, is_pretty)?;
                }
                Part::Field(letter, layout) => {
                    out.write_all(&field(*letter, *layout, publish, at))?;
                }
            }
        }
        Ok(())
    }
}

fn parse_field(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, String> {
    let layout = Layout {
        is_left: chars.next_if_eq(&'-').is_some(),
        is_zero_padded: chars.next_if_eq(&'0').is_some(),
        width: parse_number(chars),
        precision: chars.next_if_eq(&'.').map(|_| parse_number(chars)),
    };
    match chars.next() {
        Some('%') => Ok(Part::Literal(b"%".to_vec())),
        Some(letter) if FIELDS.contains(letter) => Ok(Part::Field(letter, layout)),
        Some(letter) => Err(format!("there is no %{letter}; the letters are {FIELDS}")),
        None => Err("it ends within a % sequence".to_owned()),
    }
}

fn parse_number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|it| it.to_digit(10)) {
        number = (number * 10 + digit as usize).min(WIDTH_MAX);
    }
    number
}

fn escaped(letter: Option<char>) -> Result<u8, String> {
    match letter {
        Some('\\') => Ok(b'\\'),
        Some('0') => Ok(0),
        Some('a') => Ok(0x07),
        Some('e') => Ok(0x1b),
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('v') => Ok(0x0b),
        Some(other) => Err(format!("there is no \\{other}")),
        None => Err("it ends with a single \\".to_owned()),
    }
}

fn field(letter: char, layout: Layout, publish: &Publish, at: &DateTime<Local>) -> Vec<u8> {
    let none = MessageProperties::default();
    let properties = publish.properties.as_deref().unwrap_or(&none);
    match letter {
        'A' => optional_number(publish.topic_alias.map(|alias| alias.get().into()), layout),
        'C' => optional_text(properties.content_type.as_deref(), layout),
        'D' => properties.correlation_data.as_deref().unwrap_or_default().to_vec(),
        'E' => optional_number(properties.message_expiry_interval_secs, layout),
        'F' => optional_number(properties.payload_format_is_utf8.map(u32::from), layout),
        'I' => text(&at.format("%Y-%m-%dT%H:%M:%S%z").to_string(), layout),
        'l' => number(&publish.payload.len().to_string(), layout),
        'm' => number(&publish.packet_id.map_or(0, PacketId::get).to_string(), layout),
        'P' => user_properties(properties),
        'p' => bytes(&publish.payload, layout),
        'q' => publish.qos.bits().to_string().into_bytes(),
        'R' => match &properties.response_topic {
            Some(topic) => text(topic.as_str(), layout),
            None => Vec::new(),
        },
        'r' => u8::from(publish.retain).to_string().into_bytes(),
        'S' => optional_number(publish.subscription_ids.first().copied(), layout),
        't' => text(&publish.topic, layout),
        'U' => format!("{}.{:09}", at.timestamp(), at.timestamp_subsec_nanos()).into_bytes(),
        'x' => hex(&publish.payload, layout, "0123456789abcdef"),
        'X' => hex(&publish.payload, layout, "0123456789ABCDEF"),
        _ => unreachable!("the parser lets only known letters through"),
    }
}

fn user_properties(properties: &MessageProperties) -> Vec<u8> {
    let users = properties.user_properties.iter();
    let pairs: Vec<_> = users.map(|user| format!("{}:{}", user.name, user.value)).collect();
    pairs.join(" ").into_bytes()
}

fn optional_number(value: Option<u32>, layout: Layout) -> Vec<u8> {
    match value {
        Some(value) => number(&value.to_string(), layout),
        None => vec![if layout.is_zero_padded { b'0' } else { b' ' }; layout.width],
    }
}

fn optional_text(value: Option<&str>, layout: Layout) -> Vec<u8> {
    value.map_or_else(|| vec![b' '; layout.width], |value| text(value, layout))
}

fn number(digits: &str, layout: Layout) -> Vec<u8> {
    let pad = if layout.is_zero_padded && !layout.is_left { b'0' } else { b' ' };
    padded(digits.as_bytes(), layout, layout.width, pad)
}

/// Text is cut at the precision; widths count bytes, as in C.
fn text(value: &str, layout: Layout) -> Vec<u8> {
    let len = layout.precision.unwrap_or(value.len()).min(value.len());
    padded(value.as_bytes().get(..len).unwrap_or_default(), layout, layout.width, b' ')
}

/// A payload is cut at the width.
fn bytes(value: &[u8], layout: Layout) -> Vec<u8> {
    let len = if layout.width > 0 { value.len().min(layout.width) } else { value.len() };
    let pad = if layout.is_zero_padded && !layout.is_left { b'0' } else { b' ' };
    padded(value.get(..len).unwrap_or_default(), layout, layout.width, pad)
}

/// Two digits a byte; cut at the width if the *bytes* are more than that, as they do it.
fn hex(value: &[u8], layout: Layout, digits: &str) -> Vec<u8> {
    let len = if layout.width > 0 { value.len().min(layout.width) / 2 } else { value.len() };
    let digits = digits.as_bytes();
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or(b'?');
    let shown = value.iter().take(len).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    let shown: Vec<u8> = shown.collect();
    let pad = if layout.is_zero_padded && !layout.is_left { b'0' } else { b' ' };
    padded(&shown, layout, layout.width, pad)
}

fn padded(value: &[u8], layout: Layout, width: usize, pad: u8) -> Vec<u8> {
    let padding = vec![pad; width.saturating_sub(value.len())];
    if layout.is_left { [value, &padding].concat() } else { [&padding, value].concat() }
}

fn strftime(letter: char, at: &DateTime<Local>) -> String {
    let mut text = String::new();
    // What this machine's clock library does not know prints nothing.
    if write!(text, "{}", at.format(&format!("%{letter}"))).is_err() {
        text.clear();
    }
    text
}

fn print_json(
    out: &mut impl Write,
    value: Option<JsonValue>,
    publish: &Publish,
    is_pretty: bool,
) -> Result<(), PrintError> {
    let value = value.ok_or_else(|| PrintError::NotJson(publish.topic.to_string()))?;
    let text = if is_pretty { value.pretty() } else { value.compact() };
    Ok(out.write_all(text.as_bytes())?)
}

const FIELDS: &str = "ACDEFIjJlmPpqRrStUxX";
/// Wider fields would only fill memory.
const WIDTH_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeZone;

    use super::*;
    use crate::mqtt::{QoS, UserProperty};

    fn check(template: &str, expected: &str) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b".into(),
            packet_id: PacketId::new(7),
            topic_alias: None,
            subscription_ids: smallvec::smallvec![3],
            properties: Some(Arc::new(MessageProperties {
                content_type: Some("text".into()),
                user_properties: vec![UserProperty { name: "k".into(), value: "v".into() }],
                ..MessageProperties::default()
            })),
            payload: "hello".into(),
        };
        let at = Local.timestamp_opt(1_600_000_000, 42).unwrap();
        let mut out = Vec::new();
        Template::parse(template).unwrap().print(&mut out, &publish, &at, false).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{template}");
    }

    #[test]
    fn fields_print_the_message() {
        check("%t %p %q %r %l %m %S %P %C", "a/b hello 1 1 5 7 3 k:v text");
        check("%x %X", "68656c6c6f 68656C6C6F");
        check("%U @N", "1600000000.000000042 000000042");
    }

    #[test]
    fn widths_and_precisions_are_those_of_c() {
        check("%10t|%-10t|%.2t|%5.2t|", "       a/b|a/b       |a/|   a/|");
        check("%5l|%05l|%-5l|%-05l|", "    5|00005|5    |5    |");
        check("%3p|%8p|%-8p|%08p|", "hel|   hello|hello   |000hello|");
        check("%3E|%03E|%A|", "   |000||");
        check("%4x|%6X|%-6x|", "6865|  6865|6865  |");
    }

    #[test]
    fn escapes_and_doubled_marks_stand_for_themselves() {
        check("%%@@\\\\\\t\\n", "%@\\\t\n");
        check("\\0\\a\\e\\r\\v", "\0\x07\x1b\r\x0b");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for template in ["%", "%Z", "%5", "@", "\\", "\\q", "%-", "%.3"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
