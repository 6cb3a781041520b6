//! One stream of a lane: its frames, from the offer until the receiver has them.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::cluster::frame::StreamKind;
use crate::cluster::lane::CursorError;
use crate::cluster::wire::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader};

/// Invariants: the segments and the open one have sequence numbers in a row, from `gone` + 1 to
/// `next_seq` - 1; those before `handed_out` are on their way by the present connection.
#[derive(Debug)]
pub(super) struct OutgoingStream {
    kind: StreamKind,
    next_seq: u64,
    /// Up to here nothing can be sent again: it was received, or given up.
    gone: u64,
    /// Up to here everything was on its way at some time: the receiver may have it.
    departed: u64,
    /// Empty, or room for a header and the frames behind it.
    open: BytesMut,
    open_count: u32,
    sealed: VecDeque<Segment>,
    handed_out: usize,
    bytes: usize,
}

/// A batch.
#[derive(Debug)]
struct Segment {
    last_seq: u64,
    count: u32,
    bytes: Bytes,
}

impl OutgoingStream {
    pub(super) fn new(kind: StreamKind) -> Self {
        Self {
            kind,
            next_seq: 1,
            gone: 0,
            departed: 0,
            open: BytesMut::new(),
            open_count: 0,
            sealed: VecDeque::new(),
            handed_out: 0,
            bytes: 0,
        }
    }

    /// Appends the one frame that `encode` writes, and tells its sequence number.
    #[inline]
    pub(super) fn append(&mut self, encode: impl FnOnce(&mut BytesMut)) -> u64 {
        if self.open_count == 0 {
            self.begin();
        }
        let len_before = self.open.len();
        encode(&mut self.open);
        let frame_len = self.open.len() - len_before;
        assert!(frame_len > 0, "a frame is never empty");
        if self.open.len() > BATCH_BYTES_MAX + BATCH_HEADER_BYTES && self.open_count > 0 {
            self.move_to_its_own(len_before);
        }
        self.bytes += frame_len;
        self.open_count += 1;
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.open.len() >= SEGMENT_BYTES || self.open.capacity() - self.open.len() < ROOM_MIN {
            self.seal();
        }
        seq
    }

    /// Takes batches that are not on their way yet to the end of `into`, until there are about
    /// `bytes_max` bytes. Tells how many bytes that were.
    pub(super) fn take(&mut self, bytes_max: usize, into: &mut VecDeque<Bytes>) -> usize {
        let mut taken = 0;
        while taken < bytes_max {
            if self.handed_out == self.sealed.len() && self.open_count > 0 {
                self.seal();
            }
            let Some(segment) = self.sealed.get(self.handed_out) else { break };
            taken += segment.bytes.len();
            self.departed = self.departed.max(segment.last_seq);
            into.push_back(segment.bytes.clone());
            self.handed_out += 1;
        }
        taken
    }

    /// Lets go of what the receiver has.
    pub(super) fn received(&mut self, seq: u64) -> Result<(), CursorError> {
        if seq >= self.next_seq {
            return Err(CursorError { kind: self.kind, seq, gone: self.gone, next: self.next_seq });
        }
        while let Some(segment) = self.sealed.front() {
            if segment.last_seq > seq {
                break;
            }
            self.bytes -= segment.bytes.len();
            self.gone = segment.last_seq;
            self.sealed.pop_front();
            // By another lane it may have come before this connection's turn.
            self.handed_out = self.handed_out.saturating_sub(1);
        }
        if self.sealed.is_empty() && self.sealed.capacity() > IDLE_CAPACITY {
            self.sealed = VecDeque::new();
        }
        Ok(())
    }

    /// A new connection begins, to a receiver that has everything up to `seq`. Tells how many frames
    /// are sent once more.
    pub(super) fn rewind(&mut self, seq: u64) -> Result<u64, CursorError> {
        if seq < self.gone {
            return Err(CursorError { kind: self.kind, seq, gone: self.gone, next: self.next_seq });
        }
        self.received(seq)?;
        Ok(self.send_again())
    }

    /// Everything that the receiver is not known to have is sent once more. Tells how many frames
    /// those are that were on their way.
    pub(super) fn send_again(&mut self) -> u64 {
        let again = self.sealed.iter().take(self.handed_out);
        let frames = again.map(|segment| u64::from(segment.count)).sum();
        self.handed_out = 0;
        frames
    }

    /// Gives everything up that the receiver is not known to have.
    pub(super) fn cut(&mut self) {
        let (next_seq, departed) = (self.next_seq, self.departed);
        *self = Self { next_seq, gone: next_seq - 1, departed, ..Self::new(self.kind) };
    }

    /// Whether there is something that is not on its way.
    #[inline]
    pub(super) fn has_unsent(&self) -> bool {
        self.open_count > 0 || self.handed_out < self.sealed.len()
    }

    /// Bytes that the receiver is not known to have.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to here nothing can be sent again.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    /// Up to here the receiver may have everything; it has nothing that is behind.
    pub(super) fn departed(&self) -> u64 {
        self.departed
    }

    /// The sequence number of the last frame; 0 before the first.
    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    fn begin(&mut self) {
        debug_assert!(self.open.is_empty(), "what was open is sealed");
        if self.open.capacity() < FRESH_MIN {
            self.open.reserve(BLOCK_BYTES);
        }
        self.open.put_bytes(0, BATCH_HEADER_BYTES);
        self.bytes += BATCH_HEADER_BYTES;
    }

    /// The last frame of the open segment makes it too large and gets one of its own. Rare, and the
    /// frame is copied for it.
    fn move_to_its_own(&mut self, frame_at: usize) {
        let frame = self.open.split_off(frame_at);
        // It is not counted yet: `next_seq` is still that of this frame.
        self.seal();
        self.begin();
        self.open.put_slice(&frame);
    }

    fn seal(&mut self) {
        let mut batch = self.open.split();
        let count = std::mem::take(&mut self.open_count);
        let header = BatchHeader {
            batch_len: batch.len(),
            kind: self.kind,
            first_seq: self.next_seq - u64::from(count),
            count,
        };
        let room = batch.first_chunk_mut().expect("a segment begins with room for its header");
        *room = header.to_bytes();
        self.sealed.push_back(Segment {
            last_seq: self.next_seq - 1,
            count,
            bytes: batch.freeze(),
        });
    }
}

/// A segment of this size is sealed: as much as one turn of the receiver takes.
const SEGMENT_BYTES: usize = 64 * 1_024;
/// What is allocated at a time; segments that stay small share it.
const BLOCK_BYTES: usize = SEGMENT_BYTES + 1_024;
/// A block with less room left is used up: the next frame would be copied together with those
/// before it.
const ROOM_MIN: usize = 512;
/// A segment does not begin in less.
const FRESH_MIN: usize = 4 * 1_024;
/// A queue that has run empty keeps room for this many segments.
const IDLE_CAPACITY: usize = 1_024;
