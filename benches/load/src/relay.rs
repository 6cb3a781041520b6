//! A relay between load and broker that misbehaves on purpose.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clock,
    frames::{self, Frame},
    stop::Stop,
};

/// What the relay does to messages on their way from the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mischief {
    /// Nothing.
    None,
    /// Holds everything back for a while.
    Delay(Duration),
    /// Leaves out one message in so many.
    Drop(u64),
    /// Sends one message in so many twice.
    Double(u64),
    /// Exchanges one message in so many with the next.
    Reorder(u64),
}

/// A relay that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    stop: Stop,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay to the loopback port `upstream`.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn start(upstream: u16, mischief: Mischief) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let stop = Stop::default();
        let seen = stop.clone();
        let acceptor = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || accept(&listener, upstream, mischief, &seen))?;
        Ok(Self { port, stop, acceptor: Some(acceptor) })
    }

    /// Where the relay listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(acceptor) = self.acceptor.take() {
            // A relay that panicked has shown in the test already.
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, upstream: u16, mischief: Mischief, stop: &Stop) {
    let mut copiers = Vec::new();
    let mut sockets = Vec::new();
    while !stop.is_raised() {
        let Ok((client, _)) = listener.accept() else {
            clock::pause(ACCEPT_CHECK);
            continue;
        };
        match join(client, upstream, mischief) {
            Ok((ends, threads)) => {
                sockets.extend(ends);
                copiers.extend(threads);
            }
            Err(error) => eprintln!("relay: {error}"),
        }
    }
    for socket in sockets {
        // It may have been closed by its peer.
        let _ = socket.shutdown(Shutdown::Both);
    }
    for copier in copiers {
        let _ = copier.join();
    }
}

type Joined = ([TcpStream; 2], [JoinHandle<()>; 2]);

/// Connects a client with the broker: a thread for each direction.
fn join(client: TcpStream, upstream: u16, mischief: Mischief) -> io::Result<Joined> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
    broker.set_nodelay(true)?;
    let ends = [client.try_clone()?, broker.try_clone()?];
    let there = Copier::new(client.try_clone()?, broker.try_clone()?, Mischief::None);
    let back = Copier::new(broker, client, mischief);
    Ok((ends, [there, back].map(|copier| thread::spawn(move || copier.run()))))
}

struct Copier {
    from: TcpStream,
    to: TcpStream,
    mischief: Mischief,
    messages: u64,
}

impl Copier {
    fn new(from: TcpStream, to: TcpStream, mischief: Mischief) -> Self {
        Self { from, to, mischief, messages: 0 }
    }

    /// Copies until one end closes.
    fn run(mut self) {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut held = Vec::new();
        while let Ok(len @ 1..) = self.from.read(&mut buffer) {
            held.extend_from_slice(buffer.get(..len).unwrap_or_default());
            let mut out = Vec::with_capacity(held.len());
            let Ok(rest) = self.copy(&held, &mut out) else { return };
            held.drain(..held.len() - rest);
            if let Mischief::Delay(time) = self.mischief {
                clock::pause(time);
            }
            if self.to.write_all(&out).is_err() {
                return;
            }
        }
    }

    /// Copies whole packets; returns how many bytes of an unfinished one are left.
    fn copy(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, frames::Malformed> {
        while let Some((frame, rest)) = frames::split(bytes)? {
            let packet = part(bytes, rest);
            bytes = rest;
            if !frame.is_publish() {
                out.extend_from_slice(packet);
                continue;
            }
            self.messages += 1;
            match self.mischief {
                Mischief::Drop(every) if self.is_turn(every) => {}
                Mischief::Double(every) if self.is_turn(every) => {
                    out.extend_from_slice(packet);
                    out.extend_from_slice(packet);
                }
                Mischief::Reorder(every) if self.is_turn(every) => {
                    if let Some((Frame { .. }, rest)) = next_publish(bytes)? {
                        out.extend_from_slice(part(bytes, rest));
                        bytes = rest;
                    } else {
                        // Nothing to exchange it with: the next message has its turn.
                        self.messages -= 1;
                    }
                    out.extend_from_slice(packet);
                }
                Mischief::None
                | Mischief::Delay(_)
                | Mischief::Drop(_)
                | Mischief::Double(_)
                | Mischief::Reorder(_) => out.extend_from_slice(packet),
            }
        }
        Ok(bytes.len())
    }

    fn is_turn(&self, every: u64) -> bool {
        self.messages.is_multiple_of(every)
    }
}

/// What of `bytes` comes before `rest`, its end.
fn part<'a>(bytes: &'a [u8], rest: &[u8]) -> &'a [u8] {
    bytes.get(..bytes.len() - rest.len()).unwrap_or_default()
}

fn next_publish(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, frames::Malformed> {
    Ok(frames::split(bytes)?.filter(|(frame, _)| frame.is_publish()))
}

const BUFFER_LEN: usize = 64 * 1024;
const ACCEPT_CHECK: Duration = Duration::from_millis(5);
