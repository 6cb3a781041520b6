//! Byte streams to a server: TCP, Unix sockets, TLS, WebSocket, through a SOCKS5 proxy or not.

mod error;
mod socks;
mod tcp;
mod tls;
mod websocket;

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

pub use error::OpenError;
pub(super) use error::describe_stream_error;

use super::endpoint::{Address, Endpoint};

/// Any byte stream that reaches a server.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A byte stream to a server.
pub(super) type BoxedTransport = Box<dyn Transport>;

/// Opens the way that `endpoint` describes, layer by layer.
pub(super) async fn open(endpoint: &Endpoint) -> Result<BoxedTransport, OpenError> {
    let mut transport = match &endpoint.address {
        Address::Unix(path) => open_unix(path).await?,
        Address::Tcp { host, port } => match &endpoint.proxy {
            Some(proxy) => {
                let stream = tcp::open(&proxy.host, proxy.port, endpoint.bind).await?;
                within(&endpoint.address, socks::connect(stream, proxy, host, *port)).await?
            }
            None => tcp::open(host, *port, endpoint.bind).await?,
        },
    };
    if let Some(options) = &endpoint.tls {
        let handshake = tls::connect(transport, options, &endpoint.address);
        transport = within(&endpoint.address, handshake).await?;
    }
    if let Some(path) = &endpoint.websocket_path {
        let is_secure = endpoint.tls.is_some();
        let upgrade = websocket::connect(transport, &endpoint.address, path, is_secure);
        transport = within(&endpoint.address, upgrade).await?;
    }
    Ok(transport)
}

async fn open_unix(path: &Path) -> Result<BoxedTransport, OpenError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(OpenError::Connect { to: path.display().to_string(), source }),
    }
}

/// Bounds a handshake in time.
async fn within<T>(
    address: &Address,
    step: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    match tokio::time::timeout(STEP_WITHIN, step).await {
        Ok(result) => result,
        Err(_) => Err(OpenError::Timeout { to: address.to_string() }),
    }
}

/// How long one step (a connect to one address, a handshake) may take.
const STEP_WITHIN: Duration = Duration::from_secs(10);
