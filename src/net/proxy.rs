//! The header a proxy puts before a connection to say whom it stands for (PROXY protocol 1 and 2).

use super::first_bytes::Speech;
use ppp::{HeaderResult, v1, v2};
use std::io;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Why a connection that should open with a header did not.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the client left before any byte")]
    Vanished,
    #[error("the PROXY protocol header is cut off")]
    Cut,
    #[error(
        "no PROXY protocol header, which this listener asks for: turn it on in the proxy, or \
         connect clients without a proxy to another listener"
    )]
    Missing(Speech),
    #[error("the PROXY protocol header is malformed or longer than 4 KiB")]
    Malformed,
    #[error("the PROXY protocol header is of a client that came by UDP, which does not carry MQTT")]
    Datagram,
    #[error("the socket broke")]
    Socket(#[from] io::Error),
}

/// Reads the header, and not a byte beyond it. `None` when the proxy speaks for itself, as its
/// health checks do.
pub(super) async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut header = Vec::new();
    loop {
        let wanted = match form_of(&header) {
            Form::Unknown => PREFIX_BYTES - header.len(),
            Form::NoHeader => return Err(ProxyError::Missing(Speech::of(&header))),
            Form::Line => line_bytes_waiting(stream, header.len()).await?,
            Form::Binary { missing } => missing,
            Form::Complete => return source_of(&header),
            Form::TooLong => return Err(ProxyError::Malformed),
        };
        read_more(stream, &mut header, wanted).await?;
    }
}

/// What the bytes read so far are.
#[derive(Debug, Eq, PartialEq)]
enum Form {
    /// Too few to say.
    Unknown,
    NoHeader,
    /// Version 1: a line, not at its end yet.
    Line,
    /// Version 2: so many bytes are missing.
    Binary {
        missing: usize,
    },
    Complete,
    TooLong,
}

fn form_of(header: &[u8]) -> Form {
    let (shared, line_shared) =
        (header.len().min(v2::PROTOCOL_PREFIX.len()), header.len().min(LINE_PREFIX.len()));
    let is_line = header.starts_with(LINE_PREFIX.split_at(line_shared).0);
    let is_binary = header.starts_with(v2::PROTOCOL_PREFIX.split_at(shared).0);
    match (is_line, is_binary) {
        (false, false) => Form::NoHeader,
        (true, _) if header.ends_with(b"\n") => Form::Complete,
        (true, _) if header.len() >= LINE_BYTES_MAX => Form::TooLong,
        (true, _) if header.len() >= PREFIX_BYTES => Form::Line,
        (_, true) if header.len() >= PREFIX_BYTES => binary_form(header),
        _ => Form::Unknown,
    }
}

/// The length is in the last two of the 16 bytes every header of version 2 has.
fn binary_form(header: &[u8]) -> Form {
    let Some([.., high, low]) = header.first_chunk::<{ BINARY_BYTES_MIN }>() else {
        return Form::Binary { missing: BINARY_BYTES_MIN - header.len() };
    };
    let length = BINARY_BYTES_MIN + usize::from(u16::from_be_bytes([*high, *low]));
    match length.checked_sub(header.len()) {
        _ if length > BINARY_BYTES_MAX => Form::TooLong,
        None | Some(0) => Form::Complete,
        Some(missing) => Form::Binary { missing },
    }
}

/// How many of the bytes that wait belong to the line: up to its end, or all of them.
async fn line_bytes_waiting(stream: &mut TcpStream, have: usize) -> Result<usize, ProxyError> {
    let mut waiting = [0; LINE_BYTES_MAX];
    let waiting = waiting.split_at_mut(LINE_BYTES_MAX - have).0;
    let count = stream.peek(waiting).await?;
    let waiting = waiting.split_at(count).0;
    Ok(waiting.iter().position(|byte| *byte == b'\n').map_or(count.max(1), |at| at + 1))
}

async fn read_more(
    stream: &mut TcpStream,
    header: &mut Vec<u8>,
    wanted: usize,
) -> Result<(), ProxyError> {
    header.reserve(wanted);
    if stream.take(wanted as u64).read_buf(header).await? > 0 {
        return Ok(());
    }
    Err(if header.is_empty() { ProxyError::Vanished } else { ProxyError::Cut })
}

fn source_of(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        }),
        HeaderResult::V2(Ok(header))
            if header.command == v2::Command::Proxy
                && header.protocol == v2::Protocol::Datagram =>
        {
            Err(ProxyError::Datagram)
        }
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (v2::Command::Local, _)
            | (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                Some((ip.source_address, ip.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                Some((ip.source_address, ip.source_port).into())
            }
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(ProxyError::Malformed),
    }
}

const LINE_PREFIX: &[u8] = b"PROXY ";

/// Both versions are told apart, and no header of either is complete, with so many bytes.
const PREFIX_BYTES: usize = 12;

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;

/// The least a header of version 2 has; its last two bytes are the length of what follows.
const BINARY_BYTES_MIN: usize = 16;

/// Addresses need 232 bytes at most; the rest is for what proxies add.
const BINARY_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// Sends `header` whole and byte by byte; what follows it is still there to be read.
    async fn check(header: &[u8], expected: Result<Option<&str>, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for piece in [header.len().max(1), 1] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.set_nodelay(true).unwrap();
            let send = async {
                for piece in header.chunks(piece) {
                    // The server may have seen enough.
                    let _ = client.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                let _ = client.write_all(if expected.is_ok() { b"rest" } else { b"" }).await;
                let _ = client.shutdown().await;
            };
            let (read, ()) = tokio::join!(read_header(&mut server), send);
            match (read, expected) {
                (Ok(address), Ok(expected)) => {
                    assert_eq!(address.map(|address| address.to_string()).as_deref(), expected);
                    let mut rest = Vec::new();
                    server.read_to_end(&mut rest).await.unwrap();
                    assert_eq!(rest, b"rest");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                (read, expected) => panic!("{read:?} and not {expected:?} for {header:?}"),
            }
        }
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn version_1_names_the_client() {
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n";
        check(header, Ok(Some("192.0.2.7:50000"))).await;
        let header = b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 1883\r\n";
        check(header, Ok(Some("[2001:db8::7]:50000"))).await;
        check(b"PROXY UNKNOWN\r\n", Ok(None)).await;
    }

    #[tokio::test]
    async fn version_2_names_the_client() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xC3, 0x50, 0x07, 0x5B];
        check(&binary(0x21, 0x11, &v4), Ok(Some("192.0.2.7:50000"))).await;
        let with_extra = [&v4[..], &[0x04, 0, 2, 1, 2]].concat();
        check(&binary(0x21, 0x11, &with_extra), Ok(Some("192.0.2.7:50000"))).await;
        let mut v6 = [0; 36];
        v6[0] = 0xFD;
        v6[32] = 0x10;
        check(&binary(0x21, 0x21, &v6), Ok(Some("[fd00::]:4096"))).await;
        check(&binary(0x20, 0x00, &[]), Ok(None)).await;
    }

    #[tokio::test]
    async fn what_is_no_header_is_told_apart() {
        check(b"", Err("left before any byte")).await;
        check(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", Err("no PROXY protocol header")).await;
        check(b"PROXY TCP4 192.0.2.7", Err("cut off")).await;
        check(&SIGNATURE[..6], Err("cut off")).await;
        check(b"PROXY TCP4 everywhere nowhere 1 2\r\n", Err("malformed")).await;
        check(format!("PROXY {}", "x".repeat(200)).as_bytes(), Err("longer than 4 KiB")).await;
        check(&binary(0x51, 0x11, &[0; 12]), Err("malformed")).await;
        check(&binary(0x21, 0x12, &[0; 12]), Err("by UDP")).await;
        check(&binary(0x21, 0x22, &[0; 36]), Err("by UDP")).await;
        let endless = [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat();
        check(&endless, Err("longer than 4 KiB")).await;
    }
}
