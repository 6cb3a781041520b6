//! One raw connection: bytes out, packets in, every wait bounded and every packet checked for form.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::bytes::{self, Properties, Reader};
use super::{Outcome, Publish, Version, ack, differs, ensure, kind};

/// What the server does next.
#[derive(Debug)]
pub(crate) enum Event {
    /// It sends a packet.
    Packet(Packet),
    /// It closes the connection.
    Closed,
}

/// A packet as it came.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) version: Version,
    pub(crate) first: u8,
    pub(crate) rest: Vec<u8>,
}

/// A packet that carries a Packet Identifier and, in 5.0, a Reason Code.
#[derive(Debug)]
pub(crate) struct Acknowledgement {
    pub(crate) id: u16,
    pub(crate) code: u8,
    pub(crate) properties: Properties,
}

/// CONNACK, DISCONNECT or AUTH.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reason {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) properties: Properties,
}

/// SUBACK or UNSUBACK.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) id: u16,
    pub(crate) properties: Properties,
    pub(crate) codes: Vec<u8>,
}

impl Packet {
    /// The type.
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The whole packet again.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        bytes::packet(self.first, &self.rest)
    }

    /// Reads it as a PUBLISH.
    pub(crate) fn publish(&self) -> Outcome<Publish> {
        ensure!(self.kind() == kind::PUBLISH, "expected PUBLISH, got {}", self.shown());
        let mut reader = Reader(&self.rest);
        let qos = self.first >> 1 & 3;
        ensure!(qos < 3, "the server sent a PUBLISH with both QoS bits set");
        let topic = reader.text()?.to_vec();
        let id = if qos > 0 { reader.two()? } else { 0 };
        ensure!(qos == 0 || id != 0, "the server sent a PUBLISH with Packet Identifier 0");
        let properties = self.properties(&mut reader)?;
        Ok(Publish {
            version: self.version,
            dup: self.first & 8 != 0,
            qos,
            retain: self.first & 1 != 0,
            topic,
            id,
            properties,
            payload: reader.0.to_vec(),
        })
    }

    /// Reads it as PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(crate) fn acknowledgement(&self) -> Outcome<Acknowledgement> {
        let mut reader = Reader(&self.rest);
        let id = reader.two()?;
        let code = if reader.0.is_empty() { 0 } else { reader.byte()? };
        let properties = self.properties_if_any(&mut reader)?;
        ensure!(reader.0.is_empty(), "{} has bytes left over", self.shown());
        ensure!(
            self.version == Version::V5 || self.rest.len() == 2,
            "{} is not two bytes long",
            self.shown()
        );
        Ok(Acknowledgement { id, code, properties })
    }

    /// Reads it as CONNACK, DISCONNECT or AUTH.
    pub(crate) fn reason(&self) -> Outcome<Reason> {
        let mut reader = Reader(&self.rest);
        let mut session_present = false;
        if self.kind() == kind::CONNACK {
            let flags = reader.byte()?;
            ensure!(flags < 2, "CONNACK has reserved bits set in {flags:#04x}");
            session_present = flags == 1;
        }
        let code = if reader.0.is_empty() { 0 } else { reader.byte()? };
        let properties = self.properties_if_any(&mut reader)?;
        ensure!(reader.0.is_empty(), "{} has bytes left over", self.shown());
        Ok(Reason { session_present, code, properties })
    }

    /// Reads it as SUBACK or UNSUBACK.
    pub(crate) fn codes(&self) -> Outcome<Answers> {
        let mut reader = Reader(&self.rest);
        let id = reader.two()?;
        let properties = self.properties(&mut reader)?;
        Ok(Answers { id, properties, codes: reader.0.to_vec() })
    }

    fn properties(&self, reader: &mut Reader<'_>) -> Outcome<Properties> {
        match self.version {
            Version::V4 => Ok(Properties::default()),
            Version::V5 => reader.properties(),
        }
    }

    fn properties_if_any(&self, reader: &mut Reader<'_>) -> Outcome<Properties> {
        if reader.0.is_empty() {
            return Ok(Properties::default());
        }
        self.properties(reader)
    }

    /// Checks what holds for every packet a server sends: flags, form, and a Reason Code that its
    /// packet may carry.
    fn checked(self) -> Outcome<Self> {
        let flags_wanted = if self.kind() == kind::PUBREL { 2 } else { 0 };
        let flags = self.first & 0x0F;
        ensure!(
            self.kind() == kind::PUBLISH || flags == flags_wanted,
            "{} has reserved flags set",
            self.shown()
        );
        let codes = match self.kind() {
            kind::PUBLISH => {
                self.publish()?;
                return Ok(self);
            }
            kind::PINGRESP => {
                ensure!(self.rest.is_empty(), "PINGRESP is not empty");
                return Ok(self);
            }
            kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP => {
                vec![self.acknowledgement()?.code]
            }
            kind::SUBACK | kind::UNSUBACK => self.codes()?.codes,
            kind::CONNACK | kind::DISCONNECT | kind::AUTH => vec![self.reason()?.code],
            _ => return differs(format!("a server may not send {}", self.shown())),
        };
        let allowed = codes_allowed(self.version, self.kind());
        for code in codes {
            ensure!(allowed.contains(&code), "{} may not carry {code:#04x}", self.shown());
        }
        Ok(self)
    }

    /// Name and bytes, for messages.
    pub(crate) fn shown(&self) -> String {
        let name = name_of(self.kind());
        let shown = self.rest.iter().take(48).map(|byte| format!("{byte:02x}"));
        format!("{name} {:02x} [{}]", self.first, shown.collect::<Vec<_>>().join(" "))
    }
}

/// The name of a packet type.
fn name_of(kind: u8) -> &'static str {
    let names = [
        "type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    names[usize::from(kind)]
}

/// The Reason Codes (3.1.1: return codes) a server may put into this packet.
fn codes_allowed(version: Version, kind: u8) -> &'static [u8] {
    match (version, kind) {
        (Version::V4, kind::CONNACK) => &[0, 1, 2, 3, 4, 5],
        (Version::V4, kind::SUBACK) => &[0, 1, 2, 0x80],
        (Version::V4, kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP) => &[0],
        (Version::V5, kind::CONNACK) => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
            0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
        (Version::V5, kind::PUBACK | kind::PUBREC) => {
            &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
        }
        (Version::V5, kind::PUBREL | kind::PUBCOMP) => &[0x00, 0x92],
        (Version::V5, kind::SUBACK) => {
            &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
        }
        (Version::V5, kind::UNSUBACK) => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        (Version::V5, kind::DISCONNECT) => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
            0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        (Version::V5, kind::AUTH) => &[0x00, 0x18],
        _ => &[],
    }
}

/// A connection to the server under test.
pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    patience: Duration,
    received: Vec<u8>,
    set_aside: VecDeque<Packet>,
    last_id: u16,
    takes_any_form: bool,
    history: VecDeque<String>,
    /// The CONNACK that let it in.
    pub(crate) connack: Reason,
}

impl Client {
    /// Wraps an open socket.
    pub(crate) fn new(stream: TcpStream, version: Version, patience: Duration) -> Self {
        Self {
            stream,
            version,
            patience,
            received: Vec::new(),
            set_aside: VecDeque::new(),
            last_id: 100,
            takes_any_form: false,
            history: VecDeque::new(),
            connack: Reason::default(),
        }
    }

    /// Sends bytes as they are. A server that has closed shows in what is expected next.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.note(format!("sent {}", name_of(bytes.first().map_or(0, |first| first >> 4))));
        let _closed = self.stream.write_all(bytes);
    }

    /// Remembers the last few steps, for the message when something does not come.
    fn note(&mut self, step: String) {
        if self.history.len() == 5 {
            self.history.pop_front();
        }
        self.history.push_back(step);
    }

    /// A Packet Identifier this client has not used yet.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// The next packet, or the close; fails when neither comes in time.
    pub(crate) fn event(&mut self) -> Outcome<Event> {
        match self.set_aside.pop_front() {
            Some(packet) => Ok(Event::Packet(packet)),
            None => self.read_event(),
        }
    }

    fn read_event(&mut self) -> Outcome<Event> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(packet) = self.parse()? {
                self.note(format!("got {}", name_of(packet.kind())));
                let packet = if self.takes_any_form { packet } else { packet.checked()? };
                return Ok(Event::Packet(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let steps = self.history.make_contiguous().join(", ");
                return differs(format!("nothing came in {:?} after: {steps}", self.patience));
            }
            let timed = self.stream.set_read_timeout(Some(left));
            timed.expect("a time-out above zero is valid");
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Event::Closed),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if is_patience(error.kind()) => {}
                Err(_) => return Ok(Event::Closed),
            }
        }
    }

    fn parse(&mut self) -> Outcome<Option<Packet>> {
        let Some(length_end) = self.received.iter().skip(1).position(|byte| byte & 0x80 == 0)
        else {
            ensure!(self.received.len() < 6, "a Remaining Length has more than four bytes");
            return Ok(None);
        };
        let mut reader = Reader(&self.received[1..length_end + 2]);
        let whole = length_end + 2 + reader.variable()?;
        if self.received.len() < whole {
            return Ok(None);
        }
        let rest = self.received[length_end + 2..whole].to_vec();
        let packet = Packet { version: self.version, first: self.received[0], rest };
        self.received.drain(..whole);
        Ok(Some(packet))
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> Outcome<Packet> {
        match self.event()? {
            Event::Packet(packet) => Ok(packet),
            Event::Closed => differs("the server closed the connection"),
        }
    }

    /// The next packet, which must be of this type.
    pub(crate) fn expect(&mut self, kind: u8) -> Outcome<Packet> {
        let packet = self.packet()?;
        ensure!(packet.kind() == kind, "expected packet type {kind}, got {}", packet.shown());
        Ok(packet)
    }

    /// The next packet, which must be exactly these bytes.
    pub(crate) fn expect_bytes(&mut self, expected: &[u8]) -> Outcome {
        let packet = self.packet()?;
        ensure!(packet.bytes() == expected, "expected {expected:02x?}, got {}", packet.shown());
        Ok(())
    }

    /// The next packet that is no PUBLISH, which must be of this type; messages wait meanwhile.
    pub(crate) fn expect_answer(&mut self, kind: u8) -> Outcome<Packet> {
        let mut messages = Vec::new();
        let answer = loop {
            let packet = self.packet()?;
            if packet.kind() != kind::PUBLISH {
                break packet;
            }
            messages.push(packet);
        };
        self.set_aside.extend(messages);
        ensure!(answer.kind() == kind, "expected packet type {kind}, got {}", answer.shown());
        Ok(answer)
    }

    /// The answer to the packet with this identifier.
    pub(crate) fn expect_ack(&mut self, kind: u8, id: u16) -> Outcome<Acknowledgement> {
        let packet = self.expect_answer(kind)?;
        let answer = packet.acknowledgement()?;
        ensure!(answer.id == id, "{} does not carry Packet Identifier {id}", packet.shown());
        Ok(answer)
    }

    /// The next packet, which must be a PUBLISH.
    pub(crate) fn message(&mut self) -> Outcome<Publish> {
        self.packet()?.publish()
    }

    /// The next message, which must have this topic, payload and QoS; its handshake is completed.
    pub(crate) fn receive(&mut self, topic: &str, payload: &str, qos: u8) -> Outcome<Publish> {
        let message = self.message()?;
        ensure!(
            message.topic == topic.as_bytes()
                && message.payload == payload.as_bytes()
                && message.qos == qos,
            "expected PUBLISH {topic} `{payload}` QoS {qos}, got {}",
            message.shown()
        );
        self.settle(&message)?;
        Ok(message)
    }

    /// Completes the receiver's part of a message's handshake.
    pub(crate) fn settle(&mut self, message: &Publish) -> Outcome {
        match message.qos {
            0 => {}
            1 => self.send(&ack(kind::PUBACK, message.id)),
            _ => {
                self.send(&ack(kind::PUBREC, message.id));
                self.expect_ack(kind::PUBREL, message.id)?;
                self.send(&ack(kind::PUBCOMP, message.id));
            }
        }
        Ok(())
    }

    /// Subscribes; the subscription must be granted at this QoS.
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> Outcome {
        self.subscribe_with(&[], filter, options)
    }

    /// Subscribes with properties; the subscription must be granted at this QoS.
    pub(crate) fn subscribe_with(
        &mut self,
        properties: &[u8],
        filter: &str,
        options: u8,
    ) -> Outcome {
        let codes = self.subscribe_all(properties, &[(filter, options)])?.codes;
        ensure!(codes == [options & 3], "`{filter}` was answered with {codes:02x?}");
        Ok(())
    }

    /// Subscribes to several filters and returns the SUBACK.
    pub(crate) fn subscribe_all(
        &mut self,
        properties: &[u8],
        pairs: &[(&str, u8)],
    ) -> Outcome<Answers> {
        let pairs: Vec<(&[u8], u8)> =
            pairs.iter().map(|(filter, options)| (filter.as_bytes(), *options)).collect();
        self.subscribe_raw(properties, &pairs)
    }

    /// Subscribes to filters of any bytes and returns the SUBACK.
    pub(crate) fn subscribe_raw(
        &mut self,
        properties: &[u8],
        pairs: &[(&[u8], u8)],
    ) -> Outcome<Answers> {
        let id = self.fresh_id();
        self.send(&bytes::subscribe(self.version, id, properties, pairs));
        let suback = self.expect_answer(kind::SUBACK)?.codes()?;
        ensure!(suback.id == id, "SUBACK carries {} instead of {id}", suback.id);
        ensure!(suback.codes.len() == pairs.len(), "SUBACK has {} codes", suback.codes.len());
        Ok(suback)
    }

    /// Unsubscribes and returns the Reason Codes (none in 3.1.1).
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Outcome<Vec<u8>> {
        let id = self.fresh_id();
        let filters: Vec<&[u8]> = filters.iter().map(|filter| filter.as_bytes()).collect();
        self.send(&bytes::unsubscribe(self.version, id, &filters));
        let unsuback = self.expect_answer(kind::UNSUBACK)?.codes()?;
        ensure!(unsuback.id == id, "UNSUBACK carries {} instead of {id}", unsuback.id);
        let wanted = if self.version == Version::V5 { filters.len() } else { 0 };
        ensure!(unsuback.codes.len() == wanted, "UNSUBACK has {} codes", unsuback.codes.len());
        Ok(unsuback.codes)
    }

    /// Publishes and completes the handshake.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8) -> Outcome {
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        self.complete(&Publish::new(self.version, topic, payload).qos(qos, id))
    }

    /// Publishes a retained message and completes the handshake (QoS 1).
    pub(crate) fn retain(&mut self, topic: &str, payload: &str) -> Outcome {
        let id = self.fresh_id();
        self.complete(&Publish::new(self.version, topic, payload).qos(1, id).retained())
    }

    /// Sends this message and completes the sender's part of its handshake, which must succeed.
    pub(crate) fn complete(&mut self, message: &Publish) -> Outcome {
        self.send(&message.bytes());
        let first = match message.qos {
            0 => return Ok(()),
            1 => kind::PUBACK,
            _ => kind::PUBREC,
        };
        let code = self.expect_ack(first, message.id)?.code;
        ensure!(code < 0x80, "{} was answered with {code:#04x}", message.shown());
        if message.qos == 2 {
            self.send(&ack(kind::PUBREL, message.id));
            let code = self.expect_ack(kind::PUBCOMP, message.id)?.code;
            ensure!(code == 0, "PUBREL was answered with {code:#04x}");
        }
        Ok(())
    }

    /// PINGREQ, and PINGRESP must be the very next packet.
    pub(crate) fn ping(&mut self) -> Outcome {
        self.send(&bytes::PINGREQ);
        self.expect(kind::PINGRESP).map(drop)
    }

    /// Shows that no message is on its way: one this client sends itself is the next to arrive.
    pub(crate) fn quiet(&mut self) -> Outcome {
        let port = self.stream.local_addr().map_or(0, |address| address.port());
        let topic = format!("barrier/{port}/{}", self.fresh_id());
        self.subscribe(&topic, 0)?;
        self.publish(&topic, "barrier", 0)?;
        let message = self.message()?;
        ensure!(message.payload == b"barrier", "unexpected {}", message.shown());
        self.unsubscribe(&[&topic]).map(drop)
    }

    /// The server must close, in 5.0 perhaps after a DISCONNECT with one of these Reason Codes.
    pub(crate) fn refused(&mut self, codes: &[u8]) -> Outcome<Option<Reason>> {
        let packet = match self.event()? {
            Event::Closed => return Ok(None),
            Event::Packet(packet) => packet,
        };
        ensure!(
            self.version == Version::V5 && packet.kind() == kind::DISCONNECT,
            "expected the close, got {}",
            packet.shown()
        );
        let reason = packet.reason()?;
        ensure!(
            codes.contains(&reason.code),
            "DISCONNECT carries {:#04x}, not one of {codes:02x?}",
            reason.code
        );
        self.closed()?;
        Ok(Some(reason))
    }

    /// The server must close without another packet.
    pub(crate) fn closed(&mut self) -> Outcome {
        match self.event()? {
            Event::Closed => Ok(()),
            Event::Packet(packet) => differs(format!("expected the close, got {}", packet.shown())),
        }
    }

    /// Leaves with DISCONNECT and waits until the server has closed too.
    pub(crate) fn leave(self) -> Outcome {
        self.leave_with(&bytes::DISCONNECT)
    }

    /// Leaves with this DISCONNECT and waits until the server has closed too.
    pub(crate) fn leave_with(mut self, disconnect: &[u8]) -> Outcome {
        self.send(disconnect);
        self.cut()
    }

    /// Ends the connection as a failing network would and waits until the server has closed too.
    pub(crate) fn cut(mut self) -> Outcome {
        let _closed = self.stream.shutdown(Shutdown::Write);
        self.set_aside.clear();
        while let Event::Packet(_late) = self.event()? {}
        Ok(())
    }

    /// Takes packets as they come: a server may refuse a version in the words of another one.
    pub(crate) fn take_any_form(&mut self) {
        self.takes_any_form = true;
    }

    /// Stops waiting as long as usual: for a script that waits for time to pass.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

/// Whether a read ended because its time was up.
pub(crate) fn is_patience(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
