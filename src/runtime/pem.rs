//! Certificates and keys from PEM files, and what to say when they are not what they should be.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be used. Each names it and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("cannot read {what} {}: check the path and its permissions", path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not PEM, or cut off.
    #[error("{what} {} is damaged: it should be PEM text", path.display())]
    Damaged {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// It has nothing of what it is for.
    #[error("{what} {} contains no {expected}", path.display())]
    Empty {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What it should contain.
        expected: &'static str,
    },
    /// The key is encrypted.
    #[error(
        "the key {} is encrypted: decrypt it with `openssl pkey -in {} -out NEW_FILE`",
        .0.display(), .0.display()
    )]
    EncryptedKey(PathBuf),
}

/// The certificates in a file: at least one.
///
/// # Errors
///
/// Says what is wrong with the file, which is called `what`.
pub fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let pem = read(what, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|source| PemError::Damaged { what, path: path.to_owned(), source })?;
    if all.is_empty() {
        let expected = "certificate (a block that begins with -----BEGIN CERTIFICATE-----)";
        return Err(PemError::Empty { what, path: path.to_owned(), expected });
    }
    Ok(all)
}

/// The private key in a file.
///
/// # Errors
///
/// Says what is wrong with the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let what = "the key";
    let pem = read(what, path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::NoItemsFound) if is_encrypted(&pem) => {
            Err(PemError::EncryptedKey(path.to_owned()))
        }
        Err(rustls_pki_types::pem::Error::NoItemsFound) => {
            let expected = "private key (a block that begins with -----BEGIN PRIVATE KEY-----)";
            Err(PemError::Empty { what, path: path.to_owned(), expected })
        }
        Err(source) => Err(PemError::Damaged { what, path: path.to_owned(), source }),
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    let word = b"BEGIN ENCRYPTED PRIVATE KEY";
    pem.windows(word.len()).any(|window| window == word)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, PemError> {
    fs::read(path).map_err(|source| PemError::Read { what, path: path.to_owned(), source })
}
