//! What a client trusts and how it proves itself, read from files into a rustls configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject},
    version::{TLS12, TLS13},
};

/// How to encrypt a connection.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Keys, trust and versions.
    pub config: Arc<ClientConfig>,
    /// The name to ask for and to verify, instead of the host's.
    pub server_name: Option<String>,
}

/// The files and choices a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates to trust.
    pub cafile: Option<PathBuf>,
    /// A directory of certificates to trust.
    pub capath: Option<PathBuf>,
    /// Whether to trust what the operating system trusts.
    pub uses_os_certs: bool,
    /// The client's certificate chain.
    pub cert: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
    /// Application protocols to offer.
    pub alpn: Vec<String>,
    /// The only version to speak.
    pub version: Option<TlsVersion>,
    /// Accept a certificate that is for another host; its chain is still verified.
    pub is_insecure: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is readable, but is not what it should be.
    #[error("{} is not a {what} in PEM form: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        what: &'static str,
        /// Why it is not that.
        reason: String,
    },
    /// Nothing to trust.
    #[error("no certificate to trust in {from}: no server could be verified")]
    NothingTrusted {
        /// Where they should have been.
        from: String,
    },
    /// Certificate without key, or key without certificate.
    #[error("--cert and --key go together: say both")]
    HalfIdentity,
    /// rustls does not accept the combination.
    #[error("these TLS options do not fit together: {0}")]
    Rejected(#[from] rustls::Error),
    /// The verifier could not be built.
    #[error("the trusted certificates are not usable: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

impl TlsFiles {
    /// Reads the files. Without any source of trust, the operating system's is taken.
    ///
    /// # Errors
    /// When a file cannot be read or used; the error names it.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsFilesError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(read_certificates(cert)?, read_key(key)?)?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) | (None, Some(_)) => return Err(TlsFilesError::HalfIdentity),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.version {
            Some(TlsVersion::Tls12) => ONLY_12,
            Some(TlsVersion::Tls13) => ONLY_13,
            None => rustls::DEFAULT_VERSIONS,
        }
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsFilesError> {
        let roots = Arc::new(self.trusted()?);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        if self.is_insecure {
            return Ok(Arc::new(AnyName(verifier)));
        }
        Ok(verifier)
    }

    fn trusted(&self) -> Result<RootCertStore, TlsFilesError> {
        let mut roots = RootCertStore::empty();
        let mut sources = Vec::new();
        if let Some(path) = &self.cafile {
            roots.add_parsable_certificates(read_certificates(path)?);
            sources.push(path.display().to_string());
        }
        if let Some(path) = &self.capath {
            roots.add_parsable_certificates(read_directory(path)?);
            sources.push(path.display().to_string());
        }
        if self.uses_os_certs || sources.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            sources.push("the operating system".to_owned());
        }
        if roots.is_empty() {
            return Err(TlsFilesError::NothingTrusted { from: sources.join(", ") });
        }
        Ok(roots)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let bytes = read(path)?;
    let content = |reason: String| TlsFilesError::Content {
        path: path.to_owned(),
        what: "certificate",
        reason,
    };
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| content(error.to_string()))?;
    if certificates.is_empty() {
        return Err(content("there is none in it".to_owned()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| TlsFilesError::Content {
        path: path.to_owned(),
        what: "private key",
        reason: error.to_string(),
    })
}

/// Certificates of every file in a directory; files that hold none are passed over.
fn read_directory(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let failed = |source| TlsFilesError::Read { path: path.to_owned(), source };
    let mut certificates = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() {
            certificates.extend(read_certificates(&file).unwrap_or_default());
        }
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFilesError> {
    fs::read(path).map_err(|source| TlsFilesError::Read { path: path.to_owned(), source })
}

static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// `--insecure`: everything is verified but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is what the inner verifier looks at last, so the chain is good by then.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
