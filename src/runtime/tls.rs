//! What TLS is made of, from files: a certificate with its key, and the CA of the other side.

use crate::runtime::pem::{PemError, certificates};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS cannot be set up. Each names its file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, or not what it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Key and certificate are not a pair, or not what TLS can use.
    #[error(
        "the certificate {} and the key {} cannot be used together",
        certificate.display(), key.display()
    )]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// A certificate of the CA file is not one.
    #[error("the CA file {} has a certificate that cannot be used", path.display())]
    Ca {
        /// The CA file.
        path: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// The system has no random numbers, or the library lacks a cipher suite.
    #[error("TLS is not available on this machine")]
    Provider(#[source] rustls::Error),
}

/// The certificates of a CA file, which is called `what`.
///
/// # Errors
///
/// Says what is wrong with the file.
pub fn roots(what: &'static str, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let unusable = |source| TlsError::Ca { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

/// Believes whoever dials with a certificate of these roots, which come from the file at `path`.
///
/// # Errors
///
/// The roots are not such as a client can be believed by.
pub fn client_verifier(
    path: &Path,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |reason: String| TlsError::Ca {
        path: path.to_owned(),
        source: rustls::Error::General(reason),
    };
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| unusable(error.to_string()))
}
