//! What a broken rule makes of what brokers tell each other.

use bytes::{Bytes, BytesMut};

use crate::cluster::frame::{ControlFrame, StreamKind};
use crate::cluster::wire::{BATCH_HEADER_BYTES, Batch, BatchHeader, encode_control};
use crate::sim::cluster::verdict::Plant;

/// What comes in place of a batch; nothing when it comes as it is.
pub(super) fn forged(batch: &Batch, plant: Plant) -> Option<Batch> {
    let forge = forgery(plant)?;
    if batch.kind != StreamKind::Control {
        return None;
    }
    let mut frames = BytesMut::new();
    for frame in batch.frames() {
        let mut frame = frame.ok()?.control().ok()?;
        forge(&mut frame);
        encode_control(&frame, &mut frames);
    }
    let batch_len = BATCH_HEADER_BYTES + frames.len();
    let header =
        BatchHeader { batch_len, kind: batch.kind, first_seq: batch.first_seq, count: batch.count };
    let mut bytes = BytesMut::from(&header.to_bytes()[..]);
    bytes.extend_from_slice(&frames);
    Batch::new(header, bytes.freeze()).ok()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other rules are broken elsewhere")]
fn forgery(plant: Plant) -> Option<fn(&mut ControlFrame)> {
    match plant {
        Plant::QueueLeftBehind => Some(leave_queue_behind),
        Plant::MarksAtOnce => Some(mark_at_once),
        Plant::EmptySnapshot => Some(empty_snapshot),
        _ => None,
    }
}

/// The last part of a Session has its queue.
fn leave_queue_behind(frame: &mut ControlFrame) {
    if let ControlFrame::Handover(handover) = frame
        && handover.is_last
    {
        handover.state = Bytes::new();
    }
}

/// A deletion from the beginning of time in place of each value.
fn empty_snapshot(frame: &mut ControlFrame) {
    if let ControlFrame::Retained(value) = frame {
        value.message = None;
        value.version.time = 0;
    }
}

fn mark_at_once(frame: &mut ControlFrame) {
    if let ControlFrame::Mark { data, .. } = frame {
        *data = 0;
    }
}
