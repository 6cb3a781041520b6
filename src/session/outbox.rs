//! Bytes on their way to one client.
//!
//! The shard owns the buffer that a turn writes into; a connection owns an outbox only while its
//! socket takes less than it has. Small frames are copied behind each other, large payloads are
//! kept as they are and written vectored.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Encoded packets, in the order in which they go out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Full pieces, before `tail`.
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    pieces_bytes: usize,
    tail: BytesMut,
}

impl Outbox {
    /// An empty outbox that allocates when something is written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where packets are encoded.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends the payload of a PUBLISH whose head was just encoded.
    pub fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(payload);
            return;
        }
        self.seal_tail();
        self.pieces_bytes += payload.len();
        self.pieces.push_back(payload.clone());
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces_bytes += self.tail.len();
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Moves everything `other` holds behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.seal_tail();
        other.seal_tail();
        self.pieces_bytes += other.pieces_bytes;
        other.pieces_bytes = 0;
        self.pieces.append(&mut other.pieces);
    }

    /// Forgets the first `count` bytes: the socket took them.
    ///
    /// # Panics
    ///
    /// When `count` is more than [`Self::len`].
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "a socket took more than it was given");
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                self.pieces_bytes -= count;
                return;
            }
            count -= piece.len();
            self.pieces_bytes -= piece.len();
            self.pieces.pop_front();
        }
        if count == self.tail.len() {
            // Keeps the allocation for the next packet.
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.pieces_bytes = 0;
        self.tail.clear();
    }

    /// The bytes to write as slices, at most as many as `slices` has room for; returns how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// The bytes to write when they lie in one piece.
    #[must_use]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then_some(&self.tail[..])
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Payloads up to this size are cheaper to copy than to write as a piece of their own.
const COPY_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = outbox.slices(&mut slices);
            let first = slices[..count].iter().find(|slice| !slice.is_empty()).unwrap();
            let taken = first.len().min(step);
            out.extend_from_slice(&first[..taken]);
            outbox.advance(taken);
        }
        out
    }

    #[test]
    fn keeps_the_order_of_copied_and_of_vectored_bytes() {
        for step in [1, 3, 5_000, usize::MAX] {
            let mut outbox = Outbox::new();
            let large = Bytes::from(vec![b'L'; COPY_BYTES_MAX + 1]);
            outbox.buffer().extend_from_slice(b"head");
            outbox.push_payload(&large);
            outbox.buffer().extend_from_slice(b"next");
            outbox.push_payload(&Bytes::from_static(b"small"));
            let expected = [b"head", &large[..], b"next", b"small"].concat();
            assert_eq!(outbox.len(), expected.len());
            assert_eq!(drained(&mut outbox, step), expected);
        }
    }

    #[test]
    fn append_puts_the_other_behind() {
        let mut first = Outbox::new();
        first.buffer().extend_from_slice(b"one");
        let mut second = Outbox::new();
        second.buffer().extend_from_slice(b"two");
        first.append(&mut second);
        first.buffer().extend_from_slice(b"three");
        assert!(second.is_empty());
        assert_eq!(drained(&mut first, usize::MAX), b"onetwothree");
    }
}
