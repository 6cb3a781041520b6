//! The secret that all brokers of a cluster know, and the proof that one knows it.
//!
//! A proof is an HMAC-SHA-256 over what is said and 32 random bytes of the other end, so that none
//! can be used twice; which of the two ends speaks is part of it, so that none can be sent back.
//! Frames carry no proof: whoever may sit on the wire between brokers is the business of TLS.

use crate::cluster::wire::{Nonce, Proof};
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use std::fmt;
use std::sync::Arc;

/// What all brokers of a cluster know, or nothing. Its content is never shown.
#[derive(Clone)]
pub struct Secret(Option<Arc<Known>>);

/// While a secret is being changed, some brokers show the new one and some the old one.
struct Known {
    shown: Key,
    also_believed: Vec<Key>,
}

/// Which end says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speaker {
    Dialer,
    Acceptor,
}

impl Secret {
    /// No secret: everybody is believed.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// These bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self::changing(secret, [])
    }

    /// The bytes `shown`, and others that a peer may show as well.
    #[must_use]
    pub fn changing<'a>(shown: &[u8], also_believed: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let key = |secret: &[u8]| Key::new(HMAC_SHA256, secret);
        let also_believed = also_believed.into_iter().map(key).collect();
        Self(Some(Arc::new(Known { shown: key(shown), also_believed })))
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn prove(&self, speaker: Speaker, nonce: &Nonce, body: &[u8]) -> Proof {
        let Some(known) = &self.0 else { return [0; size_of::<Proof>()] };
        let tag = hmac::sign(&known.shown, &said(speaker, nonce, body));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// That who has this secret says this of itself where everybody can read it: it is not worth more
    /// than that. Nothing where there is no secret.
    pub(super) fn seal(&self, body: &[u8]) -> Option<Proof> {
        let known = self.0.as_ref()?;
        let tag = hmac::sign(&known.shown, &[SEAL, body].concat());
        Some(tag.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Whether that is the seal of this secret, or of one that is believed as well.
    pub(super) fn believes_seal(&self, body: &[u8], seal: &[u8]) -> bool {
        let Some(known) = &self.0 else { return true };
        let said = [SEAL, body].concat();
        known.keys().any(|key| hmac::verify(key, &said, seal).is_ok())
    }

    pub(super) fn believes(
        &self,
        speaker: Speaker,
        nonce: &Nonce,
        body: &[u8],
        proof: &Proof,
    ) -> bool {
        let Some(known) = &self.0 else { return true };
        let said = said(speaker, nonce, body);
        known.keys().any(|key| hmac::verify(key, &said, proof).is_ok())
    }
}

impl Known {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.shown).chain(&self.also_believed)
    }
}

const SEAL: &[u8] = b"mqttzoo broker seal\0";

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Secret(..)" } else { "Secret(none)" })
    }
}

fn said(speaker: Speaker, nonce: &Nonce, body: &[u8]) -> Vec<u8> {
    let label: &[u8] = match speaker {
        Speaker::Dialer => b"mqttzoo link hello\0",
        Speaker::Acceptor => b"mqttzoo link welcome\0",
    };
    [label, nonce, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_speaker_its_nonce_its_words_and_its_secret() {
        let secret = Secret::new(b"squeamish ossifrage");
        let proof = secret.prove(Speaker::Dialer, &[1; 32], b"hello");
        assert!(secret.believes(Speaker::Dialer, &[1; 32], b"hello", &proof));
        assert!(!secret.believes(Speaker::Acceptor, &[1; 32], b"hello", &proof));
        assert!(!secret.believes(Speaker::Dialer, &[2; 32], b"hello", &proof));
        assert!(!secret.believes(Speaker::Dialer, &[1; 32], b"hallo", &proof));
        assert!(!Secret::new(b"other").believes(Speaker::Dialer, &[1; 32], b"hello", &proof));
        let without = Secret::none().prove(Speaker::Dialer, &[1; 32], b"hello");
        assert!(!secret.believes(Speaker::Dialer, &[1; 32], b"hello", &without));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
    /// The three steps of a change, each of which may reach the two ends at different times.
    #[test]
    fn a_secret_can_be_changed_while_brokers_run() {
        let (old, new) = (&b"squeamish ossifrage"[..], &b"correct horse battery"[..]);
        let steps = [
            Secret::new(old),
            Secret::changing(old, [new]),
            Secret::changing(new, [old]),
            Secret::new(new),
        ];
        let is_believed = |from: &Secret, by: &Secret| {
            let proof = from.prove(Speaker::Dialer, &[1; 32], b"hello");
            by.believes(Speaker::Dialer, &[1; 32], b"hello", &proof)
        };
        for pair in steps.windows(2) {
            assert!(is_believed(&pair[0], &pair[1]) && is_believed(&pair[1], &pair[0]));
        }
        assert!(!is_believed(&steps[0], &steps[3]) && !is_believed(&steps[3], &steps[0]));
    }
}
