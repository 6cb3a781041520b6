//! How far a receiver is with the frames of one boot id, whatever lanes they come by.

use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::wire::Batch;

/// The cursors of one receiver for one origin. Kept as long as the origin's boot id lives: who
/// forgot them would take frames twice.
#[derive(Debug, Default)]
pub struct Inbound {
    received: Cursors,
    is_closed: bool,
}

/// Frames are missing: the connection is closed and goes on where `Welcome` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("frame {expected} of the {kind:?} stream was expected and {found} came")]
pub struct Gap {
    /// The stream.
    pub kind: StreamKind,
    /// The sequence number that is next.
    pub expected: u64,
    /// The first that came.
    pub found: u64,
}

impl Inbound {
    /// The origin is dead: nothing more of it is taken.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether it is.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The origin dials and cannot send again what is up to `gone`. `true`: it gave frames up that
    /// have not been received here, and what they said is to be asked for again.
    #[must_use]
    pub fn resume(&mut self, gone: Cursors) -> bool {
        let further = self.received.max(gone);
        let has_lost = further != self.received;
        self.received = further;
        has_lost
    }

    /// How many frames at the start of `batch` are known already; all of them, perhaps.
    ///
    /// # Errors
    ///
    /// When frames before the batch are missing.
    pub fn known(&self, batch: &Batch) -> Result<u32, Gap> {
        let expected = self.received.of(batch.kind) + 1;
        let known = expected.checked_sub(batch.first_seq);
        let known = known.ok_or(Gap { kind: batch.kind, expected, found: batch.first_seq })?;
        Ok(u32::try_from(known).unwrap_or(u32::MAX).min(batch.count))
    }

    /// The frame with this sequence number has been taken; the next one, always.
    pub fn advance(&mut self, kind: StreamKind, seq: u64) {
        let received = self.received.of_mut(kind);
        debug_assert_eq!(seq, *received + 1, "frames are taken one after the other");
        *received = seq.max(*received);
    }

    /// The last frames received.
    #[must_use]
    pub fn received(&self) -> Cursors {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::cluster::wire::{BATCH_HEADER_BYTES, BatchHeader};

    fn batch(first_seq: u64, count: u32) -> Batch {
        let batch_len = BATCH_HEADER_BYTES + 2 * usize::try_from(count).unwrap();
        let header = BatchHeader { batch_len, kind: StreamKind::Data, first_seq, count };
        let mut bytes = BytesMut::from(&header.to_bytes()[..]);
        bytes.resize(batch_len, 1);
        Batch::new(header, Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn a_batch_is_new_known_in_part_known_or_too_early() {
        let mut inbound = Inbound::default();
        for seq in 1..=5 {
            inbound.advance(StreamKind::Data, seq);
        }
        let rows = [
            (batch(6, 3), Ok(0)),
            (batch(4, 3), Ok(2)),
            (batch(1, 5), Ok(5)),
            (batch(1, 3), Ok(3)),
            (batch(7, 1), Err(Gap { kind: StreamKind::Data, expected: 6, found: 7 })),
        ];
        for (batch, expected) in rows {
            assert_eq!(inbound.known(&batch), expected, "{} x {}", batch.first_seq, batch.count);
        }
        assert_eq!(inbound.received(), Cursors { control: 0, data: 5 });
    }

    #[test]
    fn what_the_origin_gave_up_is_passed_over_and_said() {
        let mut inbound = Inbound::default();
        inbound.advance(StreamKind::Control, 1);
        assert!(!inbound.resume(Cursors { control: 1, data: 0 }), "all of it was received");
        assert!(inbound.resume(Cursors { control: 9, data: 0 }));
        assert!(!inbound.resume(Cursors { control: 9, data: 0 }));
        assert_eq!(inbound.received(), Cursors { control: 9, data: 0 });
    }
}
