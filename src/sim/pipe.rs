//! One direction of a simulated link: what is on its way, and when it was encoded.

use std::collections::VecDeque;

/// Bytes arrive in order; a pipe takes no more than its capacity before somebody reads.
#[derive(Debug)]
pub(super) struct Pipe {
    capacity: usize,
    unread: usize,
    encoded: u64,
    read: u64,
    last_arrival: u64,
    /// For each turn that encoded something the position behind its last byte, and the time.
    turns: VecDeque<(u64, u64)>,
    /// Whether everything that has not arrived is lost.
    pub(super) is_cut: bool,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            unread: 0,
            encoded: 0,
            read: 0,
            last_arrival: 0,
            turns: VecDeque::new(),
            is_cut: false,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unread)
    }

    /// The writer has encoded bytes that it will write.
    pub(super) fn note_encoded(&mut self, now: u64, len: usize) {
        if len > 0 {
            self.encoded += len as u64;
            self.turns.push_back((self.encoded, now));
        }
    }

    pub(super) fn note_written(&mut self, len: usize) {
        self.unread += len;
    }

    /// When a piece arrives that should at `wished`: never before an earlier one.
    pub(super) fn arrival(&mut self, wished: u64) -> u64 {
        self.last_arrival = self.last_arrival.max(wished);
        self.last_arrival
    }

    /// The reader took `len` bytes off the link.
    pub(super) fn note_taken(&mut self, len: usize) {
        self.unread -= len;
    }

    /// When the next `len` bytes were encoded, which the reader has now understood.
    pub(super) fn understood(&mut self, len: usize) -> u64 {
        let first = self.read;
        self.read += len as u64;
        while self.turns.front().is_some_and(|(end, _)| *end <= first) {
            self.turns.pop_front();
        }
        self.turns.front().map_or(0, |(_, at)| *at)
    }
}
