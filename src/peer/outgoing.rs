//! A link that stands, as its dialler sees it: batches go out, cursors come in.

use crate::cluster::frame::Cursors;
use crate::cluster::lane::{Lane, Taken};
use crate::cluster::wire::{RECEIVED_BYTES, decode_received};
use crate::peer::error::LinkError;
use crate::peer::stream::LinkStream;
use crate::runtime::Clock;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// Sends what the lane has, as much as there is at a time; waits when there is nothing.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    stream: LinkStream,
    lane: &'a Lane,
    clock: Clock,
    /// What was taken and is not written; the first of it may be written in part.
    batches: VecDeque<Bytes>,
    heard: BytesMut,
    /// Whether others have had their turn since the lane had nothing.
    has_gathered: bool,
    /// What was offered when the time began to be taken, and when that was.
    probe: Option<(Cursors, Duration)>,
    pub(super) round_trip: Option<Duration>,
    /// Whether the peer has received anything by this connection.
    pub(super) has_progress: bool,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(stream: LinkStream, lane: &'a Lane, clock: Clock) -> Self {
        Self {
            stream,
            lane,
            clock,
            batches: VecDeque::new(),
            heard: BytesMut::with_capacity(HEARD_BYTES),
            has_gathered: false,
            probe: None,
            round_trip: None,
            has_progress: false,
        }
    }

    /// One turn. Ends with the link, and says why. `Ready(Ok)`: the round trip was measured anew.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let was_measured = self.listen(cx)?;
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        if was_measured { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Hears all that is said.
    fn listen(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        let mut latest = None;
        loop {
            self.heard.reserve(HEARD_BYTES);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.heard) {
                Poll::Ready(Ok(0)) => return Err(LinkError::Ended),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(LinkError::Broken(error)),
                Poll::Pending => break,
            }
            while let Some(bytes) = self.heard.first_chunk::<RECEIVED_BYTES>() {
                latest = Some(decode_received(bytes));
                self.heard.advance(RECEIVED_BYTES);
            }
        }
        let Some(received) = latest else { return Ok(false) };
        self.lane.received(received)?;
        self.has_progress = true;
        Ok(self.measure(received))
    }

    fn measure(&mut self, received: Cursors) -> bool {
        let Some((offered, since)) = self.probe else { return false };
        if received.max(offered) != received {
            return false;
        }
        self.round_trip = Some(self.clock.elapsed().saturating_sub(since));
        self.probe = None;
        true
    }

    /// Writes until the lane has no more, or the socket takes no more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        loop {
            if self.batches.is_empty() {
                if !self.has_gathered && self.lane.has_unsent() {
                    return self.gather(cx);
                }
                match self.lane.take(TAKE_BYTES, cx.waker(), &mut self.batches) {
                    Taken::Batches => self.begin_probe(),
                    Taken::Nothing => {
                        self.has_gathered = false;
                        return Pin::new(&mut self.stream)
                            .poll_flush(cx)
                            .map_err(LinkError::Broken);
                    }
                    Taken::Restart => return Poll::Ready(Err(LinkError::Restart)),
                    Taken::Closed => return Poll::Ready(Err(LinkError::Closed)),
                }
            }
            let written = ready!(self.poll_write(cx)).map_err(LinkError::Broken)?;
            self.advance(written);
        }
    }

    /// Lets everybody have a turn for whom something has come from a socket: what they offer goes out
    /// together. A write to a link costs as much as some hundred messages in it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.has_gathered = true;
        let others = pin!(tokio::task::yield_now());
        others.poll(cx).map(Ok)
    }

    fn begin_probe(&mut self) {
        if self.probe.is_none() {
            let offered = self.batches.back().and_then(|last| last_of(last));
            self.probe = offered.map(|offered| (offered, self.clock.elapsed()));
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.batches.len().min(SLICES_MAX);
        for (slice, batch) in slices.iter_mut().zip(&self.batches) {
            *slice = IoSlice::new(batch);
        }
        let (slices, _) = slices.split_at(count);
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        if written == 0 {
            Poll::Ready(Err(io::ErrorKind::WriteZero.into()))
        } else {
            Poll::Ready(Ok(written))
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.batches.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.batches.pop_front();
        }
    }
}

/// The last frame of a batch that is about to be written.
fn last_of(batch: &[u8]) -> Option<Cursors> {
    let header = crate::cluster::wire::BatchHeader::peek(batch, usize::MAX / 2).ok().flatten()?;
    let mut cursors = Cursors::default();
    *cursors.of_mut(header.kind) = header.first_seq + u64::from(header.count) - 1;
    Some(cursors)
}

/// What is taken from the lane at a time.
const TAKE_BYTES: usize = 512 * 1_024;
/// What is given to the system at a time.
const SLICES_MAX: usize = 64;
/// Room for answers; they are small, and only the last one counts.
const HEARD_BYTES: usize = 1_024;
