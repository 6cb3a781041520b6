//! TLS of a listener: the files it is made of, and how they are changed while connections stand.

use super::options::TlsOptions;
use crate::runtime::pem::{certificates, private_key};
use crate::runtime::tls::{TlsError, client_verifier, roots};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use std::sync::Arc;

/// The TLS of one listener, from files that can be read again.
///
/// Connections keep what they began with; the next handshake takes what was loaded last.
#[derive(Debug)]
pub struct TlsReloader {
    options: TlsOptions,
    protocol: &'static [u8],
    current: ArcSwap<ServerConfig>,
}

impl TlsReloader {
    /// Loads the files. `protocol` is offered to clients that ask for one (ALPN).
    pub(super) fn load(options: TlsOptions, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let current = ArcSwap::from(load(&options, protocol)?);
        Ok(Self { options, protocol, current })
    }

    /// Reads key, chain and CA again. After an error everything stays as it was.
    ///
    /// Sessions cannot be resumed across a reload, so that a new CA is asked about every client.
    ///
    /// # Errors
    ///
    /// When a file is missing or wrong; the error says which.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(load(&self.options, self.protocol)?);
        Ok(())
    }

    /// The files.
    #[must_use]
    pub fn options(&self) -> &TlsOptions {
        &self.options
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn load(options: &TlsOptions, protocol: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("the certificate", &options.certificate)?;
    let key = private_key(&options.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match &options.client_ca {
        Some(path) => {
            let roots = roots("the CA file", path)?;
            builder.with_client_cert_verifier(client_verifier(path, roots, provider)?)
        }
        None => builder.with_no_client_auth(),
    };
    let unusable = |source| TlsError::Unusable {
        certificate: options.certificate.clone(),
        key: options.key.clone(),
        source,
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // Tickets keep the state of a session with the client; the keys are drawn anew each time.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Provider)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of certificates that goes away with the test.
    pub(in crate::net) struct Files {
        pub(in crate::net) directory: PathBuf,
        ca: Issuer<'static, KeyPair>,
        pub(in crate::net) ca_pem: String,
    }

    impl Files {
        pub(in crate::net) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("mqttzoo-tls-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir_all(&directory).unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, format!("test CA {number}"));
            let ca_pem = params.self_signed(&key).unwrap().pem();
            let files = Self { directory, ca: Issuer::new(params, key), ca_pem };
            files.write("ca.pem", &files.ca_pem);
            files.issue("server");
            files
        }

        /// Writes NAME.pem and NAME.key, signed by the CA.
        pub(in crate::net) fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
            let key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_owned()];
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &self.ca).unwrap();
            let chain = certificate.pem() + &self.ca_pem;
            (
                self.write(&format!("{name}.pem"), &chain),
                self.write(&format!("{name}.key"), &key.serialize_pem()),
            )
        }

        pub(in crate::net) fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directory.join(name);
            fs::write(&path, text).unwrap();
            path
        }

        pub(in crate::net) fn options(&self) -> TlsOptions {
            TlsOptions {
                certificate: self.directory.join("server.pem"),
                key: self.directory.join("server.key"),
                client_ca: None,
            }
        }

        pub(in crate::net) fn mutual(&self) -> TlsOptions {
            TlsOptions { client_ca: Some(self.directory.join("ca.pem")), ..self.options() }
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    fn check(change: impl FnOnce(&Files), expected: &str) {
        let files = Files::new();
        change(&files);
        let error = TlsReloader::load(files.mutual(), b"mqtt").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn every_mistake_with_the_files_has_its_line() {
        check(
            |files| fs::remove_file(files.directory.join("server.key")).unwrap(),
            "server.key: check the path and its permissions",
        );
        check(|files| drop(files.write("server.pem", "hello")), "server.pem contains no cert");
        check(|files| drop(files.write("server.key", "hello")), "server.key contains no private");
        check(|files| drop(files.write("ca.pem", "")), "the CA file");
        check(
            |files| drop(files.write("server.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n")),
            "server.pem is damaged",
        );
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n\
                         -----END ENCRYPTED PRIVATE KEY-----\n";
        check(|files| drop(files.write("server.key", encrypted)), "openssl pkey -in");
        check(
            |files| {
                let (_, key) = files.issue("other");
                fs::copy(key, files.directory.join("server.key")).unwrap();
            },
            "cannot be used together",
        );
    }

    #[test]
    fn a_failed_reload_changes_nothing() {
        let files = Files::new();
        let tls = TlsReloader::load(files.mutual(), b"mqtt").unwrap();
        let before = tls.current();
        files.write("ca.pem", "nonsense");
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&before, &tls.current()));
        files.write("ca.pem", &files.ca_pem);
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.current()));
    }
}
