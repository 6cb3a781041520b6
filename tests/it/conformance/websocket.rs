//! MQTT over WebSocket (chapter 6), frame by frame.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::client::is_patience;
use super::{Outcome, Stage, bytes, differs, ensure, scripts, skipped};

scripts! {
    both: [
        server_selects_the_mqtt_sub_protocol,
        packets_come_in_binary_frames,
        packets_may_be_split_and_joined,
        text_frames_end_the_connection,
    ],
    v4: [],
    v5: [],
}

const BINARY: u8 = 2;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A WebSocket connection.
struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    deadline: Instant,
    head: String,
}

impl Socket {
    /// Opens one, offering these sub-protocols. Key and answer are those of RFC 6455.
    fn open(s: &Stage, protocols: &str) -> Outcome<Self> {
        let Some(port) = s.target.ws_port else { return skipped("no WebSocket port was named") };
        let stream = s.target.socket(port)?;
        let deadline = Instant::now() + s.target.patience;
        let mut socket = Self { stream, received: Vec::new(), deadline, head: String::new() };
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {}:{port}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n",
            s.target.host
        );
        let _closed = socket.stream.write_all(request.as_bytes());
        let end = loop {
            if let Some(at) = socket.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(socket.read()?, "the server closed the connection during the handshake");
        };
        let head: Vec<u8> = socket.received.drain(..end).collect();
        socket.head = String::from_utf8_lossy(&head).into_owned();
        ensure!(socket.head.starts_with("HTTP/1.1 101 "), "the answer was {}", socket.head);
        let accepted = socket.header("sec-websocket-accept");
        ensure!(
            accepted.as_deref() == Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "Sec-WebSocket-Accept is {accepted:?}"
        );
        Ok(socket)
    }

    /// A header of the answer.
    fn header(&self, name: &str) -> Option<String> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(found.1.trim().to_owned())
    }

    /// Reads what is there; false when the server has closed.
    fn read(&mut self) -> Outcome<bool> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return differs("nothing came in time");
            }
            self.stream.set_read_timeout(Some(left)).expect("a time-out above zero is valid");
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.received.extend_from_slice(&chunk[..count]);
                    return Ok(true);
                }
                Err(error) if is_patience(error.kind()) => {}
                Err(_) => return Ok(false),
            }
        }
    }

    /// Sends one masked frame of less than 126 bytes.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("scripts send short frames");
        assert!(length < 126, "scripts send short frames");
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut frame = vec![0x80 | opcode, 0x80 | length];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let _closed = self.stream.write_all(&frame);
    }

    /// The next frame's opcode and payload; none when the server has closed.
    fn frame(&mut self) -> Outcome<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(Some(frame));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    fn parse(&mut self) -> Outcome<Option<(u8, Vec<u8>)>> {
        let [first, second, ..] = self.received[..] else { return Ok(None) };
        ensure!(second & 0x80 == 0, "the server masks its frames");
        ensure!(second & 0x7F < 127, "the server sent a very long frame");
        let (head, length) = if second & 0x7F == 126 {
            let Some(long) = self.received.get(2..4) else { return Ok(None) };
            (4, usize::from(u16::from_be_bytes([long[0], long[1]])))
        } else {
            (2, usize::from(second & 0x7F))
        };
        if self.received.len() < head + length {
            return Ok(None);
        }
        let payload = self.received[head..head + length].to_vec();
        self.received.drain(..head + length);
        Ok(Some((first & 0x0F, payload)))
    }

    /// Reads binary frames until these bytes have come.
    fn expect(&mut self, wanted: &[u8]) -> Outcome {
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            match self.frame()? {
                Some((opcode, payload)) => {
                    let continues = opcode == 0 && !got.is_empty();
                    ensure!(opcode == BINARY || continues, "a frame with opcode {opcode}");
                    got.extend(payload);
                }
                None => return differs("the server closed the connection"),
            }
        }
        ensure!(got == wanted, "wanted {wanted:02x?}, got {got:02x?}");
        Ok(())
    }

    /// Reads binary frames until a whole CONNACK has come, which must accept.
    fn expect_connack(&mut self) -> Outcome {
        let mut got = Vec::new();
        while got.len() < 2 || got.len() < 2 + usize::from(got[1]) {
            let Some((opcode, payload)) = self.frame()? else {
                return differs("the server closed the connection");
            };
            ensure!(opcode == BINARY || opcode == 0, "a frame with opcode {opcode}");
            got.extend(payload);
        }
        ensure!(got[0] == 0x20 && got[3] == 0, "got {got:02x?}");
        Ok(())
    }

    /// The server must close, with or without a Close frame.
    fn expect_close(&mut self) -> Outcome {
        match self.frame()? {
            None | Some((CLOSE, _)) => Ok(()),
            Some((BINARY, payload)) if payload.first() == Some(&0xE0) => self.expect_close(),
            Some((opcode, payload)) => {
                differs(format!("a frame with opcode {opcode}: {payload:02x?}"))
            }
        }
    }
}

/// [v4:MQTT-6.0.0-4] [v5:MQTT-6.0.0-4]
fn server_selects_the_mqtt_sub_protocol(s: &Stage) -> Outcome {
    for offered in ["mqtt", "chat, mqtt", "mqtt, mqttv3.1"] {
        let mut socket = Socket::open(s, offered)?;
        let selected = socket.header("sec-websocket-protocol");
        ensure!(selected.as_deref() == Some("mqtt"), "of `{offered}` it selected {selected:?}");
        socket.send(BINARY, &s.connect("a").bytes());
        socket.expect_connack()?;
    }
    Ok(())
}

/// [v4:MQTT-6.0.0-1] [v5:MQTT-6.0.0-1]
fn packets_come_in_binary_frames(s: &Stage) -> Outcome {
    let mut socket = Socket::open(s, "mqtt")?;
    socket.send(BINARY, &s.connect("a").bytes());
    socket.expect_connack()?;
    socket.send(BINARY, &bytes::PINGREQ);
    socket.expect(&[0xD0, 0])
}

/// One byte a frame; then three packets in one frame; then an empty frame between.
///
/// [v4:MQTT-6.0.0-2] [v5:MQTT-6.0.0-2]
fn packets_may_be_split_and_joined(s: &Stage) -> Outcome {
    let mut socket = Socket::open(s, "mqtt")?;
    for byte in s.connect("a").bytes() {
        socket.send(BINARY, &[byte]);
    }
    socket.expect_connack()?;
    socket.send(BINARY, &[bytes::PINGREQ, bytes::PINGREQ, bytes::PINGREQ].concat());
    socket.expect(&[0xD0, 0, 0xD0, 0, 0xD0, 0])?;
    socket.send(BINARY, &[0xC0, 0, 0xC0]);
    socket.send(BINARY, &[]);
    socket.send(BINARY, &[0]);
    socket.expect(&[0xD0, 0, 0xD0, 0])
}

/// [v4:MQTT-6.0.0-1] [v5:MQTT-6.0.0-1]
fn text_frames_end_the_connection(s: &Stage) -> Outcome {
    let mut socket = Socket::open(s, "mqtt")?;
    socket.send(TEXT, &s.connect("a").bytes().iter().map(|byte| byte & 0x7F).collect::<Vec<_>>());
    socket.expect_close()?;
    let mut socket = Socket::open(s, "mqtt")?;
    socket.send(BINARY, &s.connect("a").bytes());
    socket.expect_connack()?;
    socket.send(TEXT, &bytes::PINGREQ.map(|byte| byte & 0x7F));
    socket.expect_close()
}
