//! TCP: every address that a name resolves to is tried, in the resolver's order.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpSocket, TcpStream};

use super::{BoxedTransport, OpenError, STEP_WITHIN};

/// Connects to the first address of `host` that answers.
pub(super) async fn open(
    host: &str,
    port: u16,
    bind: Option<IpAddr>,
) -> Result<BoxedTransport, OpenError> {
    let unknown = |source| OpenError::UnknownHost { host: host.to_owned(), source };
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(unknown)?;
    let mut last = unknown(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        if bind.is_some_and(|local| local.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        match connect(address, bind).await {
            Ok(stream) => {
                // Packets are written in batches already. Not worth failing for.
                let _ = stream.set_nodelay(true);
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(name_host(last, host))
}

async fn connect(address: SocketAddr, bind: Option<IpAddr>) -> Result<TcpStream, OpenError> {
    let failed = |source| OpenError::Connect { to: address.to_string(), source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(failed)?;
    if let Some(local) = bind {
        let from = local.to_string();
        socket
            .bind(SocketAddr::new(local, 0))
            .map_err(|source| OpenError::Bind { from, source })?;
    }
    match tokio::time::timeout(STEP_WITHIN, socket.connect(address)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(OpenError::Timeout { to: address.to_string() }),
    }
}

/// A person typed a name: say it beside the address that was tried.
fn name_host(mut error: OpenError, host: &str) -> OpenError {
    if let OpenError::Connect { to, .. } = &mut error
        && host.parse::<IpAddr>().is_err()
    {
        *to = format!("{host} ({to})");
    }
    error
}
