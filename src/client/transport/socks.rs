//! SOCKS5 (RFC 1928) with user name and password (RFC 1929): the proxy resolves the name.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BoxedTransport, OpenError};
use crate::client::endpoint::Proxy;

/// Asks the proxy at the other end of `stream` for a connection to `host`.
pub(super) async fn connect(
    mut stream: BoxedTransport,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<BoxedTransport, OpenError> {
    let refused = |reason: String| OpenError::Proxy {
        proxy: format!("{}:{}", proxy.host, proxy.port),
        reason,
    };
    match talk(&mut stream, proxy, host, port).await {
        Ok(()) => Ok(stream),
        Err(Trouble::Refused(reason)) => Err(refused(reason)),
        Err(Trouble::Io(error)) => Err(refused(format!("broke off: {error}"))),
    }
}

enum Trouble {
    Refused(String),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn talk(
    stream: &mut BoxedTransport,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), Trouble> {
    let method = if proxy.credentials.is_some() { BY_PASSWORD } else { WITHOUT_PROOF };
    stream.write_all(&[VERSION, 1, method]).await?;
    stream.flush().await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if answer != [VERSION, method] {
        let words = match answer {
            [VERSION, _] => {
                "wants another authentication (say --proxy socks5h://USER:PASSWORD@HOST)"
            }
            _ => "does not speak SOCKS5",
        };
        return Err(Trouble::Refused(words.to_owned()));
    }
    if let Some((user, password)) = &proxy.credentials {
        authenticate(stream, user, password).await?;
    }
    request(stream, host, port).await
}

async fn authenticate(
    stream: &mut BoxedTransport,
    user: &str,
    password: &str,
) -> Result<(), Trouble> {
    let mut request = vec![1];
    for part in [user, password] {
        request.push(short_len(part)?);
        request.extend_from_slice(part.as_bytes());
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [_, 0] => Ok(()),
        _ => Err(Trouble::Refused("does not accept this user name and password".to_owned())),
    }
}

async fn request(stream: &mut BoxedTransport, host: &str, port: u16) -> Result<(), Trouble> {
    let mut request = vec![VERSION, CONNECT, 0, BY_NAME, short_len(host)?];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [_, reply, _, kind] = head;
    if reply != 0 {
        return Err(Trouble::Refused(format!("did not reach {host}:{port}: {}", words(reply))));
    }
    let address_len = match kind {
        BY_IPV4 => 4,
        BY_IPV6 => 16,
        _ => stream.read_u8().await?.into(),
    };
    let mut address_and_port = vec![0; address_len + 2];
    stream.read_exact(&mut address_and_port).await?;
    Ok(())
}

fn short_len(text: &str) -> Result<u8, Trouble> {
    u8::try_from(text.len())
        .map_err(|_| Trouble::Refused("takes names of at most 255 bytes".to_owned()))
}

fn words(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reason",
    }
}

const VERSION: u8 = 5;
const WITHOUT_PROOF: u8 = 0;
const BY_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const BY_IPV4: u8 = 1;
const BY_NAME: u8 = 3;
const BY_IPV6: u8 = 4;
