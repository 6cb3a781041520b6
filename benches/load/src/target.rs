//! Whom the load talks to, and opening a connection there.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    time::Duration,
};

use crate::{
    error::LoadError,
    floor::{Hello, Side},
    frames::{self, CONNACK, Frame, SUBACK, Version},
    stop::Patience,
    wire::{self, Start},
};

/// What is spoken at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// MQTT.
    Mqtt,
    /// The byte copier: a hello instead of CONNECT and SUBSCRIBE, then the same bytes.
    Floor,
}

/// The other end.
#[derive(Clone, Debug)]
pub struct Target {
    /// The port for MQTT 3.1.1 on the loopback address.
    pub port: u16,
    /// The port for MQTT 5.0, which some brokers keep apart.
    pub port_v5: u16,
    /// What is spoken there.
    pub dialect: Dialect,
    /// When to give up.
    pub patience: Patience,
}

/// Where the two sides of a row connect: one broker, or two of a cluster.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Where messages come from.
    pub publishers: Target,
    /// Where they go to.
    pub receivers: Target,
}

impl From<&Target> for Ends {
    fn from(target: &Target) -> Self {
        Self { publishers: target.clone(), receivers: target.clone() }
    }
}

/// How a connection is opened.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The protocol version.
    pub version: Version,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// Whether the session is kept.
    pub start: Start,
    /// What the byte copier is told.
    pub hello: Hello,
}

/// An open connection on which one thing is done after the other: for preparing a row.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    version: Version,
    dialect: Dialect,
    /// How many unacknowledged messages the broker takes.
    pub receive_maximum: u64,
    next_id: u16,
    patience: Patience,
}

impl Target {
    /// Opens a connection and waits for the broker's consent.
    ///
    /// # Errors
    /// The broker is not there, is silent, or refuses.
    pub fn open(&self, opening: &Opening) -> Result<Session, LoadError> {
        self.patience.check("opening connections")?;
        let stream = self.connect(opening.version)?;
        let mut session = Session {
            stream,
            version: opening.version,
            dialect: self.dialect,
            receive_maximum: UNACKNOWLEDGED_MAX,
            next_id: 1,
            patience: self.patience.clone(),
        };
        match self.dialect {
            Dialect::Floor => session.greet(opening.hello)?,
            Dialect::Mqtt => session.connect(opening)?,
        }
        Ok(session)
    }

    /// Opens a bare connection with bounded waits.
    ///
    /// # Errors
    /// The broker is not there.
    pub fn connect(&self, version: Version) -> Result<TcpStream, LoadError> {
        let port = match version {
            Version::V311 => self.port,
            Version::V5 => self.port_v5,
        };
        dial(port)
    }
}

/// Opens a TCP connection to a loopback port, with bounded waits.
///
/// # Errors
/// Nobody listens there.
pub fn dial(port: u16) -> Result<TcpStream, LoadError> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream =
        TcpStream::connect_timeout(&addr, ANSWER_MAX).map_err(LoadError::io("connecting"))?;
    stream.set_nodelay(true).map_err(LoadError::io("connecting"))?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(LoadError::io("connecting"))?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(LoadError::io("connecting"))?;
    Ok(stream)
}

impl Session {
    /// Subscribes to every one of `filters`, some hundred per packet.
    ///
    /// # Errors
    /// The broker refuses one, or is silent.
    pub fn subscribe(&mut self, filters: &[String], qos: u8) -> Result<(), LoadError> {
        if self.dialect == Dialect::Floor {
            return Ok(());
        }
        for filters in filters.chunks(FILTERS_PER_PACKET) {
            self.patience.check("subscribing")?;
            let packet = wire::subscribe(self.version, self.next_id, filters, qos);
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            self.send(&packet, "subscribing")?;
            let mut body = Vec::new();
            self.wait_for(SUBACK, &mut body, "subscribing")?;
            let codes = body.len().saturating_sub(filters.len());
            if body.iter().skip(codes).any(|&code| code >= 0x80) {
                return Err(LoadError::Refused("a subscription".to_owned()));
            }
        }
        Ok(())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone or full.
    pub fn send(&mut self, bytes: &[u8], doing: &'static str) -> Result<(), LoadError> {
        self.stream.write_all(bytes).map_err(LoadError::io(doing))
    }

    /// The socket, for use in an event loop.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn greet(&mut self, hello: Hello) -> Result<(), LoadError> {
        let hello = hello.to_bytes();
        self.send(&hello, "greeting")?;
        let mut answer = [0; Hello::LEN];
        self.stream.read_exact(&mut answer).map_err(LoadError::io("greeting"))
    }

    fn connect(&mut self, opening: &Opening) -> Result<(), LoadError> {
        let packet = wire::connect(opening.version, opening.client_id, opening.start);
        self.send(&packet, "opening a session")?;
        let mut body = Vec::new();
        self.wait_for(CONNACK, &mut body, "opening a session")?;
        if let Some(&code @ 1..) = body.get(1) {
            return Err(LoadError::Refused(format!("CONNECT with code {code}")));
        }
        if opening.version == Version::V5
            && let Some(max) = (Frame { first: CONNACK, body: &body }).receive_maximum()
        {
            self.receive_maximum = self.receive_maximum.min(u64::from(max));
        }
        Ok(())
    }

    /// Reads packets until one of type `first` comes, and leaves its body in `body`.
    fn wait_for(
        &mut self,
        first: u8,
        body: &mut Vec<u8>,
        doing: &'static str,
    ) -> Result<(), LoadError> {
        loop {
            if read_packet(&mut self.stream, body, doing)? == first {
                return Ok(());
            }
        }
    }
}

/// Reads one packet, byte by byte up to its length; returns its first byte.
///
/// # Errors
/// The connection ends, is silent, or does not carry MQTT.
pub fn read_packet(
    stream: &mut impl Read,
    body: &mut Vec<u8>,
    doing: &'static str,
) -> Result<u8, LoadError> {
    let mut header = Vec::with_capacity(5);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(LoadError::io(doing))?;
        header.extend_from_slice(&byte);
        let [byte] = byte;
        if header.len() > 1 && byte & 0x80 == 0 {
            break;
        }
        if header.len() == 5 {
            return Err(frames::Malformed.into());
        }
    }
    let mut len = 0;
    for (&byte, shift) in header.iter().skip(1).zip([0, 7, 14, 21]) {
        len |= usize::from(byte & 0x7F) << shift;
    }
    body.resize(len, 0);
    stream.read_exact(body).map_err(LoadError::io(doing))?;
    header.first().copied().ok_or(LoadError::Closed(doing))
}

/// The hello of a connection that stands alone in group `group`.
#[must_use]
pub fn hello(side: Side, group: usize, frame_len: usize) -> Hello {
    let group = u32::try_from(group).unwrap_or(u32::MAX);
    Hello { side, group, frame_len: u32::try_from(frame_len).unwrap_or(u32::MAX) }
}

/// The part of `count` things that member `at` of `members` holds.
#[must_use]
pub fn share(count: u64, members: u64, at: u64) -> Range<u64> {
    count * at / members..count * (at + 1) / members
}

/// Longest wait for an answer while preparing a row.
pub const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Most messages a publisher leaves unacknowledged, where the broker names no smaller number.
const UNACKNOWLEDGED_MAX: u64 = 1_000;
const FILTERS_PER_PACKET: usize = 500;
