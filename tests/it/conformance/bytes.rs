//! Packets as bytes, built and read by hand: the scripts share no code with the broker they judge.

use super::{Outcome, Version, differs};

/// Packet types as the high nibble of the first byte.
pub(crate) mod kind {
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// Property identifiers of MQTT 5.0.
pub(crate) mod prop {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;

    /// A property of one byte.
    pub(crate) fn byte(id: u8, value: u8) -> Vec<u8> {
        vec![id, value]
    }

    /// A property of two bytes.
    pub(crate) fn two(id: u8, value: u16) -> Vec<u8> {
        [&[id][..], &value.to_be_bytes()].concat()
    }

    /// A property of four bytes.
    pub(crate) fn four(id: u8, value: u32) -> Vec<u8> {
        [&[id][..], &value.to_be_bytes()].concat()
    }

    /// A property that is a string or binary data.
    pub(crate) fn text(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
        [vec![id], super::text(value)].concat()
    }

    /// A User Property.
    pub(crate) fn user(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
        [vec![USER_PROPERTY], super::text(name), super::text(value)].concat()
    }

    /// A Subscription Identifier.
    pub(crate) fn subscription_id(value: u32) -> Vec<u8> {
        [vec![SUBSCRIPTION_ID], super::variable(value)].concat()
    }
}

/// A Variable Byte Integer in its shortest form.
pub(crate) fn variable(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A string or binary data with its two bytes of length.
pub(crate) fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = u16::try_from(value.len()).expect("scripts use at most 65,535 bytes");
    [&length.to_be_bytes()[..], value].concat()
}

/// A packet: first byte, Remaining Length, the rest.
pub(crate) fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len()).expect("scripts send small packets");
    [vec![first], variable(length), rest.to_vec()].concat()
}

/// A property block: its length, then the properties.
pub(crate) fn block(properties: &[u8]) -> Vec<u8> {
    let length = u32::try_from(properties.len()).expect("scripts send few properties");
    [variable(length), properties.to_vec()].concat()
}

/// A property block where the version has one.
pub(crate) fn block_if_v5(version: Version, properties: &[u8]) -> Vec<u8> {
    match version {
        Version::V4 => Vec::new(),
        Version::V5 => block(properties),
    }
}

/// PINGREQ.
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];

/// DISCONNECT without anything, the same in both versions.
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// What a CONNECT carries as its will.
#[derive(Clone)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<u8>,
}

impl Will {
    /// A will of QoS 0, not retained.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// Its QoS.
    pub(crate) fn qos(self, qos: u8) -> Self {
        Self { qos, ..self }
    }

    /// Retained.
    pub(crate) fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    /// One more property.
    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }
}

/// A CONNECT to be.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) name: Vec<u8>,
    pub(crate) level: u8,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) client_id: Vec<u8>,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) flags_toggled: u8,
}

impl Connect {
    /// A clean CONNECT that asks for a keep alive of a minute.
    pub(crate) fn new(version: Version, client_id: impl AsRef<[u8]>) -> Self {
        Self {
            version,
            name: b"MQTT".to_vec(),
            level: match version {
                Version::V4 => 4,
                Version::V5 => 5,
            },
            clean: true,
            keep_alive: 60,
            properties: Vec::new(),
            client_id: client_id.as_ref().to_vec(),
            will: None,
            user_name: None,
            password: None,
            flags_toggled: 0,
        }
    }

    /// Clean Session or Clean Start 0, and in 5.0 a Session Expiry Interval of ten minutes.
    pub(crate) fn kept(self) -> Self {
        let resumed = self.resumed();
        match resumed.version {
            Version::V4 => resumed,
            Version::V5 => resumed.with(&prop::four(prop::SESSION_EXPIRY, 600)),
        }
    }

    /// Clean Session or Clean Start 0, nothing else.
    pub(crate) fn resumed(self) -> Self {
        Self { clean: false, ..self }
    }

    /// One more property (5.0).
    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    /// With this will.
    pub(crate) fn will(self, will: Will) -> Self {
        Self { will: Some(will), ..self }
    }

    /// With this keep alive.
    pub(crate) fn keep_alive(self, keep_alive: u16) -> Self {
        Self { keep_alive, ..self }
    }

    /// With these Connect Flags inverted.
    pub(crate) fn toggle(self, flags_toggled: u8) -> Self {
        Self { flags_toggled, ..self }
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        packet(0x10, &[self.head(), self.payload()].concat())
    }

    /// The variable header.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.user_name.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        let mut head = text(&self.name);
        head.extend([self.level, flags ^ self.flags_toggled]);
        head.extend(self.keep_alive.to_be_bytes());
        head.extend(block_if_v5(self.version, &self.properties));
        head
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = text(&self.client_id);
        if let Some(will) = &self.will {
            payload.extend(block_if_v5(self.version, &will.properties));
            payload.extend(text(&will.topic));
            payload.extend(text(&will.payload));
        }
        payload.extend(self.user_name.iter().flat_map(text));
        payload.extend(self.password.iter().flat_map(text));
        payload
    }
}

/// A PUBLISH, to be sent or received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Publish {
    pub(crate) version: Version,
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: Vec<u8>,
    pub(crate) id: u16,
    pub(crate) properties: Properties,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    /// A message of QoS 0.
    pub(crate) fn new(
        version: Version,
        topic: impl AsRef<[u8]>,
        payload: impl AsRef<[u8]>,
    ) -> Self {
        Self {
            version,
            dup: false,
            qos: 0,
            retain: false,
            topic: topic.as_ref().to_vec(),
            id: 0,
            properties: Properties::default(),
            payload: payload.as_ref().to_vec(),
        }
    }

    /// With this QoS and Packet Identifier.
    pub(crate) fn qos(self, qos: u8, id: u16) -> Self {
        Self { qos, id, ..self }
    }

    /// With RETAIN.
    pub(crate) fn retained(self) -> Self {
        Self { retain: true, ..self }
    }

    /// With DUP.
    pub(crate) fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    /// One more property (5.0).
    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.0.push(property.to_vec());
        self
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut rest = text(&self.topic);
        if self.qos > 0 {
            rest.extend(self.id.to_be_bytes());
        }
        rest.extend(block_if_v5(self.version, &self.properties.0.concat()));
        rest.extend(&self.payload);
        packet(0x30 | flags, &rest)
    }

    /// The topic and the payload as text, for messages.
    pub(crate) fn shown(&self) -> String {
        let topic = String::from_utf8_lossy(&self.topic);
        let payload = String::from_utf8_lossy(&self.payload);
        let payload = payload.get(..40).unwrap_or(&payload);
        format!("PUBLISH {topic} `{payload}` QoS {}", self.qos)
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// A SUBSCRIBE of (filter, options) pairs.
pub(crate) fn subscribe(
    version: Version,
    id: u16,
    properties: &[u8],
    pairs: &[(&[u8], u8)],
) -> Vec<u8> {
    let mut rest = id.to_be_bytes().to_vec();
    rest.extend(block_if_v5(version, properties));
    for (filter, options) in pairs {
        rest.extend(text(filter));
        rest.push(*options);
    }
    packet(0x82, &rest)
}

/// An UNSUBSCRIBE.
pub(crate) fn unsubscribe(version: Version, id: u16, filters: &[&[u8]]) -> Vec<u8> {
    let mut rest = id.to_be_bytes().to_vec();
    rest.extend(block_if_v5(version, &[]));
    for filter in filters {
        rest.extend(text(filter));
    }
    packet(0xA2, &rest)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with nothing but the Packet Identifier.
pub(crate) fn ack(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == kind::PUBREL { 2 } else { 0 };
    packet(kind << 4 | flags, &id.to_be_bytes())
}

/// The same with a Reason Code (5.0).
pub(crate) fn ack_with(kind: u8, id: u16, code: u8) -> Vec<u8> {
    let flags = if kind == kind::PUBREL { 2 } else { 0 };
    packet(kind << 4 | flags, &[&id.to_be_bytes()[..], &[code]].concat())
}

/// DISCONNECT with a Reason Code and properties (5.0).
pub(crate) fn disconnect_with(code: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xE0, &[vec![code], block(properties)].concat())
}

/// Properties as received: each one its identifier and its value as they stood on the wire.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Properties(pub(crate) Vec<Vec<u8>>);

impl Properties {
    /// All properties with this identifier, in order.
    pub(crate) fn all(&self, id: u8) -> Vec<&[u8]> {
        self.0.iter().filter(|p| p[0] == id).map(Vec::as_slice).collect()
    }

    /// Whether one has this identifier.
    pub(crate) fn has(&self, id: u8) -> bool {
        self.0.iter().any(|p| p[0] == id)
    }

    /// The value of a property of one, two or four bytes.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        let found = self.0.iter().find(|p| p[0] == id)?;
        Some(found[1..].iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// The value of a string property.
    pub(crate) fn string(&self, id: u8) -> Option<String> {
        let found = self.0.iter().find(|p| p[0] == id)?;
        Some(String::from_utf8_lossy(&found[3..]).into_owned())
    }
}

/// A cursor over what was received.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let Some((head, tail)) = self.0.split_at_checked(count) else {
            return differs("the server sent a packet that ends too early");
        };
        self.0 = tail;
        Ok(head)
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Outcome<u8> {
        Ok(self.take(1)?[0])
    }

    /// Two bytes.
    pub(crate) fn two(&mut self) -> Outcome<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A string or binary data.
    pub(crate) fn text(&mut self) -> Outcome<&'a [u8]> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// A Variable Byte Integer, which must have its shortest form [v5:MQTT-1.5.5-1].
    pub(crate) fn variable(&mut self) -> Outcome<usize> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    return differs("a Variable Byte Integer has more bytes than needed");
                }
                return Ok(value);
            }
        }
        differs("a Variable Byte Integer has more than four bytes")
    }

    /// A property block.
    pub(crate) fn properties(&mut self) -> Outcome<Properties> {
        let length = self.variable()?;
        let mut inner = Reader(self.take(length)?);
        let mut properties = Vec::new();
        while !inner.0.is_empty() {
            let whole = inner.0;
            inner.property()?;
            properties.push(whole[..whole.len() - inner.0.len()].to_vec());
        }
        Ok(Properties(properties))
    }

    fn property(&mut self) -> Outcome {
        match self.byte()? {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => self.take(1)?,
            0x13 | 0x21 | 0x22 | 0x23 => self.take(2)?,
            0x02 | 0x11 | 0x18 | 0x27 => self.take(4)?,
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => self.text()?,
            0x0B => return self.variable().map(drop),
            0x26 => {
                self.text()?;
                self.text()?
            }
            other => return differs(format!("the server sent unknown property {other:#04x}")),
        };
        Ok(())
    }
}
