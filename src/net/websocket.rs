//! WebSocket as a byte stream [MQTT-6.0.0-1, MQTT-6.0.0-2].
//!
//! Reading decodes in the reader's buffer. Writing makes one binary frame of what it is given and
//! hands header and payload to the socket together; only what a full socket does not take is
//! copied and kept, so that an idle connection holds no buffer in either direction.

pub use super::websocket_frame::WebSocketViolation;
use super::websocket_frame::{Control, End, FrameDecoder, binary_header, control_frame};
use bytes::{Buf, BytesMut};
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A WebSocket connection after its opening handshake.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    inner: S,
    decoder: FrameDecoder,
    /// What the client sent behind its opening handshake, not decoded yet.
    early: Vec<u8>,
    /// The rest of a frame the socket did not take: at most one, of at most `FRAME_BYTES_MAX`.
    unsent: BytesMut,
    /// The answer to the last ping, until it can be sent; earlier ones need none.
    pong: Option<Vec<u8>>,
    reading: Reading,
    is_close_sent: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Open,
    Closed,
    Broken(WebSocketViolation),
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes over `inner` after the opening handshake; `early` is what was read beyond it.
    pub(super) fn new(inner: S, early: Vec<u8>) -> Self {
        Self {
            inner,
            decoder: FrameDecoder::default(),
            early,
            unsent: BytesMut::new(),
            pong: None,
            reading: Reading::Open,
            is_close_sent: false,
        }
    }

    /// Puts raw bytes into `buf`: those that came early, then those of the socket.
    fn poll_read_raw(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let taken = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.split_at(taken).0);
        self.early.drain(..taken);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Decodes what lies in `buf` from `begin` on and leaves only MQTT there.
    fn decode(&mut self, buf: &mut ReadBuf<'_>, begin: usize) {
        let piece = buf.filled_mut().split_at_mut(begin).1;
        let decoded = self.decoder.decode(piece);
        buf.set_filled(begin + decoded.kept);
        if decoded.pong.is_some() {
            self.pong = decoded.pong;
        }
        match decoded.end {
            None => {}
            Some(End::Closed(status)) => {
                self.reading = Reading::Closed;
                self.queue_close(status.as_ref().map_or(&[], |status| status.as_slice()));
            }
            Some(End::Violation(violation)) => {
                self.reading = Reading::Broken(violation);
                self.queue_close(&violation.status());
            }
        }
    }

    fn queue_close(&mut self, status: &[u8]) {
        if !std::mem::replace(&mut self.is_close_sent, true) {
            self.pong = None;
            self.unsent.extend_from_slice(&control_frame(Control::Close, status));
        }
    }

    /// Sends what is left of the last frame, then the pong.
    fn poll_send_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.unsent.has_remaining() {
                let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.unsent))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.unsent.advance(sent);
            }
            self.unsent = BytesMut::new();
            let Some(pong) = self.pong.take() else {
                return Poll::Ready(Ok(()));
            };
            self.unsent.extend_from_slice(&control_frame(Control::Pong, &pong));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begin = buf.filled().len();
        loop {
            // Answers to pings and closes go out with reading; a full socket delays only them.
            // A socket that is broken for writing is reported by the next write.
            if this.pong.is_some() || this.unsent.has_remaining() {
                let _ = Pin::new(&mut *this).poll_flush(cx);
            }
            match this.reading {
                Reading::Open => {}
                Reading::Closed => return Poll::Ready(Ok(())),
                Reading::Broken(violation) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, violation);
                    return Poll::Ready(Err(error));
                }
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_read_raw(cx, buf))?;
            if buf.filled().len() == begin {
                return Poll::Ready(Ok(()));
            }
            this.decode(buf, begin);
            if buf.filled().len() > begin {
                if this.pong.is_some() || this.unsent.has_remaining() {
                    let _ = Pin::new(&mut *this).poll_flush(cx);
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send_unsent(cx))?;
        if this.is_close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let payload = one_frame_of(bufs);
        let length: usize = payload.iter().map(|slice| slice.len()).sum();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let header = binary_header(length);
        let mut frame: SmallVec<[IoSlice<'_>; SLICES_MAX + 1]> = SmallVec::new();
        frame.push(IoSlice::new(&header));
        frame.extend(payload.iter().map(|slice| IoSlice::new(slice)));
        let sent = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, &frame))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        // A frame that has begun has to be finished: from here on all of it is accepted.
        let mut rest = frame.as_mut_slice();
        IoSlice::advance_slices(&mut rest, sent);
        for slice in rest {
            this.unsent.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send_unsent(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.queue_close(&NORMAL_CLOSURE);
        ready!(this.poll_send_unsent(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

/// As much of `bufs` as goes into one frame.
fn one_frame_of<'a>(bufs: &'a [IoSlice<'a>]) -> SmallVec<[&'a [u8]; SLICES_MAX]> {
    let mut left = FRAME_BYTES_MAX;
    let mut payload = SmallVec::new();
    for buf in bufs.iter().filter(|buf| !buf.is_empty()).take(SLICES_MAX) {
        let taken = buf.len().min(left);
        payload.push(buf.split_at(taken).0);
        left -= taken;
        if left == 0 {
            break;
        }
    }
    payload
}

/// What one write puts into one frame at most; the rest is the next write's.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Slices of one frame at most.
const SLICES_MAX: usize = 15;

/// Status 1000.
const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();

#[cfg(test)]
mod tests {
    use super::super::websocket_frame::tests::masked;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair(pipe_bytes: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(pipe_bytes);
        (WebSocket::new(server, Vec::new()), client)
    }

    #[tokio::test]
    async fn early_bytes_come_first() {
        let (server, mut client) = duplex(1024);
        let early = masked(0x82, b"early ");
        let (head, tail) = early.split_at(7);
        let mut socket = WebSocket::new(server, head.to_vec());
        client.write_all(tail).await.unwrap();
        client.write_all(&masked(0x82, b"and late")).await.unwrap();
        let mut read = [0; 14];
        socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"early and late");
    }

    #[tokio::test]
    async fn a_full_pipe_loses_and_repeats_nothing() {
        let (mut socket, mut client) = pair(10);
        let payload: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let sent = payload.clone();
        let write = async move {
            socket.write_all(&sent).await.unwrap();
            socket.flush().await.unwrap();
            socket.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), read) = tokio::join!(write, client.read_to_end(&mut received));
        read.unwrap();
        let first = [&[0x82, 127][..], &65_536_u64.to_be_bytes()].concat();
        let (frame, rest) = received.split_at(first.len() + 65_536);
        assert_eq!(frame, [&first[..], &payload[..65_536]].concat());
        let (frame, rest) = rest.split_at(4 + 100_000 - 65_536);
        assert_eq!(frame, [&[0x82, 126, 0x86, 0xA0][..], &payload[65_536..]].concat());
        assert_eq!(rest, [0x88, 2, 0x03, 0xE8]);
    }

    #[tokio::test]
    async fn slices_written_together_are_one_frame() {
        let (mut socket, mut client) = pair(1024);
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        assert_eq!(socket.write_vectored(&slices).await.unwrap(), 4);
        let mut frame = [0; 6];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x82\x04abcd");
    }

    #[tokio::test]
    async fn a_ping_is_answered_while_reading() {
        let (mut socket, mut client) = pair(1024);
        client.write_all(&masked(0x89, b"there?")).await.unwrap();
        client.write_all(&masked(0x82, b"x")).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        let mut pong = [0; 8];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\x8a\x06there?");
    }

    #[tokio::test]
    async fn pings_that_cannot_be_answered_are_not_piled_up() {
        let (mut socket, mut client) = pair(64);
        // Fill the pipe, so that nothing can be sent.
        assert_eq!(socket.write(&[0; 200]).await.unwrap(), 200);
        let read = async {
            for _ in 0..1_000 {
                client.write_all(&masked(0x89, &[7; 20])).await.unwrap();
            }
            client.write_all(&masked(0x82, b"x")).await.unwrap();
        };
        let (byte, ()) = tokio::join!(socket.read_u8(), read);
        assert_eq!(byte.unwrap(), b'x');
        assert!(socket.unsent.len() <= 200 + 4);
        assert_eq!(socket.pong.as_deref(), Some(&[7; 20][..]));
    }

    #[tokio::test]
    async fn a_close_is_answered_and_ends_both_directions() {
        let (mut socket, mut client) = pair(1024);
        client.write_all(&masked(0x82, b"x")).await.unwrap();
        client.write_all(&masked(0x88, &[0x03, 0xE9])).await.unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"x");
        assert_eq!(socket.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        socket.shutdown().await.unwrap();
        drop(socket);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [0x88, 2, 0x03, 0xE9]);
    }

    /// [MQTT-6.0.0-1]
    #[tokio::test]
    async fn a_text_frame_is_an_error_after_what_came_before_it() {
        let (mut socket, mut client) = pair(1024);
        let frames = [masked(0x82, b"x"), masked(0x81, b"text"), masked(0x82, b"y")].concat();
        client.write_all(&frames).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        let error = socket.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("text frame"));
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x88, 2, 0x03, 0xEB]);
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut socket, mut client) = pair(16);
        let read = async {
            let mut all = vec![0; 1_004];
            client.read_exact(&mut all).await.unwrap();
        };
        let write = async {
            socket.write_all(&[0; 1_000]).await.unwrap();
            socket.flush().await.unwrap();
        };
        tokio::join!(read, write);
        assert_eq!((socket.unsent.capacity(), socket.early.capacity()), (0, 0));
    }
}
