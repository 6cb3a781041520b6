//! The byte copier: what a broker would cost if it did nothing but move bytes.
//!
//! One thread, one epoll, one read and one write per wake-up, no parsing. A connection opens with
//! a hello that names its group and side; from then on what publishers of a group write goes to
//! every subscriber of it, and what a subscriber writes (acknowledgements) goes back. Where a
//! group has several publishers, acknowledgements are dealt out by counting bytes, in the order in
//! which the messages went through.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    conn::Conn,
    number::index,
    poll::{Poll, Ready},
    stop::Stop,
};

/// The side of a group a connection is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// It publishes.
    Publisher,
    /// It receives.
    Subscriber,
}

/// The first bytes of a connection to the copier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The connection's side.
    pub side: Side,
    /// Its group.
    pub group: u32,
    /// Bytes per message of the group.
    pub frame_len: u32,
}

impl Hello {
    /// Bytes of a hello.
    pub const LEN: usize = 9;

    /// The wire form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let side = match self.side {
            Side::Publisher => b'P',
            Side::Subscriber => b'S',
        };
        let mut bytes = [side; Self::LEN];
        let (group, frame_len) = bytes[1..].split_at_mut(4);
        group.copy_from_slice(&self.group.to_be_bytes());
        frame_len.copy_from_slice(&self.frame_len.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (side, rest) = bytes.split_first()?;
        let (group, frame_len) = rest.split_first_chunk::<4>()?;
        let side = match side {
            b'P' => Side::Publisher,
            b'S' => Side::Subscriber,
            _ => return None,
        };
        Some(Self {
            side,
            group: u32::from_be_bytes(*group),
            frame_len: u32::from_be_bytes(*frame_len.first_chunk()?),
        })
    }
}

/// Serves on a loopback port until `stop` is raised.
///
/// # Errors
/// The port cannot be bound or the kernel refuses a descriptor.
pub fn serve(port: u16, stop: &Stop) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut floor = Floor::new(&listener)?;
    let mut ready = Vec::new();
    while !stop.is_raised() {
        floor.poll.wait(Duration::from_secs(1), &mut ready)?;
        for event in ready.drain(..) {
            floor.on_ready(&listener, event)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Floor {
    poll: Poll,
    buffer: Box<[u8]>,
    peers: Vec<Option<Conn>>,
    hellos: Vec<Option<Hello>>,
    groups: HashMap<u32, Group>,
}

#[derive(Debug, Default)]
struct Group {
    publishers: Vec<usize>,
    subscribers: Vec<usize>,
    /// Whose messages went through, and how many bytes of acknowledgement they will cause.
    owed: VecDeque<(usize, usize)>,
}

impl Floor {
    fn new(listener: &TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(listener, LISTENER)?;
        Ok(Self {
            poll,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            peers: Vec::new(),
            hellos: Vec::new(),
            groups: HashMap::new(),
        })
    }

    fn on_ready(&mut self, listener: &TcpListener, event: Ready) -> io::Result<()> {
        if event.token == LISTENER {
            while let Ok((stream, _)) = listener.accept() {
                self.admit(stream)?;
            }
            return Ok(());
        }
        let served = if event.writable { self.flush(event.token) } else { Ok(()) };
        let served = served.and_then(|()| self.copy(event.token));
        if served.is_err()
            && let Some(peer) = self.peers.get_mut(event.token)
        {
            *peer = None;
        }
        Ok(())
    }

    /// Reads the hello, on a socket that still blocks: it comes at once.
    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HELLO_MAX))?;
        let mut bytes = [0; Hello::LEN];
        let hello = match stream.read_exact(&mut bytes) {
            Ok(()) => Hello::from_bytes(bytes),
            Err(_) => None,
        };
        let Some(hello) = hello else { return Ok(()) };
        let token = self.peers.len();
        let mut conn = Conn::new(stream, token, &self.poll)?;
        conn.out.extend_from_slice(&bytes);
        conn.flush(&self.poll)?;
        let group = self.groups.entry(hello.group).or_default();
        match hello.side {
            Side::Publisher => group.publishers.push(token),
            Side::Subscriber => group.subscribers.push(token),
        }
        self.peers.push(Some(conn));
        self.hellos.push(Some(hello));
        Ok(())
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        match self.peers.get_mut(token) {
            Some(Some(conn)) => conn.flush(&self.poll),
            _ => Ok(()),
        }
    }

    fn copy(&mut self, token: usize) -> io::Result<()> {
        let Some(Some(conn)) = self.peers.get_mut(token) else { return Ok(()) };
        let Some(bytes) = conn.read(&mut self.buffer)? else { return Ok(()) };
        let Some(Some(hello)) = self.hellos.get(token) else { return Ok(()) };
        let Some(group) = self.groups.get_mut(&hello.group) else { return Ok(()) };
        let (poll, peers) = (&self.poll, &mut self.peers);
        match hello.side {
            Side::Publisher => {
                if group.publishers.len() > 1 {
                    let frames = bytes.len() / index(u64::from(hello.frame_len.max(1)));
                    group.owed.push_back((token, frames * ACK_LEN));
                }
                for &subscriber in &group.subscribers {
                    send(poll, peers, subscriber, bytes)?;
                }
                Ok(())
            }
            Side::Subscriber => {
                group.hand_back(bytes, |publisher, bytes| send(poll, peers, publisher, bytes))
            }
        }
    }
}

impl Group {
    fn hand_back(
        &mut self,
        mut bytes: &[u8],
        mut send: impl FnMut(usize, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if let [publisher] = *self.publishers {
            return send(publisher, bytes);
        }
        while let Some((publisher, owed)) = self.owed.front_mut() {
            let (part, rest) = bytes.split_at(bytes.len().min(*owed));
            if part.is_empty() && *owed > 0 {
                break;
            }
            *owed -= part.len();
            send(*publisher, part)?;
            bytes = rest;
            if *owed == 0 {
                self.owed.pop_front();
            }
        }
        Ok(())
    }
}

fn send(poll: &Poll, peers: &mut [Option<Conn>], to: usize, bytes: &[u8]) -> io::Result<()> {
    let Some(Some(conn)) = peers.get_mut(to) else { return Ok(()) };
    conn.pass(bytes, poll)
}

const LISTENER: usize = usize::MAX;
const BUFFER_LEN: usize = 256 * 1024;
const ACK_LEN: usize = 4;
const HELLO_MAX: Duration = Duration::from_secs(5);
