//! Writing the packets the load sends.

use crate::{frames::Version, stamp::Stamp};

/// How a session is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// Nothing is kept.
    Clean,
    /// The session outlives its connection.
    Persistent,
}

/// A CONNECT with no will and no credentials. Keep alive is longer than any row; off it cannot be,
/// for rumqttd refuses that.
#[must_use]
pub fn connect(version: Version, client_id: &str, start: Start) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.push(match version {
        Version::V311 => 4,
        Version::V5 => 5,
    });
    body.push(match start {
        Start::Clean => 2,
        Start::Persistent => 0,
    });
    body.extend_from_slice(&KEEP_ALIVE_SECS.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    text(&mut body, client_id);
    packet(0x10, &body)
}

/// A SUBSCRIBE for all of `filters`.
#[must_use]
pub fn subscribe(version: Version, id: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter);
        body.push(qos);
    }
    packet(0x82, &body)
}

/// A DISCONNECT.
#[must_use]
pub fn disconnect() -> Vec<u8> {
    vec![0xE0, 0]
}

/// An acknowledgement of type `first` for the Packet Identifier `id`, appended to `out`.
pub fn ack(out: &mut Vec<u8>, first: u8, id: [u8; 2]) {
    let [high, low] = id;
    out.extend_from_slice(&[first, 2, high, low]);
}

/// What a flow publishes.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The protocol version of the connection.
    pub version: Version,
    /// The Topic Name; with `varied`, the part before the digits.
    pub topic: String,
    /// Whether messages go to changing topics.
    pub varied: Option<Varied>,
    /// Quality of Service.
    pub qos: u8,
    /// Whether the broker is to retain the message.
    pub retain: bool,
    /// Length of the payload, at least [`Stamp::LEN`].
    pub payload_len: usize,
}

/// Topics `topic` + seven digits + `suffix`, visited in an order without locality.
#[derive(Clone, Copy, Debug)]
pub struct Varied {
    /// How many topics there are.
    pub count: u64,
    /// What follows the digits.
    pub suffix: &'static str,
    /// Distance between the digits of two messages; coprime to `count`.
    pub stride: u64,
}

/// A PUBLISH encoded once, of which only the parts that change are written per message.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    digits: Option<(usize, Varied)>,
    stamp_at: usize,
}

impl Template {
    /// Encodes the packet.
    #[must_use]
    pub fn new(options: &PublishOptions) -> Self {
        let mut topic = options.topic.clone();
        let digits_from = topic.len();
        if let Some(varied) = options.varied {
            topic.push_str(&"0".repeat(DIGITS));
            topic.push_str(varied.suffix);
        }
        let mut body = Vec::new();
        text(&mut body, &topic);
        let id_from = body.len();
        if options.qos > 0 {
            body.extend_from_slice(&[0, 1]);
        }
        if options.version == Version::V5 {
            body.push(0);
        }
        let stamp_from = body.len();
        body.resize(stamp_from + options.payload_len.max(Stamp::LEN), b'x');
        let bytes = packet(0x30 | (options.qos << 1) | u8::from(options.retain), &body);
        let header = bytes.len() - body.len();
        Self {
            id_at: (options.qos > 0).then_some(header + id_from),
            digits: options.varied.map(|varied| (header + 2 + digits_from, varied)),
            stamp_at: header + stamp_from,
            bytes,
        }
    }

    /// Bytes of one packet.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet for `stamp`.
    pub fn append(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let Some(frame) = out.get_mut(start..) else { return };
        if let Some(slot) = frame.get_mut(self.stamp_at..) {
            stamp.write(slot);
        }
        if let Some(at) = self.id_at
            && let Some(slot) = frame.get_mut(at..at + 2)
        {
            slot.copy_from_slice(&packet_id(stamp.sequence).to_be_bytes());
        }
        if let Some((at, varied)) = self.digits
            && let Some(slot) = frame.get_mut(at..at + DIGITS)
        {
            decimal(slot, stamp.sequence.wrapping_mul(varied.stride) % varied.count);
        }
    }
}

/// The Packet Identifier of the message at `sequence`: counts from 1 to 65,535 and over again.
#[must_use]
pub fn packet_id(sequence: u64) -> u16 {
    u16::try_from(sequence % 65_535 + 1).unwrap_or(1)
}

/// `value` as the seven digits a varied topic carries.
#[must_use]
pub fn digits(value: u64) -> String {
    format!("{value:0DIGITS$}")
}

fn decimal(slot: &mut [u8], mut value: u64) {
    for digit in slot.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("the bench's own texts are short");
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let low = u8::try_from(len % 128).unwrap_or(0);
        len /= 128;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

const KEEP_ALIVE_SECS: u16 = 3_600;
const DIGITS: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;

    fn options(version: Version, varied: Option<Varied>) -> PublishOptions {
        PublishOptions {
            version,
            topic: "a/".to_owned(),
            varied,
            qos: 1,
            retain: false,
            payload_len: 200,
        }
    }

    #[test]
    fn a_template_yields_packets_the_parser_reads() {
        for version in [Version::V311, Version::V5] {
            let template = Template::new(&options(version, None));
            let stamp = Stamp { flow: 3, sequence: 65_535, sent: 99 };
            let mut out = Vec::new();
            template.append(&mut out, stamp);
            assert_eq!(out.len(), template.frame_len());
            let (frame, rest) = frames::split(&out).unwrap().unwrap();
            assert!(rest.is_empty());
            let publish = frame.publish(version).unwrap();
            assert_eq!((publish.qos, publish.id, publish.payload.len()), (1, [0, 1], 200));
            assert_eq!(Stamp::read(publish.payload), Some(stamp));
        }
    }

    #[test]
    fn varied_topics_carry_their_number() {
        let varied = Varied { count: 1000, suffix: "/t", stride: 7 };
        let template = Template::new(&options(Version::V311, Some(varied)));
        let mut out = Vec::new();
        template.append(&mut out, Stamp { flow: 0, sequence: 150, sent: 0 });
        let topic = format!("a/{}/t", digits(50));
        assert!(out.windows(topic.len()).any(|window| window == topic.as_bytes()));
    }
}
