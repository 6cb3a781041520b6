//! MQTT inside a WebSocket: binary messages, seen as a stream of bytes [MQTT-6.0.0-1].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, ClientRequestBuilder, Message, http::Uri},
};

use super::{BoxedTransport, OpenError};
use crate::client::endpoint::Address;

/// Upgrades a stream; the offered sub-protocol is `mqtt` [MQTT-6.0.0-3].
pub(super) async fn connect(
    transport: BoxedTransport,
    address: &Address,
    path: &str,
    is_secure: bool,
) -> Result<BoxedTransport, OpenError> {
    let refused = |reason: String| OpenError::WebSocket { to: address.to_string(), reason };
    let scheme = if is_secure { "wss" } else { "ws" };
    let authority = match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let uri: Uri = format!("{scheme}://{authority}/{}", path.trim_start_matches('/'))
        .parse()
        .map_err(|_| refused(format!("{path} is no path")))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
    match tokio_tungstenite::client_async(request, transport).await {
        Ok((socket, _)) => Ok(Box::new(WebSocketBytes { socket, unread: Bytes::new() })),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A WebSocket as a stream of bytes. Where messages begin and end means nothing to MQTT
/// [MQTT-6.0.0-2].
struct WebSocketBytes {
    socket: WebSocketStream<BoxedTransport>,
    unread: Bytes,
}

impl AsyncRead for WebSocketBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    let words = "the server sent a text message over the WebSocket";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(as_io(error))),
            }
        }
        let len = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketBytes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(as_io)?;
        let mut part = buf;
        let message = Message::Binary(part.copy_to_bytes(buf.len().min(MESSAGE_LEN_MAX)));
        let len = message.len();
        Pin::new(&mut self.socket).start_send(message).map_err(as_io)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(as_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(as_io)
    }
}

fn as_io(error: tungstenite::Error) -> io::Error {
    if let tungstenite::Error::Io(error) = error {
        return error;
    }
    io::Error::other(error)
}

/// The longest WebSocket message sent: servers bound theirs.
const MESSAGE_LEN_MAX: usize = 64 * 1024;
