//! Both streams of a lane, and who sends them.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use super::{Carrier, CursorError, Streams, Taken};
use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::lane::outgoing::OutgoingStream;

/// What the lock of a lane guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) control: OutgoingStream,
    pub(super) data: OutgoingStream,
    pub(super) carrier: Carrier,
    pub(super) sender: SendingTask,
    /// The link, while it stands by.
    pub(super) standby: Option<Waker>,
    /// The receiver may be dead: QoS 0 is not for it, and QoS 1 and 2 waits.
    pub(super) is_suspect: bool,
    pub(super) is_closed: bool,
    /// The control stream was cut, and the connection that stands knows nothing of it.
    pub(super) must_restart: bool,
    pub(super) data_bytes_total: u64,
    pub(super) dropped: u64,
    pub(super) refused: u64,
    pub(super) resent: u64,
    pub(super) withheld: u64,
    pub(super) cuts: u64,
}

/// The task that sends.
#[derive(Debug)]
pub(super) enum SendingTask {
    /// It works, or has been woken for it, or there is none yet.
    Working,
    /// It waits for an offer.
    Idle(Waker),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
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
        }
    }

    pub(super) fn gone(&self) -> Cursors {
        Cursors { control: self.control.gone(), data: self.data.gone() }
    }

    pub(super) fn take(
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

    pub(super) fn begin_behind(&mut self, received: Cursors) -> Result<(), CursorError> {
        let again = self.control.rewind(received.control)? + self.data.rewind(received.data)?;
        self.resent += again;
        self.must_restart = false;
        self.sender = SendingTask::Working;
        Ok(())
    }

    #[inline]
    pub(super) fn wake(&mut self) -> Option<Waker> {
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
