//! What we relay to one broker: batches of its lane become parts, a run at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::options::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use super::output::RelayReadings;
use crate::cluster::frame::{PublishFrame, StreamKind};
use crate::cluster::identity::BootId;
use crate::cluster::lane::{Lane, Streams, Taken};
use crate::cluster::wire::{
    BATCH_HEADER_BYTES, Batch, BatchHeader, PublishParts, RelayAck, RelayContent, RelayPart,
    encode_publish, relay_piece_len,
};
use crate::mqtt::QoS;
use crate::ports::clock::Tick;

/// Cuts the batches of a lane. Invariant: the parts of the present run up to `sent` were put into the
/// ring, and those up to `acked` have been read.
#[derive(Debug)]
pub(super) struct PartSender {
    pub(super) lane: Arc<Lane>,
    stage: Stage,
    run: u64,
    sent: u64,
    acked: u64,
    /// When the reader last moved, or had nothing to read.
    moved_at: Tick,
    /// The reader cannot make sense of the run: another one is to begin.
    is_refused: bool,
    /// The batch that is being cut, and how much of it has been.
    batch: Bytes,
    cut: usize,
    queue: VecDeque<Bytes>,
    /// A message that is too large, and the messages behind it: they wait for the link.
    held: VecDeque<Bytes>,
    /// The next part has found no room.
    pub(super) is_short: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The link carries.
    Idle,
    /// The reader has not answered the first part.
    Opening,
    /// Frames flow.
    Open,
    /// No more is taken from the lane: when all was read, the link goes on.
    Closing,
}

/// What cutting goes by.
pub(super) struct Cutting<'a> {
    pub(super) now: Tick,
    pub(super) to: BootId,
    /// Bytes that the part may take.
    pub(super) room: usize,
    /// A larger frame waits for the link, or is dropped; none does where there are no links.
    pub(super) frame_bytes_max: usize,
    /// Called when the lane has more.
    pub(super) waker: &'a Waker,
    pub(super) readings: &'a mut RelayReadings,
}

impl PartSender {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        Self {
            lane,
            stage: Stage::Idle,
            run: 0,
            sent: 0,
            acked: 0,
            moved_at: Tick::ZERO,
            is_refused: false,
            batch: Bytes::new(),
            cut: 0,
            queue: VecDeque::new(),
            held: VecDeque::new(),
            is_short: false,
        }
    }

    /// Whether the relay carries, and not the link.
    pub(super) fn is_carrying(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether the reader has answered.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Closing)
    }

    /// The relay carries from now on.
    pub(super) fn begin(&mut self, now: Tick) {
        self.lane.carry_by_relay();
        self.begin_run(now);
    }

    /// Everything that has not been received is sent again. What is in the ring is void.
    pub(super) fn begin_run(&mut self, now: Tick) {
        self.run += 1;
        (self.sent, self.acked) = (0, 0);
        self.moved_at = now;
        self.is_refused = false;
        self.stage = Stage::Opening;
        self.forget();
    }

    /// The link is to carry. Whether it can at once: the reader has everything that was sent.
    pub(super) fn close(&mut self) -> bool {
        match self.stage {
            Stage::Idle => return false,
            Stage::Opening => return true,
            Stage::Open => self.stage = Stage::Closing,
            Stage::Closing => {}
        }
        self.acked == self.sent && self.batch.is_empty() && self.queue.is_empty()
    }

    /// The link is down again before it carried.
    pub(super) fn reopen(&mut self) {
        if self.stage == Stage::Closing {
            self.stage = Stage::Open;
        }
    }

    /// The link carries from now on; it sends again what was not received.
    pub(super) fn end(&mut self) -> Option<Waker> {
        self.stage = Stage::Idle;
        self.forget();
        self.lane.carry_by_link()
    }

    /// Whether the reader has not moved for so long although there is something to read.
    pub(super) fn is_still(&self, now: Tick, millis: u64) -> bool {
        self.is_open() && self.acked < self.sent && now.saturating_since(self.moved_at) >= millis
    }

    /// Whether another run is to begin.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused && self.is_carrying()
    }

    /// The reader says how far it is. Whether it has moved.
    pub(super) fn note_ack(&mut self, now: Tick, ack: &RelayAck) -> bool {
        if !self.is_carrying() || ack.run != self.run || ack.part > self.sent {
            return false;
        }
        self.is_refused |= ack.is_stuck || self.lane.received(ack.received).is_err();
        if ack.part <= self.acked {
            return false;
        }
        self.acked = ack.part;
        self.moved_at = now;
        if self.stage == Stage::Opening {
            match self.lane.rewind_relay(ack.received) {
                Ok(()) => self.stage = Stage::Open,
                Err(_) => self.is_refused = true,
            }
        }
        true
    }

    /// The run, and the last part of it that was read.
    pub(super) fn acked(&self) -> (u64, u64) {
        (self.run, self.acked)
    }

    /// The next part, if there is one and it has room.
    pub(super) fn next_part(&mut self, cutting: &mut Cutting<'_>) -> Option<RelayPart> {
        self.is_short = false;
        let content = match self.stage {
            Stage::Idle => return None,
            Stage::Opening if self.sent > 0 => return None,
            Stage::Opening if cutting.room < ROOM_MIN => {
                self.is_short = true;
                return None;
            }
            Stage::Opening => RelayContent::Beginning { gone: self.lane.gone() },
            Stage::Open | Stage::Closing => self.next_piece(cutting)?,
        };
        if self.sent == self.acked {
            self.moved_at = cutting.now;
        }
        self.sent += 1;
        Some(RelayPart { to: cutting.to, run: self.run, number: self.sent, content })
    }

    fn next_piece(&mut self, cutting: &mut Cutting<'_>) -> Option<RelayContent> {
        while self.batch.is_empty() {
            let next = self.next_batch(cutting)?;
            self.batch = self.screen(next, cutting).unwrap_or_default();
            self.cut = 0;
        }
        let left = self.batch.len() - self.cut;
        // A length takes three bytes at most.
        let fits = cutting.room.saturating_sub(relay_piece_len(0) + 2);
        let len = left.min(PIECE_BYTES_MAX).min(fits);
        if len < left.min(PIECE_BYTES_MIN) {
            self.is_short = true;
            return None;
        }
        let bytes = self.batch.slice(self.cut..self.cut + len);
        let wire = |count: usize| u32::try_from(count).expect("a batch is below 4 GiB");
        let (offset, total) = (wire(self.cut), wire(self.batch.len()));
        self.cut += len;
        if self.cut == self.batch.len() {
            self.batch = Bytes::new();
        }
        Some(RelayContent::Piece { offset, total, bytes })
    }

    fn next_batch(&mut self, cutting: &mut Cutting<'_>) -> Option<Bytes> {
        if let Some(batch) = self.queue.pop_front() {
            return Some(batch);
        }
        if self.stage != Stage::Open {
            return None;
        }
        let wanted = if self.held.is_empty() { Streams::All } else { Streams::Control };
        match self.lane.take_relayed(TAKE_BYTES, wanted, cutting.waker, &mut self.queue) {
            Taken::Batches => self.queue.pop_front(),
            Taken::Nothing | Taken::Closed => None,
            Taken::Restart => {
                // Control frames were given up: the next run says so.
                self.is_refused = true;
                None
            }
        }
    }

    /// What of a batch is to be cut: nothing of what waits for the link.
    fn screen(&mut self, batch: Bytes, cutting: &mut Cutting<'_>) -> Option<Bytes> {
        let header = BatchHeader::peek(&batch, usize::MAX / 2).ok().flatten();
        let header = header.expect("a lane has whole batches");
        if header.kind == StreamKind::Data {
            let is_large = batch.len() > cutting.frame_bytes_max.saturating_add(BATCH_HEADER_BYTES);
            let is_too_large = header.count == 1 && is_large;
            if !self.held.is_empty() || is_too_large {
                let without = if is_too_large { without_message(header, &batch) } else { None };
                let Some(without) = without.filter(|_| self.held.is_empty()) else {
                    self.held.push_back(batch);
                    return None;
                };
                cutting.readings.dropped += 1;
                return Some(without);
            }
        }
        cutting.readings.sent_frames += u64::from(header.count);
        Some(batch)
    }

    fn forget(&mut self) {
        self.batch = Bytes::new();
        self.cut = 0;
        self.queue.clear();
        self.held.clear();
    }
}

/// A frame of the same number that nobody gets, in place of a message of QoS 0 that nothing is kept
/// of.
fn without_message(header: BatchHeader, batch: &Bytes) -> Option<Bytes> {
    let frames = Batch::new(header, batch.clone()).ok()?;
    let frame: PublishFrame = frames.frames().next()?.ok()?.publish().ok()?;
    if frame.qos != QoS::AtMostOnce || frame.version.is_some() {
        return None;
    }
    let nothing = PublishParts {
        payload: &[],
        properties: None,
        is_for_subscribers: false,
        groups: &[],
        ..PublishParts::from(&frame)
    };
    let mut frame = BytesMut::new();
    encode_publish(&nothing, &mut frame);
    let header = BatchHeader { batch_len: BATCH_HEADER_BYTES + frame.len(), ..header };
    let mut bytes = BytesMut::from(&header.to_bytes()[..]);
    bytes.extend_from_slice(&frame);
    Some(bytes.freeze())
}

/// Whatever the next part is, it finds room in so many bytes.
pub(super) const ROOM_MIN: usize = PIECE_BYTES_MIN + 64;
/// What is taken from a lane at a time.
const TAKE_BYTES: usize = 64 * 1_024;
