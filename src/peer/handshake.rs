//! The handshake, from both ends: who is there, do they know the secret, where to go on.

use crate::cluster::frame::{Cursors, Hello, Welcome};
use crate::cluster::wire::{
    CHALLENGE_BYTES, LETTER_BYTES_MAX, Letter, Nonce, challenge, decode_challenge, decode_hello,
    decode_welcome, encode_hello, encode_welcome,
};
use crate::peer::error::LinkError;
use crate::peer::secret::{Secret, Speaker};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Says who we are, and learns where to go on.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &Hello,
    secret: &Secret,
) -> Result<Cursors, LinkError> {
    let Answer { welcome, is_proven } = call(stream, hello, secret).await?;
    match welcome {
        // Said by whoever is there, and good for nothing but a line for people.
        Welcome::Refused { reason, boot_id, code } => {
            Err(LinkError::Refused { reason, boot_id, code })
        }
        Welcome::Accepted { .. } if !is_proven => Err(LinkError::NotProven),
        Welcome::Accepted { wire, received } => {
            let is_spoken = (hello.wire.oldest..=hello.wire.newest).contains(&wire);
            if is_spoken { Ok(received) } else { Err(LinkError::WireVersion(wire)) }
        }
    }
}

/// What was answered to whoever dialled.
pub(super) struct Answer {
    pub(super) welcome: Welcome,
    /// Whether who answered knows the secret.
    pub(super) is_proven: bool,
}

/// Says who we are, and hears the answer.
pub(super) async fn call<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &Hello,
    secret: &Secret,
) -> Result<Answer, LinkError> {
    let mut greeting = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut greeting).await.map_err(broken)?;
    let theirs = decode_challenge(&greeting)?;
    let ours = nonce().map_err(LinkError::Broken)?;
    let body = encode_hello(&ours, hello);
    let proof = secret.prove(Speaker::Dialer, &theirs, &body);
    send(stream, Letter { body, proof }).await?;
    let answer = receive(stream).await?;
    let welcome = decode_welcome(&answer.body)?;
    let is_proven = secret.believes(Speaker::Acceptor, &ours, &answer.body, &answer.proof);
    Ok(Answer { welcome, is_proven })
}

/// Somebody who dialled, has said who it is, and waits for an answer.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) hello: Hello,
    /// Whether it knows the secret.
    pub(super) is_proven: bool,
    nonce: Nonce,
}

impl Caller {
    /// Asks who is there.
    pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
        stream: &mut S,
        secret: &Secret,
    ) -> Result<Self, LinkError> {
        let ours = nonce().map_err(LinkError::Broken)?;
        stream.write_all(&challenge(&ours)).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let letter = receive(stream).await?;
        let (nonce, hello) = decode_hello(&letter.body)?;
        let is_proven = secret.believes(Speaker::Dialer, &ours, &letter.body, &letter.proof);
        Ok(Self { hello, is_proven, nonce })
    }

    pub(super) async fn answer<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        welcome: &Welcome,
        secret: &Secret,
    ) -> Result<(), LinkError> {
        let body = encode_welcome(welcome);
        let proof = secret.prove(Speaker::Acceptor, &self.nonce, &body);
        send(stream, Letter { body, proof }).await
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, letter: Letter) -> Result<(), LinkError> {
    let mut bytes = BytesMut::with_capacity(LETTER_BYTES_MAX);
    letter.encode(&mut bytes);
    stream.write_all(&bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Letter, LinkError> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes).await.map_err(broken)?;
    let size = Letter::peek(&bytes)?.unwrap_or(bytes.len());
    bytes.resize(size, 0);
    let (_, rest) = bytes.split_at_mut(2);
    stream.read_exact(rest).await.map_err(broken)?;
    Ok(Letter::decode(&Bytes::from(bytes))?)
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(io::Error::from)?;
    Ok(nonce)
}

/// With TLS, a peer that does not trust us says so only now.
fn broken(error: io::Error) -> LinkError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return LinkError::Ended;
    }
    match error.get_ref() {
        Some(inner) if inner.is::<rustls::Error>() => LinkError::Tls(error),
        Some(_) | None => LinkError::Broken(error),
    }
}
