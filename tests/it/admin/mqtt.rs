//! A small client of MQTT 5.0, made of bytes.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(super) struct Client {
    stream: TcpStream,
    pub(super) session_present: bool,
    /// PUBLISH packets that came while something else was waited for.
    publishes: VecDeque<Vec<u8>>,
}

impl Client {
    /// Connects with a new Session.
    pub(super) fn connect(port: u16, client_id: &str, session_expiry_secs: u32) -> Self {
        Self::open(port, client_id, 2, session_expiry_secs)
    }

    /// Connects to the Session there is.
    pub(super) fn resume(port: u16, client_id: &str) -> Self {
        Self::open(port, client_id, 0, 0)
    }

    fn open(port: u16, client_id: &str, flags: u8, session_expiry_secs: u32) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { stream, session_present: false, publishes: VecDeque::new() };
        let mut rest = b"\0\x04MQTT\x05".to_vec();
        rest.extend([flags, 0, 60, 5, 0x11]);
        rest.extend(session_expiry_secs.to_be_bytes());
        rest.extend(text(client_id));
        client.send(0x10, &rest);
        let connack = client.read(2);
        assert_eq!(connack[1], 0, "the CONNECT was refused");
        client.session_present = connack[0] == 1;
        client
    }

    pub(super) fn subscribe(&mut self, filter: &str) {
        assert!(self.try_subscribe(filter) <= 2, "{filter} was refused");
    }

    pub(super) fn subscribe_qos0(&mut self, filter: &str) {
        assert_eq!(self.ask_for(filter, 0), 0, "{filter} was refused");
    }

    /// Subscribes at QoS 1; returns the Reason Code.
    pub(super) fn try_subscribe(&mut self, filter: &str) -> u8 {
        self.ask_for(filter, 1)
    }

    fn ask_for(&mut self, filter: &str, qos: u8) -> u8 {
        let mut rest = vec![0, 1, 0];
        rest.extend(text(filter));
        rest.push(qos);
        self.send(0x82, &rest);
        *self.read(9).last().unwrap()
    }

    pub(super) fn publish_qos1(&mut self, topic: &str, payload: &[u8]) {
        assert_eq!(self.publish(0x32, topic, payload), 0);
    }

    /// Publishes at QoS 1; returns the Reason Code.
    pub(super) fn publish_retained(&mut self, topic: &str, payload: &[u8]) -> u8 {
        self.publish(0x33, topic, payload)
    }

    fn publish(&mut self, first: u8, topic: &str, payload: &[u8]) -> u8 {
        let mut rest = text(topic);
        rest.extend([0, 7, 0]);
        rest.extend(payload);
        self.send(first, &rest);
        self.read(4).get(2).copied().unwrap_or(0)
    }

    /// The next PUBLISH of QoS 0: its topic and payload.
    pub(super) fn read_publish(&mut self) -> (String, String) {
        let rest = self.publishes.pop_front().unwrap_or_else(|| self.read(3));
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let (topic, rest) = rest[2..].split_at(length);
        let payload = &rest[1 + usize::from(rest[0])..];
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (string(topic), string(payload))
    }

    /// The Reason Code of the DISCONNECT that comes.
    pub(super) fn read_disconnect(&mut self) -> u8 {
        self.read(14)[0]
    }

    /// Says good-bye and waits until the broker has closed.
    pub(super) fn disconnect(mut self) {
        self.send(0xE0, &[]);
        let _closed = self.stream.read_to_end(&mut Vec::new());
    }

    fn send(&mut self, first: u8, rest: &[u8]) {
        assert!(rest.len() < 128, "one byte of length is enough here");
        let mut packet = vec![first, u8::try_from(rest.len()).unwrap()];
        packet.extend(rest);
        self.stream.write_all(&packet).expect("the broker reads");
    }

    /// The next packet of this type, without its fixed header.
    fn read(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut first = [0];
            self.stream.read_exact(&mut first).expect("a packet comes");
            let mut length = 0;
            for shift in [0, 7, 14, 21] {
                let mut byte = [0];
                self.stream.read_exact(&mut byte).unwrap();
                length |= usize::from(byte[0] & 0x7F) << shift;
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut rest = vec![0; length];
            self.stream.read_exact(&mut rest).unwrap();
            if first[0] >> 4 == kind {
                return rest;
            }
            assert_eq!(first[0] >> 4, 3, "an unexpected packet: {first:?} {rest:?}");
            self.publishes.push_back(rest);
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
