//! A connection as bytes in both directions, whatever carries them.

use super::admission::Seat;
use super::websocket::WebSocket;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// The byte stream of one connection, through all its handshakes.
///
/// The bounds the connection counts against are given back when this is dropped. Anything but
/// plain TCP and Unix is boxed, so that a plain connection does not pay for what it does not use.
/// What was written has left only after `poll_flush`; TLS and WebSocket keep what a full socket
/// did not take.
#[derive(Debug)]
pub struct Transport {
    stream: Stream,
    /// After the stream: a place is free when the socket is closed.
    seat: Option<Seat>,
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocket<TcpStream>>),
    SecureWebSocket(Box<WebSocket<TlsStream<TcpStream>>>),
    /// It has been taken out: [`Transport::park`].
    Parked,
}

/// A transport outside every event loop. It counts against its bounds as before.
#[derive(Debug)]
pub struct ParkedTransport {
    stream: std::net::TcpStream,
    /// After the stream: a place is free when the socket is closed.
    seat: Option<Seat>,
}

impl Transport {
    pub(super) fn new(stream: Stream, seat: Seat) -> Self {
        Self { stream, seat: Some(seat) }
    }

    /// Says that the client has been let in: it no longer counts as half open.
    pub fn mark_established(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.mark_established();
        }
    }

    /// Whether [`Self::park`] can take it out of its event loop: plain TCP has no state but the
    /// system's.
    #[must_use]
    pub fn can_park(&self) -> bool {
        matches!(self.stream, Stream::Tcp(_))
    }

    /// Takes the socket out of its event loop. What is left of the transport is closed.
    ///
    /// # Errors
    ///
    /// When it cannot be parked, or the system does not let go of it.
    pub fn park(&mut self) -> io::Result<ParkedTransport> {
        let Stream::Tcp(stream) = std::mem::replace(&mut self.stream, Stream::Parked) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        Ok(ParkedTransport { stream: stream.into_std()?, seat: self.seat.take() })
    }

    /// Makes the socket known to the event loop of the caller again.
    ///
    /// # Errors
    ///
    /// When the system cannot watch another socket.
    pub fn resume(parked: ParkedTransport) -> io::Result<Self> {
        let ParkedTransport { stream, seat } = parked;
        Ok(Self { stream: Stream::Tcp(TcpStream::from_std(stream)?), seat })
    }
}

impl AsFd for ParkedTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A transport without a listener, which counts against no bound.
impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), seat: None }
    }
}

/// A transport without a listener, which counts against no bound.
impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), seat: None }
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! dispatch {
    ($transport:expr, $stream:ident => $call:expr) => {
        match &mut $transport.get_mut().stream {
            Stream::Tcp(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Unix(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Tls(inner) => {
                let $stream = Pin::new(&mut **inner);
                $call
            }
            Stream::WebSocket(inner) => {
                let $stream = Pin::new(&mut **inner);
                $call
            }
            Stream::SecureWebSocket(inner) => {
                let $stream = Pin::new(&mut **inner);
                $call
            }
            Stream::Parked => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        dispatch!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        dispatch!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        dispatch!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(inner) => inner.is_write_vectored(),
            Stream::Unix(inner) => inner.is_write_vectored(),
            Stream::Tls(inner) => inner.is_write_vectored(),
            Stream::WebSocket(inner) => inner.is_write_vectored(),
            Stream::SecureWebSocket(inner) => inner.is_write_vectored(),
            Stream::Parked => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        dispatch!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection's future holds one of these.
    #[test]
    fn a_plain_transport_is_small() {
        assert!(size_of::<Stream>() <= 48, "{}", size_of::<Stream>());
        assert!(size_of::<Transport>() <= 88, "{}", size_of::<Transport>());
    }
}
