//! What one broker relays to us: parts come in any order and more than once, batches leave in order.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::cluster::frame::Cursors;
use crate::cluster::wire::{
    BATCH_HEADER_BYTES, Batch, BatchHeader, FRAME_BYTES_MAX, RelayContent, RelayPart,
};

/// Joins parts. Invariant: the parts of the present run up to `part` have been read, each once and in
/// order.
#[derive(Debug, Default)]
pub(super) struct PartReceiver {
    pub(super) run: u64,
    pub(super) part: u64,
    /// What has been received of this broker, by whatever lane.
    pub(super) received: Cursors,
    /// What came makes no sense, and nothing more of this run is read.
    pub(super) is_stuck: bool,
    /// Parts that came before others: at most what a ring holds.
    early: BTreeMap<u64, RelayContent>,
    /// A batch of which parts are missing.
    begun: BytesMut,
}

/// What parts come to.
#[derive(Debug)]
pub(super) enum Joined {
    /// A run begins.
    Beginning(Cursors),
    /// A batch is whole.
    Batch(Batch),
}

/// A part does not fit behind those before it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Misfit;

impl PartReceiver {
    /// Whether anything was ever read, so that there is something to say of it.
    pub(super) fn has_read(&self) -> bool {
        self.run > 0
    }

    /// A part was found in a window.
    pub(super) fn take(&mut self, part: RelayPart) {
        if part.run > self.run {
            let received = self.received;
            *self = Self { run: part.run, received, ..Self::default() };
        }
        if part.run == self.run && part.number > self.part && !self.is_stuck {
            self.early.insert(part.number, part.content);
        }
    }

    /// The next that is to be handed on.
    pub(super) fn next(&mut self) -> Result<Option<Joined>, Misfit> {
        while !self.is_stuck {
            let Some(content) = self.early.remove(&(self.part + 1)) else { break };
            self.part += 1;
            let joined = self.join(content);
            self.is_stuck = joined.is_err();
            if let Some(joined) = joined? {
                return Ok(Some(joined));
            }
        }
        Ok(None)
    }

    fn join(&mut self, content: RelayContent) -> Result<Option<Joined>, Misfit> {
        match content {
            RelayContent::Beginning { gone } if self.part == 1 => Ok(Some(Joined::Beginning(gone))),
            RelayContent::Piece { offset, total, bytes } if self.part > 1 => {
                self.join_piece(offset, total, bytes)
            }
            RelayContent::Beginning { .. } | RelayContent::Piece { .. } => Err(Misfit),
        }
    }

    fn join_piece(
        &mut self,
        offset: u32,
        total: u32,
        bytes: Bytes,
    ) -> Result<Option<Joined>, Misfit> {
        let (offset, total) = (offset as usize, total as usize);
        let is_next = offset == self.begun.len() && bytes.len() <= total - offset.min(total);
        if !is_next || total > FRAME_BYTES_MAX + BATCH_HEADER_BYTES {
            return Err(Misfit);
        }
        if bytes.len() == total {
            return batch(bytes).map(Joined::Batch).map(Some);
        }
        self.begun.extend_from_slice(&bytes);
        if self.begun.len() < total {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.begun).freeze();
        batch(whole).map(Joined::Batch).map(Some)
    }
}

fn batch(bytes: Bytes) -> Result<Batch, Misfit> {
    let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).ok().flatten().ok_or(Misfit)?;
    Batch::new(header, bytes).map_err(|_| Misfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::frame::StreamKind;
    use crate::cluster::identity::BootId;

    fn batch_bytes(first_seq: u64) -> Bytes {
        let batch_len = BATCH_HEADER_BYTES + 2;
        let header = BatchHeader { batch_len, kind: StreamKind::Data, first_seq, count: 1 };
        let mut bytes = BytesMut::from(&header.to_bytes()[..]);
        bytes.extend_from_slice(&[1, 7]);
        bytes.freeze()
    }

    fn part(run: u64, number: u64, content: RelayContent) -> RelayPart {
        RelayPart { to: BootId(1), run, number, content }
    }

    fn beginning(run: u64) -> RelayPart {
        part(run, 1, RelayContent::Beginning { gone: Cursors::default() })
    }

    fn piece(run: u64, number: u64, of: &Bytes, from: usize, to: usize) -> RelayPart {
        let total = u32::try_from(of.len()).unwrap();
        let offset = u32::try_from(from).unwrap();
        part(run, number, RelayContent::Piece { offset, total, bytes: of.slice(from..to) })
    }

    fn drain(receiver: &mut PartReceiver) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(joined) = receiver.next().unwrap() {
            found.push(match joined {
                Joined::Beginning(_) => 0,
                Joined::Batch(batch) => batch.first_seq,
            });
        }
        found
    }

    #[test]
    fn parts_in_any_order_and_twice_make_batches_in_order_and_once() {
        let (first, second) = (batch_bytes(1), batch_bytes(2));
        let len = first.len();
        let parts = [
            beginning(3),
            piece(3, 2, &first, 0, 5),
            piece(3, 3, &first, 5, len),
            piece(3, 4, &second, 0, len),
        ];
        let mut receiver = PartReceiver::default();
        let mut found = Vec::new();
        for index in [3, 2, 0, 2, 0, 1, 1, 3] {
            receiver.take(parts[index].clone());
            found.extend(drain(&mut receiver));
        }
        assert_eq!(found, [0, 1, 2]);
        assert_eq!((receiver.run, receiver.part), (3, 4));
    }

    #[test]
    fn a_later_run_begins_anew_and_an_earlier_one_is_over() {
        let batch = batch_bytes(1);
        let mut receiver = PartReceiver::default();
        receiver.take(beginning(1));
        receiver.take(piece(1, 2, &batch, 0, 5));
        assert_eq!(drain(&mut receiver), [0]);
        receiver.take(beginning(2));
        receiver.take(piece(1, 3, &batch, 5, batch.len()));
        receiver.take(piece(2, 2, &batch, 0, batch.len()));
        assert_eq!(drain(&mut receiver), [0, 1]);
        assert!(receiver.has_read());
    }

    #[test]
    fn what_does_not_fit_stops_the_run_and_the_next_one_goes_on() {
        let batch = batch_bytes(1);
        let len = batch.len();
        let misfits = [
            piece(1, 1, &batch, 0, len),
            part(1, 2, RelayContent::Beginning { gone: Cursors::default() }),
            piece(1, 2, &batch, 3, len),
            piece(1, 2, &batch.slice(..5), 0, 5),
        ];
        for misfit in misfits {
            let mut receiver = PartReceiver::default();
            if misfit.number > 1 {
                receiver.take(beginning(1));
                assert_eq!(drain(&mut receiver), [0]);
            }
            receiver.take(misfit);
            assert_eq!(receiver.next().map(|_| ()), Err(Misfit));
            assert!(receiver.is_stuck);
            receiver.take(piece(1, 3, &batch, 0, len));
            assert!(drain(&mut receiver).is_empty());
            receiver.take(beginning(2));
            assert_eq!(drain(&mut receiver), [0]);
        }
    }
}
