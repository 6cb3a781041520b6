//! A connection in the event loop: what is half read, and what is not yet written.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::poll::{Interest, Poll};

/// A connection registered with a [`Poll`].
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    token: usize,
    /// Bytes of a packet that has not arrived whole.
    tail: Vec<u8>,
    /// Bytes to write.
    pub out: Vec<u8>,
    is_blocked: bool,
}

impl Conn {
    /// Registers `stream` under `token`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(stream: TcpStream, token: usize, poll: &Poll) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        poll.add(&stream, token)?;
        Ok(Self { stream, token, tail: Vec::new(), out: Vec::new(), is_blocked: false })
    }

    /// Reads once into `buffer`, behind what was left over the last time; `None` when there is
    /// nothing to read.
    ///
    /// # Errors
    /// The connection failed or has ended.
    pub fn read<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let held = self.tail.len();
        let (start, room) = buffer.split_at_mut_checked(held).ok_or(io::ErrorKind::OutOfMemory)?;
        start.copy_from_slice(&self.tail);
        match self.stream.read(room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.tail.clear();
                Ok(buffer.get(..held + len))
            }
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the bytes of a packet that has not arrived whole.
    pub fn keep(&mut self, rest: &[u8]) {
        self.tail.extend_from_slice(rest);
    }

    /// Writes what is to be written, once; the rest goes when the socket has room.
    ///
    /// # Errors
    /// The connection failed.
    pub fn flush(&mut self, poll: &Poll) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.out) {
            Ok(len) if len == self.out.len() => self.out.clear(),
            Ok(len) => drop(self.out.drain(..len)),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        self.watch(poll)
    }

    /// Writes `bytes` behind what is to be written; without a copy if they can go at once.
    ///
    /// # Errors
    /// The connection failed.
    pub fn pass(&mut self, bytes: &[u8], poll: &Poll) -> io::Result<()> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match self.stream.write(bytes) {
            Ok(len) => len,
            Err(error) if is_transient(&error) => 0,
            Err(error) => return Err(error),
        };
        self.out.extend_from_slice(bytes.get(written..).unwrap_or_default());
        self.watch(poll)
    }

    /// Watches for room to write while there is something to be written.
    fn watch(&mut self, poll: &Poll) -> io::Result<()> {
        let is_blocked = !self.out.is_empty();
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            let interest = if is_blocked { Interest::ReadWrite } else { Interest::Read };
            poll.change(&self.stream, self.token, interest)?;
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
