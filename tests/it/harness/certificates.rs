//! An authority of our own and what it signs, as files in a directory of their own.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::fresh_dir;

/// An authority: `ca.pem`, and `NAME.pem` with `NAME.key` for each name it has signed.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one that has signed `server`, good for localhost.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let directory = fresh_dir("authority");
        let authority = Self { directory, issuer: Issuer::new(params, key), pem };
        fs::write(authority.path("ca.pem"), &authority.pem).unwrap();
        authority.sign("server");
        authority
    }

    /// Signs a certificate with this common name, in place of a former one.
    pub(crate) fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The arguments that give a broker the certificate of `server`.
    pub(crate) fn server_arguments(&self) -> [String; 4] {
        ["--cert".to_owned(), self.path("server.pem"), "--key".to_owned(), self.path("server.key")]
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}
