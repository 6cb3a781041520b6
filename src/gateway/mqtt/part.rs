//! Bytes that were read and not yet handled.
//!
//! A packet that arrives in pieces is gathered in one buffer. The buffer grows with what has come,
//! not with what was announced, because a length is easily claimed; and it grows by doubling, so that
//! what a packet costs to copy does not depend on the number of its pieces.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::broker::parts::{FREE_BYTES, PartBudget, PartRoom, Sender};
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
pub(super) struct Part {
    bytes: BytesMut,
    /// What it has of the room for all, once it is large.
    room: Option<Box<PartRoom>>,
}

/// What bounds a part.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub(super) packet_bytes_max: usize,
    pub(super) budget: &'a Arc<PartBudget>,
    pub(super) sender: Sender,
}

impl Unread {
    /// Keeps what was not handled: whole packets as they are, part of one in a buffer of its own.
    pub(super) fn new(chunk: Bytes, bounds: Bounds<'_>) -> Self {
        if chunk.is_empty() {
            return Self::Nothing;
        }
        if missing(&chunk, bounds.packet_bytes_max) == 0 {
            return Self::Whole(chunk);
        }
        Self::Part(Part::new(&chunk, bounds))
    }

    /// Keeps `bytes` behind the others for when the state machine takes packets again; it has seen
    /// none of them, so that the time for half a packet begins then.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() && !matches!(self, Self::Part(_)) {
            return;
        }
        let mut all = BytesMut::from(match self {
            Self::Nothing => &[][..],
            Self::Part(part) => &part.bytes[..],
            Self::Whole(chunk) => &chunk[..],
        });
        all.extend_from_slice(bytes);
        *self = Self::Whole(all.freeze());
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Part(part) => part.bytes.len(),
            Self::Whole(chunk) => chunk.len(),
        }
    }
}

impl Part {
    fn new(chunk: &[u8], bounds: Bounds<'_>) -> Self {
        let mut part = Self { bytes: BytesMut::new(), room: None };
        let capacity = capacity_for(chunk, bounds.packet_bytes_max);
        let capacity = if part.may_hold(capacity, bounds) {
            capacity
        } else {
            // These bytes are here; for more there is no room.
            part.room_of(bounds.budget).take(chunk.len());
            chunk.len()
        };
        part.bytes = grown(chunk, capacity);
        part
    }

    /// Sees to it that there is room for the next bytes; `false` when they have to wait: there is
    /// none, or the broker is short of memory and this packet is large.
    pub(super) fn make_room(&mut self, bounds: Bounds<'_>, is_short_of_memory: bool) -> bool {
        let capacity = capacity_for(&self.bytes, bounds.packet_bytes_max);
        if is_short_of_memory && (self.room.is_some() || capacity > FREE_BYTES) {
            return false;
        }
        let missing = missing(&self.bytes, bounds.packet_bytes_max);
        // Not for the sake of a few bytes: they would cost a read of their own.
        if self.left() >= missing.min(HEADER_BYTES_MAX) {
            return true;
        }
        if !self.may_hold(capacity, bounds) {
            return self.left() > 0;
        }
        self.bytes = grown(&self.bytes, capacity);
        true
    }

    /// Where the next bytes go, once there is room. Never for more than the packet: what follows it
    /// is read with others of its kind.
    pub(super) fn room(&mut self, packet_bytes_max: usize) -> impl BufMut {
        let room = self.left().min(missing(&self.bytes, packet_bytes_max));
        (&mut self.bytes).limit(room)
    }

    /// Whether it can be handled.
    pub(super) fn is_whole(&self, packet_bytes_max: usize) -> bool {
        missing(&self.bytes, packet_bytes_max) == 0
    }

    /// The bytes as they came.
    pub(super) fn freeze(self) -> Bytes {
        self.bytes.freeze()
    }

    fn left(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    fn may_hold(&mut self, capacity: usize, bounds: Bounds<'_>) -> bool {
        capacity <= FREE_BYTES || self.room_of(bounds.budget).grow(capacity, bounds.sender)
    }

    fn room_of(&mut self, budget: &Arc<PartBudget>) -> &mut PartRoom {
        self.room.get_or_insert_with(|| Box::new(PartRoom::new(budget)))
    }
}

/// What a buffer of `bytes` needs that has room for as much again, if the packet has that much.
fn capacity_for(bytes: &[u8], packet_bytes_max: usize) -> usize {
    bytes.len() + missing(bytes, packet_bytes_max).min(bytes.len().max(ROOM_MIN))
}

/// A copy of `bytes` in a buffer of `capacity` bytes.
fn grown(bytes: &[u8], capacity: usize) -> BytesMut {
    let mut grown = BytesMut::with_capacity(capacity);
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

    /// Room for as much as anybody may want.
    fn check_with<T>(bytes_max: u64, check: impl FnOnce(Bounds<'_>) -> T) -> T {
        let budget = Arc::new(PartBudget::new(bytes_max));
        check(Bounds { packet_bytes_max: usize::MAX, budget: &budget, sender: Sender::Stranger })
    }

    fn part(bytes: &[u8], bounds: Bounds<'_>) -> Part {
        match Unread::new(Bytes::copy_from_slice(bytes), bounds) {
            Unread::Part(part) => part,
            Unread::Nothing | Unread::Whole(_) => panic!("not a part: {bytes:02X?}"),
        }
    }

    /// Puts as much of `bytes` as there is room for; returns how much that was.
    fn put(part: &mut Part, bytes: &[u8], bounds: Bounds<'_>) -> usize {
        assert!(part.make_room(bounds, false), "there is room for all");
        let mut room = part.room(usize::MAX);
        let count = room.remaining_mut().min(bytes.len());
        assert!(count > 0, "a part with room has some");
        room.put_slice(&bytes[..count]);
        count
    }

    #[test]
    fn a_packet_comes_out_as_it_came_and_what_follows_is_left() {
        for remaining_len in [0, 1, 127, 128, 5_000, 70_000] {
            let whole = packet(remaining_len);
            for piece in [1, 2, 3, 1_460, 100_000] {
                let stream = [&whole[..], &[0xC0, 0]].concat();
                check_with(u64::MAX, |bounds| {
                    let mut part = part(&whole[..1], bounds);
                    let mut at = 1;
                    while !part.is_whole(usize::MAX) {
                        let end = stream.len().min(at + piece);
                        at += put(&mut part, &stream[at..end], bounds);
                    }
                    let bytes = part.freeze();
                    assert!(bytes.starts_with(&whole), "{remaining_len} in pieces of {piece}");
                    assert_eq!(bytes, stream[..at]);
                });
            }
        }
    }

    #[test]
    fn a_part_grows_by_doubling_and_to_the_length_of_the_packet() {
        let whole = packet(1_024 * 1_024);
        check_with(u64::MAX, |bounds| {
            let mut part = part(&whole[..1_460], bounds);
            let (mut at, mut capacities) = (1_460, vec![part.bytes.capacity()]);
            while !part.is_whole(usize::MAX) {
                let end = whole.len().min(at + 1_460);
                at += put(&mut part, &whole[at..end], bounds);
                if capacities.last() != Some(&part.bytes.capacity()) {
                    capacities.push(part.bytes.capacity());
                }
            }
            assert!(capacities.len() <= 10, "{capacities:?}");
            assert_eq!(capacities.last(), Some(&whole.len()));
            assert_eq!(bounds.budget.used(), (whole.len() - FREE_BYTES) as u64);
            drop(part);
            assert_eq!(bounds.budget.used(), 0);
        });
    }

    #[test]
    fn without_room_a_part_holds_what_is_free_and_what_has_been_read() {
        let whole = packet(1_024 * 1_024);
        check_with(0, |bounds| {
            let mut small = part(&whole[..1_000], bounds);
            let mut at = 1_000;
            while small.make_room(bounds, false) {
                at += put(&mut small, &whole[at..], bounds);
            }
            assert!(small.bytes.len() <= FREE_BYTES && small.room.is_some());
            assert_eq!(bounds.budget.used(), 0);
            let mut large = part(&whole[..60_000], bounds);
            assert!(!large.make_room(bounds, false));
            assert_eq!(bounds.budget.used(), 60_000 - FREE_BYTES as u64);
        });
    }

    #[test]
    fn short_of_memory_the_rest_of_a_large_packet_waits_and_that_of_a_small_one_does_not() {
        check_with(u64::MAX, |bounds| {
            let (large, small) = (packet(100_000), packet(1_000));
            assert!(!part(&large[..50_000], bounds).make_room(bounds, true));
            assert!(part(&small[..500], bounds).make_room(bounds, true));
        });
    }

    #[test]
    fn a_claimed_length_gets_no_room() {
        let claimed = [0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0];
        check_with(u64::MAX, |bounds| {
            assert!(part(&claimed, bounds).bytes.capacity() <= claimed.len() + ROOM_MIN);
            assert!(part(&claimed[..2], bounds).bytes.capacity() <= HEADER_BYTES_MAX);
        });
    }

    #[test]
    fn what_will_be_refused_waits_for_nothing() {
        let too_large = Bytes::from_static(&[0x30, 0xFF, 0x7F]);
        check_with(u64::MAX, |bounds| {
            let bounds = Bounds { packet_bytes_max: 100, ..bounds };
            assert!(matches!(Unread::new(too_large, bounds), Unread::Whole(_)));
            assert!(matches!(Unread::new(Bytes::new(), bounds), Unread::Nothing));
        });
    }
}
