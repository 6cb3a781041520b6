//! The sender's side towards one boot id: what all shards offer and one task sends.
//!
//! A frame stays until the receiver has it. One short lock guards the lane; no lock is taken inside,
//! and the frame is encoded under it, straight into the batch.
//!
//! Invariants: a sequence number is given after a frame of QoS 0 could have been dropped, never
//! before; a sender that found nothing to take and went idle is woken by the next offer it could
//! take, exactly once; there is one lane for a boot id as long as both ends live, because its
//! sequence numbers do not begin anew.

mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::lane::outgoing::OutgoingStream;
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

/// What came of offering a message.
#[must_use]
#[derive(Debug)]
pub enum Offered {
    /// It is on its way.
    Queued {
        /// Its sequence number in the data stream.
        seq: u64,
        /// To be woken at the end of the turn.
        wake: Option<Waker>,
        /// Whether its publisher should be slowed: the receiver is behind.
        is_congested: bool,
    },
    /// It was QoS 0, and the receiver is behind or in doubt.
    Dropped,
    /// The receiver is so far behind that nothing is taken any more.
    Refused,
    /// The receiver is gone for good.
    Closed,
}

/// What came of offering a control frame.
#[must_use]
#[derive(Debug)]
pub enum OfferedControl {
    /// It is on its way.
    Queued {
        /// Its sequence number in the control stream.
        seq: u64,
        /// To be woken at the end of the turn.
        wake: Option<Waker>,
    },
    /// The bound was reached. This frame and all control frames the receiver is not known to have
    /// are gone; the link starts anew. Begin again, with a snapshot.
    Broken(Option<Waker>),
    /// The receiver is gone for good.
    Closed,
}

/// What [`Lane::take`] found.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// Batches. Come again when they are written.
    Batches,
    /// Nothing: the waker is kept for the next offer.
    Nothing,
    /// What went out before does not fit to what comes now: close the connection and dial again.
    Restart,
    /// Close the connection for good.
    Closed,
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

/// Counts of one lane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneCounts {
    /// The last sequence numbers given: how many frames there were, ever.
    pub offered: Cursors,
    /// What the receiver has, or what was given up.
    pub gone: Cursors,
    /// Bytes of messages the receiver is not known to have.
    pub data_bytes: usize,
    /// Bytes of control frames the receiver is not known to have.
    pub control_bytes: usize,
    /// All bytes of messages that were accepted, ever.
    pub data_bytes_total: u64,
    /// Messages of QoS 0 that were dropped.
    pub dropped: u64,
    /// Messages of QoS 1 and 2 that were refused.
    pub refused: u64,
    /// Frames that were sent once more by a new connection.
    pub resent: u64,
    /// Control frames that were not told, to be told later as part of others.
    pub withheld: u64,
    /// How often the control stream was cut.
    pub cuts: u64,
}

/// The frames for one boot id that it has not received yet.
#[derive(Debug)]
pub struct Lane {
    options: LaneOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    control: OutgoingStream,
    data: OutgoingStream,
    carrier: Carrier,
    sender: SendingTask,
    /// The link, while it stands by.
    standby: Option<Waker>,
    /// The receiver may be dead: QoS 0 is not for it, and QoS 1 and 2 waits.
    is_suspect: bool,
    is_closed: bool,
    /// The control stream was cut, and the connection that stands knows nothing of it.
    must_restart: bool,
    data_bytes_total: u64,
    dropped: u64,
    refused: u64,
    resent: u64,
    withheld: u64,
    cuts: u64,
}

/// The task that sends.
#[derive(Debug)]
enum SendingTask {
    /// It works, or has been woken for it, or there is none yet.
    Working,
    /// It waits for an offer.
    Idle(Waker),
}

impl Lane {
    /// A lane on which nothing was offered.
    #[must_use]
    pub fn new(options: LaneOptions) -> Self {
        let state = State {
            control: OutgoingStream::new(StreamKind::Control),
            data: OutgoingStream::new(StreamKind::Data),
            carrier: Carrier::Link,
            sender: SendingTask::Working,
            standby: None,
            is_suspect: false,
            is_closed: false,
            must_restart: false,
            data_bytes_total: 0,
            dropped: 0,
            refused: 0,
            resent: 0,
            withheld: 0,
            cuts: 0,
        };
        Self { options, state: Mutex::new(state) }
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

impl State {
    fn gone(&self) -> Cursors {
        Cursors { control: self.control.gone(), data: self.data.gone() }
    }

    fn take(
        &mut self,
        bytes_max: usize,
        wanted: Streams,
        waker: &Waker,
        into: &mut VecDeque<Bytes>,
    ) -> Taken {
        if self.is_closed {
            return Taken::Closed;
        }
        if self.must_restart {
            return Taken::Restart;
        }
        let mut taken = self.control.take(bytes_max, into);
        if wanted == Streams::All && !self.is_suspect && taken < bytes_max {
            taken += self.data.take(bytes_max - taken, into);
        }
        if taken > 0 {
            self.sender = SendingTask::Working;
            return Taken::Batches;
        }
        self.go_idle(waker);
        Taken::Nothing
    }

    fn begin_behind(&mut self, received: Cursors) -> Result<(), CursorError> {
        let again = self.control.rewind(received.control)? + self.data.rewind(received.data)?;
        self.resent += again;
        self.must_restart = false;
        self.sender = SendingTask::Working;
        Ok(())
    }

    #[inline]
    fn wake(&mut self) -> Option<Waker> {
        if matches!(self.sender, SendingTask::Working) {
            return None;
        }
        match std::mem::replace(&mut self.sender, SendingTask::Working) {
            SendingTask::Idle(waker) => Some(waker),
            SendingTask::Working => None,
        }
    }

    fn go_idle(&mut self, waker: &Waker) {
        match &mut self.sender {
            SendingTask::Idle(kept) => kept.clone_from(waker),
            SendingTask::Working => self.sender = SendingTask::Idle(waker.clone()),
        }
    }
}

/// QoS 1 and 2 is refused beyond so many times `data_bytes_max`, and the control stream cut beyond so
/// many times `control_bytes_max`.
pub const REFUSE_FACTOR: usize = 4;
