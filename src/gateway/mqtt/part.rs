//! Bytes that were read and not yet handled.
//!
//! A packet that arrives in pieces is gathered in one buffer. The buffer grows with what has come,
//! not with what was announced, because a length is easily claimed; and it grows by doubling, so that
//! what a packet costs to copy does not depend on the number of its pieces.

use bytes::{BufMut, Bytes, BytesMut};

use crate::mqtt::Frame;

/// What a turn leaves to the next one.
pub(super) enum Unread {
    /// All was handled.
    Nothing,
    /// The beginning of a packet.
    Part(Part),
    /// Whole packets, what will be refused, or what came before its time.
    Whole(Bytes),
}

/// A packet that is not whole, with room for more of it.
pub(super) struct Part(BytesMut);

impl Unread {
    /// Keeps what was not handled: whole packets as they are, part of one in a buffer of its own.
    pub(super) fn new(chunk: Bytes, packet_bytes_max: usize) -> Self {
        if chunk.is_empty() {
            return Self::Nothing;
        }
        if missing(&chunk, packet_bytes_max) == 0 {
            return Self::Whole(chunk);
        }
        Self::Part(Part(grown(&chunk, packet_bytes_max)))
    }

    /// Keeps `bytes` behind the others for when the state machine takes packets again; it has seen
    /// none of them, so that the time for half a packet begins then.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() && !matches!(self, Self::Part(_)) {
            return;
        }
        let mut all = BytesMut::from(match self {
            Self::Nothing => &[][..],
            Self::Part(part) => &part.0[..],
            Self::Whole(chunk) => &chunk[..],
        });
        all.extend_from_slice(bytes);
        *self = Self::Whole(all.freeze());
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Part(part) => part.0.len(),
            Self::Whole(chunk) => chunk.len(),
        }
    }
}

impl Part {
    /// Where the next bytes go. There is always room, and never for more than the packet: what
    /// follows it is read with others of its kind.
    pub(super) fn room(&mut self, packet_bytes_max: usize) -> impl BufMut {
        let missing = missing(&self.0, packet_bytes_max);
        // Not for the sake of a few bytes: they would cost a read of their own.
        if self.0.capacity() - self.0.len() < missing.min(HEADER_BYTES_MAX) {
            self.0 = grown(&self.0, packet_bytes_max);
        }
        let room = self.0.capacity() - self.0.len();
        (&mut self.0).limit(room.min(missing))
    }

    /// Whether it can be handled.
    pub(super) fn is_whole(&self, packet_bytes_max: usize) -> bool {
        missing(&self.0, packet_bytes_max) == 0
    }

    /// The bytes as they came.
    pub(super) fn freeze(self) -> Bytes {
        self.0.freeze()
    }
}

/// A copy of `bytes` in a buffer with room for as much again, if the packet has that much.
fn grown(bytes: &[u8], packet_bytes_max: usize) -> BytesMut {
    let room = missing(bytes, packet_bytes_max).min(bytes.len().max(ROOM_MIN));
    let mut grown = BytesMut::with_capacity(bytes.len() + room);
    grown.extend_from_slice(bytes);
    grown
}

/// How many bytes the first packet lacks; where that cannot be told yet, how many it takes to tell.
fn missing(bytes: &[u8], packet_bytes_max: usize) -> usize {
    match Frame::peek(bytes, packet_bytes_max) {
        Ok(Some(frame)) => frame.total_len.saturating_sub(bytes.len()),
        Ok(None) => HEADER_BYTES_MAX.saturating_sub(bytes.len()),
        // The state machine has refused it or will.
        Err(_) => 0,
    }
}

/// A fixed header is two to five bytes.
const HEADER_BYTES_MAX: usize = 5;
/// Room for the rest of a small packet.
const ROOM_MIN: usize = 4 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A PUBLISH of this many bytes behind its fixed header.
    fn packet(remaining_len: usize) -> Vec<u8> {
        let mut bytes = vec![0x30];
        let mut left = remaining_len;
        while left >= 0x80 {
            bytes.push(u8::try_from(left % 0x80).unwrap() | 0x80);
            left /= 0x80;
        }
        bytes.push(u8::try_from(left).unwrap());
        bytes.extend((0..=250_u8).cycle().take(remaining_len));
        bytes
    }

    fn part(bytes: &[u8]) -> Part {
        match Unread::new(Bytes::copy_from_slice(bytes), usize::MAX) {
            Unread::Part(part) => part,
            Unread::Nothing | Unread::Whole(_) => panic!("not a part: {bytes:02X?}"),
        }
    }

    /// Puts as much of `bytes` as there is room for; returns how much that was.
    fn put(part: &mut Part, bytes: &[u8]) -> usize {
        let mut room = part.room(usize::MAX);
        let count = room.remaining_mut().min(bytes.len());
        assert!(count > 0, "a part always has room");
        room.put_slice(&bytes[..count]);
        count
    }

    #[test]
    fn a_packet_comes_out_as_it_came_and_what_follows_is_left() {
        for remaining_len in [0, 1, 127, 128, 5_000, 70_000] {
            let whole = packet(remaining_len);
            for piece in [1, 2, 3, 1_460, 100_000] {
                let stream = [&whole[..], &[0xC0, 0]].concat();
                let mut part = part(&whole[..1]);
                let mut at = 1;
                while !part.is_whole(usize::MAX) {
                    let end = stream.len().min(at + piece);
                    at += put(&mut part, &stream[at..end]);
                }
                let bytes = part.freeze();
                assert!(bytes.starts_with(&whole), "{remaining_len} in pieces of {piece}");
                assert_eq!(bytes, stream[..at]);
            }
        }
    }

    #[test]
    fn a_part_grows_by_doubling_and_to_the_length_of_the_packet() {
        let whole = packet(1_024 * 1_024);
        let mut part = part(&whole[..1_460]);
        let (mut at, mut capacities) = (1_460, vec![part.0.capacity()]);
        while !part.is_whole(usize::MAX) {
            let end = whole.len().min(at + 1_460);
            at += put(&mut part, &whole[at..end]);
            if capacities.last() != Some(&part.0.capacity()) {
                capacities.push(part.0.capacity());
            }
        }
        assert!(capacities.len() <= 10, "{capacities:?}");
        assert_eq!(capacities.last(), Some(&whole.len()));
    }

    #[test]
    fn a_claimed_length_gets_no_room() {
        let claimed = [0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0];
        assert!(part(&claimed).0.capacity() <= claimed.len() + ROOM_MIN);
        assert!(part(&claimed[..2]).0.capacity() <= HEADER_BYTES_MAX);
    }

    #[test]
    fn what_will_be_refused_waits_for_nothing() {
        let too_large = Bytes::from_static(&[0x30, 0xFF, 0x7F]);
        assert!(matches!(Unread::new(too_large, 100), Unread::Whole(_)));
        assert!(matches!(Unread::new(Bytes::new(), 100), Unread::Nothing));
    }
}
