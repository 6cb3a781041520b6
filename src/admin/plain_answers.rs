//! Requests that never reach the router: too large, or not HTTP.
//!
//! The HTTP library answers them itself, with a status and no body, and then closes. There is no
//! place to tell it otherwise, so the bytes of such an answer are replaced on their way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::AdminError;

/// A stream that lets no error without words out.
pub(super) struct PlainAnswers<S> {
    stream: S,
    /// What is written in place of an answer without words.
    ours: Vec<u8>,
    written: usize,
}

impl<S> PlainAnswers<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ours: Vec::new(), written: 0 }
    }
}

impl<S: AsyncWrite + Unpin> PlainAnswers<S> {
    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.ours.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainAnswers<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainAnswers<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ours(cx))?;
        let Some(error) = wordless(bytes) else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        (self.ours, self.written) = (error.to_bytes(), 0);
        // What does not go out now goes with the flush that follows.
        if let Poll::Ready(Err(error)) = self.poll_ours(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ours(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ours(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What we say in place of an error without a body. All of ours have one.
fn wordless(answer: &[u8]) -> Option<AdminError> {
    let head = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    let has_no_body = head.lines().any(|line| line.eq_ignore_ascii_case("content-length: 0"));
    match status {
        _ if !has_no_body => None,
        "431" => Some(AdminError::HeadTooLarge),
        "414" => Some(AdminError::PathTooLong),
        _ if status.starts_with('4') => {
            Some(AdminError::BadRequest("the request cannot be understood".to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_without_words_are_replaced() {
        let none = "content-length: 0\r\n\r\n";
        let head = |status: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\n{none}");
        let seen = |answer: &str| wordless(answer.as_bytes()).map(|error| error.status().as_u16());
        assert_eq!(seen(&head("431 Request Header Fields Too Large")), Some(431));
        assert_eq!(seen(&head("414 URI Too Long")), Some(414));
        assert_eq!(seen(&head("400 Bad Request")), Some(400));
        assert_eq!(seen(&head("202 Accepted")), None);
        assert_eq!(seen("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"), None);
        assert_eq!(seen(&format!("{{}}HTTP/1.1 404 Not Found\r\n{none}")), None);
    }
}
