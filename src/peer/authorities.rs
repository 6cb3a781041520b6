//! Who signs the certificates of links, as brokers tell each other before they dial.
//!
//! Brokers that have no authority in common cannot have a link. While authorities are being changed
//! a file holds the old one and the new one, and has something in common with either.

use super::options::LinkTlsOptions;
use super::tls::LinkTlsError;
use crate::runtime::pem::certificates;
use crate::runtime::tls::TlsError;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write as _;
use std::sync::Arc;

/// The authorities of one broker, from files that can be read again. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    /// None without TLS.
    options: Option<LinkTlsOptions>,
    shown: Arc<ArcSwap<Vec<String>>>,
}

impl Authorities {
    /// Those that the files name; none where there is no TLS.
    ///
    /// # Errors
    ///
    /// When a file is missing or wrong.
    pub fn load(options: Option<LinkTlsOptions>) -> Result<Self, LinkTlsError> {
        let shown = options.as_ref().map(fingerprints).transpose()?.unwrap_or_default();
        Ok(Self { options, shown: Arc::new(ArcSwap::from_pointee(shown)) })
    }

    /// Reads the files again. Returns whether they name others now.
    ///
    /// # Errors
    ///
    /// When a file is missing or wrong; everything stays as it was then.
    pub fn reload(&self) -> Result<bool, LinkTlsError> {
        let Some(options) = &self.options else { return Ok(false) };
        let fresh = fingerprints(options)?;
        let has_changed = fresh != **self.shown.load();
        self.shown.store(Arc::new(fresh));
        Ok(has_changed)
    }

    /// What others are to know: short fingerprints.
    pub(super) fn shown(&self) -> Vec<String> {
        self.shown.load().to_vec()
    }

    /// Whether a broker with these may have a link with this one.
    pub(super) fn may_meet(&self, theirs: &[String]) -> bool {
        let ours = self.shown.load();
        (ours.is_empty() && theirs.is_empty()) || ours.iter().any(|one| theirs.contains(one))
    }
}

/// Of the certificates of the CA file, and of those between our own and its root: whoever trusts
/// one of them trusts ours.
fn fingerprints(options: &LinkTlsOptions) -> Result<Vec<String>, LinkTlsError> {
    let trusted = certificates("the link CA file", &options.ca).map_err(TlsError::from)?;
    let own = certificates("the link certificate", &options.certificate).map_err(TlsError::from)?;
    let between = own.into_iter().skip(1);
    let mut all: Vec<_> = trusted.into_iter().chain(between).map(|one| short(&one)).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(AUTHORITIES_MAX);
    Ok(all)
}

fn short(certificate: &[u8]) -> String {
    let hash = digest(&SHA256, certificate);
    hash.as_ref().iter().take(FINGERPRINT_BYTES).fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// They tell mistakes from each other, and prove nothing.
const FINGERPRINT_BYTES: usize = 8;
/// They stand in a znode of 4 KiB.
const AUTHORITIES_MAX: usize = 32;
