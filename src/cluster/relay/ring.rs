//! The own windows: what is in them until it has been read.

use bytes::Bytes;

use super::options::{WINDOW_BYTES, WINDOWS};
use crate::cluster::identity::BootId;
use crate::cluster::wire::{
    RELAY_WINDOW_HEAD_BYTES, RelayPart, encode_relay_part, encode_relay_window,
};

/// Four windows. A part is in one of them from [`Ring::put`] until it was read or given up; a window
/// that is written again keeps the parts in it that have not been read. One is filled for each write.
#[derive(Debug, Default)]
pub(super) struct Ring {
    windows: [Window; WINDOWS],
}

#[derive(Debug, Default)]
struct Window {
    parts: Vec<HeldPart>,
    bytes: usize,
    /// Whether something was put into it since it was written.
    is_dirty: bool,
}

#[derive(Debug)]
struct HeldPart {
    to: BootId,
    run: u64,
    number: u64,
    bytes: Bytes,
}

impl Ring {
    /// Puts a part in; there must be [`Self::room`] for it.
    pub(super) fn put(&mut self, part: &RelayPart) -> usize {
        let bytes = encode_relay_part(part);
        let len = bytes.len();
        let window = self.next_window().expect("there are four windows");
        debug_assert!(len <= window.room(), "whoever puts a part in asks for room first");
        window.bytes += len;
        window.is_dirty = true;
        window.parts.push(HeldPart { to: part.to, run: part.run, number: part.number, bytes });
        len
    }

    /// Bytes that the next part may have.
    pub(super) fn room(&mut self) -> usize {
        self.next_window().map_or(0, |window| window.room())
    }

    /// These parts have been read.
    pub(super) fn note_read(&mut self, to: BootId, run: u64, number: u64) {
        self.retain(|held| held.to != to || (held.run, held.number) > (run, number));
    }

    /// Nothing of these is sent any more.
    pub(super) fn drop_parts(&mut self, to: BootId) {
        self.retain(|held| held.to != to);
    }

    /// Bytes that one broker has not read.
    pub(super) fn held(&self, to: BootId) -> usize {
        let parts = self.windows.iter().flat_map(|window| &window.parts);
        parts.filter(|held| held.to == to).map(|held| held.bytes.len()).sum()
    }

    /// Bytes that have not been read.
    pub(super) fn bytes(&self) -> usize {
        self.windows.iter().map(|window| window.bytes).sum()
    }

    /// The windows that are to be written, or all of them, and their numbers.
    pub(super) fn take(&mut self, boot_id: BootId, is_all: bool) -> Vec<(usize, Bytes)> {
        let written = self.windows.iter_mut().enumerate().filter_map(|(number, window)| {
            let is_dirty = std::mem::take(&mut window.is_dirty);
            let parts = window.parts.iter().map(|held| &held.bytes);
            (is_dirty || is_all).then(|| (number, encode_relay_window(boot_id, parts)))
        });
        written.collect()
    }

    /// The one that is to be written; else the emptiest.
    fn next_window(&mut self) -> Option<&mut Window> {
        let begun = self.windows.iter().position(|window| window.is_dirty);
        let emptiest = || {
            let by_bytes = self.windows.iter().enumerate().min_by_key(|(_, window)| window.bytes);
            by_bytes.map(|(number, _)| number)
        };
        let number = begun.or_else(emptiest)?;
        self.windows.get_mut(number)
    }

    fn retain(&mut self, is_kept: impl Fn(&HeldPart) -> bool) {
        for window in &mut self.windows {
            window.parts.retain(&is_kept);
            window.bytes = window.parts.iter().map(|held| held.bytes.len()).sum();
        }
    }
}

impl Window {
    fn room(&self) -> usize {
        (WINDOW_BYTES - RELAY_WINDOW_HEAD_BYTES).saturating_sub(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::{RelayContent, decode_relay_window};

    const SELF: BootId = BootId(9);

    fn part(to: u128, number: u64, len: usize) -> RelayPart {
        let bytes = Bytes::from(vec![7; len]);
        let content = RelayContent::Piece { offset: 0, total: 1, bytes };
        RelayPart { to: BootId(to), run: 1, number, content }
    }

    fn numbers(window: &Bytes, to: u128) -> Vec<u64> {
        let (_, parts) = decode_relay_window(window, BootId(to)).unwrap();
        parts.iter().map(|part| part.number).collect()
    }

    #[test]
    fn each_write_fills_one_window_and_the_ring_takes_four() {
        let mut ring = Ring::default();
        let mut number = 0;
        let mut written = Vec::new();
        while ring.room() >= 2_000 {
            while ring.room() >= 2_000 {
                number += 1;
                let len = (ring.room() - 50).min(31_000);
                ring.put(&part(1, number, len));
            }
            written.extend(ring.take(SELF, false));
        }
        let numbers: Vec<_> = written.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(written.iter().all(|(_, window)| window.len() <= WINDOW_BYTES));
        assert!(ring.bytes() > 4 * (WINDOW_BYTES - 3_000), "{}", ring.bytes());
        assert!(ring.take(SELF, false).is_empty(), "nothing has changed");
        ring.note_read(BootId(1), 1, number);
        assert_eq!((ring.bytes(), ring.room()), (0, WINDOW_BYTES - RELAY_WINDOW_HEAD_BYTES));
        assert!(ring.take(SELF, false).is_empty(), "what was read may stay");
    }

    #[test]
    fn a_window_that_is_written_again_keeps_what_was_not_read() {
        let mut ring = Ring::default();
        ring.put(&part(1, 1, 100));
        ring.put(&part(2, 1, 100));
        assert_eq!(ring.take(SELF, false).len(), 1, "both go into one window");
        ring.note_read(BootId(1), 1, 1);
        assert_eq!(ring.held(BootId(1)), 0);
        let again: Vec<_> = (2..=5)
            .flat_map(|number| {
                ring.put(&part(1, number, 65_000));
                ring.take(SELF, false)
            })
            .collect();
        let (number, last) = again.last().unwrap();
        assert_eq!((*number, numbers(last, 1), numbers(last, 2)), (0, vec![5], vec![1]));
    }

    #[test]
    fn what_was_read_is_told_by_run_and_number() {
        let mut ring = Ring::default();
        for number in 1..=3 {
            ring.put(&part(1, number, 10));
        }
        ring.note_read(BootId(1), 0, 99);
        ring.note_read(BootId(1), 1, 2);
        let left = ring.take(SELF, true);
        assert_eq!(numbers(&left[0].1, 1), [3]);
        ring.drop_parts(BootId(1));
        assert_eq!(ring.bytes(), 0);
    }
}
