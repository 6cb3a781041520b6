//! The opening handshake of WebSocket: an HTTP request that names the sub-protocol `mqtt`
//! [MQTT-6.0.0-3, MQTT-6.0.0-4].

use super::first_bytes::Speech;
use super::options::WebSocketOptions;
use super::websocket::WebSocket;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{
    Request, Response, create_response, write_response,
};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Why there is no WebSocket connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebSocketHandshakeError {
    #[error("the client left before any byte")]
    Vanished,
    #[error("the client left in the middle of its request")]
    Left,
    #[error("{0}")]
    WrongProtocol(&'static str),
    #[error("the request is no HTTP, or longer than 8 KiB")]
    NoRequest,
    #[error("the request is no WebSocket opening handshake for MQTT: {}", .0.reason)]
    Refused(RefusedRequest),
    #[error("the socket broke")]
    Socket(#[from] io::Error),
}

/// How a request was answered that asked for something else.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedRequest {
    status: &'static str,
    reason: &'static str,
}

/// Performs the opening handshake on `stream`. A request that is refused is answered first.
pub(super) async fn shake_hands<S>(
    mut stream: S,
    options: &WebSocketOptions,
) -> Result<WebSocket<S>, WebSocketHandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let request = read_request(&mut stream, &mut bytes).await?;
    let length = request.as_ref().map_or(bytes.len(), |(length, _)| *length);
    match answer(request.as_ref().map(|(_, request)| request), options) {
        Ok(response) => {
            let mut text = Vec::new();
            write_response(&mut text, &response).map_err(io::Error::other)?;
            stream.write_all(&text).await?;
            stream.flush().await?;
            Ok(WebSocket::new(stream, bytes.split_off(length)))
        }
        Err(refused) => {
            refuse(&mut stream, refused).await?;
            Err(WebSocketHandshakeError::Refused(refused))
        }
    }
}

/// Reads until the request is complete. Returns its length and itself, or nothing when it is HTTP,
/// but with another method or version than an opening handshake has.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> Result<Option<(usize, Request)>, WebSocketHandshakeError> {
    loop {
        if stream.read_buf(bytes).await? == 0 {
            return Err(match bytes.as_slice() {
                [] => WebSocketHandshakeError::Vanished,
                _ => WebSocketHandshakeError::Left,
            });
        }
        let speech = Speech::of(bytes);
        match speech {
            Speech::Tls => return Err(WebSocketHandshakeError::WrongProtocol(TLS)),
            Speech::Mqtt => return Err(WebSocketHandshakeError::WrongProtocol(MQTT)),
            Speech::Proxy => return Err(WebSocketHandshakeError::WrongProtocol(PROXY)),
            Speech::Http | Speech::Other => {}
        }
        match Request::try_parse(bytes) {
            Ok(Some(complete)) => return Ok(Some(complete)),
            Err(_) if speech == Speech::Http => return Ok(None),
            Err(_) => return Err(WebSocketHandshakeError::NoRequest),
            Ok(None) if bytes.len() >= REQUEST_BYTES_MAX => {
                return Err(WebSocketHandshakeError::NoRequest);
            }
            Ok(None) => bytes.reserve(READ_BYTES),
        }
    }
}

/// The response that opens the connection, or why there is none.
fn answer(
    request: Option<&Request>,
    options: &WebSocketOptions,
) -> Result<Response, RefusedRequest> {
    let request = request.ok_or(NOT_AN_UPGRADE)?;
    let mut response = create_response(request).map_err(|_| NOT_AN_UPGRADE)?;
    if options.path.as_ref().is_some_and(|path| path != request.uri().path()) {
        return Err(WRONG_PATH);
    }
    let protocol = sub_protocol(request).ok_or(NO_SUB_PROTOCOL)?;
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
    Ok(response)
}

/// The first of the sub-protocols we speak that the client offers [MQTT-6.0.0-3].
fn sub_protocol(request: &Request) -> Option<&'static str> {
    let offers = || {
        let values = request.headers().get_all("Sec-WebSocket-Protocol").iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
    };
    SUB_PROTOCOLS.into_iter().find(|ours| offers().any(|offer| offer.trim() == *ours))
}

/// Answers and waits for the client to read it: closing on unread bytes would destroy the answer.
async fn refuse<S>(stream: &mut S, refused: RefusedRequest) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let RefusedRequest { status, reason } = refused;
    let body = format!("This is an MQTT broker's WebSocket port: {reason}.\n");
    let text = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

const NOT_AN_UPGRADE: RefusedRequest = RefusedRequest {
    status: "426 Upgrade Required",
    reason: "it asks for no upgrade to WebSocket version 13",
};
const WRONG_PATH: RefusedRequest =
    RefusedRequest { status: "404 Not Found", reason: "it asks for a path that is not served" };
const NO_SUB_PROTOCOL: RefusedRequest =
    RefusedRequest { status: "400 Bad Request", reason: "it does not offer the sub-protocol mqtt" };

const MQTT: &str = "the client speaks plain MQTT to a WebSocket listener: \
                    connect it to the MQTT port, or turn WebSocket on in the client";
const TLS: &str = "the client speaks TLS to a WebSocket listener without TLS: \
                   use ws:// in the client, or connect it to the secure WebSocket port";
const PROXY: &str = "the client sends a PROXY protocol header to a listener that does not expect \
                     one: set proxy_protocol on the listener, or turn it off in the proxy";

/// `mqttv3.1` is what clients offered before MQTT had been standardised.
const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

const READ_BYTES: usize = 1024;
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const LINGER_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    async fn check(request: &str, options: &WebSocketOptions, expected: &str) -> String {
        let (mut client, server) = duplex(64 * 1024);
        client.write_all(request.as_bytes()).await.unwrap();
        let serve = async {
            match shake_hands(server, options).await {
                Ok(socket) => {
                    drop(socket);
                    String::new()
                }
                Err(error) => error.to_string(),
            }
        };
        let answer = async {
            let mut answer = Vec::new();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let (error, answer) = tokio::join!(serve, answer);
        assert!(answer.starts_with(expected), "{answer}\nfor {request}");
        error + &answer
    }

    fn request(path: &str, protocols: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocols}\r\n"
        )
    }

    /// [MQTT-6.0.0-4]
    #[tokio::test]
    async fn the_sub_protocol_is_selected() {
        let any = WebSocketOptions::default();
        let select = async |protocols: &str| {
            check(&request("/any", protocols), &any, "HTTP/1.1 101 ").await.to_lowercase()
        };
        let offer = "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n";
        assert!(select(offer).await.contains("\r\nsec-websocket-protocol: mqtt\r\n"));
        let offers = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqttv3.1\r\n";
        assert!(select(offers).await.contains("\r\nsec-websocket-protocol: mqttv3.1\r\n"));
    }

    /// [MQTT-6.0.0-3]
    #[tokio::test]
    async fn a_client_without_the_sub_protocol_is_refused() {
        let any = WebSocketOptions::default();
        check(&request("/", ""), &any, "HTTP/1.1 400 ").await;
        check(&request("/", "Sec-WebSocket-Protocol: chat\r\n"), &any, "HTTP/1.1 400 ").await;
    }

    #[tokio::test]
    async fn other_requests_are_answered_with_what_is_wrong() {
        let only = WebSocketOptions { path: Some("/mqtt".to_owned()) };
        let protocol = "Sec-WebSocket-Protocol: mqtt\r\n";
        check(&request("/mqtt?x=1", protocol), &only, "HTTP/1.1 101 ").await;
        check(&request("/", protocol), &only, "HTTP/1.1 404 ").await;
        let plain = "GET / HTTP/1.1\r\nHost: broker\r\n\r\n";
        let answer = check(plain, &only, "HTTP/1.1 426 ").await;
        assert!(answer.contains("Upgrade: websocket") && answer.contains("This is an MQTT broker"));
        check("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", &only, "HTTP/1.1 426 ").await;
    }

    #[tokio::test]
    async fn other_protocols_are_diagnosed_and_not_answered() {
        let any = WebSocketOptions::default();
        let error = async |bytes: &str| check(bytes, &any, "").await;
        assert!(error("\x10\x0c\0\x04MQTT").await.starts_with("the client speaks plain MQTT"));
        assert!(error("\x16\x03\x01").await.starts_with("the client speaks TLS"));
        assert!(error("PROXY TCP4 ").await.starts_with("the client sends a PROXY protocol header"));
        assert_eq!(error("nonsense").await, "the client left in the middle of its request");
        assert_eq!(error("").await, "the client left before any byte");
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
        assert!(error(&endless).await.contains("longer than 8 KiB"));
    }
}
