//! TLS over any other byte stream.

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{BoxedTransport, OpenError};
use crate::client::{endpoint::Address, tls::TlsOptions};

/// Does the handshake and verifies the server.
pub(super) async fn connect(
    transport: BoxedTransport,
    options: &TlsOptions,
    address: &Address,
) -> Result<BoxedTransport, OpenError> {
    let host = match address {
        Address::Tcp { host, .. } => host,
        Address::Unix(_) => "localhost",
    };
    let name = options.server_name.as_deref().unwrap_or(host);
    let server_name = ServerName::try_from(name.to_owned())
        .map_err(|_| OpenError::ServerName { name: name.to_owned() })?;
    let connector = TlsConnector::from(options.config.clone());
    match connector.connect(server_name, transport).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(OpenError::Tls { to: address.to_string(), source }),
    }
}
