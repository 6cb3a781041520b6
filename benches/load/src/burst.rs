//! A blocking reader of packets, for connections on which one thing is done at a time.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    error::LoadError,
    frames::{self, Frame},
};

/// Reads packets, as many as have come, and answers them all at once.
#[derive(Debug)]
pub struct Burst<'a> {
    stream: &'a mut TcpStream,
    buffer: &'a mut [u8],
    held: usize,
    out: Vec<u8>,
    doing: &'static str,
}

impl<'a> Burst<'a> {
    /// Reads from `stream` into `buffer`; `doing` is what an error says was being done.
    pub fn new(stream: &'a mut TcpStream, buffer: &'a mut [u8], doing: &'static str) -> Self {
        Self { stream, buffer, held: 0, out: Vec::new(), doing }
    }

    /// Reads once, shows every whole packet, and writes what `show` left to be written.
    ///
    /// # Errors
    /// The connection has ended, is silent, or does not carry MQTT.
    pub fn read(&mut self, mut show: impl FnMut(Frame, &mut Vec<u8>)) -> Result<(), LoadError> {
        let room = self.buffer.get_mut(self.held..).unwrap_or_default();
        let len = self.stream.read(room).map_err(LoadError::io(self.doing))?;
        if len == 0 {
            return Err(LoadError::Closed(self.doing));
        }
        let end = self.held + len;
        let mut bytes = self.buffer.get(..end).unwrap_or_default();
        while let Some((frame, rest)) = frames::split(bytes)? {
            show(frame, &mut self.out);
            bytes = rest;
        }
        self.held = bytes.len();
        self.buffer.copy_within(end - self.held..end, 0);
        self.stream.write_all(&self.out).map_err(LoadError::io(self.doing))?;
        self.out.clear();
        Ok(())
    }
}

/// A buffer of this length takes some hundred packets.
pub const BUFFER_LEN: usize = 256 * 1024;
