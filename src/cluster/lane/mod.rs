//! The sender's side towards one boot id: what all shards offer and one task sends.
//!
//! A frame stays until the receiver has it. One short lock guards the lane; no lock is taken inside,
//! and the frame is encoded under it, straight into the batch.
//!
//! Invariants: a sequence number is given after a frame of QoS 0 could have been dropped, never
//! before; a sender that found nothing to take and went idle is woken by the next offer it could
//! take, exactly once; there is one lane for a boot id as long as both ends live, because its
//! sequence numbers do not begin anew.

mod counts;
mod outcome;
mod outgoing;
mod state;
#[cfg(test)]
mod tests;

pub use counts::LaneCounts;
pub use outcome::{Offered, OfferedControl, Taken};

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::lane::state::{SendingTask, State};
use crate::cluster::sync::Mutex;
use crate::mqtt::QoS;

/// The bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// Bytes of messages on their way, beyond which QoS 0 is dropped. Half of it is congestion, and
    /// [`REFUSE_FACTOR`] times it is the end for QoS 1 and 2 as well.
    pub data_bytes_max: usize,
    /// Bytes of control frames on their way, beyond which nothing is told that can be told later.
    /// [`REFUSE_FACTOR`] times it is the end: the control stream is cut.
    pub control_bytes_max: usize,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self { data_bytes_max: 16 * 1_024 * 1_024, control_bytes_max: 64 * 1_024 * 1_024 }
    }
}

/// Which streams are to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Streams {
    /// Both.
    All,
    /// Messages wait.
    Control,
}

/// Who sends what a lane has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// The connection that is dialled.
    Link,
    /// The windows in the tree of znodes. A link that stands meanwhile stands by.
    Relay,
}

/// What a receiver says it has cannot be: it forgot what it had, or has what was never sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the peer says it is at {seq} of the {kind:?} stream, which goes from {gone} to before {next}"
)]
pub struct CursorError {
    /// The stream.
    pub kind: StreamKind,
    /// What it says.
    pub seq: u64,
    /// Up to here nothing can be sent again.
    pub gone: u64,
    /// The next sequence number.
    pub next: u64,
}

/// The frames for one boot id that it has not received yet.
#[derive(Debug)]
pub struct Lane {
    options: LaneOptions,
    state: Mutex<State>,
}

impl Lane {
    /// A lane on which nothing was offered.
    #[must_use]
    pub fn new(options: LaneOptions) -> Self {
        Self { options, state: Mutex::new(State::new()) }
    }

    /// Offers a message. `encode` appends its one frame, with [`encode_publish`] or as bytes that
    /// were encoded before; it is called only when the message is accepted.
    ///
    /// [`encode_publish`]: crate::cluster::wire::encode_publish
    #[inline]
    pub fn offer_data(&self, qos: QoS, encode: impl FnOnce(&mut BytesMut)) -> Offered {
        let mut state = self.state.lock();
        if state.is_closed {
            return Offered::Closed;
        }
        let bytes = state.data.bytes();
        if bytes >= self.options.data_bytes_max || state.is_suspect {
            if qos == QoS::AtMostOnce {
                state.dropped += 1;
                return Offered::Dropped;
            }
            if bytes >= self.options.data_bytes_max.saturating_mul(REFUSE_FACTOR) {
                state.refused += 1;
                return Offered::Refused;
            }
        }
        let seq = state.data.append(encode);
        let bytes_after = state.data.bytes();
        state.data_bytes_total += (bytes_after - bytes) as u64;
        let wake = if state.is_suspect { None } else { state.wake() };
        Offered::Queued { seq, wake, is_congested: bytes_after > self.options.data_bytes_max / 2 }
    }

    /// Offers a control frame, which `encode` appends.
    pub fn offer_control(&self, encode: impl FnOnce(&mut BytesMut)) -> OfferedControl {
        let mut state = self.state.lock();
        if state.is_closed {
            return OfferedControl::Closed;
        }
        if state.control.bytes() >= self.options.control_bytes_max.saturating_mul(REFUSE_FACTOR) {
            state.control.cut();
            state.must_restart = true;
            state.cuts += 1;
            return OfferedControl::Broken(state.wake());
        }
        let seq = state.control.append(encode);
        OfferedControl::Queued { seq, wake: state.wake() }
    }

    /// Offers a control frame that can be told later. Nothing when it is to be: the receiver does not
    /// take what it is told.
    pub fn offer_unless_behind(
        &self,
        encode: impl FnOnce(&mut BytesMut),
    ) -> Option<OfferedControl> {
        {
            let mut state = self.state.lock();
            if state.control.bytes() >= self.options.control_bytes_max {
                state.withheld += 1;
                return None;
            }
        }
        Some(self.offer_control(encode))
    }

    /// Whether the receiver takes what it is told, so that it can be told what it was not.
    #[must_use]
    pub fn has_control_room(&self) -> bool {
        self.state.lock().control.bytes() <= self.options.control_bytes_max / 4
    }

    /// Whether there is something to take.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        let state = self.state.lock();
        state.control.has_unsent() || state.data.has_unsent()
    }

    /// Moves batches that this connection has not sent to the end of `into`, about `bytes_max`
    /// bytes, control first. When there is nothing, the sender counts as idle.
    pub fn take(&self, bytes_max: usize, waker: &Waker, into: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state.lock();
        if state.carrier == Carrier::Relay && !state.is_closed {
            state.standby = Some(waker.clone());
            return Taken::Nothing;
        }
        state.take(bytes_max, Streams::All, waker, into)
    }

    /// The same for the relay, while it carries. [`Taken::Restart`]: begin again with what is not
    /// [`Self::gone`], and [`Self::rewind_relay`].
    pub fn take_relayed(
        &self,
        bytes_max: usize,
        wanted: Streams,
        waker: &Waker,
        into: &mut VecDeque<Bytes>,
    ) -> Taken {
        let mut state = self.state.lock();
        if state.carrier == Carrier::Link && !state.is_closed {
            return Taken::Nothing;
        }
        state.take(bytes_max, wanted, waker, into)
    }

    /// From now on the relay sends what there is, and what the link did not get through. It begins
    /// with [`Self::rewind_relay`].
    pub fn carry_by_relay(&self) {
        let mut state = self.state.lock();
        state.carrier = Carrier::Relay;
        if let SendingTask::Idle(waker) = std::mem::replace(&mut state.sender, SendingTask::Working)
        {
            state.standby = Some(waker);
        }
    }

    /// The receiver of what is relayed is at `received`, or further: an old link may have said so
    /// since. Everything behind is relayed.
    ///
    /// # Errors
    ///
    /// When the receiver cannot be there.
    pub fn rewind_relay(&self, received: Cursors) -> Result<(), CursorError> {
        let mut state = self.state.lock();
        debug_assert_eq!(state.carrier, Carrier::Relay, "the link begins with `rewind`");
        let received = received.max(state.gone());
        state.begin_behind(received)
    }

    /// From now on the link sends what there is, and what the relay did not get through. Whom to
    /// wake: a link that stands by.
    #[must_use]
    pub fn carry_by_link(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.carrier = Carrier::Link;
        let again = state.control.send_again() + state.data.send_again();
        state.resent += again;
        state.sender = SendingTask::Working;
        state.standby.take()
    }

    /// Who sends what there is.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.state.lock().carrier
    }

    /// A new connection begins, or another lane, to a receiver that is at `received`: everything
    /// behind is sent again.
    ///
    /// # Errors
    ///
    /// When the receiver cannot be there. Nothing can be sent then.
    pub fn rewind(&self, received: Cursors) -> Result<(), CursorError> {
        let mut state = self.state.lock();
        if state.carrier == Carrier::Relay {
            // It stands by. What it was told may be old: the relay went on meanwhile.
            return Ok(());
        }
        state.begin_behind(received)
    }

    /// The receiver has everything up to here.
    ///
    /// # Errors
    ///
    /// When it says so of what was never sent.
    pub fn received(&self, received: Cursors) -> Result<(), CursorError> {
        let mut state = self.state.lock();
        state.control.received(received.control)?;
        state.data.received(received.data)?;
        Ok(())
    }

    /// Whether the receiver may be dead. As long as it is, QoS 0 is dropped, and QoS 1 and 2 is
    /// held; control goes on.
    pub fn set_suspect(&self, is_suspect: bool) -> Option<Waker> {
        let mut state = self.state.lock();
        state.is_suspect = is_suspect;
        if !is_suspect && state.data.has_unsent() { state.wake() } else { None }
    }

    /// The receiver is gone for good: nothing is accepted any more, and what there is, is dropped.
    /// Whoever sends ends when woken.
    #[must_use]
    pub fn close(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.control.cut();
        state.data.cut();
        let standby = state.standby.take();
        let wake = state.wake();
        drop(state);
        standby.into_iter().for_each(Waker::wake);
        wake
    }

    /// Whether what is offered now goes out at once: the receiver is there and keeps up.
    #[must_use]
    pub fn is_flowing(&self) -> bool {
        let state = self.state.lock();
        !state.is_closed
            && !state.is_suspect
            && state.data.bytes() <= self.options.data_bytes_max / 2
    }

    /// Whether the receiver is gone for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// What cannot be sent again: for `Hello`.
    #[must_use]
    pub fn gone(&self) -> Cursors {
        self.state.lock().gone()
    }

    /// The last message that was ever on its way: the receiver has none that is behind it, whatever
    /// became of the others.
    #[must_use]
    pub fn departed(&self) -> u64 {
        self.state.lock().data.departed()
    }

    /// Whether the receiver has everything.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        let state = self.state.lock();
        state.control.bytes() == 0 && state.data.bytes() == 0
    }

    /// What there was and is.
    #[must_use]
    pub fn counts(&self) -> LaneCounts {
        let state = self.state.lock();
        LaneCounts {
            offered: Cursors { control: state.control.last_seq(), data: state.data.last_seq() },
            gone: state.gone(),
            data_bytes: state.data.bytes(),
            control_bytes: state.control.bytes(),
            data_bytes_total: state.data_bytes_total,
            dropped: state.dropped,
            refused: state.refused,
            resent: state.resent,
            withheld: state.withheld,
            cuts: state.cuts,
        }
    }
}

/// QoS 1 and 2 is refused beyond so many times `data_bytes_max`, and the control stream cut beyond so
/// many times `control_bytes_max`.
pub const REFUSE_FACTOR: usize = 4;
