//! TLS of links: one certificate for both directions, and one CA for all brokers.

use crate::peer::options::LinkTlsOptions;
use crate::runtime::pem::{PemError, certificates, private_key};
use crate::runtime::tls::{TlsError, client_verifier, roots};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;
use std::sync::Arc;

/// The TLS of all links, from files that can be read again.
#[derive(Debug)]
pub(super) struct LinkTls {
    options: LinkTlsOptions,
    current: ArcSwap<Configs>,
}

/// For the connections we accept, and for those we dial.
#[derive(Debug)]
pub(super) struct Configs {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

/// Why TLS of links cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkTlsError {
    /// A file is missing, or not what it should be.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// The configured name is no name.
    #[error("{0:?} is no name that a certificate can be for")]
    ServerName(String),
}

impl LinkTls {
    pub(super) fn load(options: LinkTlsOptions) -> Result<Self, LinkTlsError> {
        let current = ArcSwap::from_pointee(load(&options)?);
        Ok(Self { options, current })
    }

    /// Reads the files again. After an error everything stays as it was.
    pub(super) fn reload(&self) -> Result<(), LinkTlsError> {
        self.current.store(Arc::new(load(&self.options)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Configs> {
        self.current.load_full()
    }

    /// The name that the certificate of the broker at `host` is for.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, LinkTlsError> {
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let unusable = |_| LinkTlsError::ServerName(name.to_owned());
        ServerName::try_from(name.to_owned()).map_err(unusable)
    }
}

fn load(options: &LinkTlsOptions) -> Result<Configs, LinkTlsError> {
    if let Some(name) = &options.server_name {
        let unusable = |_| LinkTlsError::ServerName(name.clone());
        ServerName::try_from(name.as_str()).map_err(unusable)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = roots("the link CA file", &options.ca)?;
    Ok(Configs {
        server: server(options, roots.clone(), provider.clone())?,
        client: client(options, roots, provider)?,
    })
}

fn server(
    options: &LinkTlsOptions,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = client_verifier(&options.ca, roots, provider.clone())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(options)?, private_key(&options.key)?)
        .map_err(|source| unusable(options, source))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn client(
    options: &LinkTlsOptions,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(options)?, private_key(&options.key)?)
        .map_err(|source| unusable(options, source))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A new CA is asked about every peer.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn chain(
    options: &LinkTlsOptions,
) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, PemError> {
    certificates("the link certificate", &options.certificate)
}

fn unusable(options: &LinkTlsOptions, source: rustls::Error) -> TlsError {
    let LinkTlsOptions { certificate, key, .. } = options.clone();
    TlsError::Unusable { certificate, key, source }
}

const PROTOCOL: &[u8] = b"mqttzoo-link";
