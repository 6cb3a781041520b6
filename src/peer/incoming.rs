//! A link that stands, as the one who accepted it sees it: batches come in, cursors go out.

use crate::cluster::frame::Cursors;
use crate::cluster::identity::BootId;
use crate::cluster::wire::{BATCH_HEADER_BYTES, Batch, BatchHeader, encode_received};
use crate::peer::error::LinkError;
use crate::peer::links::Ground;
use crate::peer::receiver::Receiver;
use crate::peer::stream::LinkStream;
use crate::ports::message::READ_BLOCK_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

/// Reads batches and hands them on. The first of them is answered at once; what follows closely is
/// answered together, for an answer costs both ends more than a small batch does. Reading never
/// waits for the answer.
pub(super) struct Incoming<'a> {
    stream: LinkStream,
    from: BootId,
    shard: usize,
    frame_bytes_max: usize,
    receiver: &'a dyn Receiver,
    counters: &'a IncomingCounters,
    buffer: BytesMut,
    /// What is to be said, once what is being said has been.
    answer: Option<Cursors>,
    answering: Bytes,
    /// Bytes of batches since the last answer.
    unanswered_bytes: usize,
    /// The time after an answer in which the next one waits for others.
    pause: Option<Pin<Box<Sleep>>>,
}

/// What all accepted links count.
#[derive(Debug, Default)]
pub(super) struct IncomingCounters {
    pub(super) bytes: AtomicU64,
    pub(super) batches: AtomicU64,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(stream: LinkStream, from: BootId, shard: usize, ground: &'a Ground) -> Self {
        Self {
            stream,
            from,
            shard,
            frame_bytes_max: ground.options.frame_bytes_max,
            receiver: &*ground.receiver,
            counters: &ground.counters,
            buffer: BytesMut::new(),
            answer: None,
            answering: Bytes::new(),
            unanswered_bytes: 0,
            pause: None,
        }
    }

    /// One turn. Ends with the link, and says why.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        match self.try_poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) => {
                // Others on this shard have their turn first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// `Ready(Ok)`: the turn is over, and there is more to do.
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let mut handled = 0;
        loop {
            while let Some(batch) = self.next_batch()? {
                let len = BATCH_HEADER_BYTES + batch.frames_len();
                handled += len;
                self.unanswered_bytes += len;
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                self.answer = Some(self.receiver.receive(self.shard, self.from, batch)?);
                if handled >= TURN_BYTES {
                    let _ = self.poll_answer(cx)?;
                    return Poll::Ready(Ok(()));
                }
            }
            let _ = self.poll_answer(cx)?;
            self.make_room();
            let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer);
            match ready!(read).map_err(LinkError::Broken)? {
                0 => return Poll::Ready(Err(LinkError::Ended)),
                count => self.counters.bytes.fetch_add(count as u64, Ordering::Relaxed),
            };
        }
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, LinkError> {
        let Some(header) = BatchHeader::peek(&self.buffer, self.frame_bytes_max)? else {
            return Ok(None);
        };
        if header.batch_len > self.buffer.len() {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(header.batch_len).freeze();
        Ok(Some(Batch::new(header, bytes)?))
    }

    /// Room to read into. It grows with what has come, not with what was announced.
    fn make_room(&mut self) {
        if self.buffer.capacity() - self.buffer.len() < ROOM_MIN {
            self.buffer.reserve(READ_BLOCK_BYTES_MAX.max(self.buffer.len()));
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        loop {
            if self.answering.is_empty() {
                let Some(received) = self.take_answer(cx) else {
                    return Pin::new(&mut self.stream).poll_flush(cx).map_err(LinkError::Broken);
                };
                self.answering = Bytes::copy_from_slice(&encode_received(received));
            }
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write(cx, &self.answering));
            self.answering.advance(written.map_err(LinkError::Broken)?);
        }
    }
}

impl Incoming<'_> {
    /// What is to be said now, if anything is. The task is woken when what is kept back is due.
    fn take_answer(&mut self, cx: &mut Context<'_>) -> Option<Cursors> {
        self.answer?;
        if let Some(pause) = &mut self.pause {
            let is_over = pause.as_mut().poll(cx).is_ready();
            if !is_over && self.unanswered_bytes < UNANSWERED_BYTES_MAX {
                return None;
            }
            if is_over {
                self.pause = None;
            }
        }
        self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(ANSWER_PAUSE)));
        self.unanswered_bytes = 0;
        self.answer.take()
    }
}

/// Less room than this is not worth a system call.
const ROOM_MIN: usize = 64 * 1_024;
/// A turn ends after so many bytes.
const TURN_BYTES: usize = 64 * 1_024;
/// How long an answer waits for others at most: the sender keeps what is not answered.
const ANSWER_PAUSE: Duration = Duration::from_millis(5);
/// So much is answered without a wait. A sender slows its publishers long after that.
const UNANSWERED_BYTES_MAX: usize = 256 * 1_024;
